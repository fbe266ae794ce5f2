//===- bandwidth.cpp - How fast all cores together can read memory ---------===//
//
// Decoding one token reads every weight once, so the read bandwidth measured
// here, in the same run, is what a decode speed is held against. Every thread
// sums its own part of a buffer far larger than the caches; the time is that of
// all threads together, from a common start. Only reading is measured: no write,
// no NUMA placement beyond first touch.
//
// usage: bench-bandwidth [THREADS] [MEBIBYTES] [SECONDS]     prints one JSON object
//
//===----------------------------------------------------------------------===//

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
/// 64 bytes, so that one load is one cache line on any CPU that the compiler targets.
typedef uint64_t Line __attribute__((vector_size(64)));

/// Reads `lines` lines with eight independent sums: enough loads in flight to fill the memory system.
__attribute__((noinline)) uint64_t sum(const Line *data, size_t lines) {
  Line sums[8] = {};
  for (size_t i = 0; i + 8 <= lines; i += 8) {
    for (size_t j = 0; j < 8; ++j) {
      sums[j] += data[i + j];
    }
  }
  uint64_t total = 0;
  for (const Line &part : sums) {
    for (size_t j = 0; j < 8; ++j) {
      total += part[j];
    }
  }
  return total;
}

/// Runs `work(thread)` on every thread at once; seconds from the common start to the last end.
template <typename Work> double together(unsigned threads, Work work) {
  std::atomic<unsigned> ready{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> pool;
  for (unsigned t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      ready.fetch_add(1);
      while (!go.load(std::memory_order_acquire)) {
      }
      work(t);
    });
  }
  while (ready.load() != threads) {
  }
  auto start = Clock::now();
  go.store(true, std::memory_order_release);
  for (std::thread &thread : pool) {
    thread.join();
  }
  return std::chrono::duration<double>(Clock::now() - start).count();
}

} // namespace

int main(int argc, char **argv) {
  unsigned threads = argc > 1 ? std::atoi(argv[1]) : std::max(1u, std::thread::hardware_concurrency());
  size_t mebibytes = argc > 2 ? std::atoll(argv[2]) : 1024;
  double seconds = argc > 3 ? std::atof(argv[3]) : 3;
  if (threads == 0 || mebibytes == 0 || !(seconds > 0)) {
    std::fprintf(stderr, "usage: %s [THREADS] [MEBIBYTES] [SECONDS], each above 0\n", argv[0]);
    return 1;
  }
  size_t linesPerThread = mebibytes * (1 << 20) / sizeof(Line) / threads / 8 * 8;
  size_t bytes = linesPerThread * threads * sizeof(Line);
  Line *data = static_cast<Line *>(std::aligned_alloc(1 << 21, (bytes + (1 << 21) - 1) >> 21 << 21));
  if (!data) {
    std::fprintf(stderr, "%s: cannot allocate %zu MiB\n", argv[0], mebibytes);
    return 1;
  }
  // First touch by the thread that will read, so that the pages are near it.
  together(threads, [&](unsigned t) {
    uint64_t *words = reinterpret_cast<uint64_t *>(data + t * linesPerThread);
    for (size_t i = 0; i < linesPerThread * sizeof(Line) / sizeof(uint64_t); ++i) {
      words[i] = i;
    }
  });
  std::atomic<uint64_t> sink{0};
  std::vector<double> rates;
  auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    double time = together(threads, [&](unsigned t) { sink += sum(data + t * linesPerThread, linesPerThread); });
    rates.push_back(bytes / time / 1e9);
  } while (Clock::now() < end || rates.size() < 5);
  std::sort(rates.begin(), rates.end());
  std::printf("{\"threads\": %u, \"mebibytes\": %zu, \"repeats\": %zu, \"gigabytes_per_second\": %.2f, \"min\": %.2f, "
              "\"max\": %.2f, \"checksum\": %llu}\n",
              threads, bytes >> 20, rates.size(), rates[rates.size() / 2], rates.front(), rates.back(),
              static_cast<unsigned long long>(sink.load()));
  std::free(data);
  return 0;
}
