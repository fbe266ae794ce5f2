//===- ParallelizeBlocks.cpp - Whole blocks on one input ---------------------===//

#include "passes/Analysis/FusionLegality.h"
#include "passes/Passes.h"
#include "passes/Transforms/FusionRewrites.h"

namespace mlir::moe {
#define GEN_PASS_DEF_PARALLELIZEBLOCKS
#include "passes/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Whether a block behind the first reads what the first one reads.
static bool isParallel(ArrayRef<LayerBlock> window) {
  Value input = window.front().front().base;
  return llvm::any_of(window.drop_front(), [&](const LayerBlock &block) { return block.front().input == input; });
}

namespace {

struct ParallelizeBlocksPass : moe::impl::ParallelizeBlocksBase<ParallelizeBlocksPass> {
  using ParallelizeBlocksBase::ParallelizeBlocksBase;

  void runOnOperation() override {
    auto step = getOperation().lookupSymbol<func::FuncOp>("step");
    if (!step) {
      getOperation().emitError("has no function @step, whose blocks could run in parallel");
      return signalPassFailure();
    }
    for (const std::string &text : windows) {
      auto [firstText, lengthText] = StringRef(text).split(':');
      int64_t first = 0, length = 0;
      if (firstText.getAsInteger(10, first) || lengthText.getAsInteger(10, length) || first < 0 || length < 1 ||
          first > kMaxFusionLayers || length > kMaxFusionLayers) {
        getOperation().emitError() << "window '" << text
                                   << "' of moe-parallelize-blocks must be the first layer and the number of layers, "
                                      "such as 38:4, both at most "
                                   << kMaxFusionLayers;
        return signalPassFailure();
      }
      parallelize(step, first, first + length - 1);
    }
  }

  void parallelize(func::FuncOp step, int64_t first, int64_t last) {
    ResidualStream stream(step);
    std::string problem, name = spellLayers(first, last);
    std::optional<ArrayRef<LayerBlock>> window = stream.find(first, last, problem);
    if (!window) {
      step.emitRemark() << name << " not parallelized: " << problem;
      ++numRejected;
      return;
    }
    if (window->size() == 1 || isParallel(*window)) {
      return;
    }
    Location loc = window->back().back().getLoc();
    if (std::optional<Obstacle> obstacle = findRewiringObstacle(*window)) {
      emitRemark(obstacle->loc) << name << " not parallelized: " << obstacle->reason;
      ++numRejected;
      return;
    }
    parallelizeWindow(*window);
    ++numWindows;
    emitRemark(loc) << name << " read one input: the result approximates the model";
  }
};

} // namespace
