//===- PlaceExperts.cpp - Attach a map of experts to the model --------------===//

#include "passes/Analysis/PlacementFile.h"
#include "passes/Analysis/ResidualStream.h"
#include "passes/Passes.h"
#include "passes/Transforms/RankRewrites.h"

namespace mlir::moe {
#define GEN_PASS_DEF_PLACEEXPERTS
#include "passes/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Gives the experts that a value is computed from, without another norm between, their layer.
static void collectExperts(Value value, int64_t layer, DenseMap<Operation *, int64_t> &layers) {
  Operation *op = value.getDefiningOp();
  if (isa_and_nonnull<ExpertsOp>(op)) {
    layers.try_emplace(op, layer);
  } else if (isa_and_nonnull<AddOp, CombineOp>(op)) {
    for (Value operand : op->getOperands()) {
      collectExperts(operand, layer, layers);
    }
  }
}

namespace {

struct PlaceExpertsPass : moe::impl::PlaceExpertsBase<PlaceExpertsPass> {
  using PlaceExpertsBase::PlaceExpertsBase;

  void runOnOperation() override {
    if (failed(place())) {
      signalPassFailure();
    }
  }

  LogicalResult place() {
    ModuleOp module = getOperation();
    std::optional<PlacementFile> file;
    if (!map.empty()) {
      llvm::Expected<PlacementFile> read = readPlacementFile(map);
      if (!read) {
        return emitError(UnknownLoc::get(&getContext())) << llvm::toString(read.takeError());
      }
      file = std::move(*read);
      if (ranks != 0 && file->ranks != ranks) {
        return emitError(UnknownLoc::get(&getContext()))
               << map << ": is for " << file->ranks << " ranks, but these are " << ranks.getValue();
      }
    } else if (ranks < 1) {
      return module.emitError("moe-place-experts needs a map, or ranks to place experts on in order");
    }
    func::FuncOp step = getStepForRanks(module, file ? file->ranks : ranks, "moe-place-experts");
    if (!step) {
      return failure();
    }
    ResidualStream stream(step);
    if (file && file->totalLayers != stream.getNumLayers()) {
      return emitError(UnknownLoc::get(&getContext())) << map << ": is for a model of " << file->totalLayers
                                                       << " layers, but this one has " << stream.getNumLayers();
    }
    DenseMap<Operation *, int64_t> layers;
    for (const LayerBlock &block : stream.getBlocks()) {
      if (block.network) {
        collectExperts(block.network->branch, block.firstLayer, layers);
      }
    }
    DenseSet<int64_t> used;
    for (auto op : step.getBody().getOps<ExpertsOp>()) {
      auto at = layers.find(op);
      if (at == layers.end()) {
        return op.emitOpError(
            "is of no layer: moe-place-experts expects its result to reach the residual stream through "
            "moe.combine and moe.add only");
      }
      if (failed(placeLayer(op, at->second, file))) {
        return failure();
      }
      used.insert(at->second);
    }
    for (const auto &layer : file ? file->layers : std::map<int64_t, LayerPlacement>()) {
      if (!used.contains(layer.first)) {
        return emitError(UnknownLoc::get(&getContext()))
               << map << ": places experts of layer " << layer.first << ", which has none";
      }
    }
    return success();
  }

  LogicalResult placeLayer(ExpertsOp op, int64_t layer, const std::optional<PlacementFile> &file) {
    const int64_t experts = op.getUp().getType().getDimSize(0);
    if (!file) {
      if (experts % ranks != 0) {
        return op.emitOpError("has E = ")
               << experts << " experts, which " << ranks.getValue() << " ranks do not divide: give a map (moec place)";
      }
      op.setPlacementAttr(PlacementAttr::getLinear(&getContext(), experts, ranks));
      ++numPlaced;
      return success();
    }
    auto at = file->layers.find(layer);
    if (at == file->layers.end()) {
      return op.emitOpError("is of layer ") << layer << ", which the map " << map << " leaves out";
    }
    if (file->experts != experts) {
      return op.emitOpError("has E = ") << experts << " experts, but the map " << map << " is for " << file->experts;
    }
    auto list = [&](const std::vector<int64_t> &numbers) {
      return numbers.empty() ? DenseI64ArrayAttr() : DenseI64ArrayAttr::get(&getContext(), numbers);
    };
    auto fault = [&] { return emitError(UnknownLoc::get(&getContext())) << map << ": layer " << layer << ": "; };
    auto placement =
        PlacementAttr::getChecked(fault, &getContext(), file->ranks, list(at->second.slots), list(at->second.shares));
    if (!placement) {
      return failure();
    }
    if (placement.getNumExperts() != experts) {
      return fault() << "has slots for " << placement.getNumExperts() << " experts, but there are " << experts;
    }
    op.setPlacementAttr(placement);
    ++numPlaced;
    numReplicas += placement.getNumSlots() - experts;
    return success();
  }
};

} // namespace
