// half_arithmetic.cu - packed f16, results exact. Target sm_75.
#include <cuda_fp16.h>
extern "C" __global__ void half_arithmetic(const __half2 *a, const __half2 *b, __half2 *out) {
  int i = threadIdx.x;
  __half2 v = __hfma2(a[i], b[i], a[i]);
  out[i] = __hlt(__low2half(a[i]), __low2half(b[i])) ? __hadd2(v, b[i]) : __hsub2(v, b[i]);
}
