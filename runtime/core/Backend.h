//===- Backend.h - What runs commands ----------------------------*- C++ -*-===//
//
// One interface for every kind of machine: kernels, memory, and the commands of sched. The session keeps the tables
// and resolves operands to 64-bit words; a backend moves and computes. Calls in the second half are made inside a
// step: they do not allocate, lock or look anything up.
//
// The CPU backend is linked in; another is reached by dlopen of a library that exports `moert_open_backend`.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_BACKEND_H
#define MOERT_CORE_BACKEND_H

#include "runtime/ranks/Communicator.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace moert {

/// How a backend is opened.
struct BackendOptions {
  int threads = 0;  ///< 0: one per available core
  bool pin = false; ///< bind each worker to a core
  double deadlineSeconds = 30;
  /// What joins this rank to others; of one rank it may be null.
  Communicator *communicator = nullptr;
};

/// A launch whose operands are resolved. `kernel` comes from loadKernels.
struct Launch {
  void *kernel = nullptr;
  const uint64_t *args = nullptr;
  uint32_t argCount = 0;
  int64_t grid = 0;
};

class Backend {
public:
  virtual ~Backend() = default;

  virtual const char *name() const = 0;
  /// Workers that a launch is spread over.
  virtual int threads() const = 0;
  /// Makes the kernels of `variant` callable: one handle per kernel, valid while the backend lives.
  virtual Status loadKernels(const std::string &path, const void *blob, size_t size, const format::Variant &variant,
                             std::vector<void *> &kernels) = 0;
  /// Zeroed memory, at least 64 byte aligned; `what` names it in the error. Freed with the backend or by release.
  virtual Result<void *> allocate(uint64_t bytes, const std::string &what) = 0;
  virtual void release(void *memory) = 0;
  /// Makes mapped host bytes readable by kernels; returns the address they use.
  virtual Result<const void *> attach(const void *host, uint64_t bytes) = 0;

  /// Runs the launches, which do not depend on each other and must stay in memory until the call returns true. Returns
  /// when their results are visible to the next call; false if the deadline passed first, after which only
  /// `synchronize` may be called, and while that says false nothing that kernels use may be freed.
  virtual bool launch(const Launch *launches, uint32_t count) = 0;
  virtual bool copy(void *to, const void *from, uint64_t bytes) = 0;
  virtual bool fill(void *to, uint8_t value, uint64_t bytes) = 0;
  /// False, too, if another rank failed: the communicator then says so.
  virtual bool collective(const CollectiveCall &call) = 0;
  virtual bool record(uint32_t event, uint32_t stream) = 0;
  virtual bool wait(uint32_t event, uint32_t stream) = 0;
  /// Waits for everything above; false if the deadline passed.
  virtual bool synchronize() = 0;
};

/// The ledger of what the CPU backend does not run: the reason, or null if it runs `command`.
const char *cpuBackendLacks(const format::Variant &variant, const format::Command &command);

/// The CPU backend.
Result<std::unique_ptr<Backend>> openCpuBackend(const BackendOptions &options);

} // namespace moert

#endif // MOERT_CORE_BACKEND_H
