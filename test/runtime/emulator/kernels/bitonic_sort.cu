// bitonic_sort.cu - 256 values in shared memory. Target sm_75.
extern "C" __global__ void bitonic_sort(int *data) {
  __shared__ int values[256];
  int i = threadIdx.x;
  values[i] = data[i];
  __syncthreads();
  for (int size = 2; size <= 256; size *= 2) {
    for (int step = size / 2; step > 0; step /= 2) {
      int other = i ^ step;
      if (other > i) {
        bool up = (i & size) == 0;
        int a = values[i], b = values[other];
        if ((a > b) == up) {
          values[i] = b;
          values[other] = a;
        }
      }
      __syncthreads();
    }
  }
  data[i] = values[i];
}
