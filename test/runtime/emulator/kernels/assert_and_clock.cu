// assert_and_clock.cu - an assertion that holds, clocks that do not run backwards, a sleep. Target sm_75.
#include <cassert>
extern "C" __global__ void assert_and_clock(const int *in, int *out) {
  long long before = clock64();
  assert(in[threadIdx.x] < 1000);
  __nanosleep(20);
  long long after = clock64();
  out[threadIdx.x] = in[threadIdx.x] + (after >= before ? 1 : 0);
}
