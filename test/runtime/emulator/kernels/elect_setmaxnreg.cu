// elect_setmaxnreg.cu - a producer and a consumer warpgroup with uneven registers. Target sm_90a.
extern "C" __global__ void __launch_bounds__(256, 1) elect_setmaxnreg(const int *in, int *out) {
  __shared__ __align__(128) int stage[2][128];
  __shared__ unsigned long long full[2], empty[2];
  auto address = [](const void *p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); };
  auto wait = [&](unsigned long long *barrier, int parity) {
    int done = 0;
    while (!done) {
      asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.s32 %0, 1, 0, p;}"
                   : "=r"(done)
                   : "r"(address(barrier)), "r"(parity)
                   : "memory");
    }
  };
  if (threadIdx.x == 0) {
    for (int s = 0; s < 2; ++s) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address(&full[s])) : "memory");
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 128;" ::"r"(address(&empty[s])) : "memory");
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x < 32) {
      int elected;
      asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; selp.s32 %0, 1, 0, p;}" : "=r"(elected));
      for (int t = 0; elected && t < 6; ++t) {
        int s = t % 2;
        wait(&empty[s], t / 2 % 2 ^ 1);
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 512;" ::"r"(address(&full[s])) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], 512, [%2];" ::"r"(address(stage[s])),
                     "l"(in + t * 128), "r"(address(&full[s]))
                     : "memory");
      }
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    int i = threadIdx.x - 128, sum = 0;
    for (int t = 0; t < 6; ++t) {
      int s = t % 2;
      wait(&full[s], t / 2 % 2);
      sum += stage[s][127 - i] * (t + 1);
      asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address(&empty[s])) : "memory");
    }
    out[i] = sum;
  }
}
