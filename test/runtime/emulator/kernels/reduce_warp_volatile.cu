// reduce_warp_volatile.cu - the last 32 lanes without a block barrier, __syncwarp between the steps. Target sm_75.
extern "C" __global__ void reduce_warp_volatile(const int *in, int *out) {
  __shared__ volatile int values[64];
  int i = threadIdx.x;
  values[i] = in[blockIdx.x * 64 + i];
  __syncthreads();
  if (i < 32) {
    for (int step = 32; step > 0; step /= 2) {
      int other = values[i + step];
      __syncwarp();
      if (i < step) {
        values[i] += other;
      }
      __syncwarp();
    }
    if (i == 0) {
      out[blockIdx.x] = values[0];
    }
  }
}
