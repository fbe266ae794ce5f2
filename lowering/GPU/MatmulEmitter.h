//===- MatmulEmitter.h - Writing one product kernel -----------------------===//
//
// What all forms of a product share: its operands, which outputs and rows a
// workgroup makes, and what becomes of a sum. How the sums are made is in
// MatmulKernel.cpp (dot products, mma.sync) and WarpgroupMatmul.cpp (TMA and
// wgmma).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_GPU_MATMULEMITTER_H
#define MOE_LOWERING_GPU_MATMULEMITTER_H

#include "lowering/GPU/Kernels.h"

namespace mlir::moe::gpu {

class MatmulEmitter {
public:
  MatmulEmitter(const kernels::Matmul &kernel, KernelBuilder &b)
      : kernel(kernel), b(b), usesMaps(usesWarpgroups(b.target, kernel)), tile(matmulTile(b.target, kernel)) {}
  void emit();

private:
  /// The operands that belong to one weight (or one gate/up pair).
  struct Segment {
    Value weight, up, out, bias, upBias; ///< weight and up: where they lie, or their tensor maps
    Int n;
  };

  Segment readSegment();
  void readActivation();
  void emitDense();
  /// Begins to fetch the weights of the outputs from `n0` on, of few tokens, where kernels are launched early.
  void prefetchWeights(Int n0);
  void emitExperts();
  /// What the workgroup has to do of the list of tiles of experts.
  void emitListed();
  /// `tables` of one expert.
  Segment segmentOf(Int expert);
  /// Runs body(number, from, to, n0) for every tile that the workgroup makes of the `many` form: rows [from, to) of the
  /// work list and the tile of outputs that begins at `n0`, with `segment` set.
  void overTiles(llvm::function_ref<void(Int, Int, Int, Int)> body);
  /// Makes those tiles.
  void makeTiles();
  /// The row of x for row `r` of the work list, and the row of out.
  Value inputRow(Int r);
  Int outputRow(Int r);
  /// Bias, activation, residual and the store of output `n` of the row of out that begins at `rowOffset`.
  void finish(Num value, std::optional<Num> up, Int rowOffset, Int n);
  /// The same of outputs `n` and the next, of an even number; `up` is empty without a gate.
  void finishPair(ArrayRef<Num> values, ArrayRef<Num> up, Int rowOffset, Int n);
  /// Rows [from, to) of the work list times the tile of outputs that begins at `n0`.
  void multiply(Int from, Int to, Int n0);
  void multiplyByDots(Int from, Int to, Int n0);
  /// The same on tensor cores, for the rows of one tile.
  void multiplyTile(Int from, Int to, Int n0);
  Value tileMemory();
  /// The same for up to `count` rows from `from` on and the warp's outputs from `n` on.
  void multiplyRows(Int from, Int to, Int n, int64_t count);
  /// The sums of matmulOutputs weight rows times `xs`, across the lanes.
  SmallVector<Num> dotRows(Value weight, Type type, Int n, ArrayRef<Value> xs);

  // On warpgroups.
  int64_t weights() const { return kernel.gated ? 2 : 1; }
  void multiplyByWarpgroups();
  void fillStages(class StageRing &ring);
  void emptyStages(class StageRing &ring);
  /// Which of `all` tiles the workgroup makes: sets the first and the step; the result is where they end.
  Int goByRounds(Int all);
  /// What a thread has of the sums, of the tile whose first row is `from`.
  void finishSums(ValueRange sums, Int from, Int to, Int n0);

  const kernels::Matmul &kernel;
  KernelBuilder &b;
  const bool usesMaps;
  const kernels::MatmulTile tile;
  Value x, slots, residual;
  Int k, topK;
  Segment segment;
  // Of the `many` form: how many tiles the workgroup makes, and the one of a dense product or the list of experts',
  // which of its tiles is the first and how far the others are from each other.
  Int tileCount, denseFrom, denseTo, denseOutput, firstTile, tileStep;
  Value list;
  Segment tables; ///< of all experts
  Int outputTiles;
  Num alpha, limit;
};

} // namespace mlir::moe::gpu

#endif // MOE_LOWERING_GPU_MATMULEMITTER_H
