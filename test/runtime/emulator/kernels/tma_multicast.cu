// tma_multicast.cu - one block of a cluster loads a box for both. Target sm_90a.
struct __align__(64) TensorMap {
  unsigned char bytes[128];
};
extern "C" __global__ void __cluster_dims__(2, 1, 1) tma_multicast(const __grid_constant__ TensorMap map, int *out) {
  __shared__ __align__(128) int tile[8 * 16];
  __shared__ unsigned long long barrier;
  unsigned rank, bar = static_cast<unsigned>(__cvta_generic_to_shared(&barrier)), to = static_cast<unsigned>(__cvta_generic_to_shared(tile));
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 512;" ::"r"(bar) : "memory");
  }
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  if (rank == 0 && threadIdx.x == 0) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
                 "l"(&map), "r"(16), "r"(static_cast<int>(blockIdx.x / 2 * 8)), "r"(bar), "h"(static_cast<unsigned short>(3))
                 : "memory");
  }
  int done = 0;
  while (!done) {
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; selp.s32 %0, 1, 0, p;}" : "=r"(done) : "r"(bar) : "memory");
  }
  for (int i = threadIdx.x; i < 128; i += blockDim.x) {
    out[blockIdx.x * 128 + i] = tile[i] + static_cast<int>(rank);
  }
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
