// cp_async_pipeline.cu - two stages of cp.async, groups waited for one late. Target sm_80.
extern "C" __global__ void cp_async_pipeline(const int *in, int *out, int tiles) {
  __shared__ __align__(16) int stage[2][256];
  int i = threadIdx.x;
  auto load = [&](int t) {
    unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(&stage[t % 2][i * 4]));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(in + t * 256 + i * 4) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  load(0);
  for (int t = 0; t < tiles; ++t) {
    if (t + 1 < tiles) {
      load(t + 1);
      asm volatile("cp.async.wait_group 1;" ::: "memory");
    } else {
      asm volatile("cp.async.wait_group 0;" ::: "memory");
    }
    __syncthreads();
    for (int k = 0; k < 4; ++k) {
      out[t * 256 + k * 64 + i] = stage[t % 2][255 - k * 64 - i];
    }
    __syncthreads();
  }
}
