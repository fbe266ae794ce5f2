//===- CudaBackend.h - What the CUDA backend keeps -----------------*- C++ -*-===//
//
// Commands go into the streams that the program says as they come (Streams.h), which keep their order, so that nothing
// waits between dependent commands. The host waits once per step, by asking an event until the deadline: a driver call
// that waits could hang.
//
// A call of the driver that fails, or a fault in a kernel, ends the backend: `failure` says which call, with the
// error's name, and every later call returns false. A fault spoils the device's context for all sessions of the
// process, and the context ends with the last of them.
//
// Kernels are loaded in CudaKernels.cpp, memory and steps are in CudaBackend.cpp.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_BACKENDS_CUDA_CUDABACKEND_H
#define MOERT_BACKENDS_CUDA_CUDABACKEND_H

#include "runtime/backends/cuda/Driver.h"
#include "runtime/backends/cuda/Nccl.h"
#include "runtime/backends/cuda/Ranges.h"
#include "runtime/backends/cuda/Streams.h"
#include "runtime/core/Backend.h"
#include "runtime/core/Program.h"

#include <deque>
#include <map>

namespace moert::cuda {

/// A pointer of the device as the driver wants it.
inline CUdeviceptr asDevice(const void *pointer) { return CUdeviceptr(reinterpret_cast<uintptr_t>(pointer)); }

/// The first driver that captures early launches into graphs (CUDA 12.3).
constexpr int kFirstEarlyLaunch = 12030;

class CudaBackend final : public Backend {
public:
  CudaBackend(const BackendOptions &options, const Device &device)
      : device(device), api(*device.driver), deadlineNs(int64_t(options.deadlineSeconds * 1e9)),
        mayLaunchEarly(options.dependentLaunch && api.launchKernelEx && api.version >= kFirstEarlyLaunch),
        communicator(options.communicator), streams(*device.driver) {}
  ~CudaBackend() override;
  Status open();

  const char *name() const override { return api.isEmulator() ? "emulator" : "cuda"; }
  std::string place() const override { return device.describe(); }
  int threads() const override { return processors; }
  bool usesHostMemory() const override { return false; }
  Status joinRanks(const std::vector<format::CollectiveKind> &kinds) override;
  uint64_t availableBytes() override;
  std::string whyNotKernels(const void *blob, size_t size, const std::string &machineCode,
                            const format::Variant &variant) override;
  Status loadKernels(const std::string &path, const void *blob, size_t size, const std::string &machineCode,
                     const format::Variant &variant, std::vector<void *> &kernels) override;
  Result<void *> allocate(uint64_t bytes, const std::string &what, Contents contents) override;
  void release(void *memory) override;
  Status reserve(const std::vector<uint64_t> &sizes, const std::string &what) override;
  Result<const void *> attach(const void *host, uint64_t bytes, const std::string &what) override;
  Status encodeTensorMap(TensorMapBytes &map, const void *address, format::DType dtype,
                         const format::TensorMap &recipe) override;
  Result<void *> allocateStaging(uint64_t bytes, const std::string &what) override;
  bool upload(void *to, const void *from, uint64_t bytes) override;
  bool download(void *to, const void *from, uint64_t bytes) override;

  bool launch(const Launch *launches, uint32_t count, uint32_t stream) override;
  bool copy(void *to, const void *from, uint64_t bytes, uint32_t stream) override;
  bool fill(void *to, uint8_t value, uint64_t bytes, uint32_t stream) override;
  bool collectives(const CollectiveCall *calls, uint32_t count, uint32_t stream) override;
  bool record(uint32_t event, uint32_t stream) override;
  bool wait(uint32_t event, uint32_t stream) override;
  bool synchronize() override;
  bool settle() override;

  bool beginGraph() override;
  void *endGraph() override;
  bool runGraph(void *graph) override;
  void dropGraph(void *graph) override;
  void beginRange(const char *what, int64_t tokens, int64_t rows) override { ranges.begin(what, tokens, rows); }
  void endRange() override { ranges.end(); }
  uint64_t exchangeWaits() const override { return waits; }
  bool wantsSeparateBuffers() const override { return api.isEmulator() && api.wantsSeparate(); }
  void forget(void *memory, uint64_t bytes) override { api.forget(asDevice(memory), bytes); }
  std::optional<uint64_t> findings() const override {
    return api.isEmulator() ? std::optional<uint64_t>(api.findings()) : std::nullopt;
  }

private:
  struct Kernel {
    CUfunction function;
    uint32_t threads, sharedBytes;
    bool waits; ///< by itself for kernels before it
    std::string symbol;
  };
  /// A pinned piece and the event after the copy that uses it.
  struct Piece {
    void *memory = nullptr;
    CUevent copied = nullptr;
  };

  Status statusOf(CUresult result, const std::string &doing) const;
  /// Keeps the first failure; true if there is none.
  bool check(CUresult result, const char *doing);
  bool fail(CUresult result, const std::string &doing);
  /// Before every call of the driver.
  bool makeCurrent() { return failed.ok() && check(api.contextSet(context), "cuCtxSetCurrent"); }
  /// Every call that puts something else than a kernel into a stream begins with it.
  bool begin(uint32_t number, CUstream &stream);
  bool begin(CUstream &stream) { return begin(0, stream); }
  bool waitFor(CUevent event);
  bool failAmongRanks(Status status);
  Status prepareExchanges();
  Status connectRanks(std::vector<format::CollectiveKind> kinds);
  bool exchange(const CollectiveCall &call, CUstream stream);
  /// Whether every rank has room for the rows of an exchange that go and come by `counts`.
  Status checkCounts(const CollectiveCall &call, const int32_t *counts) const;
  bool learnCounts(const CollectiveCall &call, CUstream stream);
  /// Waits until what is in `stream` by now is done.
  bool waitFor(CUstream stream);
  bool missDeadline();
  void dropGraphs();
  bool isIdleWithin(int64_t nanoseconds);
  bool mayRunMachineCode(const std::string &machineCode, const format::Variant &variant) const;
  Status loadMachineCode(const std::string &path, CUmodule &module);
  /// Loads PTX or machine code that the file `path` has.
  Status loadModule(const std::string &path, const void *image, CUmodule &module);
  Status takeKernel(const format::Kernel &kernel, CUmodule module, const std::string &path);
  Status checkParameters(const format::Variant &variant, const std::string &path) const;
  Status failureOr(const std::string &what) const;

  const Device device;
  Driver &api;
  const int64_t deadlineNs;
  /// Whether kernels that wait for those before them are launched while these run.
  const bool mayLaunchEarly;
  /// To the other ranks; null: there is one. Their GPUs are reached through `others`.
  Communicator *const communicator;
  std::unique_ptr<NcclRank> others;
  /// Of an exchange, in pinned memory: rows from each rank to each, and those to this rank.
  struct Counts {
    int32_t *all = nullptr, *received = nullptr;
  };
  /// Of the one for which the host waited last, and of a later one whose counts came along. `countsOnGpu`: of both.
  Counts known[2];
  int32_t *countsOnGpu = nullptr;
  uint64_t waits = 0;
  const Ranges ranges;
  CUcontext context = nullptr;
  Streams streams;
  int processors = 0;
  Piece pieces[2];
  /// Recorded as launches go by; `end` after the last.
  std::vector<CUevent> marks;
  uint32_t marksUsed = 0, launchesSinceMark = 0;
  CUevent end = nullptr;
  bool capturing = false, isUser = false, spoilt = false;
  /// The one kernel that was launched since the host last waited, if it is one.
  const Kernel *onlyKernel = nullptr;
  uint32_t launchesSinceWait = 0;
  std::vector<CUmodule> modules;
  /// Files of machine code that were loaded to see whether the driver takes them.
  std::map<std::string, CUmodule> machineCodes;
  std::deque<Kernel> kernelTable;
  std::vector<CUdeviceptr> memory;
  /// What is left of the pool that attach takes from.
  CUdeviceptr poolNext = 0, poolEnd = 0;
  std::vector<void *> pinned;
  std::vector<CUgraphExec> graphs;
};

} // namespace moert::cuda

#endif // MOERT_BACKENDS_CUDA_CUDABACKEND_H
