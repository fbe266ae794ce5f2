//===- Tiles.h - Tiles in shared memory, copy rings and matrix fragments ---===//
//
// The parts of a tiled product on tensor cores, for bf16 and sm_80:
//
//   SharedTile  how a tile lies in shared memory: rows of 64 bytes whose pieces
//               of 16 bytes are permuted by row, so that neither copies nor
//               ldmatrix meet in a bank
//   CopyRing    stages of tiles that cp.async fills ahead of their use
//   Fragments   ldmatrix and mma.sync.m16n8k16 of a warp's part of a tile
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_GPU_TILES_H
#define MOE_LOWERING_GPU_TILES_H

#include "lowering/GPU/KernelBuilder.h"

namespace mlir::moe::gpu {

/// `rows` rows of `depth` elements of bf16.
struct SharedTile {
  static constexpr int64_t depth = 32, piece = 8, pieces = depth / piece;
  int64_t rows;

  int64_t elements() const { return rows * depth; }
  /// Where piece `p` of row `row` begins, in elements.
  static Int offset(KernelBuilder &b, Int row, Int p);
};

/// `stages` stages of several tiles each, filled `stages - 1` steps ahead.
class CopyRing {
public:
  static constexpr int64_t stages = 3;
  /// A source of a tile: the pointer to the beginning of K of each row that the thread copies.
  struct Source {
    SharedTile tile;
    SmallVector<Value> rows;
  };

  /// The rows of `tile` whose pieces this thread copies.
  static SmallVector<Int> rowsOfThread(KernelBuilder &b, SharedTile tile);
  /// Elements of shared memory for tiles of so many rows together.
  static int64_t elements(int64_t rows) { return stages * rows * SharedTile::depth; }

  /// Copies the sources, rows of `k` elements, through `memory`.
  CopyRing(KernelBuilder &b, Value memory, ArrayRef<Source> sources, Int k);
  /// Runs body(the tiles of a step in shared memory, carried values) for every step along K.
  SmallVector<Value> overSteps(ValueRange inits,
                               llvm::function_ref<SmallVector<Value>(ArrayRef<Value>, ValueRange)> body);

private:
  Value tileAt(Int step, size_t source);
  void issue(Int step);

  KernelBuilder &b;
  Value memory;
  SmallVector<Source> sources;
  SmallVector<int64_t> offsets;
  int64_t stageElements = 0;
  Int k;
};

/// Four 8x8 matrices of bf16 in shared memory as fragments of a warp; lane l gives the address of row l % 8 of matrix
/// l / 8. `transposed`: of their columns.
SmallVector<Value> loadMatrices(KernelBuilder &b, Value pointer, bool transposed = false);
/// sums + A B^T of 16 rows of A, 8 of B and 16 elements of K (mma.sync.m16n8k16). `rows`: the four 8x8 matrices of A,
/// of rows 0 to 7 and 8 to 15, then of the second half of K; `columns`: those of both halves of K of B. Of the sums a
/// lane has columns 2 (l % 4) and the next of row l / 4, then of the row 8 further.
SmallVector<Value> multiplyMatrices(KernelBuilder &b, ArrayRef<Value> rows, ArrayRef<Value> columns, ValueRange sums);

/// A warp's part of a product of tiles: 32 rows of A times 32 rows of B.
struct Fragments {
  static constexpr int64_t rows = 32, columns = 32, sums = rows * columns / KernelBuilder::warpSize;

  /// sums += A[row0 ..] B[column0 ..]^T for one step along K.
  static SmallVector<Value> multiply(KernelBuilder &b, Value tileA, Int row0, Value tileB, Int column0,
                                     ValueRange sums);
  /// Writes the sums to f32 [.., stride] at `memory`, rows and columns counted from there.
  static void store(KernelBuilder &b, ValueRange sums, Value memory, Int row0, Int column0, int64_t stride);
};

} // namespace mlir::moe::gpu

#endif // MOE_LOWERING_GPU_TILES_H
