// math_f64.cu - division, square root and friends in f64. Target sm_75.
extern "C" __global__ void math_f64(const double *in, double *out) {
  double v = in[threadIdx.x];
  out[threadIdx.x] = sqrt(v) / (v + 3.0) + exp(-v) + log(v + 1.0) + sin(v);
}
