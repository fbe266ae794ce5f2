// tma_wgmma.cu - tiles by TMA with 128-byte swizzle, four k-steps of wgmma m64n64k16, two stages. Target sm_90a.
struct __align__(64) TensorMap {
  unsigned char bytes[128];
};
extern "C" __global__ void __launch_bounds__(128) tma_wgmma(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float *c, int steps) {
  __shared__ __align__(1024) unsigned short x[2][64 * 64], y[2][64 * 64];
  __shared__ unsigned long long full[2];
  auto address = [](const void *p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); };
  auto load = [&](int t) {
    int s = t % 2, k = t * 64, zero = 0;
    unsigned bar = address(&full[s]);
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 16384;" ::"r"(bar) : "memory");
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(address(x[s])), "l"(&a),
                 "r"(k), "r"(zero), "r"(bar)
                 : "memory");
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(address(y[s])), "l"(&b),
                 "r"(k), "r"(zero), "r"(bar)
                 : "memory");
  };
  if (threadIdx.x == 0) {
    for (int s = 0; s < 2; ++s) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address(&full[s])) : "memory");
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    load(0);
  }
  __syncthreads();
  float d[32];
  for (int i = 0; i < 32; ++i) {
    d[i] = 0;
  }
  auto descriptor = [&](const unsigned short *tile) { // rows of 128 bytes, 8 of them 1024 bytes apart, 128-byte swizzle
    return static_cast<unsigned long long>(address(tile) >> 4 & 0x3fff) | 1ull << 16 | 64ull << 32 | 1ull << 62;
  };
  for (int t = 0; t < steps; ++t) {
    if (threadIdx.x == 0 && t + 1 < steps) {
      load(t + 1);
    }
    int done = 0;
    while (!done) {
      asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.s32 %0, 1, 0, p;}"
                   : "=r"(done)
                   : "r"(address(&full[t % 2])), "r"(t / 2 % 2)
                   : "memory");
    }
    for (int i = 0; i < 32; ++i) {
      asm volatile("" : "+f"(d[i])::"memory"); // written before the fence, not moved behind it
    }
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    unsigned long long da = descriptor(x[t % 2]), db = descriptor(y[t % 2]);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                   "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, 1, 1, 1, 0, 0;"
                   : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]),
                     "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]),
                     "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),
                     "+f"(d[31])
                   : "l"(da + 2 * k), "l"(db + 2 * k)
                   : "memory");
    }
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    for (int i = 0; i < 32; ++i) {
      asm volatile("" : "+f"(d[i])::"memory");
    }
    __syncthreads(); // the stage is free again
  }
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int i = 0; i < 32; ++i) {
    c[(warp * 16 + lane / 4 + i / 2 % 2 * 8) * 64 + i / 4 * 8 + lane % 4 * 2 + i % 2] = d[i];
  }
}
