// cp_async_zfill.cu - source sizes below 16, the rest is zero. Target sm_80.
extern "C" __global__ void cp_async_zfill(const int *in, int *out, int n) {
  __shared__ __align__(16) int tile[128];
  int i = threadIdx.x;
  int bytes = (n - i * 4) * 4;
  bytes = bytes < 0 ? 0 : bytes > 16 ? 16 : bytes;
  unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(&tile[i * 4]));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(in + i * 4), "r"(bytes) : "memory");
  asm volatile("cp.async.wait_all;" ::: "memory");
  __syncthreads();
  for (int k = 0; k < 4; ++k) {
    out[k * 32 + i] = tile[127 - k * 32 - i];
  }
}
