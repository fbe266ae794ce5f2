//===- ExpertParallel.cpp - Experts on ranks that have their own tokens -----===//
//
// Every rank runs the whole step for its own sequences, but holds a part of the
// experts. Per MoE layer, with R ranks of T tokens each, tokens and results travel
// in one of two ways. `gather`:
//
//   x, ids, weights ── all_gather ──> R*T rows, the same on every rank
//                                     localize: which choices are mine
//                                     experts:  only those; combine: partial sums
//   T rows of the sum <── reduce_scatter ── R*T rows of partial sums
//
// `exact`, which keeps the sum over a token's experts in k order, as one rank has:
//
//   ids             ── all_gather ──> what every rank sends and receives
//   x               ── dispatch ────> the rows with a choice here
//                                     experts
//   T rows per k    <── collect ───── the results of those choices
//   combine
//
// Everything is sized for R*T rows: nothing is dropped, whatever the routing.
// Where the one is better for small steps and the other for large ones, @step
// becomes two functions.
//
//===----------------------------------------------------------------------===//

#include "passes/Analysis/ExchangeCost.h"
#include "passes/Passes.h"
#include "passes/Transforms/RankRewrites.h"
#include "llvm/Support/FormatVariadic.h"

namespace mlir::moe {
#define GEN_PASS_DEF_EXPERTPARALLEL
#include "passes/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static int64_t widthOf(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  return type.getShape().back() * type.getElementTypeBitWidth() / 8;
}

FailureOr<ExchangeCosts> moe::priceExchanges(func::FuncOp step, int64_t ranks, const ExchangeMachine &machine) {
  FailureOr<SmallVector<RoutedExperts>> layers = findRoutedExperts(step);
  if (failed(layers)) {
    return failure();
  }
  ExchangeCosts costs;
  for (RoutedExperts layer : *layers) {
    FailureOr<PlacementAttr> placement = getPlacement(layer.experts, ranks);
    if (failed(placement)) {
      return failure();
    }
    costs.add({*placement, layer.experts.getExperts().getType().getDimSize(1), widthOf(layer.experts.getX()),
               widthOf(layer.experts.getResult()), widthOf(layer.combine.getResult())},
              machine);
  }
  return costs;
}

static StringRef nameOf(bool isExact) { return isExact ? "exact" : "gather"; }

namespace {

struct ExpertParallelPass : moe::impl::ExpertParallelBase<ExpertParallelPass> {
  using ExpertParallelBase::ExpertParallelBase;

  void runOnOperation() override {
    if (failed(divide())) {
      signalPassFailure();
    }
  }

  LogicalResult divide() {
    ModuleOp module = getOperation();
    func::FuncOp step = getStepForRanks(module, ranks, "moe-expert-parallel");
    if (!step) {
      return failure();
    }
    if (!llvm::is_contained({"gather", "exact", "auto"}, exchange) ||
        !(latency >= 0 && hostRead >= 0 && link > 0 && memory > 0)) {
      return module.emitError("moe-expert-parallel: exchange is '")
             << exchange << "', latency " << llvm::formatv("{0}", latency.getValue()).str() << ", host-read "
             << llvm::formatv("{0}", hostRead.getValue()).str() << ", link "
             << llvm::formatv("{0}", link.getValue()).str() << ", memory "
             << llvm::formatv("{0}", memory.getValue()).str()
             << ", but must be gather, exact or auto, and times and rates that are positive";
    }
    if (ranks == 1) {
      return success();
    }
    FailureOr<ExchangeCosts> costs =
        priceExchanges(step, ranks, {latency * 1e-6, hostRead * 1e-6, link * 1e9, memory * 1e9});
    if (failed(costs)) {
      return failure();
    }
    if (costs->layers == 0) {
      return step.emitError("has no moe.experts, so that there is nothing to divide among ")
             << ranks.getValue() << " ranks; moe-tensor-parallel divides dense layers";
    }
    const ExchangePlan plan = exchange == "auto" ? costs->choose(maxTokens) : ExchangePlan{exchange == "exact"};
    OpBuilder b(step);
    if (plan.changesAt) {
      b.setInsertionPointAfter(step);
      auto large = cast<func::FuncOp>(b.clone(*step.getOperation()));
      large.setSymName(("step." + nameOf(!plan.isExact)).str());
      large.setPrivate();
      large->setAttr(kStepFromAttr, b.getI64IntegerAttr(plan.changesAt));
      if (failed(rewrite(large, !plan.isExact))) {
        return failure();
      }
    }
    if (failed(rewrite(step, plan.isExact))) {
      return failure();
    }
    numLayers += costs->layers;
    module->setAttr(kRanksAttr, b.getI64IntegerAttr(ranks));
    module->setAttr(kDistributedAttr, b.getUnitAttr());
    say(step, *costs, plan);
    return success();
  }

  LogicalResult rewrite(func::FuncOp step, bool isExact) {
    FailureOr<SmallVector<RoutedExperts>> layers = findRoutedExperts(step);
    if (failed(layers)) {
      return failure();
    }
    for (RoutedExperts layer : *layers) {
      FailureOr<PlacementAttr> placement = getPlacement(layer.experts, ranks);
      if (failed(placement)) {
        return failure();
      }
      OpBuilder b(layer.combine);
      Value own = isExact ? exact(b, step, layer, *placement) : gather(b, step, layer, *placement);
      layer.combine.getResult().replaceAllUsesWith(own);
      layer.combine.erase();
      layer.experts.erase();
    }
    return success();
  }

  /// The choices of the rank's tokens, but of those that only fill up.
  Value ownChoices(OpBuilder &b, func::FuncOp step, RoutedExperts layer) {
    Value ids = layer.experts.getExperts();
    return MaskPaddingOp::create(b, layer.experts.getLoc(), ids.getType(), ids, step.getArgument(1));
  }

  Value gather(OpBuilder &b, func::FuncOp step, RoutedExperts layer, PlacementAttr placement) {
    auto all = [&](Value value) -> Value {
      ++numExchanges;
      return AllGatherOp::create(b, layer.experts.getLoc(), value.getType(), value, ranks);
    };
    Value ids = ownChoices(b, step, layer);
    Value x = all(layer.experts.getX()), gathered = all(ids), weights = all(layer.combine.getWeights());
    Value sums = buildPartialSums(b, layer, placement, x, gathered, weights);
    ++numExchanges;
    return ReduceScatterOp::create(b, layer.combine.getLoc(), layer.combine.getType(), sums, ranks);
  }

  Value exact(OpBuilder &b, func::FuncOp step, RoutedExperts layer, PlacementAttr placement) {
    Location loc = layer.experts.getLoc();
    Value ids = ownChoices(b, step, layer), x = layer.experts.getX();
    Value all = AllGatherOp::create(b, loc, ids.getType(), ids, ranks);
    auto dispatch = DispatchOp::create(b, loc, x.getType(), all.getType(), x, all, placement);
    Value y = buildOwnExperts(b, layer.experts, placement, dispatch.getRows(), dispatch.getSlots());
    Value own = CollectOp::create(b, loc, y.getType(), y, dispatch.getSlots());
    numExchanges += 3;
    return CombineOp::create(b, layer.combine.getLoc(), layer.combine.getType(), own, layer.combine.getWeights());
  }

  void say(func::FuncOp step, const ExchangeCosts &costs, ExchangePlan plan) {
    std::string chosen = llvm::formatv("'{0}'", nameOf(plan.isExact));
    if (plan.changesAt) {
      chosen += llvm::formatv(", from {0} tokens of a rank on '{1}'", plan.changesAt, nameOf(!plan.isExact));
    }
    auto cost = [&](const ExchangeCost &of) {
      return llvm::formatv("{0:f0} bytes and {1:f0} rows of results per token, {2:f1} us + {3:f3} us per token",
                           of.bytes, of.rows, of.seconds * 1e6, of.secondsPerToken * 1e6)
          .str();
    };
    emitRemark(step.getLoc()) << costs.layers << " layers of experts on " << ranks.getValue() << " ranks, exchange "
                              << chosen << "; gather: " << cost(costs.gather) << "; exact: " << cost(costs.exact);
  }
};

} // namespace
