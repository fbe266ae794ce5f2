// The claim, the barrier and the sleep of the thread pool; see ThreadPool.h.
#include "runtime/backends/cpu/ThreadPool.h"

#include "runtime/core/Futex.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

namespace moert::cpu {
namespace {

int64_t nowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Quota of the control group in cores, 0 if there is none.
int groupQuota() {
  int cores = 0;
  if (FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re")) {
    long long quota, period;
    if (fscanf(file, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0) {
      cores = int(std::min<long long>((quota + period - 1) / period, INT_MAX));
    }
    fclose(file);
  }
  return cores;
}

} // namespace

int availableCores() {
  cpu_set_t set;
  int cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : int(sysconf(_SC_NPROCESSORS_ONLN));
  int quota = groupQuota();
  return std::clamp(quota ? std::min(cores, quota) : cores, 1, ThreadPool::kMaxThreads);
}

int machineCores() {
  const int cores = int(std::max<long>(sysconf(_SC_NPROCESSORS_ONLN), 1)), quota = groupQuota();
  return quota ? std::min(cores, quota) : cores;
}

Result<std::unique_ptr<ThreadPool>> ThreadPool::create(int threads, bool pin, double deadlineSeconds, int sharers,
                                                       int share) {
  if (threads < 0 || threads > kMaxThreads) {
    return error(Code::InvalidArgument, threads, " threads: must be 0 (one per core) to ", kMaxThreads);
  }
  const int cores = availableCores();
  std::unique_ptr<ThreadPool> pool(new ThreadPool);
  pool->threadCount = threads ? threads : cores;
  pool->deadlineNs = int64_t(std::clamp(deadlineSeconds, 1e-3, 1e9) * 1e9);
  pool->shared = std::make_unique<Shared>();
  pool->shared->threadCount = pool->threadCount;
  // A pause is some 15 to 60 ns. Long enough for what happens between two steps of a decoder (sampling, printing a
  // token); beyond the cores there are, spinning only takes time from whom one waits for.
  const bool hasCores = pool->threadCount <= cores / sharers;
  pool->shared->spins = hasCores ? 6000 : 0;

  // Signals are for the threads of the program.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failure = 0;
  for (int worker = 1; worker < pool->threadCount && !failure; ++worker) {
    auto *start = new Start{*pool->shared, worker};
    pthread_t thread;
    failure = pthread_create(&thread, nullptr, workerMain, start);
    if (failure) {
      delete start;
    } else {
      pool->workers.push_back(thread);
    }
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (failure) {
    return error(Code::OutOfMemory, "cannot start thread ", pool->workers.size() + 2, " of ", pool->threadCount, ": ",
                 strerror(failure), "; ask for fewer threads");
  }
  if (pin && hasCores) {
    pool->pinWorkers(share * pool->threadCount);
  }
  return pool;
}

/// Worker i takes the i-th core of those allowed from `first` on, which stays free for the caller, who is not ours to
/// bind.
void ThreadPool::pinWorkers(int first) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
    return;
  }
  size_t next = 0;
  int seen = 0;
  for (int core = 0; core < CPU_SETSIZE && next < workers.size(); ++core) {
    if (CPU_ISSET(core, &allowed) && seen++ > first) {
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(core, &one);
      pthread_setaffinity_np(workers[next++], sizeof(one), &one);
    }
  }
}

ThreadPool::~ThreadPool() {
  shared->quit.store(true);
  shared->bell.fetch_add(1);
  futexWakeAll(shared->bell);
  for (pthread_t worker : workers) {
    pthread_join(worker, nullptr);
  }
}

/// Wakes the sleepers, if any; they set `sleeping` again before they sleep again.
void ThreadPool::ring(Shared &shared) {
  if (shared.sleeping.load() && shared.sleeping.exchange(0)) {
    shared.bell.fetch_add(1);
    futexWakeAll(shared.bell);
  }
}

void *ThreadPool::workerMain(void *argument) {
  std::unique_ptr<Start> start(static_cast<Start *>(argument));
  workerLoop(start->shared, start->worker);
  return nullptr;
}

/// Claims and runs items until none is left.
void ThreadPool::claim(Shared &shared, uint64_t ticket, int worker) {
  while (uint32_t left = uint32_t(ticket)) {
    // Large chunks first, single items last: few claims, and an even end.
    uint32_t chunk = std::max<uint32_t>(1, left / uint32_t(2 * shared.threadCount));
    if (!shared.ticket.compare_exchange_weak(ticket, ticket - chunk, std::memory_order_acquire,
                                             std::memory_order_acquire)) {
      continue;
    }
    int64_t begin = int64_t(shared.count) - left;
    shared.function(shared.context, begin, begin + chunk, worker);
    shared.pending.fetch_sub(chunk, std::memory_order_release);
    ticket = shared.ticket.load(std::memory_order_acquire);
  }
}

void ThreadPool::workerLoop(Shared &shared, int worker) {
  while (!shared.quit.load(std::memory_order_relaxed)) {
    int spins = shared.spins;
    uint64_t ticket;
    while (uint32_t(ticket = shared.ticket.load(std::memory_order_acquire)) == 0 && spins-- > 0) {
      pauseCpu();
    }
    if (uint32_t(ticket)) {
      claim(shared, ticket, worker);
      continue;
    }
    // Announce, look again, then sleep: run() stores the ticket before it looks for sleepers.
    uint32_t heard = shared.bell.load();
    shared.sleeping.store(1);
    if (uint32_t(shared.ticket.load()) == 0 && !shared.quit.load()) {
      futexWait(shared.bell, heard);
    }
  }
}

bool ThreadPool::run(Function function, const void *context, int64_t count) {
  if (stuck) {
    return false;
  }
  if (count <= 1 || threadCount == 1) {
    if (count > 0) {
      function(context, 0, count, 0);
    }
    return true;
  }
  shared->function = function;
  shared->context = context;
  shared->count = uint32_t(count);
  shared->pending.store(uint32_t(count), std::memory_order_relaxed);
  uint64_t ticket = uint64_t(++epoch) << 32 | uint32_t(count);
  shared->ticket.store(ticket);
  ring(*shared);
  claim(*shared, ticket, 0);
  stuck = !waitIdle();
  return !stuck;
}

bool ThreadPool::waitIdle() {
  std::atomic<uint32_t> &pending = shared->pending;
  for (int spins = 0; spins < 4000; ++spins) {
    if (pending.load(std::memory_order_acquire) == 0) {
      return true;
    }
    if (shared->spins == 0) {
      break;
    }
    pauseCpu();
  }
  const int64_t begin = nowNs();
  for (;;) {
    if (pending.load(std::memory_order_acquire) == 0) {
      return true;
    }
    int64_t waited = nowNs() - begin;
    if (waited > deadlineNs) {
      return false;
    }
    // Long items are long: beyond a millisecond a sleep of 50 us costs nothing that matters.
    if (waited > 1000000) {
      usleep(50);
    } else {
      sched_yield();
    }
  }
}

} // namespace moert::cpu
