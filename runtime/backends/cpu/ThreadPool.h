//===- ThreadPool.h - Workers that spin, then sleep --------------*- C++ -*-===//
//
// Runs `count` independent items on the caller and its workers and returns when all are done. A decode step has some
// 250 such calls of a few microseconds to milliseconds, so the hand-over is one store and the barrier one load.
//
// Key idea: `ticket` holds (epoch, items not yet claimed) in one word. A worker claims items by compare-and-swap, so a
// late worker cannot touch a job that is over, and the caller never waits for a worker that claimed nothing. The job
// is read only after a successful claim, when it cannot change before that claim is finished.
//
// Example, 2 threads, 5 items: the caller writes the job, pending = 5, ticket = (e, 5). It claims 2 (ticket (e, 3),
// items 0-1), the worker 1 (item 2), and so on with shrinking chunks; the one that brings `pending` to 0 ends the job.
//
// Workers spin for some 100 us, then sleep in a futex; with more threads than cores they sleep almost at once. One
// caller at a time; items must not call run.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_BACKENDS_CPU_THREADPOOL_H
#define MOERT_BACKENDS_CPU_THREADPOOL_H

#include "runtime/core/Status.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <pthread.h>
#include <vector>

namespace moert::cpu {

class ThreadPool {
public:
  /// Runs items [begin, end) on worker `worker` (0: the caller).
  using Function = void (*)(const void *context, int64_t begin, int64_t end, int worker);

  /// Largest number of items of one job.
  static constexpr int64_t kMaxItems = 0x7fffffff;
  static constexpr int kMaxThreads = 1024;

  /// `threads` in all, the caller among them; 0: as many as availableCores(). Of `sharers` pools that share the cores
  /// this is number `share`.
  static Result<std::unique_ptr<ThreadPool>> create(int threads, bool pin, double deadlineSeconds, int sharers = 1,
                                                    int share = 0);
  /// Waits for the workers, however long an item takes: whoever cannot wait checks waitIdle first and leaks the pool.
  ~ThreadPool();

  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  int threads() const { return threadCount; }

  /// Runs `count` items. False if some were not done by the deadline: the pool is then stuck and runs nothing more.
  bool run(Function function, const void *context, int64_t count);

  /// Waits until no item runs any more; false if the deadline passes first.
  bool waitIdle();

private:
  /// What workers see.
  struct Shared {
    /// (epoch << 32) | items not yet claimed.
    alignas(64) std::atomic<uint64_t> ticket{0};
    Function function = nullptr;
    const void *context = nullptr;
    uint32_t count = 0;
    /// Items not yet finished.
    alignas(64) std::atomic<uint32_t> pending{0};
    /// Changes when there is work for sleepers.
    alignas(64) std::atomic<uint32_t> bell{0};
    /// Whether a worker sleeps or is about to.
    std::atomic<uint32_t> sleeping{0};
    std::atomic<bool> quit{false};
    int spins = 0;
    int threadCount = 1;
  };

  /// What a worker is born with.
  struct Start {
    Shared &shared;
    int worker;
  };

  ThreadPool() = default;
  void pinWorkers(int first);
  static void *workerMain(void *start);
  static void workerLoop(Shared &shared, int worker);
  static void claim(Shared &shared, uint64_t ticket, int worker);
  static void ring(Shared &shared);

  std::unique_ptr<Shared> shared;
  std::vector<pthread_t> workers;
  int threadCount = 1;
  bool stuck = false;
  uint32_t epoch = 0;
  int64_t deadlineNs = 0;
};

/// Cores that this process may use: CPU affinity, and the CPU quota of its control group rounded up.
int availableCores();
/// Cores that all processes here share: those online, and the same quota.
int machineCores();

} // namespace moert::cpu

#endif // MOERT_BACKENDS_CPU_THREADPOOL_H
