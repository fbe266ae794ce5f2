// bit_operations.cu - permutes, shifts, fields, counts. Target sm_75.
extern "C" __global__ void bit_operations(const unsigned *in, unsigned *out) {
  unsigned v = in[threadIdx.x], w = in[(threadIdx.x + 1) % 32];
  unsigned r = __byte_perm(v, w, 0x5130) ^ __funnelshift_l(v, w, 7) ^ __funnelshift_rc(v, w, 40) ^ __brev(v);
  r += __popc(v) + __clz(w) + __ffs(v) + __usad(v, w, 3) + __umulhi(v, w) + __dp4a(v, w, 5u) + __vabsdiffu4(v, w);
  unsigned field;
  asm("bfe.u32 %0, %1, 5, 11;" : "=r"(field) : "r"(v));
  asm("bfi.b32 %0, %1, %0, 13, 6;" : "+r"(r) : "r"(field));
  out[threadIdx.x] = r;
}
