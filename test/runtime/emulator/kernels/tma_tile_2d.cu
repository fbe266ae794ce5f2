// tma_tile_2d.cu - a box with out-of-bounds columns and 128-byte swizzle in, another out. Target sm_90a.
struct __align__(64) TensorMap {
  unsigned char bytes[128];
};
extern "C" __global__ void tma_tile_2d(const __grid_constant__ TensorMap in, const __grid_constant__ TensorMap out, int *seen) {
  __shared__ __align__(1024) int tile[16 * 32];
  __shared__ unsigned long long barrier;
  unsigned bar = static_cast<unsigned>(__cvta_generic_to_shared(&barrier));
  unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(tile));
  int x = blockIdx.x * 32, y = blockIdx.y * 16;
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 2048;" ::"r"(bar) : "memory");
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
                 "l"(&in), "r"(x), "r"(y), "r"(bar)
                 : "memory");
  }
  __syncthreads();
  int done = 0;
  while (!done) {
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; selp.s32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(bar)
                 : "memory");
  }
  for (int i = threadIdx.x; i < 512; i += blockDim.x) {
    int row = i / 32, chunk = i % 32 / 4 ^ row % 8; // 16-byte chunks, exchanged within 128-byte rows
    int at = row * 32 + chunk * 4 + i % 4;
    seen[((blockIdx.y * gridDim.x + blockIdx.x) * 512) + i] = tile[at];
    tile[at] += 1000;
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  if (threadIdx.x == 0) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&out), "r"(x), "r"(y), "r"(to) : "memory");
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
  }
}
