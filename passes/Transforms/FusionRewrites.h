//===- FusionRewrites.h - Workers that give sub-layers new inputs and join them //
//
// Each does what it is told; whether it may was decided before
// (Analysis/FusionLegality.h). The exact part is written once, here:
//
//   sum_k FFN_k(s_k * r)      r = x / rms(x), one for all k
//     = FFN*(kept * r)        gate* = rows of gate_k diag(s_k / kept), up* alike,
//                             down* = columns of down_k
//
// `kept` is the scale of the last norm, away from zero: so the weights of the last
// layer stay bit for bit what they are, and nothing is divided by zero.
//
// Experts are no different: each is a network of its own, and what a layer's
// router chooses of its own experts does not depend on the others. So routers and
// experts lie side by side, and the route has as many routers as there were layers.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_TRANSFORMS_FUSIONREWRITES_H
#define MOE_PASSES_TRANSFORMS_FUSIONREWRITES_H

#include "passes/Analysis/FusionPlan.h"
#include "passes/Analysis/ResidualStream.h"

namespace mlir::moe {

/// Scales below this are raised to it before they divide: 2^-10. A smaller one would make weights leave the range of
/// f16; a larger one changes nothing in exact arithmetic.
constexpr double kScaleFloor = 0x1p-10;

/// A norm that several readers share, and the scale that it keeps; null `kept`: that of every reader's own norm.
struct SharedNorm {
  Value result, kept;
};

/// One norm of `input` in place of `norms`, which may differ in their scales.
SharedNorm buildSharedNorm(OpBuilder &b, ArrayRef<RMSNormOp> norms, Value input);
/// A weight whose last dim reads the shared norm: with the scale of `own`, its former norm, moved into it; or, where
/// there is a map from the shared norm to what `own` would give, times that.
Value foldScale(OpBuilder &b, Value weight, RMSNormOp own, const SharedNorm &shared, Value map = {});

/// The sum of the FFNs of `layers` on `input`, as one FFN whose width is a multiple of `padWidthTo` (if there is more
/// than one); if they route to experts, as one layer of experts with their shared FFNs as one.
/// With `maps`, one per layer or null, on their inputs, and `outputMap`, or null, on the sum.
Value buildFusedFFN(OpBuilder &b, ArrayRef<SubLayer> layers, Value input, int64_t padWidthTo, ArrayRef<Value> maps = {},
                    Value outputMap = {});
/// The sum of the attentions of `layers` on `input`, as one attention with a new state.
Value buildFusedAttention(OpBuilder &b, ArrayRef<SubLayer> layers, Value input, ArrayRef<Value> maps = {});

/// Makes `window` what `planned` says. The result approximates what was there unless every branch read one value
/// already.
void fuseWindow(ArrayRef<LayerBlock> window, const FusionWindow &planned, int64_t padWidthTo);
/// Joins FFNs on one input, which follow each other in the stream: exact.
void fuseParallelFFNs(ArrayRef<SubLayer> layers, int64_t padWidthTo);
/// Gives every block of `window` the input of the first: y = x + sum of what the blocks add.
void parallelizeWindow(ArrayRef<LayerBlock> window);
/// Takes the attention out of `blocks[index]`. Keeps the numbers of all layers.
void removeAttention(ArrayRef<LayerBlock> blocks, size_t index);

/// What became of a layer's attention.
enum class Removal { Done, NothingThere, Rejected };
/// Removes the attention of layer `layer` of `step` if that is possible; a remark says what was done, or why not.
Removal removeAttentionOf(func::FuncOp step, int64_t layer);

/// Erases weights and states of the module that only what a pass erased had used: those used when this is made, and
/// not at `eraseUnused`. Keeps the count of parameters in `moe.model` right.
class UnusedSymbols {
public:
  explicit UnusedSymbols(ModuleOp module);
  void eraseUnused();

private:
  llvm::DenseSet<StringAttr> collectUsed();
  ModuleOp module;
  llvm::DenseSet<StringAttr> usedBefore;
};

} // namespace mlir::moe

#endif // MOE_PASSES_TRANSFORMS_FUSIONREWRITES_H
