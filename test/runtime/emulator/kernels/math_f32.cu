// math_f32.cu - library functions in f32. Target sm_75.
extern "C" __global__ void math_f32(const float *in, float *out) {
  float v = in[threadIdx.x];
  out[threadIdx.x] = sqrtf(v) / (v + 3.0f) + expf(-v) + logf(v + 1.0f) + tanhf(v) + sinf(v) + fmaf(v, v, 1.0f);
}
