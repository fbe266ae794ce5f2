// function_pointers.cu - indirect calls through a table that the initialiser fills. Target sm_75.
__device__ __noinline__ int twice(int v) { return v * 2; }
__device__ __noinline__ int square(int v) { return v * v; }
__device__ __noinline__ int negate(int v) { return -v; }
typedef int (*Operation)(int);
__device__ Operation operations[3] = {twice, square, negate};
extern "C" __global__ void function_pointers(int *out) { out[threadIdx.x] = operations[threadIdx.x % 3](threadIdx.x); }
