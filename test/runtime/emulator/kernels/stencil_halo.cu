// stencil_halo.cu - a 2-D stencil with halo in shared memory. Target sm_75.
extern "C" __global__ void stencil_halo(const int *in, int *out, int n) {
  __shared__ int tile[18][18];
  int x = blockIdx.x * 16 + threadIdx.x, y = blockIdx.y * 16 + threadIdx.y;
  for (int i = threadIdx.y * 16 + threadIdx.x; i < 18 * 18; i += 256) {
    int tx = blockIdx.x * 16 + i % 18 - 1, ty = blockIdx.y * 16 + i / 18 - 1;
    bool inside = tx >= 0 && ty >= 0 && tx < n && ty < n;
    tile[i / 18][i % 18] = inside ? in[ty * n + tx] : 0;
  }
  __syncthreads();
  int cx = threadIdx.x + 1, cy = threadIdx.y + 1;
  out[y * n + x] = 4 * tile[cy][cx] - tile[cy - 1][cx] - tile[cy + 1][cx] - tile[cy][cx - 1] - tile[cy][cx + 1];
}
