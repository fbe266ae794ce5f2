// ldmatrix_mma_f16.cu - swizzled tiles, ldmatrix, mma m16n8k16. Target sm_80.
#include <cuda_fp16.h>
extern "C" __global__ void ldmatrix_mma_f16(const __half *a, const __half *b, float *c) {
  __shared__ __align__(128) __half x[16 * 16], y[8 * 16]; // A rows, B as n rows of k
  int lane = threadIdx.x;
  for (int i = lane; i < 32; i += 32) { // 16-byte chunks: 2 per row of 16
    int row = i / 2, chunk = (i % 2) ^ (row / 4 % 2);
    reinterpret_cast<int4 *>(x)[row * 2 + chunk] = reinterpret_cast<const int4 *>(a)[i];
  }
  if (lane < 16) {
    int row = lane / 2, chunk = (lane % 2) ^ (row / 4 % 2);
    reinterpret_cast<int4 *>(y)[row * 2 + chunk] = reinterpret_cast<const int4 *>(b)[lane];
  }
  __syncthreads();
  unsigned ra[4], rb[2];
  int row = lane % 16, chunk = (lane / 16) ^ (row / 4 % 2);
  unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(&x[row * 16 + chunk * 8]));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(ra[0]), "=r"(ra[1]), "=r"(ra[2]), "=r"(ra[3])
               : "r"(at)
               : "memory");
  row = lane % 8;
  chunk = (lane / 8 % 2) ^ (row / 4 % 2);
  at = static_cast<unsigned>(__cvta_generic_to_shared(&y[row * 16 + chunk * 8]));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(rb[0]), "=r"(rb[1]) : "r"(at) : "memory");
  float d[4] = {0, 0, 0, 0};
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
  for (int i = 0; i < 4; ++i) {
    c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
  }
}
