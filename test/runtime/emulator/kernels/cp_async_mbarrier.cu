// cp_async_mbarrier.cu - cp.async that arrives on an mbarrier. Target sm_80.
extern "C" __global__ void cp_async_mbarrier(const int *in, int *out) {
  __shared__ __align__(16) int tile[256];
  __shared__ unsigned long long barrier;
  unsigned bar = static_cast<unsigned>(__cvta_generic_to_shared(&barrier));
  int i = threadIdx.x;
  if (i == 0) {
    asm volatile("mbarrier.init.shared.b64 [%0], 64;" ::"r"(bar) : "memory");
  }
  __syncthreads();
  unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(&tile[i * 4]));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(to), "l"(in + i * 4) : "memory");
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(bar) : "memory");
  int done = 0;
  while (!done) {
    asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], 0; selp.s32 %0, 1, 0, p;}" : "=r"(done) : "r"(bar) : "memory");
  }
  for (int k = 0; k < 4; ++k) {
    out[k * 64 + i] = tile[255 - k * 64 - i];
  }
}
