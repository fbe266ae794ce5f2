// dynamic_shared_reverse.cu - extern shared memory, sized by the launch. Target sm_75.
extern "C" __global__ void dynamic_shared_reverse(const int *in, int *out, int n) {
  extern __shared__ int values[];
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    values[i] = in[i];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    out[i] = values[n - 1 - i];
  }
}
