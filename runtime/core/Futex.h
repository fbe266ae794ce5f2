//===- Futex.h - Sleeping on a word of memory ---------------------*- C++ -*-===//
//
// What waits of the thread pool and of thread ranks share: a pause for spinning, and sleep and wake-up on a 32-bit word
// of this process.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_FUTEX_H
#define MOERT_CORE_FUTEX_H

#include <atomic>
#include <climits>
#include <cstdint>
#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace moert {

inline void pauseCpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Sleeps while `word` is `expected`, at most `nanoseconds` (negative: no limit); may return early.
inline void futexWait(std::atomic<uint32_t> &word, uint32_t expected, int64_t nanoseconds = -1) {
  timespec limit = {time_t(nanoseconds / 1000000000), long(nanoseconds % 1000000000)};
  syscall(SYS_futex, reinterpret_cast<uint32_t *>(&word), FUTEX_WAIT_PRIVATE, expected,
          nanoseconds < 0 ? nullptr : &limit, nullptr, 0);
}

inline void futexWakeAll(std::atomic<uint32_t> &word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t *>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

} // namespace moert

#endif // MOERT_CORE_FUTEX_H
