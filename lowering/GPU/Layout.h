//===- Layout.h - Tiles as TMA writes and wgmma reads them ----------------===//
//
// A tile of bf16 in shared memory: rows of 128 bytes (64 elements of K), whose
// eight pieces of 16 bytes are permuted by the number of the row, so that eight
// rows of one piece lie in different banks. TMA writes tiles so by itself, other
// copies ask where a piece belongs, and wgmma finds its way by a descriptor.
// One place says all three.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_GPU_LAYOUT_H
#define MOE_LOWERING_GPU_LAYOUT_H

#include "lowering/GPU/KernelBuilder.h"

namespace mlir::moe::gpu {

struct SwizzledTile {
  /// Elements of a row and of a piece.
  static constexpr int64_t depth = 64, piece = 8, pieces = depth / piece;
  static constexpr int64_t rowBytes = 128;
  /// The permutation repeats after so many bytes, and depends on the address: a tile begins at a multiple.
  static constexpr int64_t alignment = 8 * rowBytes;

  /// The address of piece `p` of row `row` of the tile at `tile`.
  static Int pieceAddress(KernelBuilder &b, Int tile, Int row, Int p);
  /// What wgmma is told of a tile whose first row lies at `tile`, a multiple of `alignment`; 16 elements of K further
  /// on it is larger by `descriptorStep`.
  static Value descriptor(KernelBuilder &b, Int tile);
  static constexpr int64_t descriptorStep = 2;
};

/// Asks TMA for the box at (`row`, `column`) of the matrix of `map`, a pointer in global memory, into `tile`; counts
/// its bytes at `barrier`. Of one thread.
void copyBox(KernelBuilder &b, Int tile, Value map, Int row, Int column, Int barrier);

} // namespace mlir::moe::gpu

#endif // MOE_LOWERING_GPU_LAYOUT_H
