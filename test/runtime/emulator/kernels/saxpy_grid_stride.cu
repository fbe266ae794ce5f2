// saxpy_grid_stride.cu - a loop over the grid. Target sm_75.
extern "C" __global__ void saxpy_grid_stride(float a, const float *x, float *y, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    y[i] = a * x[i] + y[i];
  }
}
