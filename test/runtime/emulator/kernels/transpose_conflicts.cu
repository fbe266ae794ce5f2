// transpose_conflicts.cu - 32x32 tile, every read of a column hits one bank 32 times. Target sm_75.
extern "C" __global__ void transpose_conflicts(const int *in, int *out, int width, int height) {
  __shared__ int tile[32][32];
  int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += 8) {
    tile[threadIdx.y + j][threadIdx.x] = in[(y + j) * width + x];
  }
  __syncthreads();
  x = blockIdx.y * 32 + threadIdx.x;
  y = blockIdx.x * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += 8) {
    out[(y + j) * height + x] = tile[threadIdx.x][threadIdx.y + j];
  }
}
