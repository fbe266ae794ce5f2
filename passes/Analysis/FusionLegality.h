//===- FusionLegality.h - Whether sub-layers may become one, and why not -----===//
//
// What makes two FFNs on one input one FFN (ffn-fusion.md, "What is exact"): the
// same nonlinearity, the same statistics of the norm, the same storage. Norm
// scales, widths and head counts may differ. Of experts, all that a route says
// must be the same: it says it once for all routers. The answer to "why not" is a
// sentence for the user; nothing is changed here.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_FUSIONLEGALITY_H
#define MOE_PASSES_ANALYSIS_FUSIONLEGALITY_H

#include "passes/Analysis/FusionPlan.h"
#include "passes/Analysis/ResidualStream.h"

namespace mlir::moe {

/// Why something is not done, and where.
struct Obstacle {
  Location loc;
  std::string reason;
};

/// Why FFNs on one input, all dense or all of experts, cannot be one; they may be of one.
std::optional<Obstacle> findFFNObstacle(ArrayRef<SubLayer> layers);
/// Why attentions on one input cannot be one.
std::optional<Obstacle> findAttentionObstacle(ArrayRef<SubLayer> layers);

/// Why the sub-layers of `window` cannot be given other inputs: an unknown one, a tap on a value inside, a branch that
/// does not read the stream where it is added.
std::optional<Obstacle> findRewiringObstacle(ArrayRef<LayerBlock> window);

/// Why `window` cannot be fused in form `form`.
std::optional<Obstacle> findObstacle(ArrayRef<LayerBlock> window, FusionForm form);

/// Why the scale of `norm` cannot move into what reads the norm; the readers are appended to `readers` if it can.
std::optional<Obstacle> findFoldObstacle(RMSNormOp norm, SmallVectorImpl<Operation *> &readers);

/// The attentions, and the networks, of `window`.
SmallVector<SubLayer> attentionsOf(ArrayRef<LayerBlock> window);
SmallVector<SubLayer> networksOf(ArrayRef<LayerBlock> window);

/// Whether both are the same weight: one value, or two reads of one symbol.
bool isSameWeight(Value a, Value b);

} // namespace mlir::moe

#endif // MOE_PASSES_ANALYSIS_FUSIONLEGALITY_H
