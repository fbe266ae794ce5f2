// spmv_csr.cu - rows of different length. Target sm_75.
extern "C" __global__ void spmv_csr(const int *rows, const int *columns, const int *values, const int *x, int *y, int n) {
  int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row < n) {
    int sum = 0;
    for (int i = rows[row]; i < rows[row + 1]; ++i) {
      sum += values[i] * x[columns[i]];
    }
    y[row] = sum;
  }
}
