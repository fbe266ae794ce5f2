//===- Backend.h - What runs commands ----------------------------*- C++ -*-===//
//
// One interface for every kind of machine: kernels, memory, and the commands of sched. The session keeps the tables
// and resolves operands to 64-bit words; a backend moves and computes. Calls in the second half are made inside a
// step: they do not allocate, lock or look anything up.
//
// Two kinds. Where kernels use the host's memory (the CPU) every call is done when it returns. A GPU has memory of its
// own: addresses are the device's, inputs and results are moved by upload and download, commands run later, in the
// order of the calls, and what fails is known at the next call that waits.
//
// Both backends are linked in; the GPU's reaches a driver by dlopen.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_BACKEND_H
#define MOERT_CORE_BACKEND_H

#include "runtime/ranks/Communicator.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace moert {

/// How a backend is opened.
struct BackendOptions {
  int threads = 0;  ///< 0: one per available core
  bool pin = false; ///< bind each worker to a core
  double deadlineSeconds = 30;
  /// What joins this rank to others; of one rank it may be null. GPUs only meet through it.
  Communicator *communicator = nullptr;
  bool dependentLaunch = true; ///< of GPUs: kernels that can start while those before them still run
};

/// A launch whose operands are resolved. `kernel` comes from loadKernels.
struct Launch {
  void *kernel = nullptr;
  const uint64_t *args = nullptr;
  uint32_t argCount = 0;
  int64_t grid = 0;
};

/// A tensor map, as the driver wants its place aligned.
struct alignas(64) TensorMapBytes {
  uint8_t bytes[128];
};

/// What new memory holds.
enum class Contents { Zero, Undefined };

class Backend {
public:
  virtual ~Backend() = default;

  /// "cpu", "cuda", "emulator".
  virtual const char *name() const = 0;
  /// The machine, for people: "this machine", or a GPU with its name.
  virtual std::string place() const = 0;
  /// Workers that a launch is spread over.
  virtual int threads() const = 0;
  /// Whether addresses are the host's; then upload, download and graphs are not used.
  virtual bool usesHostMemory() const = 0;
  /// Gets collectives of these kinds ready, together with the other ranks.
  virtual Status joinRanks(const std::vector<format::CollectiveKind> &) { return {}; }
  /// Bytes of memory that a session may hope for.
  virtual uint64_t availableBytes() = 0;
  /// Why the kernels of `variant` would be refused by what assembles them here, as far as that is known beforehand;
  /// empty: nothing speaks against them. The first three as for loadKernels.
  virtual std::string whyNotKernels(const void *, size_t, const std::string &, const format::Variant &) { return ""; }
  /// Makes the kernels of `variant` callable: one handle per kernel, valid while the backend lives. `machineCode`: a
  /// file that the backend may take instead of `blob` where it can; empty if there is none.
  virtual Status loadKernels(const std::string &path, const void *blob, size_t size, const std::string &machineCode,
                             const format::Variant &variant, std::vector<void *> &kernels) = 0;
  /// Memory for kernels, at least 64 byte aligned; `what` names it in the error. Freed with the backend or by release.
  /// The host's is zero anyway.
  virtual Result<void *> allocate(uint64_t bytes, const std::string &what, Contents contents) = 0;
  virtual void release(void *memory) = 0;
  /// Where an allocation per tensor would waste memory: one for all that attach is given next, of those sizes. What
  /// lies there lives as long as the backend.
  virtual Status reserve(const std::vector<uint64_t> &, const std::string &) { return {}; }
  /// Makes mapped host bytes readable by kernels; returns the address they use. On a GPU that is a copy, freed as
  /// memory of allocate; `what` names it.
  virtual Result<const void *> attach(const void *host, uint64_t bytes, const std::string &what) = 0;

  /// Fills in the tensor map by which TMA reads a matrix: see format::TensorMap. Of GPUs that have TMA.
  virtual Status encodeTensorMap(TensorMapBytes &, const void *, format::DType, const format::TensorMap &) {
    return error(Code::Internal, "this backend has no tensor maps");
  }

  /// Host memory that upload reads later.
  virtual Result<void *> allocateStaging(uint64_t, const std::string &) { return notHere(); }
  virtual bool upload(void *, const void *, uint64_t) { return false; }
  /// Any host memory; done when it returns, after everything before it.
  virtual bool download(void *, const void *, uint64_t) { return false; }

  /// Runs the launches, which do not depend on each other and must stay in memory until the call returns true. Returns
  /// when their results are visible to the next call; false if the deadline passed first, after which only
  /// `settle` may be called, and while that says false nothing that kernels use may be freed.
  virtual bool launch(const Launch *launches, uint32_t count, uint32_t stream = 0) = 0;
  virtual bool copy(void *to, const void *from, uint64_t bytes, uint32_t stream = 0) = 0;
  virtual bool fill(void *to, uint8_t value, uint64_t bytes, uint32_t stream = 0) = 0;
  /// Calls that do not depend on each other. False, too, if another rank failed: the communicator then says so.
  virtual bool collectives(const CollectiveCall *calls, uint32_t count, uint32_t stream = 0) = 0;
  virtual bool record(uint32_t event, uint32_t stream) = 0;
  virtual bool wait(uint32_t event, uint32_t stream) = 0;
  /// Waits for everything above; false if the deadline passed.
  virtual bool synchronize() = 0;
  /// Whether nothing runs any more, so that memory may be freed; waits up to the deadline. Failed work does not run.
  virtual bool settle() = 0;
  /// Why a call returned false; ok: the deadline passed.
  const Status &failure() const { return failed; }

  /// Commands between the two are remembered instead of run, with all their words. The graph then runs as often as
  /// asked, until it is dropped. Null: failed, or, if `failure` is ok, there is no memory for it.
  virtual bool beginGraph() { return false; }
  virtual void *endGraph() { return nullptr; }
  virtual bool runGraph(void *) { return false; }
  virtual void dropGraph(void *) {}

  /// A stage for profilers that show such: its kind, T and M.
  virtual void beginRange(const char *, int64_t, int64_t) {}
  virtual void endRange() {}

  /// How often the host has waited in the middle of a step, for how much an exchange moves.
  virtual uint64_t exchangeWaits() const { return 0; }

  /// Whether every value of a step should have memory of its own, of just the step's size, so that an access beyond it
  /// is found; and makes memory undefined again, which nothing uses now. The emulator asks for it, unless it is told
  /// (MOE_EMU_BUFFERS) to have memory laid out as on a card.
  virtual bool wantsSeparateBuffers() const { return false; }
  virtual void forget(void *, uint64_t) {}
  /// How many findings the emulator has had in this process; of a real machine nothing.
  virtual std::optional<uint64_t> findings() const { return std::nullopt; }

protected:
  static Status notHere() { return error(Code::Internal, "this backend has no staging"); }
  Status failed;
};

/// The ledgers of what a backend does not run: the reason, or null if it runs `command`.
const char *cpuBackendLacks(const format::Variant &variant, const format::Command &command);
const char *cudaBackendLacks(const format::Variant &variant, const format::Command &command);

/// The CPU backend.
Result<std::unique_ptr<Backend>> openCpuBackend(const BackendOptions &options);

namespace cuda {
struct Device;
}
/// The backend of a GPU or of the emulator; of the options the deadline and the communicator count.
Result<std::unique_ptr<Backend>> openCudaBackend(const BackendOptions &options, const cuda::Device &device);

} // namespace moert

#endif // MOERT_CORE_BACKEND_H
