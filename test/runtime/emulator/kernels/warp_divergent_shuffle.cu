// warp_divergent_shuffle.cu - halves of a warp shuffle among themselves under masks. Target sm_75.
extern "C" __global__ void warp_divergent_shuffle(const int *in, int *out) {
  int lane = threadIdx.x % 32, v = in[threadIdx.x];
  if (lane < 16) {
    v += __shfl_xor_sync(0x0000ffffu, v, 5);
    v *= 2;
  } else {
    v -= __shfl_xor_sync(0xffff0000u, v, 3);
  }
  __syncwarp();
  out[threadIdx.x] = v + __shfl_sync(0xffffffffu, v, 31 - lane);
}
