// reduce_shared.cu - a tree over shared memory. Target sm_75.
extern "C" __global__ void reduce_shared(const int *in, int *out) {
  __shared__ int values[256];
  values[threadIdx.x] = in[blockIdx.x * 256 + threadIdx.x];
  for (int step = 128; step > 0; step /= 2) {
    __syncthreads();
    if (threadIdx.x < step) {
      values[threadIdx.x] += values[threadIdx.x + step];
    }
  }
  if (threadIdx.x == 0) {
    out[blockIdx.x] = values[0];
  }
}
