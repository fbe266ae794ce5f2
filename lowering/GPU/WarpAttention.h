//===- WarpAttention.h - Attention of 16 query rows on tensor cores --------===//
//
// What one warp does in attention of bf16: 16 rows of queries, which it keeps as
// fragments (or in shared memory, where heads are too long for registers), against tiles of keys and values in shared
// memory, by mma.sync. Scores stay in registers, where they become weights (online softmax, base 2) and then the left
// side of the product with the values.
//
// Which rows these are, which keys they see and how tiles come into shared
// memory in time is left to the kernels (TiledAttention.cpp).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_GPU_WARPATTENTION_H
#define MOE_LOWERING_GPU_WARPATTENTION_H

#include "lowering/GPU/Tiles.h"

namespace mlir::moe::gpu {

/// `keys` rows of `dim` elements of bf16 in shared memory: SharedTiles beside each other, zeros beyond `dim`.
struct HeadTile {
  int64_t keys, dim;

  int64_t parts() const { return (dim + SharedTile::depth - 1) / SharedTile::depth; }
  int64_t elements() const { return parts() * keys * SharedTile::depth; }
  /// Where piece `p` of row `key` begins, in elements.
  Int offset(KernelBuilder &b, Int key, Int p) const;
  /// Begins the copies of thread `self` of `threads` into `tile`; rowAt(key) is where a row lies in global memory. They
  /// belong to the next group of cp.async.
  void copy(KernelBuilder &b, Value tile, Int self, int64_t threads, llvm::function_ref<Value(Int)> rowAt) const;
};

class WarpAttention {
public:
  static constexpr int64_t rows = 16;
  /// The rows of which a lane has sums: lane / 4 and the one 8 further.
  static constexpr int64_t rowsOfLane = 2;
  static Int row(KernelBuilder &b, int64_t i) { return b.lane / 4 + i * 8; }
  /// The first of the two neighbouring value dims of piece `i` that a lane has.
  static Int column(KernelBuilder &b, int64_t i) { return b.lane % 4 * 2 + i * 8; }

  /// The keys that a row sees, from `from` to before `to`.
  struct Range {
    Int from, to;
  };
  /// A lane's part of the state of 16 rows: of each of its rows the maximum of the scores and its part of the sum of
  /// weights; then the weighted sums, pairs of dims of the one row and of the other for each piece.
  struct State {
    SmallVector<Num> maxima, totals, sums;
    SmallVector<Value> flatten() const;
    static State unflatten(ImplicitLocOpBuilder &b, ValueRange values);
  };

  WarpAttention(KernelBuilder &b, HeadTile keyTile, HeadTile valueTile)
      : b(b), keyTile(keyTile), valueTile(valueTile) {}

  /// rowAt(row of the warp) is where a query lies in global memory. The queries stay in registers,
  void loadQueries(llvm::function_ref<Value(Int)> rowAt);
  /// or in `tile`, a queryTile of the warp's own, to which the copies go that this begins. They belong to the next
  /// group of cp.async.
  void loadQueries(Value tile, llvm::function_ref<Value(Int)> rowAt);
  HeadTile queryTile() const { return {rows, keyTile.dim}; }
  int64_t pieces() const { return valueTile.dim / 8; }
  State begin();
  /// The weights of the keys of a tile, as the left side of a product, and the state with its maxima, sums scaled to
  /// them and totals. `first`: the number of its first key; `scale`: of the scores, times log2(e).
  struct Weighted {
    State state;
    SmallVector<SmallVector<Value>> weights; ///< by 16 keys
  };
  Weighted weigh(const State &state, Value keys, Int first, ArrayRef<Range> ranges, Num scale);
  /// Adds the weighted values of the tile.
  State addValues(const Weighted &weighted, Value values);
  /// Every lane of a row gets the row's total.
  State finish(const State &state);

private:
  /// value, joined with that of the three other lanes of a row.
  template <typename Join> Num overRow(Num value, Join join) {
    value = join(value, b.shuffleXor(value, 1));
    return join(value, b.shuffleXor(value, 2));
  }
  SmallVector<Value> queriesOf(int64_t step);
  SmallVector<Value> score(Value keys);

  KernelBuilder &b;
  HeadTile keyTile, valueTile;
  SmallVector<SmallVector<Value>> queries; ///< by 16 dims, if they are in registers
  Value sharedQueries;                     ///< if not
};

} // namespace mlir::moe::gpu

#endif // MOE_LOWERING_GPU_WARPATTENTION_H
