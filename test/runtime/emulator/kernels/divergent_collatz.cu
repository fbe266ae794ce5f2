// divergent_collatz.cu - every lane leaves the loop at another time. Target sm_75.
extern "C" __global__ void divergent_collatz(const unsigned *in, unsigned *steps, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) {
    return;
  }
  unsigned v = in[i], count = 0;
  while (v > 1) {
    v = v % 2 ? 3 * v + 1 : v / 2;
    ++count;
  }
  steps[i] = count;
}
