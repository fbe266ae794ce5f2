// cluster_exchange.cu - distributed shared memory of a cluster of four. Target sm_90a.
extern "C" __global__ void __cluster_dims__(4, 1, 1) cluster_exchange(const int *in, int *out) {
  __shared__ int values[64];
  int i = threadIdx.x;
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  values[i] = in[blockIdx.x * 64 + i];
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  unsigned mine = static_cast<unsigned>(__cvta_generic_to_shared(&values[i])), remote;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(mine), "r"((rank + 1) % 4));
  int v;
  asm volatile("ld.shared::cluster.s32 %0, [%1];" : "=r"(v) : "r"(remote) : "memory");
  out[blockIdx.x * 64 + i] = v * 10 + static_cast<int>(rank);
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
