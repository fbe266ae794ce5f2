// local_array.cu - an array in local memory, indexed by data. Target sm_75.
extern "C" __global__ void local_array(const int *in, int *out) {
  int values[16];
  for (int i = 0; i < 16; ++i) {
    values[i] = i * threadIdx.x;
  }
  for (int i = 0; i < 16; ++i) {
    values[in[i] & 15] += i;
  }
  out[threadIdx.x] = values[in[threadIdx.x] & 15];
}
