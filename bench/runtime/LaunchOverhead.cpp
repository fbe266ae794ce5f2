// What a launch costs beside its kernel: the hand-over to the workers and the barrier after it. A decode step makes
// some 250 of them per token, so this times 250 is the runtime's share of a token.
//
//   runtime-launch-overhead [threads...]     (default: 1 and 2)
//
// Every workgroup takes 2 us (counted cycles). A grid of n workgroups on n threads would ideally take 2 us; what a
// launch takes beyond that is its overhead. An empty kernel would not do: the caller has finished it before a worker
// looks. Prints the median and the fastest of 1001 rounds of 20 launches; on a machine that does other things, the
// fastest is the one to look at. A grid of one workgroup never leaves the caller.
#include "runtime/backends/cpu/ThreadPool.h"
#include "runtime/core/Backend.h"
#include "runtime/include/moert/kernel_abi.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>
#include <x86intrin.h>

namespace {

constexpr double kWorkNs = 2000;

double nowNs() {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// args[0]: cycles to spend.
void work(const uint64_t *args, int64_t, void *) {
  const uint64_t begin = __rdtsc();
  while (__rdtsc() - begin < args[0]) {
  }
}

/// Cycles of the time stamp counter in kWorkNs.
uint64_t calibrate() {
  const double begin = nowNs();
  const uint64_t first = __rdtsc();
  while (nowNs() - begin < 2e7) {
  }
  return uint64_t(double(__rdtsc() - first) / (nowNs() - begin) * kWorkNs);
}

void measure(int threads, int64_t perThread, uint64_t cycles) {
  auto backend = moert::openCpuBackend({threads, /*pin=*/false, /*deadlineSeconds=*/30});
  if (!backend.ok()) {
    fprintf(stderr, "%s\n", backend.status().message().c_str());
    exit(1);
  }
  const int64_t grid = threads * perThread;
  moert::Launch launch{reinterpret_cast<void *>(work), &cycles, 1, grid};
  constexpr int rounds = 1001, launches = 20;
  std::vector<double> overhead;
  for (int round = -5; round < rounds; ++round) { // the first five warm up
    const double begin = nowNs();
    for (int i = 0; i < launches; ++i) {
      if (!(*backend)->launch(&launch, 1)) {
        fprintf(stderr, "a launch missed its deadline\n");
        exit(1);
      }
    }
    if (round >= 0) {
      overhead.push_back((nowNs() - begin) / launches - kWorkNs * double(perThread));
    }
  }
  std::sort(overhead.begin(), overhead.end());
  printf("%7d %10lld %14.0f %14.0f\n", threads, static_cast<long long>(grid), overhead[rounds / 2], overhead.front());
}

} // namespace

int main(int argc, char **argv) {
  std::vector<int> threadCounts;
  for (int i = 1; i < argc; ++i) {
    threadCounts.push_back(atoi(argv[i]));
  }
  if (threadCounts.empty()) {
    threadCounts = {1, 2};
  }
  const uint64_t cycles = calibrate();
  printf("%d cores; ns beyond the ideal per launch\nthreads workgroups         median        fastest\n",
         moert::cpu::availableCores());
  for (int threads : threadCounts) {
    for (int64_t perThread : {1, 4, 16}) {
      measure(threads, perThread, cycles);
    }
  }
}
