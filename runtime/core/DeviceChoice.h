//===- DeviceChoice.h - What a session runs on ---------------------*- C++ -*-===//
//
// The `device` option as a value: "cpu", "cuda", "cuda:N" or "emulator"; without one, the CPU where the package has
// variants for it, else a GPU. Only looks at the package: whether there is such a device, its driver says.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_DEVICECHOICE_H
#define MOERT_CORE_DEVICECHOICE_H

#include "runtime/core/Program.h"

namespace moert {

enum class DeviceKind { Cpu, Cuda, Emulator };

struct DeviceChoice {
  DeviceKind kind = DeviceKind::Cpu;
  int ordinal = -1; ///< of GPUs; -1: any, so that each rank takes its own
};

/// `asked` null: no option.
Result<DeviceChoice> chooseDevice(const Program &program, const char *asked);

} // namespace moert

#endif // MOERT_CORE_DEVICECHOICE_H
