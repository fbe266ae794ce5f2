// mma_s8.cu - mma.sync m8n8k16 on integers. Target sm_75.
extern "C" __global__ void mma_s8(const int *a, const int *b, int *c) {
  int lane = threadIdx.x, d0 = 0, d1 = 0;
  asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
      : "+r"(d0), "+r"(d1)
      : "r"(a[lane]), "r"(b[lane]));
  c[lane / 4 * 8 + lane % 4 * 2] = d0;
  c[lane / 4 * 8 + lane % 4 * 2 + 1] = d1;
}
