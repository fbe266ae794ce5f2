// kernels.cu - block-wide algorithms of CUB, barriers and pipelines of libcu++, as a program would use them. Compiled by
// run.py where a CUDA toolkit is; each kernel is one block.
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cuda/barrier>
#include <cuda/pipeline>

#include <cooperative_groups.h>

constexpr int threads = 128;

template <cub::BlockReduceAlgorithm Algorithm> __device__ void reduce(const int *in, int *out) {
  using Reduce = cub::BlockReduce<int, threads, Algorithm>;
  __shared__ typename Reduce::TempStorage storage;
  int sum = Reduce(storage).Sum(in[threadIdx.x]);
  __syncthreads();
  int most = Reduce(storage).Reduce(in[threadIdx.x], [](int a, int b) { return a > b ? a : b; });
  if (threadIdx.x == 0) {
    out[0] = sum;
    out[1] = most;
  }
}
extern "C" __global__ void reduce_raking(const int *in, int *out) { reduce<cub::BLOCK_REDUCE_RAKING>(in, out); }
extern "C" __global__ void reduce_warps(const int *in, int *out) { reduce<cub::BLOCK_REDUCE_WARP_REDUCTIONS>(in, out); }
extern "C" __global__ void reduce_commutative(const int *in, int *out) {
  reduce<cub::BLOCK_REDUCE_RAKING_COMMUTATIVE_ONLY>(in, out);
}

template <cub::BlockScanAlgorithm Algorithm> __device__ void scan(const int *in, int *out) {
  using Scan = cub::BlockScan<int, threads, Algorithm>;
  __shared__ typename Scan::TempStorage storage;
  int values[2] = {in[threadIdx.x * 2], in[threadIdx.x * 2 + 1]};
  Scan(storage).ExclusiveSum(values, values);
  out[threadIdx.x * 2] = values[0];
  out[threadIdx.x * 2 + 1] = values[1];
}
extern "C" __global__ void scan_raking(const int *in, int *out) { scan<cub::BLOCK_SCAN_RAKING>(in, out); }
extern "C" __global__ void scan_warps(const int *in, int *out) { scan<cub::BLOCK_SCAN_WARP_SCANS>(in, out); }

extern "C" __global__ void radix_sort(const unsigned *in, unsigned *out) {
  using Sort = cub::BlockRadixSort<unsigned, threads, 2>;
  __shared__ typename Sort::TempStorage storage;
  unsigned keys[2] = {in[threadIdx.x * 2], in[threadIdx.x * 2 + 1]};
  Sort(storage).Sort(keys);
  out[threadIdx.x * 2] = keys[0];
  out[threadIdx.x * 2 + 1] = keys[1];
}

// Neighbours exchange values through shared memory, one phase of the barrier after another.
extern "C" __global__ void barrier_phases(const int *in, int *out) {
  __shared__ int values[threads];
  __shared__ cuda::barrier<cuda::thread_scope_block> barrier;
  if (threadIdx.x == 0) {
    init(&barrier, threads);
  }
  __syncthreads();
  int value = in[threadIdx.x];
  for (int round = 0; round < 4; ++round) {
    values[threadIdx.x] = value;
    barrier.arrive_and_wait();
    int other = values[(threadIdx.x + 1) % threads];
    auto token = barrier.arrive();
    value = value * 3 + other;
    barrier.wait(std::move(token));
  }
  out[threadIdx.x] = value;
}

// A pipeline of two stages that the whole block feeds and drains.
extern "C" __global__ void pipeline_stages(const int *in, int *out, int tiles) {
  constexpr int stages = 2;
  auto block = cooperative_groups::this_thread_block();
  __shared__ int tile[stages][threads];
  __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, stages> state;
  auto pipeline = cuda::make_pipeline(block, &state);
  int sum = 0, next = 0;
  for (int t = 0; t < tiles; ++t) {
    for (; next < tiles && next < t + stages; ++next) {
      pipeline.producer_acquire();
      cuda::memcpy_async(block, tile[next % stages], in + next * threads, sizeof(int) * threads, pipeline);
      pipeline.producer_commit();
    }
    pipeline.consumer_wait();
    sum += tile[t % stages][threads - 1 - threadIdx.x] * (t + 1);
    pipeline.consumer_release();
  }
  out[threadIdx.x] = sum;
}

// Each thread's own pipeline, and a copy that a barrier of the block reports.
extern "C" __global__ void copy_to_barrier(const int *in, int *out) {
  auto block = cooperative_groups::this_thread_block();
  __shared__ alignas(16) int values[threads];
  __shared__ cuda::barrier<cuda::thread_scope_block> barrier;
  if (threadIdx.x == 0) {
    init(&barrier, threads);
  }
  block.sync();
  cuda::memcpy_async(block, values, in, cuda::aligned_size_t<16>(sizeof(values)), barrier);
  barrier.arrive_and_wait();
  out[threadIdx.x] = values[(threadIdx.x + 17) % threads];
}

#if __CUDA_ARCH__ >= 900
// One bulk copy that the barrier counts the bytes of.
extern "C" __global__ void bulk_to_barrier(const int *in, int *out) {
  __shared__ alignas(128) int values[threads];
  __shared__ cuda::barrier<cuda::thread_scope_block> barrier;
  if (threadIdx.x == 0) {
    init(&barrier, threads);
    cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
  }
  __syncthreads();
  cuda::barrier<cuda::thread_scope_block>::arrival_token token;
  if (threadIdx.x == 0) {
    cuda::device::memcpy_async_tx(values, in, cuda::aligned_size_t<16>(sizeof(values)), barrier);
    token = cuda::device::barrier_arrive_tx(barrier, 1, sizeof(values));
  } else {
    token = barrier.arrive();
  }
  barrier.wait(std::move(token));
  out[threadIdx.x] = values[(threadIdx.x + 5) % threads];
}
#endif
