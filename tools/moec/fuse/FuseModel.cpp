//===- FuseModel.cpp - What moec fuse asks of a module -----------------------===//

#include "tools/moec/fuse/FuseModel.h"
#include "passes/Analysis/FusionLegality.h"
#include "passes/Json/JsonFile.h"

using namespace moec;
using namespace mlir;
using namespace mlir::moe;

static func::FuncOp findStep(ModuleOp module) { return module.lookupSymbol<func::FuncOp>("step"); }

/// Whether `value` is a weight: of the checkpoint, or computed from such alone.
static bool isWeight(Value value, llvm::DenseMap<Value, bool> &known) {
  auto [entry, isNew] = known.try_emplace(value, false);
  if (!isNew) {
    return entry->second;
  }
  Operation *op = value.getDefiningOp();
  const bool result =
      op && (isa<GetWeightOp>(op) || (op->getNumOperands() != 0 && llvm::all_of(op->getOperands(), [&](Value operand) {
                                        return isWeight(operand, known);
                                      })));
  known[value] = result;
  return result;
}

static int64_t bytesOf(RankedTensorType type) {
  return type.getNumElements() * static_cast<int64_t>(type.getElementTypeBitWidth()) / 8;
}

ModelShape moec::measureShape(ModuleOp module) {
  ModelShape shape;
  func::FuncOp step = findStep(module);
  ResidualStream stream(step);
  shape.subLayers = static_cast<int64_t>(stream.getSubLayers().size());
  llvm::DenseMap<Value, bool> known;
  // A weight that two ops read, like tied embeddings, is there once.
  llvm::DenseSet<Attribute> symbols;
  llvm::DenseSet<Value> computed;
  step.walk([&](Operation *op) {
    if (llvm::any_of(op->getResults(), [&](Value result) { return isWeight(result, known); })) {
      return;
    }
    for (Value operand : op->getOperands()) {
      auto type = dyn_cast<RankedTensorType>(operand.getType());
      if (!type || !isWeight(operand, known)) {
        continue;
      }
      auto get = operand.getDefiningOp<GetWeightOp>();
      if (get ? symbols.insert(get.getWeightAttr()).second : computed.insert(operand).second) {
        shape.weightBytes += bytesOf(type);
      }
    }
    if (auto attention = dyn_cast<AttentionOp>(op)) {
      auto state = module.lookupSymbol<StateOp>(attention.getCacheAttr());
      if (auto cache = state ? dyn_cast<KVCacheType>(state.getType()) : KVCacheType()) {
        shape.kvBytesPerToken += cache.getHeads() * (cache.getKeyDim() + cache.getValueDim()) *
                                 static_cast<int64_t>(cache.getElement().getIntOrFloatBitWidth()) / 8;
      }
    }
  });
  return shape;
}

llvm::Expected<ModelLayers> moec::describeLayers(ModuleOp module) {
  func::FuncOp step = findStep(module);
  ResidualStream stream(step);
  ModelLayers result;
  result.layers = stream.getNumLayers();
  result.widths.assign(static_cast<size_t>(result.layers), 0);
  for (const LayerBlock &block : stream.getBlocks()) {
    if (block.firstLayer != block.lastLayer) {
      return makeError("layers " + llvm::Twine(block.firstLayer) + " to " + llvm::Twine(block.lastLayer) +
                       " are one block already; fuse the model that has not been fused yet");
    }
    for (const std::optional<SubLayer> &layer : {block.attention, block.network}) {
      if (!layer) {
        continue;
      }
      result.hidden = cast<RankedTensorType>(layer->base.getType()).getDimSize(1);
      for (LinearOp linear : {layer->q, layer->k, layer->v, layer->o}) {
        result.hasBiases |= linear && linear.getBias();
      }
      result.hasExperts |= layer->kind == BranchKind::Experts;
      if (layer->kind == BranchKind::FFN) {
        auto up = cast<RankedTensorType>(FFNOp(layer->ffn).getUp().getType());
        result.widths[static_cast<size_t>(block.firstLayer)] = up.getDimSize(0);
        result.elementBytes = static_cast<int64_t>(up.getElementTypeBitWidth()) / 8;
        result.hasBiases |= FFNOp(layer->ffn).getUpBias() || FFNOp(layer->ffn).getDownBias();
      }
    }
  }
  return result;
}

std::string moec::findObstacleOf(ModuleOp module, int64_t first, int64_t length, FusionForm form) {
  ResidualStream stream(findStep(module));
  std::string problem;
  std::optional<ArrayRef<LayerBlock>> window = stream.find(first, first + length - 1, problem);
  if (!window) {
    return problem;
  }
  std::optional<Obstacle> obstacle = findObstacle(*window, form);
  return obstacle ? obstacle->reason : "";
}
