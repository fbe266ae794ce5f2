// stmatrix_store.cu - mma fragment through stmatrix. Target sm_90a.
extern "C" __global__ void stmatrix_store(const unsigned *in, unsigned *out) {
  __shared__ __align__(16) unsigned tile[8 * 8 / 2 * 2];
  int lane = threadIdx.x;
  unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(&tile[lane % 16 * 4]));
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(at), "r"(in[lane]), "r"(in[32 + lane]) : "memory");
  __syncwarp();
  out[lane] = tile[lane];
  out[32 + lane] = tile[32 + lane];
}
