//===- Indivisible.h - Atomics between host threads -------------*- C++ -*-===//
//
// When the blocks of a launch run on several host threads, read-modify-writes
// and strong stores to one place take turns by a lock of that place, and strong
// loads and stores are atomic and sequentially consistent on the host: that is
// never weaker than what the program asked for. Without other host threads
// nothing of this is used.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_EXEC_INDIVISIBLE_H
#define MOERT_EMULATOR_EXEC_INDIVISIBLE_H

#include <cstdint>
#include <cstring>
#include <mutex>

namespace moert::emulator {

/// The lock of the 16 bytes that hold `place`.
inline std::mutex &lockOf(const void *place) {
  static std::mutex locks[64];
  return locks[reinterpret_cast<uintptr_t>(place) / 16 % 64];
}

/// `size` (1, 2, 4 or 8, aligned) bytes at `from`.
inline uint64_t loadAtomic(const uint8_t *from, unsigned size) {
  switch (size) {
  case 1:
    return __atomic_load_n(from, __ATOMIC_SEQ_CST);
  case 2:
    return __atomic_load_n(reinterpret_cast<const uint16_t *>(from), __ATOMIC_SEQ_CST);
  case 4:
    return __atomic_load_n(reinterpret_cast<const uint32_t *>(from), __ATOMIC_SEQ_CST);
  default:
    return __atomic_load_n(reinterpret_cast<const uint64_t *>(from), __ATOMIC_SEQ_CST);
  }
}

inline void storeAtomic(uint8_t *to, uint64_t value, unsigned size) {
  switch (size) {
  case 1:
    return __atomic_store_n(to, uint8_t(value), __ATOMIC_SEQ_CST);
  case 2:
    return __atomic_store_n(reinterpret_cast<uint16_t *>(to), uint16_t(value), __ATOMIC_SEQ_CST);
  case 4:
    return __atomic_store_n(reinterpret_cast<uint32_t *>(to), uint32_t(value), __ATOMIC_SEQ_CST);
  default:
    return __atomic_store_n(reinterpret_cast<uint64_t *>(to), value, __ATOMIC_SEQ_CST);
  }
}

} // namespace moert::emulator

#endif // MOERT_EMULATOR_EXEC_INDIVISIBLE_H
