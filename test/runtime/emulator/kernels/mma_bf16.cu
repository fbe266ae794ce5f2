// mma_bf16.cu - mma m16n8k16 on bf16. Target sm_80.
extern "C" __global__ void mma_bf16(const unsigned *a, const unsigned *b, float *c) {
  int lane = threadIdx.x, g = lane / 4, t = lane % 4; // words of two along k: A [16, 8], B [8, 8] with n rows
  float d[4] = {1, 1, 1, 1};
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[g * 8 + t]), "r"(a[(g + 8) * 8 + t]), "r"(a[g * 8 + t + 4]), "r"(a[(g + 8) * 8 + t + 4]), "r"(b[g * 8 + t]),
                 "r"(b[g * 8 + t + 4]));
  for (int i = 0; i < 4; ++i) {
    c[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];
  }
}
