//===- FoldNormScales.cpp - Norms of one value share one scale ---------------===//

#include "passes/Analysis/FusionLegality.h"
#include "passes/Passes.h"
#include "passes/Transforms/FusionRewrites.h"

namespace mlir::moe {
#define GEN_PASS_DEF_FOLDNORMSCALES
#include "passes/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Whether the two norms have one quotient: all but the weight alike.
static bool hasSameQuotient(RMSNormOp a, RMSNormOp b) {
  return a.getEpsAttr() == b.getEpsAttr() && a.getGroups() == b.getGroups() && a.getRounding() == b.getRounding() &&
         a.getType() == b.getType();
}

/// Sets the weights with which `op` reads a norm.
static void setWeights(Operation *op, llvm::function_ref<Value(Value)> fold) {
  if (auto linear = dyn_cast<LinearOp>(op)) {
    linear.getWeightMutable().assign(fold(linear.getWeight()));
    return;
  }
  auto setNetwork = [&](auto network) {
    network.getUpMutable().assign(fold(network.getUp()));
    if (network.getGate()) {
      network.getGateMutable().assign(fold(network.getGate()));
    }
  };
  if (auto experts = dyn_cast<ExpertsOp>(op)) {
    setNetwork(experts);
  } else {
    setNetwork(cast<FFNOp>(op));
  }
}

/// Replaces `norms`, of one value and in the order of the block, by one.
static void foldInto(ArrayRef<RMSNormOp> norms) {
  // The scale that is kept must exist before the first reader.
  RMSNormOp first = norms.front(), last = norms.back();
  OpBuilder b(first);
  if (auto get = last.getWeight().getDefiningOp<GetWeightOp>()) {
    last.getWeightMutable().assign(b.clone(*get)->getResult(0));
    if (get->use_empty()) {
      get.erase();
    }
  }
  SharedNorm shared = buildSharedNorm(b, norms, first.getX());
  for (RMSNormOp norm : norms) {
    SmallVector<Operation *> readers(norm->getUsers());
    for (Operation *reader : readers) {
      b.setInsertionPoint(reader);
      setWeights(reader, [&](Value weight) { return foldScale(b, weight, norm, shared); });
    }
    norm.getResult().replaceAllUsesWith(shared.result);
    norm.erase();
  }
}

namespace {

struct FoldNormScalesPass : moe::impl::FoldNormScalesBase<FoldNormScalesPass> {
  void runOnOperation() override {
    getOperation().walk([&](func::FuncOp function) {
      llvm::MapVector<std::pair<Value, Block *>, SmallVector<RMSNormOp>> byInput;
      function.walk([&](RMSNormOp norm) { byInput[{norm.getX(), norm->getBlock()}].push_back(norm); });
      for (auto &[input, norms] : byInput) {
        foldGroup(norms);
      }
    });
  }

  void foldGroup(ArrayRef<RMSNormOp> norms) {
    SmallVector<RMSNormOp> group;
    for (RMSNormOp norm : norms.size() > 1 ? norms : ArrayRef<RMSNormOp>()) {
      SmallVector<Operation *> readers;
      if (!group.empty() && !hasSameQuotient(group.front(), norm)) {
        norm.emitRemark("scale not folded: the norm differs from another one of the same value in more than the scale");
        continue;
      }
      if (std::optional<Obstacle> obstacle = findFoldObstacle(norm, readers)) {
        norm.emitRemark() << "scale not folded: " << obstacle->reason;
        continue;
      }
      group.push_back(norm);
    }
    // A computed scale of a later norm may not exist where the first one stands.
    if (group.size() > 1) {
      Operation *source = group.back().getWeight().getDefiningOp();
      if (source && !isa<GetWeightOp>(source) && source->getBlock() == group.front()->getBlock() &&
          group.front()->isBeforeInBlock(source)) {
        group.back().emitRemark("scale not folded: it is computed after the first norm of the same value");
        return;
      }
      numFolded += group.size() - 1;
      foldInto(group);
    }
  }
};

} // namespace
