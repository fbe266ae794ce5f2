// scan_block.cu - inclusive scan, two buffers. Target sm_75.
extern "C" __global__ void scan_block(const int *in, int *out) {
  __shared__ int buffer[2][256];
  int i = threadIdx.x, from = 0;
  buffer[0][i] = in[i];
  __syncthreads();
  for (int step = 1; step < 256; step *= 2) {
    buffer[1 - from][i] = buffer[from][i] + (i >= step ? buffer[from][i - step] : 0);
    from = 1 - from;
    __syncthreads();
  }
  out[i] = buffer[from][i];
}
