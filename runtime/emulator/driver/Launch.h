//===- Launch.h - From a launch call to a checked operation -----*- C++ -*-===//
//
// What cuLaunchKernel, its relatives and kernel nodes have in common: the limits
// of the device and of the kernel, and copying the parameters. Not to be mixed
// up with exec/Launch.h, which runs what this describes.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_DRIVER_LAUNCH_H
#define MOERT_EMULATOR_DRIVER_LAUNCH_H

#include "runtime/emulator/driver/Operation.h"

namespace moert::emulator {

/// A launch as the program asks for it.
struct LaunchRequest {
  CUfunc_st *function = nullptr;
  Dim3 grid{0, 0, 0}, block{0, 0, 0};
  unsigned dynamicShared = 0;
  void **parameters = nullptr, **extra = nullptr;
  const CUlaunchAttribute *attributes = nullptr;
  unsigned attributeCount = 0;
  bool cooperative = false;
};

/// Checks every limit, copies the parameters.
CUresult makeLaunch(const LaunchRequest &request, KernelOperation &operation);
/// One launch or node attribute.
CUresult applyAttribute(KernelOperation &operation, CUlaunchAttributeID attribute, const CUlaunchAttributeValue &value);
/// The limits alone, once attributes are applied.
CUresult checkLaunch(const KernelOperation &operation);

} // namespace moert::emulator

#endif // MOERT_EMULATOR_DRIVER_LAUNCH_H
