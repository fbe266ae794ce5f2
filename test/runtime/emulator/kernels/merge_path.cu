// merge_path.cu - two sorted lists merged, every thread finds its diagonal. Target sm_75.
extern "C" __global__ void merge_path(const int *a, const int *b, int *out, int na, int nb) {
  int each = (na + nb + blockDim.x - 1) / blockDim.x;
  int first = min(static_cast<int>(threadIdx.x) * each, na + nb), last = min(first + each, na + nb);
  int low = max(0, first - nb), high = min(first, na);
  while (low < high) {
    int middle = (low + high) / 2;
    if (a[middle] <= b[first - 1 - middle]) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  int i = low, j = first - low;
  for (int k = first; k < last; ++k) {
    out[k] = j >= nb || (i < na && a[i] <= b[j]) ? a[i++] : b[j++];
  }
}
