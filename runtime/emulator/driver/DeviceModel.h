//===- DeviceModel.h - What the emulated cards say of themselves -*- C++ -*-===//
//
// The numbers of an A100-like and an H100-like card: what cuDeviceGetAttribute
// answers, and what launches are checked against. Limits are those of the
// compute capability (8.0 and 9.0); sizes and clocks are of the common boards.
// Nothing here says anything about speed.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_DRIVER_DEVICEMODEL_H
#define MOERT_EMULATOR_DRIVER_DEVICEMODEL_H

#include "runtime/emulator/driver/CudaApi.h"

#include <cstdint>
#include <string_view>

namespace moert::emulator {

/// One kind of card.
struct DeviceModel {
  const char *key;  ///< as MOE_EMU_DEVICE names it
  const char *name; ///< what cuDeviceGetName answers
  int major, minor;
  int multiprocessors;
  uint64_t memoryBytes;
  int l2Bytes;
  int sharedPerMultiprocessor;
  int sharedPerBlockOptin;
  int clockKHz, memoryClockKHz, busBits;
  bool clusters; ///< clusters, TMA and the rest of compute capability 9.0
  int pciDevice;

  /// False when the model does not know `attribute`.
  bool attribute(CUdevice_attribute attribute, int ordinal, int &value) const;
};

constexpr int maxThreadsPerBlock = 1024, maxThreadsPerMultiprocessor = 2048, maxBlocksPerMultiprocessor = 32;
constexpr int registersPerMultiprocessor = 65536, sharedWithoutOptin = 48 << 10, reservedSharedPerBlock = 1024;
constexpr int portableClusterSize = 8, largestClusterSize = 16;

/// The model of that key ("a100", "h100"), or null.
const DeviceModel *findDeviceModel(std::string_view key);
/// All keys, for messages: "a100, h100".
const char *deviceModelKeys();

} // namespace moert::emulator

#endif // MOERT_EMULATOR_DRIVER_DEVICEMODEL_H
