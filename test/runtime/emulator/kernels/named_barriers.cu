// named_barriers.cu - two warps hand buffers over with bar.arrive and bar.sync. Target sm_75.
extern "C" __global__ void named_barriers(const int *in, int *out) {
  __shared__ int buffer[32];
  int lane = threadIdx.x % 32;
  if (threadIdx.x < 32) {
    for (int i = 0; i < 4; ++i) {
      asm volatile("bar.sync 2, 64;" ::: "memory"); // empty
      buffer[lane] = in[i * 32 + lane] * 2;
      asm volatile("bar.arrive 1, 64;" ::: "memory"); // full
    }
  } else {
    asm volatile("bar.arrive 2, 64;" ::: "memory");
    for (int i = 0; i < 4; ++i) {
      asm volatile("bar.sync 1, 64;" ::: "memory");
      out[i * 32 + lane] = buffer[31 - lane];
      if (i < 3) {
        asm volatile("bar.arrive 2, 64;" ::: "memory");
      }
    }
  }
}
