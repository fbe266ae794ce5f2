//===- Operation.h - What a stream or a graph can hold ----------*- C++ -*-===//
//
// The operations as plain values: they own every byte they need (kernel
// parameters, what a pageable source held at the time of the call), so that a
// captured or queued operation is not changed by what the program does next.
// `execute` carries out all but kernels, which the engine steps.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_DRIVER_OPERATION_H
#define MOERT_EMULATOR_DRIVER_OPERATION_H

#include "runtime/emulator/driver/Driver.h"

#include <variant>

namespace moert::emulator {

/// A launch.
struct KernelOperation {
  CUfunc_st *function = nullptr;
  LaunchConfig config;       ///< `before` and `waitsForPrimary` are set when it starts
  uint32_t clusterGiven = 0; ///< whether the launch itself asked for clusters
  bool programmatic = false; ///< may overlap the kernel before it in its stream
  int priority = 0;
};

/// A copy of rows. Linear copies are one row.
struct CopyOperation {
  CUDA_MEMCPY3D_PEER copy{};
  std::vector<uint8_t> snapshot; ///< a pageable source as it was at the time of the call, rows packed
  bool packed = false;           ///< read `snapshot`
};

struct FillOperation {
  CUdeviceptr address = 0;
  size_t pitch = 0, width = 0, height = 1; ///< width in elements
  uint32_t value = 0, elementSize = 1;
};

struct HostOperation {
  CUhostFn function = nullptr;
  CUstreamCallback callback = nullptr;
  void *data = nullptr;
};

/// Memory from cuMemAllocAsync becomes usable, or is given back.
struct AllocationOperation {
  CUdeviceptr address = 0;
  bool free = false;
};

/// A wait for, or a write of, a value in memory.
struct ValueOperation {
  CUdeviceptr address = 0;
  uint64_t value = 0;
  unsigned flags = 0, bytes = 4;
  bool write = false;
};

/// Only orders: event records and waits, empty nodes.
struct EmptyOperation {
  CUevent record = nullptr; ///< in graphs: the event that launching the node records
  CUevent wait = nullptr;
};

using Operation = std::variant<EmptyOperation, KernelOperation, CopyOperation, FillOperation, HostOperation,
                               AllocationOperation, ValueOperation>;

/// Checks what can be checked when the call is made: ranges, pitches, memory types.
CUresult checkCopy(const Call &call, CopyOperation &operation);
CUresult checkFill(const FillOperation &operation);
/// Whether the copy's source is pageable host memory, or its destination.
bool sourceIsPageable(const CUDA_MEMCPY3D_PEER &copy);
bool destinationIsPageable(const CUDA_MEMCPY3D_PEER &copy);
/// Reads a pageable source now.
void takeSnapshot(CopyOperation &operation);

/// A linear copy between addresses of any kind.
CopyOperation linearCopy(CUdeviceptr destination, CUdeviceptr source, size_t bytes);
/// The 3D form of a 2D copy.
CUDA_MEMCPY3D_PEER as3D(const CUDA_MEMCPY2D &copy);

/// Carries out what is no kernel and no host function; `command` is its actor. The error is sticky.
CUresult execute(const Operation &operation, Command &command);
/// Whether a ValueOperation that waits may go on.
bool valueHolds(const ValueOperation &operation);
/// A few words for findings: "memcpy of 64 bytes".
std::string describe(const Operation &operation);

} // namespace moert::emulator

#endif // MOERT_EMULATOR_DRIVER_OPERATION_H
