// cluster_reduce.cu - every block adds into the shared memory of block 0 of its cluster. Target sm_90a.
extern "C" __global__ void __cluster_dims__(4, 1, 1) cluster_reduce(const int *in, int *out) {
  __shared__ int sum;
  unsigned rank, remote, mine = static_cast<unsigned>(__cvta_generic_to_shared(&sum));
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  if (threadIdx.x == 0) {
    sum = 0;
  }
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  asm("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(remote) : "r"(mine));
  asm volatile("red.relaxed.cluster.shared::cluster.add.s32 [%0], %1;" ::"r"(remote), "r"(in[blockIdx.x * 32 + threadIdx.x]) : "memory");
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  if (rank == 0 && threadIdx.x == 0) {
    out[blockIdx.x / 4] = sum;
  }
}
