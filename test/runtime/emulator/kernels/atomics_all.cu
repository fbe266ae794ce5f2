// atomics_all.cu - every integer atomic on one word each. Target sm_75.
extern "C" __global__ void atomics_all(int *out, unsigned *bits) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&out[0], i);
  atomicMin(&out[1], 5 - i);
  atomicMax(&out[2], i * 3);
  atomicSub(&out[3], 2);
  atomicAnd(&bits[0], ~(1u << (i % 32)));
  atomicOr(&bits[1], 1u << (i % 32));
  atomicXor(&bits[2], i);
  atomicInc(&bits[3], 6u);
  atomicDec(&bits[4], 9u);
  unsigned old = *reinterpret_cast<volatile unsigned *>(&bits[5]), seen;
  do { // a sum by compare and swap
    seen = old;
    old = atomicCAS(&bits[5], seen, seen + i);
  } while (old != seen);
}
