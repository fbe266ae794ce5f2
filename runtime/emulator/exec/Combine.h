//===- Combine.h - Values of read-modify-writes -----------------*- C++ -*-===//
//
// The arithmetic of atom, red and the reductions of bulk copies, apart from how
// the bytes are reached.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_EXEC_COMBINE_H
#define MOERT_EMULATOR_EXEC_COMBINE_H

#include "runtime/emulator/ptx/Types.h"

#include <cstdint>

namespace moert::emulator {

/// The new value of a location that holds `a` under `op` with operand `b` (and `c` for cas). `flush`: f32 subnormals.
uint64_t combineValues(ptx::Reduce op, ptx::Type type, uint64_t a, uint64_t b, uint64_t c, bool flush);

} // namespace moert::emulator

#endif // MOERT_EMULATOR_EXEC_COMBINE_H
