// wgmma_registers.cu - wgmma with A from registers, two groups in flight. Target sm_90a.
extern "C" __global__ void wgmma_registers(const unsigned *a, const unsigned short *b, float *c) {
  __shared__ __align__(128) unsigned short y[8 * 16];
  for (int i = threadIdx.x; i < 8 * 16; i += 128) {
    y[i % 16 / 8 * 64 + i / 16 * 8 + i % 8] = b[i];
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  unsigned long long descriptor = static_cast<unsigned>(__cvta_generic_to_shared(y)) >> 4 | 8ull << 16 | 16ull << 32;
  int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4, t = lane % 4;
  unsigned r0 = a[row * 8 + t], r1 = a[(row + 8) * 8 + t], r2 = a[row * 8 + t + 4], r3 = a[(row + 8) * 8 + t + 4];
  float d[4] = {0, 0, 0, 0}, e[4] = {1, 1, 1, 1};
  // What the fence is for: registers are written before it, not moved behind it.
  for (int i = 0; i < 4; ++i) {
    asm volatile("" : "+f"(d[i]), "+f"(e[i])::"memory");
  }
  asm volatile("" : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3)::"memory");
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, {%4,%5,%6,%7}, %8, 1, 1, 1, 0;"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(r0), "r"(r1), "r"(r2), "r"(r3), "l"(descriptor)
               : "memory");
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, {%4,%5,%6,%7}, %8, 1, -1, 1, 0;"
               : "+f"(e[0]), "+f"(e[1]), "+f"(e[2]), "+f"(e[3])
               : "r"(r0), "r"(r1), "r"(r2), "r"(r3), "l"(descriptor)
               : "memory");
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  asm volatile("wgmma.wait_group.sync.aligned 0;" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(e[0]), "+f"(e[1]), "+f"(e[2]), "+f"(e[3])::"memory");
  for (int i = 0; i < 4; ++i) {
    c[(row + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i] * 2 + e[i];
  }
}
