// half_atomics.cu - packed f16 sums, exact. Target sm_75.
#include <cuda_fp16.h>
extern "C" __global__ void half_atomics(__half2 *sums) {
  atomicAdd(&sums[threadIdx.x % 4], __floats2half2_rn(1.0f, static_cast<float>(threadIdx.x / 4)));
}
