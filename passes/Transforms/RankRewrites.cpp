//===- RankRewrites.cpp - What the passes for several ranks share -----------===//

#include "passes/Transforms/RankRewrites.h"

using namespace mlir;
using namespace mlir::moe;

func::FuncOp moe::getStepForRanks(ModuleOp module, int64_t ranks, StringRef pass) {
  auto step = module.lookupSymbol<func::FuncOp>("step");
  if (!step) {
    module.emitError() << "has no function @step, which " << pass << " could divide among ranks";
    return {};
  }
  if (ranks < 1 || ranks > 65535) {
    module.emitError() << "ranks of " << pass << " is " << ranks << ", but must be from 1 to 65535";
    return {};
  }
  if (module->hasAttr(kRanksAttr)) {
    module.emitError() << "is divided among " << getRanks(module) << " ranks already; " << pass
                       << " takes a module of one rank";
    return {};
  }
  for (auto function : module.getOps<func::FuncOp>()) {
    if (function != step && function.isPublic()) {
      function.emitError() << "entry @" << function.getSymName() << " beside @step cannot be divided among ranks: "
                           << "instrument a module of one rank";
      return {};
    }
  }
  return step;
}

FailureOr<SmallVector<RoutedExperts>> moe::findRoutedExperts(func::FuncOp step) {
  SmallVector<RoutedExperts> layers;
  for (auto experts : step.getBody().getOps<ExpertsOp>()) {
    auto combine =
        experts.getResult().hasOneUse() ? dyn_cast<CombineOp>(*experts.getResult().user_begin()) : CombineOp();
    if (!combine) {
      return experts.emitOpError(
          "cannot be divided among ranks: its result must go to one moe.combine and nowhere else");
    }
    layers.push_back({experts, combine});
  }
  return layers;
}

FailureOr<PlacementAttr> moe::getPlacement(ExpertsOp op, int64_t ranks) {
  const int64_t experts = op.getUp().getType().getDimSize(0);
  if (PlacementAttr placement = op.getPlacementAttr()) {
    if (placement.getRanks() != ranks) {
      return op.emitOpError("has a placement on ") << placement.getRanks() << " ranks, but the module is to be for "
                                                   << ranks << ": give the map of " << ranks << " ranks";
    }
    return placement;
  }
  if (experts % ranks != 0) {
    return op.emitOpError("has E = ") << experts << " experts, which " << ranks
                                      << " ranks do not divide: give a map with a multiple of " << ranks
                                      << " slots (moec place --slots, moe-place-experts)";
  }
  return PlacementAttr::getLinear(op.getContext(), experts, ranks);
}

Value moe::buildOwnExperts(OpBuilder &b, ExpertsOp whole, PlacementAttr placement, Value x, Value slots) {
  Location loc = whole.getLoc();
  auto own = [&](Value weight) -> Value { return weight ? PlaceOp::create(b, loc, weight, placement) : Value(); };
  return ExpertsOp::create(b, loc, whole.getResult().getType(), x, slots, own(whole.getGate()), own(whole.getUp()),
                           own(whole.getDown()), own(whole.getGateBias()), own(whole.getUpBias()),
                           own(whole.getDownBias()), whole.getActivationAttr(), whole.getAlphaAttr(),
                           whole.getLimitAttr(), /*placement=*/PlacementAttr());
}

Value moe::buildPartialSums(OpBuilder &b, RoutedExperts layer, PlacementAttr placement, Value x, Value ids,
                            Value weights) {
  Value slots = LocalizeOp::create(b, layer.experts.getLoc(), ids.getType(), ids, placement);
  Value y = buildOwnExperts(b, layer.experts, placement, x, slots);
  CombineOp combine = layer.combine;
  return CombineOp::create(b, combine.getLoc(), combine.getType(), y, weights);
}
