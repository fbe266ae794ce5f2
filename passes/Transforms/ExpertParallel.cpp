//===- ExpertParallel.cpp - Experts on ranks that have their own tokens -----===//
//
// Every rank runs the whole step for its own sequences, but holds a part of the
// experts. Per MoE layer, with R ranks of T tokens each:
//
//   x, ids, weights ── all_gather ──> R*T rows, the same on every rank
//                                     localize: which choices are mine
//                                     experts:  only those; combine: partial sums
//   T rows of the sum <── reduce_scatter ── R*T rows of partial sums
//
// Everything is sized for R*T rows: nothing is dropped, whatever the routing.
//
//===----------------------------------------------------------------------===//

#include "passes/Passes.h"
#include "passes/Transforms/RankRewrites.h"

namespace mlir::moe {
#define GEN_PASS_DEF_EXPERTPARALLEL
#include "passes/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static int64_t widthOf(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  int64_t elements = 1;
  for (int64_t dim : type.getShape().drop_front()) {
    elements *= dim;
  }
  return elements * type.getElementTypeBitWidth() / 8;
}

namespace {

struct ExpertParallelPass : moe::impl::ExpertParallelBase<ExpertParallelPass> {
  using ExpertParallelBase::ExpertParallelBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    func::FuncOp step = getStepForRanks(module, ranks, "moe-expert-parallel");
    if (!step) {
      return signalPassFailure();
    }
    if (ranks == 1) {
      return;
    }
    FailureOr<SmallVector<RoutedExperts>> layers = findRoutedExperts(step);
    if (failed(layers)) {
      return signalPassFailure();
    }
    if (layers->empty()) {
      step.emitError("has no moe.experts, so that there is nothing to divide among ")
          << ranks.getValue() << " ranks; moe-tensor-parallel divides dense layers";
      return signalPassFailure();
    }
    SmallVector<PlacementAttr> placements;
    for (RoutedExperts layer : *layers) {
      FailureOr<PlacementAttr> placement = getPlacement(layer.experts, ranks);
      if (failed(placement)) {
        return signalPassFailure();
      }
      placements.push_back(*placement);
    }
    for (auto [layer, placement] : llvm::zip_equal(*layers, placements)) {
      rewrite(step, layer, placement);
    }
    OpBuilder b(&getContext());
    module->setAttr(kRanksAttr, b.getI64IntegerAttr(ranks));
    module->setAttr(kDistributedAttr, b.getUnitAttr());
  }

  void rewrite(func::FuncOp step, RoutedExperts layer, PlacementAttr placement) {
    OpBuilder b(layer.combine);
    Location loc = layer.experts.getLoc();
    auto gather = [&](Value value) -> Value { return AllGatherOp::create(b, loc, value.getType(), value, ranks); };
    Value x = layer.experts.getX(), weights = layer.combine.getWeights(), result = layer.combine.getResult();
    Value ids = layer.experts.getExperts();
    ids = MaskPaddingOp::create(b, loc, ids.getType(), ids, step.getArgument(1));
    // Bytes that a rank receives for a token of each other rank, and sends back as a partial sum.
    const int64_t there = widthOf(x) + widthOf(ids) + widthOf(weights), back = widthOf(result);
    Value sums = buildPartialSums(b, layer, placement, gather(x), gather(ids), gather(weights));
    Value own = ReduceScatterOp::create(b, layer.combine.getLoc(), result.getType(), sums, ranks);
    result.replaceAllUsesWith(own);
    layer.combine.erase();
    layer.experts.erase();
    numExchanges += 4;
    ++numLayers;
    emitRemark(loc) << "experts on " << placement.getRanks() << " ranks, " << placement.getSlotsPerRank()
                    << " slots each: exchange 'gather', " << (ranks - 1) * there << " bytes in and "
                    << (ranks - 1) * back << " bytes of partial sums out per token of a rank";
  }
};

} // namespace
