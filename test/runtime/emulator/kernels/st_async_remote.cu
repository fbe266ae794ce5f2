// st_async_remote.cu - st.async into the neighbour's shared memory, which waits on its own mbarrier. Target sm_90a.
extern "C" __global__ void __cluster_dims__(2, 1, 1) st_async_remote(const int *in, int *out) {
  __shared__ int values[32];
  __shared__ unsigned long long barrier;
  unsigned rank, bar = static_cast<unsigned>(__cvta_generic_to_shared(&barrier));
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 128;" ::"r"(bar) : "memory");
  }
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  unsigned to, remote, here = static_cast<unsigned>(__cvta_generic_to_shared(&values[threadIdx.x]));
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(here), "r"(rank ^ 1));
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(bar), "r"(rank ^ 1));
  int v = in[blockIdx.x * 32 + threadIdx.x];
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.s32 [%0], %1, [%2];" ::"r"(to), "r"(v), "r"(remote) : "memory");
  int done = 0;
  while (!done) {
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0; selp.s32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(bar)
                 : "memory");
  }
  out[blockIdx.x * 32 + threadIdx.x] = values[threadIdx.x];
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
