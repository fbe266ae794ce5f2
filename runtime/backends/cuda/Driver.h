//===- Driver.h - The CUDA driver, reached by dlopen --------------*- C++ -*-===//
//
// `libcuda.so.1` of the machine, or the emulator's in its own folder beside libmoert, as a table of functions; and a
// device of it. Nothing links CUDA, and no header of a toolkit is needed: the types are those that the emulator
// declares for itself (CudaApi.h), whose numbers are tested against NVIDIA's.
//
// The two drivers are never mistaken for each other: `cuda` refuses a libcuda.so.1 that is the emulator, which the
// system's search path might lead to, and `emulator` opens one file and no other.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_BACKENDS_CUDA_DRIVER_H
#define MOERT_BACKENDS_CUDA_DRIVER_H

#include "runtime/core/Status.h"
#include "runtime/emulator/driver/CudaApi.h"

#include <memory>
#include <mutex>
#include <vector>

namespace moert::cuda {

/// The functions of one driver library. Libraries are opened once per process and never closed: a driver has threads.
class Driver {
public:
  /// The machine's driver, or the emulator.
  static Result<Driver *> open(bool emulator);

#define MOERT_CUDA(name, symbol, parameters) CUresult(*name) parameters = nullptr;
#define MOERT_CUDA_OPTIONAL MOERT_CUDA
#include "runtime/backends/cuda/Functions.inc"
#undef MOERT_CUDA
#undef MOERT_CUDA_OPTIONAL

  /// Of the emulator: how many findings that are no notes it has had.
  uint64_t (*findings)() = nullptr;
  /// Of the emulator: makes bytes undefined again.
  void (*forget)(CUdeviceptr memory, uint64_t bytes) = nullptr;
  /// Of the emulator: whether every value should have memory of its own (MOE_EMU_BUFFERS).
  int (*wantsSeparate)() = nullptr;
  bool isEmulator() const { return findings != nullptr; }

  /// The CUDA release that the driver is of, 12020 of 12.2.
  int version = 0;

  /// Launches a kernel whose parameters are `words`. `early`: while the one before it in the stream may still run
  /// (programmatic dependent launch).
  CUresult enqueue(CUfunction function, unsigned grid, unsigned threads, unsigned sharedBytes, const uint64_t *words,
                   size_t count, CUstream stream, bool early) const;

  /// "CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered)". The emulator says more on stderr.
  std::string describe(CUresult result) const;

  /// The sessions of this process per device. A fault in a kernel spoils the device's context for all of them; it ends
  /// with the last, so that the next can work.
  struct Users {
    int count = 0;
    bool spoilt = false;
  };
  std::mutex usersLock;
  std::vector<Users> users;

private:
  Status load(const std::string &path, bool emulator);
};

/// One GPU.
struct Device {
  Driver *driver = nullptr;
  CUdevice handle = 0;
  int ordinal = 0;
  std::string name;
  uint32_t capability = 0; ///< 90 of 9.0

  /// "cuda:0 'NVIDIA H200'", or "the emulator 'H100 emulator'".
  std::string describe() const;
};

/// Where the emulator's libcuda.so.1 lies.
Result<std::string> emulatorPath();

/// Device `ordinal` of the machine's driver, or of the emulator; -1: that of the `localRank`-th rank of this machine.
Result<Device> openDevice(bool emulator, int ordinal, int localRank = 0);

} // namespace moert::cuda

#endif // MOERT_BACKENDS_CUDA_DRIVER_H
