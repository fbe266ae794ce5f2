//===- FuseFFN.cpp - Several FFNs become one ---------------------------------===//
//
// Analysis decides (FusionPlan, FusionLegality), workers rewrite
// (FusionRewrites); this goes through the plan and says what was done. After each
// rewrite the stream is read again: what was read before names ops that are gone.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeLayers.h"
#include "passes/Analysis/FusionLegality.h"
#include "passes/Passes.h"
#include "passes/Transforms/FusionRewrites.h"

namespace mlir::moe {
#define GEN_PASS_DEF_FUSEFFN
#include "passes/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Whether `window` has nothing left that `form` would join: a window of one, or one that was fused before.
static bool isDone(ArrayRef<LayerBlock> window, FusionForm form) {
  size_t attentions = attentionsOf(window).size(), networks = networksOf(window).size();
  switch (form) {
  case FusionForm::Removed:
    return attentions == 0 && networks <= 1;
  case FusionForm::Deferred:
    return networks <= 1;
  case FusionForm::Pair:
    return attentions <= 1 && networks <= 1;
  }
  return true;
}

static bool hasDownBias(ArrayRef<SubLayer> networks) {
  return llvm::any_of(networks, [](SubLayer layer) {
    return (layer.ffn && layer.ffn.getDownBias()) || (layer.experts && layer.experts.getDownBias());
  });
}

/// Runs of FFNs, dense ones or experts, that follow each other in the stream and read one value of it.
static SmallVector<SmallVector<SubLayer>> findParallelFFNs(const ResidualStream &stream) {
  SmallVector<SmallVector<SubLayer>> groups;
  for (const LayerBlock &block : stream.getBlocks()) {
    // An attention between two FFNs would read the first one's sum.
    const bool known =
        block.network && (block.network->kind == BranchKind::FFN || block.network->kind == BranchKind::Experts);
    if (known && !block.attention && !groups.empty() && !groups.back().empty() &&
        groups.back().back().input == block.network->input && groups.back().back().kind == block.network->kind) {
      groups.back().push_back(*block.network);
      continue;
    }
    groups.emplace_back();
    if (known) {
      groups.back().push_back(*block.network);
    }
  }
  llvm::erase_if(groups, [](const SmallVector<SubLayer> &group) { return group.size() < 2; });
  return groups;
}

namespace {

struct FuseFFNPass : moe::impl::FuseFFNBase<FuseFFNPass> {
  using FuseFFNBase::FuseFFNBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto step = module.lookupSymbol<func::FuncOp>("step");
    if (!step) {
      module.emitError("has no function @step, whose FFNs could be fused");
      return signalPassFailure();
    }
    if (padWidthTo < 1 || padWidthTo > kMaxWidthPad) {
      module.emitError() << "pad-width-to of moe-fuse-ffn is " << padWidthTo.getValue() << ", but must be from 1 to "
                         << kMaxWidthPad;
      return signalPassFailure();
    }
    UnusedSymbols symbols(module);
    if (plan.empty()) {
      fuseExact(step);
    } else if (failed(carryOut(step))) {
      return signalPassFailure();
    }
    symbols.eraseUnused();
  }

  void fuseExact(func::FuncOp step) {
    // A rewrite ends what was read of the stream; groups that cannot be fused are met again, before those not seen yet.
    for (size_t rejected = 0;;) {
      ResidualStream stream(step);
      SmallVector<SmallVector<SubLayer>> groups = findParallelFFNs(stream);
      if (rejected == groups.size()) {
        return;
      }
      ArrayRef<SubLayer> group = groups[rejected];
      if (std::optional<Obstacle> obstacle = findFFNObstacle(group)) {
        emitRemark(obstacle->loc) << group.size() << " FFNs on one input not fused: " << obstacle->reason;
        ++rejected;
        continue;
      }
      fuseParallelFFNs(group, padWidthTo);
      ++numExact;
      numSubLayers += group.size() - 1;
    }
  }

  LogicalResult carryOut(func::FuncOp step) {
    llvm::Expected<FusionPlan> read = readFusionPlan(plan);
    if (!read) {
      return emitError(UnknownLoc::get(&getContext())) << llvm::toString(read.takeError());
    }
    const int64_t found = ResidualStream(step).getNumLayers();
    if (found != read->layers) {
      return emitError(UnknownLoc::get(&getContext()))
             << plan << ": was made for a model of " << read->layers << " layers, but this one has " << found;
    }
    if (failed(checkMapNames(*read))) {
      return failure();
    }
    for (int64_t layer : read->removeAttention) {
      numSubLayers += removeAttentionOf(step, layer) == Removal::Done;
    }
    const int64_t pad = read->padWidthTo != 1 ? read->padWidthTo : padWidthTo;
    bool usesMaps = false;
    for (const FusionWindow &window : read->windows) {
      usesMaps |= fuse(step, window, pad) && window.maps.any();
    }
    if (usesMaps && !read->mapsFile.empty()) {
      addWeightFile(read->mapsFile);
    }
    return success();
  }

  /// A map may have no name of the model's own weights. (Those of a plan that was carried out before are of its file.)
  LogicalResult checkMapNames(const FusionPlan &read) {
    auto files = getOperation()->getAttrOfType<ArrayAttr>(kWeightFilesAttr);
    if (read.mapsFile.empty() || (files && llvm::is_contained(files, StringAttr::get(&getContext(), read.mapsFile)))) {
      return success();
    }
    for (auto [w, window] : llvm::enumerate(read.windows)) {
      SmallVector<StringRef> names{window.maps.output};
      names.append(window.maps.attention.begin(), window.maps.attention.end());
      names.append(window.maps.ffn.begin(), window.maps.ffn.end());
      for (StringRef name : names) {
        if (!name.empty() && getOperation().lookupSymbol(name)) {
          return emitError(UnknownLoc::get(&getContext()))
                 << plan << ": 'windows[" << w << "].maps' names '" << name
                 << "', which the model has as a weight of its own: give the map another name";
        }
      }
    }
    return success();
  }

  /// Records that weights of the module are in the file at `path`.
  void addWeightFile(StringRef path) {
    Builder b(&getContext());
    SmallVector<Attribute> files;
    if (auto known = getOperation()->getAttrOfType<ArrayAttr>(kWeightFilesAttr)) {
      files.append(known.begin(), known.end());
    }
    if (!llvm::is_contained(files, b.getStringAttr(path))) {
      files.push_back(b.getStringAttr(path));
    }
    getOperation()->setAttr(kWeightFilesAttr, b.getArrayAttr(files));
  }

  /// Whether the window was fused.
  bool fuse(func::FuncOp step, const FusionWindow &planned, int64_t pad) {
    ResidualStream stream(step);
    std::string problem, name = spellLayers(planned.first, planned.last());
    std::optional<ArrayRef<LayerBlock>> window = stream.find(planned.first, planned.last(), problem);
    if (!window) {
      step.emitRemark() << name << " not fused: " << problem;
      ++numRejected;
      return false;
    }
    if (isDone(*window, planned.form)) {
      return false;
    }
    if (std::optional<Obstacle> obstacle = findObstacle(*window, planned.form)) {
      emitRemark(obstacle->loc) << name << " not fused: " << obstacle->reason;
      ++numRejected;
      return false;
    }
    if (!planned.maps.output.empty() && hasDownBias(networksOf(*window))) {
      step.emitRemark() << name << " not fused: the map of the FFNs' sum does not reach their down biases";
      ++numRejected;
      return false;
    }
    const size_t before = stream.getSubLayers().size();
    Location loc = window->back().back().getLoc();
    fuseWindow(*window, planned, pad);
    const size_t fewer = before - ResidualStream(step).getSubLayers().size();
    emitRemark(loc) << name << " fused in form " << spell(planned.form) << ", " << fewer
                    << " sub-layers fewer: the result approximates the model";
    ++numWindows;
    numSubLayers += fewer;
    return true;
  }
};

} // namespace
