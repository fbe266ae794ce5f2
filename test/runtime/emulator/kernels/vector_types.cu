// vector_types.cu - 16-byte loads and stores. Target sm_75.
extern "C" __global__ void vector_types(const int4 *in, int4 *out, const double2 *d, double2 *e) {
  int4 v = in[threadIdx.x];
  out[threadIdx.x] = make_int4(v.w, v.z, v.y + v.x, v.x);
  double2 w = d[threadIdx.x];
  e[threadIdx.x] = make_double2(w.y - w.x, w.x * w.y);
}
