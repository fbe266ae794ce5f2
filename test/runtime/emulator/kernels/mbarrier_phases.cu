// mbarrier_phases.cu - an mbarrier used over several phases. Target sm_80.
extern "C" __global__ void mbarrier_phases(const int *in, int *out) {
  __shared__ unsigned long long barrier;
  __shared__ int values[64];
  unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(&barrier));
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared.b64 [%0], 64;" ::"r"(at) : "memory");
  }
  __syncthreads();
  int v = in[threadIdx.x];
  for (int phase = 0; phase < 4; ++phase) {
    for (int half = 0; half < 2; ++half) {
      if (half == 0) {
        values[threadIdx.x] = v;
      } else {
        v += values[(threadIdx.x + 1) % 64];
      }
      unsigned long long state;
      asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(at) : "memory");
      int done = 0;
      while (!done) {
        asm volatile("{.reg .pred p; mbarrier.test_wait.shared.b64 p, [%1], %2; selp.s32 %0, 1, 0, p;}"
                     : "=r"(done)
                     : "r"(at), "l"(state)
                     : "memory");
      }
    }
  }
  out[threadIdx.x] = v;
}
