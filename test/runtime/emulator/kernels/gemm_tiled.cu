// gemm_tiled.cu - f32 product through shared tiles. Target sm_75.
extern "C" __global__ void gemm_tiled(const float *a, const float *b, float *c, int n) {
  __shared__ float x[16][16], y[16][16];
  int row = blockIdx.y * 16 + threadIdx.y, col = blockIdx.x * 16 + threadIdx.x;
  float sum = 0;
  for (int t = 0; t < n / 16; ++t) {
    x[threadIdx.y][threadIdx.x] = a[row * n + t * 16 + threadIdx.x];
    y[threadIdx.y][threadIdx.x] = b[(t * 16 + threadIdx.y) * n + col];
    __syncthreads();
    for (int k = 0; k < 16; ++k) {
      sum += x[threadIdx.y][k] * y[k][threadIdx.x];
    }
    __syncthreads();
  }
  c[row * n + col] = sum;
}
