// redux_warp.cu - redux.sync of every kind. Target sm_80.
extern "C" __global__ void redux_warp(const unsigned *in, unsigned *out) {
  unsigned v = in[threadIdx.x];
  out[threadIdx.x] = __reduce_add_sync(~0u, v) ^ __reduce_min_sync(~0u, v) ^ __reduce_max_sync(~0u, v) ^
                     __reduce_and_sync(~0u, v) ^ __reduce_or_sync(~0u, v) ^ __reduce_xor_sync(~0u, v) ^
                     static_cast<unsigned>(__reduce_min_sync(~0u, static_cast<int>(v)));
}
