//===- Nccl.h - GPUs that work together, through NCCL -------------*- C++ -*-===//
//
// NCCL by dlopen, and one rank's communicator of it. Collectives go into the stream, between the kernels of a step, so
// that a graph can hold them; the host hands them over and goes on.
//
// Key idea: nothing here blocks. Communicators are made non-blocking, and whoever waits for the GPU asks now and then
// whether all is well: with NCCL (an asynchronous error), and with the ranks' own control channel (Communicator.h),
// where a rank that failed says so. After a failure or a missed deadline the communicator is aborted, which ends what
// hangs on the GPUs; then ranks compare over the control channel who was still busy, so that the error names a rank.
//
// Example: of four ranks the third stops. The others' kernels of the next collective wait for it; after the deadline
// all three abort, meet, and report "rank 2 did not reach collective 'end of the step' within 34 s".
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_BACKENDS_CUDA_NCCL_H
#define MOERT_BACKENDS_CUDA_NCCL_H

#include "runtime/backends/cuda/Driver.h"
#include "runtime/emulator/nccl/NcclApi.h"
#include "runtime/ranks/Communicator.h"

#include <functional>

namespace moert::cuda {

/// The functions of one NCCL library. Opened once per process and never closed: it has threads.
class Nccl {
public:
  /// The machine's, or the emulator's beside its libcuda.so.1.
  static Result<Nccl *> open(bool emulator);

#define MOERT_NCCL(name, symbol, result, parameters) result(*name) parameters = nullptr;
#include "runtime/backends/cuda/NcclFunctions.inc"
#undef MOERT_NCCL

private:
  Status load(const std::string &path, bool emulator);
};

/// Calls of NCCL that are handed over together. Closed in any case, so that an error on the way leaves no group open.
class NcclGroup {
public:
  explicit NcclGroup(Nccl &api) : api(api), state(api.groupStart()), isOpen(state == ncclSuccess) {}
  ~NcclGroup() { close(); }
  NcclGroup(const NcclGroup &) = delete;
  /// The end of the group; whether it was begun, too.
  ncclResult_t close() {
    if (isOpen) {
      isOpen = false;
      state = api.groupEnd();
    }
    return state;
  }

private:
  Nccl &api;
  ncclResult_t state;
  bool isOpen;
};

/// One GPU's place among those of the other ranks. Its context is current in every call.
class NcclRank {
public:
  /// `communicator`: the control channel. `dropGraphs` destroys every graph that holds collectives of this rank: NCCL
  /// neither finalizes nor aborts a communicator before they are gone.
  NcclRank(
      Nccl &api, Communicator &communicator, int64_t deadlineNs, std::function<void()> dropGraphs = [] {})
      : api(api), control(communicator), deadlineNs(deadlineNs), dropGraphs(std::move(dropGraphs)) {}
  /// Leaves the others in order if all went well.
  ~NcclRank();
  NcclRank(const NcclRank &) = delete;

  /// Makes the communicator, with all other ranks.
  Status join(const Device &device);
  /// From now on steps are under way.
  void setConnected() { meeting = "end of the step"; }
  /// Puts collectives into `stream`, as one group; no exchange.
  Status enqueue(const CollectiveCall *calls, uint32_t count, CUstream stream);
  /// Puts the rows of an exchange into `stream` that go to and come from other ranks. `counts`: [ranks, ranks], rows
  /// from each rank to each.
  Status exchange(const CollectiveCall &call, const int32_t *counts, CUstream stream);
  /// Between looks at the GPU: what NCCL or another rank says is wrong; ok if nothing.
  Status look();
  /// Gives the communicator and graphs that hold it up: what it runs on this GPU ends.
  void abort();
  /// After a missed deadline and an abort: finds out, with the other ranks, whose GPU is still busy. `isBusy`: this
  /// one's.
  Status findCulprit(bool isBusy);

private:
  Status statusOf(ncclResult_t result, const std::string &doing) const;
  Status waitUntilReady(const std::string &doing);
  ncclResult_t issue(const CollectiveCall &call, CUstream stream);
  /// Gives calls to NCCL as one group; `doing` says which in an error.
  template <typename Calls> Status together(const std::string &doing, Calls calls);

  Nccl &api;
  Communicator &control;
  const int64_t deadlineNs;
  const std::function<void()> dropGraphs;
  ncclComm_t group = nullptr;
  /// Where ranks compare who was busy, for messages.
  const char *meeting = "connection of the ranks";
};

} // namespace moert::cuda

#endif // MOERT_BACKENDS_CUDA_NCCL_H
