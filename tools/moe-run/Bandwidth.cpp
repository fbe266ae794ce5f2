//===- Bandwidth.cpp - How fast this machine reads memory -----------------===//
//
// Each thread adds up its part of the buffer, in several sums so that additions
// do not wait for each other, with the widest loads that the floor of the CPU
// targets (AVX2) has.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/Bandwidth.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <new>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using Words = uint64_t __attribute__((vector_size(32)));

#if defined(__x86_64__)
__attribute__((target("avx2")))
#endif
uint64_t sumWide(const Words *data, size_t count) {
  Words sums[8] = {};
  for (size_t i = 0; i + 8 <= count; i += 8) {
    for (size_t k = 0; k < 8; ++k) {
      sums[k] += data[i + k];
    }
  }
  uint64_t total = 0;
  for (const Words &sum : sums) {
    total += sum[0] + sum[1] + sum[2] + sum[3];
  }
  return total;
}

uint64_t sumPlain(const uint64_t *data, size_t count) {
  uint64_t sums[4] = {};
  for (size_t i = 0; i + 4 <= count; i += 4) {
    for (size_t k = 0; k < 4; ++k) {
      sums[k] += data[i + k];
    }
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}

uint64_t sum(const uint64_t *data, size_t words) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    return sumWide(reinterpret_cast<const Words *>(data), words / 4);
  }
#endif
  return sumPlain(data, words);
}

} // namespace

double moerun::measureReadBandwidth(int threads) {
  size_t available = static_cast<size_t>(::sysconf(_SC_AVPHYS_PAGES)) * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  auto count = static_cast<size_t>(std::max(threads, 1));
  // Whole pages per thread.
  size_t words = std::min<size_t>(size_t(1) << 30, available / 4) / 8 / count / 4096 * 4096;
  void *memory = nullptr;
  if (words == 0 || ::posix_memalign(&memory, 4096, words * count * 8) != 0) {
    return 0;
  }
  auto *data = static_cast<uint64_t *>(memory);
  std::vector<uint64_t> results(count);
  double best = 0;
  for (int pass = 0; pass < 6; ++pass) {
    auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> workers;
    for (size_t t = 0; t < count; ++t) {
      workers.emplace_back([=, &results] {
        if (pass == 0) { // Each thread makes its own pages, so that they lie near it.
          std::fill(data + t * words, data + (t + 1) * words, t + 1);
        } else {
          results[t] = sum(data + t * words, words);
        }
      });
    }
    for (std::thread &worker : workers) {
      worker.join();
    }
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (pass > 0) {
      best = std::max(best, static_cast<double>(words * count * 8) / seconds.count());
    }
  }
  // The sums are wrong only if reads were left out.
  for (size_t t = 0; t < count; ++t) {
    best = results[t] == (t + 1) * words ? best : 0;
  }
  ::free(memory);
  return best;
}
