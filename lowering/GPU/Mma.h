//===- Mma.h - Products of tiles by a warpgroup ---------------------------===//
//
// wgmma: 128 threads multiply 64 rows of A by n rows of B, both in shared memory,
// and keep f32 sums in registers. The products of a stage are one piece of text,
// from the fence to the wait: nothing can come between that touches the sums.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_GPU_MMA_H
#define MOE_LOWERING_GPU_MMA_H

#include "lowering/GPU/Layout.h"

namespace mlir::moe::gpu {

struct WarpgroupMma {
  static constexpr int64_t rows = 64, threads = 128;
  int64_t columns;

  /// Sums that a thread has.
  int64_t sums() const { return rows * columns / threads; }
  /// sums += A B^T along the depth of a tile, of bf16 tiles that begin at `a` and `b`.
  SmallVector<Value> accumulate(KernelBuilder &builder, Int a, Int b, ValueRange sums) const;

  /// What a thread has of the sums: pair `pair` of columns (column(pair) and the next) of its lower or upper row are
  /// sums 4 pair + 2 upper and the next.
  static constexpr int64_t pairColumns = 8, rowDistance = 8;
  int64_t pairs() const { return columns / pairColumns; }
  static Int row(KernelBuilder &b) { return b.warp % 4 * 16 + b.lane / 4; }
  static Int column(KernelBuilder &b, int64_t pair) { return b.lane % 4 * 2 + pair * pairColumns; }
};

/// Gives registers of the warpgroup's threads back, or takes those that others gave, until each has `count`.
void lowerRegisters(KernelBuilder &b, int64_t count);
void raiseRegisters(KernelBuilder &b, int64_t count);

} // namespace mlir::moe::gpu

#endif // MOE_LOWERING_GPU_MMA_H
