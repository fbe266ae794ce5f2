// llvm_dot.c - a dot product by LLVM's NVPTX back end: shared memory, barriers, a float atomic. Target sm_80.
__attribute__((address_space(3))) static float parts[128];

__attribute__((nvptx_kernel)) void llvm_dot(const float *a, const float *b, float *out, int n) {
  int i = __nvvm_read_ptx_sreg_tid_x();
  float sum = 0;
  for (int k = i; k < n; k += 128) {
    sum += a[k] * b[k];
  }
  parts[i] = sum;
  for (int step = 64; step > 0; step /= 2) {
    __nvvm_bar_sync(0);
    if (i < step) {
      parts[i] += parts[i + step];
    }
  }
  if (i == 0) {
    __nvvm_atom_add_gen_f(out, parts[0]);
  }
}
