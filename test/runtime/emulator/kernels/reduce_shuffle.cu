// reduce_shuffle.cu - shuffles within a warp, shared memory between warps. Target sm_75.
extern "C" __global__ void reduce_shuffle(const int *in, int *out) {
  __shared__ int parts[8];
  int v = in[blockIdx.x * 256 + threadIdx.x];
  for (int step = 16; step > 0; step /= 2) {
    v += __shfl_down_sync(0xffffffffu, v, step);
  }
  if (threadIdx.x % 32 == 0) {
    parts[threadIdx.x / 32] = v;
  }
  __syncthreads();
  if (threadIdx.x < 8) {
    v = parts[threadIdx.x];
    for (int step = 4; step > 0; step /= 2) {
      v += __shfl_xor_sync(0xffu, v, step, 8);
    }
    if (threadIdx.x == 0) {
      out[blockIdx.x] = v;
    }
  }
}
