//===- Abandon.h - What may never be freed -------------------------*- C++ -*-===//
//
// After a missed deadline a worker or a device may still be inside a kernel, and
// use what its owner wants to free. Such an object is kept until the process ends.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_ABANDON_H
#define MOERT_CORE_ABANDON_H

#include <memory>
#include <mutex>
#include <vector>

namespace moert {

/// Keeps `used` for good. It stays reachable, so that a leak checker takes it for what it is, and is not destroyed at
/// the end of the process either.
template <typename T> void abandon(std::unique_ptr<T> used) {
  static std::mutex mutex;
  static auto &kept = *new std::vector<std::unique_ptr<T>>;
  std::lock_guard lock(mutex);
  kept.push_back(std::move(used));
}

} // namespace moert

#endif // MOERT_CORE_ABANDON_H
