// mma_f64.cu - mma m8n8k4 in double precision. Target sm_80.
extern "C" __global__ void mma_f64(const double *a, const double *b, double *c) {
  int lane = threadIdx.x;
  double d0 = 0, d1 = 0;
  asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
               : "+d"(d0), "+d"(d1)
               : "d"(a[lane]), "d"(b[lane % 4 * 8 + lane / 4]));
  c[lane / 4 * 8 + lane % 4 * 2] = d0;
  c[lane / 4 * 8 + lane % 4 * 2 + 1] = d1;
}
