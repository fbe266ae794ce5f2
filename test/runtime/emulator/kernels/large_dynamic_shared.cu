// large_dynamic_shared.cu - more than 48 KiB, which the launch must ask for. Target sm_75.
extern "C" __global__ void large_dynamic_shared(const int *in, int *out, int n) {
  extern __shared__ int values[];
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    values[i * 7 % n] = in[i % 64];
  }
  __syncthreads();
  int sum = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    sum += values[i] * (i % 5);
  }
  atomicAdd(out, sum);
}
