//===- BufferPlan.h - Where the values of a step lie in the arena -----------===//
//
// Values live from the command that writes them first to the one that reads them
// last. Two values may share bytes only if their lives do not meet. Greedy by
// size: the largest value first, each at the lowest offset that is free for its
// whole life. Plain C++: sizes in, offsets out.
//
//   life   0 1 2 3          offset 0 ......... 128 ......... 256
//   a 128  ####                    | a (0-1)  |
//   b  64    ##             b after a: 128..192; c again at 0
//   c 128      ####                | c (2-3)  |
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOSCHED_BUFFERPLAN_H
#define MOE_LOWERING_MOETOSCHED_BUFFERPLAN_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include <cstdint>

namespace mlir::moe {

/// A value of the step: its size in bytes at Tmax and its life in command numbers, both ends included.
struct PlannedValue {
  int64_t bytes = 0;
  int64_t firstCommand = 0, lastCommand = 0;
};

struct BufferPlan {
  llvm::SmallVector<int64_t> offsets; ///< one per value
  int64_t arenaBytes = 0;             ///< what the arena needs
  int64_t totalBytes = 0;             ///< what the values would need without reuse
};

/// Offsets are multiples of `alignment` (a power of two); values of size 0 get offset 0.
BufferPlan planBuffers(llvm::ArrayRef<PlannedValue> values, int64_t alignment = 64);

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOSCHED_BUFFERPLAN_H
