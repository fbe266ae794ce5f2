// recursive_fibonacci.cu - calls with a stack, to a depth that differs by lane. Target sm_75.
__device__ __noinline__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
extern "C" __global__ void recursive_fibonacci(int *out) { out[threadIdx.x] = fibonacci(threadIdx.x % 12); }
