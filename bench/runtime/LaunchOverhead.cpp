// What a launch costs when the kernel does nothing: the hand-over to the workers and the barrier after it. A decode step
// makes some 250 of them per token, so this times 250 is the runtime's share of a token.
//
//   runtime-launch-overhead [threads...]     (default: 1 and 2)
//
// Prints, per number of threads and of workgroups, the median over 15 rounds of the nanoseconds per launch and the
// fastest and slowest round. "inline" is a grid of one workgroup, which never leaves the caller.
#include "runtime/backends/cpu/ThreadPool.h"
#include "runtime/core/Backend.h"
#include "runtime/include/moert/kernel_abi.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

void doNothing(const uint64_t *, int64_t, void *) {}

double nowNs() {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void measure(int threads, int64_t grid) {
  auto backend = moert::openCpuBackend({threads, /*pin=*/false, /*deadlineSeconds=*/30});
  if (!backend.ok()) {
    fprintf(stderr, "%s\n", backend.status().message().c_str());
    exit(1);
  }
  moert::Launch launch{reinterpret_cast<void *>(doNothing), nullptr, 0, grid};
  constexpr int rounds = 15, launches = 20000;
  std::vector<double> perLaunch;
  for (int round = -1; round < rounds; ++round) { // the first one warms up
    double begin = nowNs();
    for (int i = 0; i < launches; ++i) {
      if (!(*backend)->launch(&launch, 1)) {
        fprintf(stderr, "a launch missed its deadline\n");
        exit(1);
      }
    }
    if (round >= 0) {
      perLaunch.push_back((nowNs() - begin) / launches);
    }
  }
  std::sort(perLaunch.begin(), perLaunch.end());
  printf("%7d %10lld %12.0f %8.0f %8.0f %s\n", threads, static_cast<long long>(grid), perLaunch[rounds / 2],
         perLaunch.front(), perLaunch.back(), grid == 1 ? "inline" : "");
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
  printf("%d cores\nthreads workgroups ns per launch  fastest  slowest\n", moert::cpu::availableCores());
  for (int threads : threadCounts) {
    for (int64_t grid : {1, 2, 8, 64}) {
      measure(threads, grid);
    }
  }
}
