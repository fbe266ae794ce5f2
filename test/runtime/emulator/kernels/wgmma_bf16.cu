// wgmma_bf16.cu - wgmma m64n8k16 on K-major tiles without swizzle. Target sm_90a.
extern "C" __global__ void wgmma_bf16(const unsigned short *a, const unsigned short *b, float *c) {
  // Core matrices of 8 rows x 16 bytes lie one after another: first along k, then along rows.
  __shared__ __align__(128) unsigned short x[64 * 16], y[8 * 16];
  for (int i = threadIdx.x; i < 64 * 16; i += 128) {
    int row = i / 16, k = i % 16;
    x[(row / 8 * 2 + k / 8) * 64 + row % 8 * 8 + k % 8] = a[i];
  }
  for (int i = threadIdx.x; i < 8 * 16; i += 128) {
    int row = i / 16, k = i % 16;
    y[k / 8 * 64 + row * 8 + k % 8] = b[i];
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  auto descriptor = [](const void *at) {
    unsigned long long address = static_cast<unsigned>(__cvta_generic_to_shared(at));
    // start, leading offset (along k) 128 bytes, stride offset (8 rows) 256 bytes; all in units of 16 bytes
    return (address >> 4 & 0x3fff) | 8ull << 16 | 16ull << 32;
  };
  float d[4] = {0, 0, 0, 0};
  for (int i = 0; i < 4; ++i) {
    asm volatile("" : "+f"(d[i])::"memory"); // written before the fence, not moved behind it
  }
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  asm volatile("{.reg .pred p; setp.ne.b32 p, 0, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, %4, %5, p, 1, 1, 0, 0;}"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "l"(descriptor(x)), "l"(descriptor(y))
               : "memory");
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  asm volatile("wgmma.wait_group.sync.aligned 0;" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])::"memory");
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int i = 0; i < 4; ++i) {
    c[(warp * 16 + lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
  }
}
