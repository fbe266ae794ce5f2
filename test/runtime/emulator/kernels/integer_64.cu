// integer_64.cu - 64- and 128-bit integers: carries, division. Target sm_75.
extern "C" __global__ void integer_64(const long long *in, long long *out) {
  long long a = in[threadIdx.x], b = in[threadIdx.x + 1] | 1;
  unsigned __int128 wide = static_cast<unsigned __int128>(static_cast<unsigned long long>(a)) * static_cast<unsigned long long>(b);
  wide += static_cast<unsigned long long>(a);
  out[threadIdx.x] = a / b + a % b + static_cast<long long>(wide >> 64) + __popcll(a) + __clzll(b);
}
