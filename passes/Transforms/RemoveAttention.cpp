//===- RemoveAttention.cpp - Take the attention out of layers ----------------===//

#include "passes/Analysis/FusionLegality.h"
#include "passes/Passes.h"
#include "passes/Transforms/FusionRewrites.h"

namespace mlir::moe {
#define GEN_PASS_DEF_REMOVEATTENTION
#include "passes/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

struct RemoveAttentionPass : moe::impl::RemoveAttentionBase<RemoveAttentionPass> {
  using RemoveAttentionBase::RemoveAttentionBase;

  void runOnOperation() override {
    auto step = getOperation().lookupSymbol<func::FuncOp>("step");
    if (!step) {
      getOperation().emitError("has no function @step, whose layers could lose their attention");
      return signalPassFailure();
    }
    UnusedSymbols symbols(getOperation());
    for (int64_t layer : layers) {
      switch (removeAttentionOf(step, layer)) {
      case Removal::Done:
        ++numRemoved;
        break;
      case Removal::Rejected:
        ++numRejected;
        break;
      case Removal::NothingThere:
        break;
      }
    }
    symbols.eraseUnused();
  }
};

} // namespace

Removal moe::removeAttentionOf(func::FuncOp step, int64_t layer) {
  ResidualStream stream(step);
  std::string problem;
  std::optional<ArrayRef<LayerBlock>> found = stream.find(layer, layer, problem);
  if (!found) {
    step.emitRemark() << "attention of layer " << layer << " not removed: " << problem;
    return Removal::Rejected;
  }
  LayerBlock alone = found->front();
  if (!alone.attention) {
    return Removal::NothingThere;
  }
  alone.network.reset();
  Location loc = alone.attention->getLoc();
  if (std::optional<Obstacle> obstacle = findRewiringObstacle(alone)) {
    emitRemark(obstacle->loc) << "attention of layer " << layer << " not removed: " << obstacle->reason;
    return Removal::Rejected;
  }
  removeAttention(stream.getBlocks(), static_cast<size_t>(found->begin() - stream.getBlocks().begin()));
  emitRemark(loc) << "attention of layer " << layer << " removed: the result approximates the model";
  return Removal::Done;
}
