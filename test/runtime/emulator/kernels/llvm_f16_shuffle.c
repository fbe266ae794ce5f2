// llvm_f16_shuffle.c - by LLVM's NVPTX back end: f16 arithmetic, shuffles, votes, bit operations. Target sm_80.
__attribute__((nvptx_kernel)) void llvm_f16_shuffle(const _Float16 *in, float *out) {
  int i = __nvvm_read_ptx_sreg_tid_x();
  _Float16 v = in[i];
  float sum = (float)(v * v + (_Float16)1.0f);
  for (int step = 16; step > 0; step /= 2) {
    sum += __builtin_bit_cast(float, __nvvm_shfl_sync_bfly_i32(-1, __builtin_bit_cast(int, sum), step, 31));
  }
  unsigned odd = __nvvm_vote_ballot_sync(-1, (int)v & 1);
  out[i] = sum + __builtin_popcount(odd) + __builtin_clz(odd | 1);
}
