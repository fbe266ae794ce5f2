// recursive_quicksort.cu - recursion with data-dependent depth on local arrays. Target sm_75.
__device__ __noinline__ void quicksort(int *v, int low, int high) {
  if (low >= high) {
    return;
  }
  int pivot = v[(low + high) / 2], i = low, j = high;
  while (i <= j) {
    while (v[i] < pivot) {
      ++i;
    }
    while (v[j] > pivot) {
      --j;
    }
    if (i <= j) {
      int t = v[i];
      v[i++] = v[j];
      v[j--] = t;
    }
  }
  quicksort(v, low, j);
  quicksort(v, i, high);
}
extern "C" __global__ void recursive_quicksort(int *data) {
  int local[16];
  for (int i = 0; i < 16; ++i) {
    local[i] = data[threadIdx.x * 16 + i];
  }
  quicksort(local, 0, 15);
  for (int i = 0; i < 16; ++i) {
    data[threadIdx.x * 16 + i] = local[i];
  }
}
