//===- VerifyMoeLevel.cpp - The contract of the moe level -------------------===//
//
// What every pass on the moe level may rely on and must keep, beyond what the
// verifier of each op says alone: the rules `moe_level_c1` ... of docs/spec.md.
// The module is not changed. That weights and states exist with the type they are
// used with is checked by the ops themselves.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeOps.h"
#include "dialects/Moe/IR/MoeRanks.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "passes/Passes.h"
#include "llvm/ADT/TypeSwitch.h"
#include <set>

namespace mlir::moe {
#define GEN_PASS_DEF_VERIFYMOELEVEL
#include "passes/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// The largest constant that may stand in the IR.
constexpr uint64_t kMaxInlineBytes = uint64_t(1) << 20;

/// The operands of the step, in order.
constexpr llvm::StringLiteral kStepInputs[] = {"tokens", "seq", "pos", "runs", "rows"};

struct VerifyMoeLevelPass : moe::impl::VerifyMoeLevelBase<VerifyMoeLevelPass> {
  void runOnOperation() override;
};

} // namespace

/// moe_level_c1: the module has a public `step` of the fixed signature.
static LogicalResult checkStep(ModuleOp module) {
  auto step = module.lookupSymbol<func::FuncOp>("step");
  if (!step || step.isExternal()) {
    return module.emitError("the module has no function @step with a body; a model at the moe level is one step");
  }
  FunctionType type = step.getFunctionType();
  auto input = RankedTensorType::get({ShapedType::kDynamic}, IntegerType::get(module.getContext(), 32));
  if (type.getNumInputs() != std::size(kStepInputs)) {
    return step.emitError() << "@step has " << type.getNumInputs() << " arguments, but takes " << std::size(kStepInputs)
                            << ": tokens, seq, pos, runs, rows";
  }
  for (auto [name, actual] : llvm::zip_equal(kStepInputs, type.getInputs())) {
    if (actual != input) {
      return step.emitError() << "argument '" << name << "' of @step is " << actual << ", but must be " << input;
    }
  }
  auto logits = type.getNumResults() == 1 ? dyn_cast<RankedTensorType>(type.getResult(0)) : RankedTensorType();
  if (!logits || logits.getRank() != 2 || !logits.isDynamicDim(0) || logits.isDynamicDim(1) ||
      !logits.getElementType().isF32()) {
    return step.emitError() << "@step returns " << type.getResults()
                            << ", but must return the logits as tensor<?xVxf32>";
  }
  if (!step.isPublic()) {
    return step.emitError("@step is private, but is the entry point and must be public");
  }
  return success();
}

/// moe_level_c2: only moe ops, functions and constants stand at this level.
static LogicalResult checkDialect(Operation *op) {
  if (isa<ModuleOp, func::FuncOp, func::ReturnOp, arith::ConstantOp>(op) ||
      isa_and_nonnull<MoeDialect>(op->getDialect())) {
    return success();
  }
  return op->emitOpError("is not of the moe level, which has moe ops, func.func, func.return and arith.constant only");
}

/// moe_level_c3: every dimension but the leading one is static.
static LogicalResult checkShapes(Operation *op) {
  auto check = [&](Type type, StringRef what, unsigned index) -> LogicalResult {
    auto shaped = dyn_cast<ShapedType>(type);
    if (!shaped) {
      return success();
    }
    if (!shaped.hasRank()) {
      return op->emitOpError() << what << " #" << index << " is " << type << ", but every tensor has a rank here";
    }
    for (int64_t dim = 1; dim < shaped.getRank(); ++dim) {
      if (shaped.isDynamicDim(dim)) {
        return op->emitOpError() << what << " #" << index << " is " << type << ": dim " << dim
                                 << " is dynamic, but only dim 0 may be";
      }
    }
    return success();
  };
  for (Region &region : op->getRegions()) {
    if (region.empty()) {
      continue;
    }
    for (auto [index, type] : llvm::enumerate(region.getArgumentTypes())) {
      if (failed(check(type, "argument", index))) {
        return failure();
      }
    }
  }
  for (auto [index, type] : llvm::enumerate(op->getOperandTypes())) {
    if (failed(check(type, "operand", index))) {
      return failure();
    }
  }
  for (auto [index, type] : llvm::enumerate(op->getResultTypes())) {
    if (failed(check(type, "result", index))) {
      return failure();
    }
  }
  return success();
}

/// The bytes that `attr` itself holds in the IR.
static uint64_t inlineBytes(Attribute attr) {
  if (auto dense = dyn_cast<DenseElementsAttr>(attr)) {
    return dense.getRawData().size();
  }
  if (auto array = dyn_cast<DenseArrayAttr>(attr)) {
    return array.getRawData().size();
  }
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(attr)) {
    AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    return blob ? blob->getData().size() : 0;
  }
  if (auto string = dyn_cast<StringAttr>(attr)) {
    return string.size();
  }
  return 0;
}

/// moe_level_c4: constants in the IR are small.
static LogicalResult checkConstants(Operation *op) {
  uint64_t largest = 0;
  op->getAttrDictionary().walk([&](Attribute attr) { largest = std::max(largest, inlineBytes(attr)); });
  if (largest <= kMaxInlineBytes) {
    return success();
  }
  InFlightDiagnostic diag = op->emitOpError() << "holds a constant of " << largest << " bytes, but at most "
                                              << kMaxInlineBytes << " may stand in the IR";
  diag.attachNote() << "keep it in the checkpoint and declare it: moe.weight @name : <type>";
  return diag;
}

/// moe_level_c5: nothing names a target; it is chosen when the module is lowered.
static LogicalResult checkNoTarget(Operation *op) {
  for (NamedAttribute attr : op->getDiscardableAttrs()) {
    StringRef dialect = attr.getName().getValue().split('.').first;
    if (llvm::is_contained({"dlti", "llvm", "gpu", "nvvm", "rocdl", "target"}, dialect)) {
      return op->emitOpError() << "has the attribute '" << attr.getName().getValue()
                               << "', but the moe level holds no fact of a target";
    }
  }
  return success();
}

/// moe_level_c6: a state has one writer per function.
static LogicalResult checkStateWriters(func::FuncOp func) {
  llvm::DenseMap<StringAttr, Operation *> writers;
  WalkResult result = func.walk([&](AttentionOp op) {
    auto [it, inserted] = writers.try_emplace(op.getCacheAttr().getAttr(), op);
    if (inserted) {
      return WalkResult::advance();
    }
    InFlightDiagnostic diag = op.emitOpError() << "writes the state @" << op.getCache()
                                               << ", which another op of the same function writes";
    diag.attachNote(it->second->getLoc()) << "the other op is here; every layer needs a state of its own";
    return WalkResult::interrupt();
  });
  return failure(result.wasInterrupted());
}

/// moe_level_c7: a public function beside the step is an entry on the same tokens.
static LogicalResult checkEntry(func::FuncOp func) {
  auto input = RankedTensorType::get({ShapedType::kDynamic}, IntegerType::get(func.getContext(), 32));
  const size_t count = std::size(kStepInputs);
  if (!func.isPublic() || func.getSymName() == "step") {
    return success();
  }
  if (func.isExternal() || func.getNumArguments() < count ||
      !llvm::all_of(func.getArgumentTypes().take_front(count), [&](Type type) { return type == input; })) {
    return func.emitError() << "@" << func.getSymName() << " is public and has the arguments "
                            << func.getArgumentTypes() << ", but an entry has a body and begins with the " << count
                            << " of @step: tokens, seq, pos, runs, rows; else make it private";
  }
  auto isRows = [](Type type) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    return tensor && tensor.getRank() >= 1 && tensor.isDynamicDim(0);
  };
  for (TypeRange types : {TypeRange(func.getArgumentTypes().drop_front(count)), TypeRange(func.getResultTypes())}) {
    for (Type type : types) {
      if (!isRows(type)) {
        return func.emitError() << "@" << func.getSymName() << " has an argument or result of type " << type
                                << ", but those of an entry are tensors with a row per token or per logit row";
      }
    }
  }
  return success();
}

/// moe_level_c9: a private function with `moe.step_from` is the step of large steps.
static LogicalResult checkStepVariants(ModuleOp module) {
  FunctionType type = module.lookupSymbol<func::FuncOp>("step").getFunctionType();
  std::set<int64_t> starts;
  for (auto func : module.getOps<func::FuncOp>()) {
    Attribute attr = func->getAttr(kStepFromAttr);
    if (!attr) {
      continue;
    }
    auto from = dyn_cast<IntegerAttr>(attr);
    if (!from || from.getInt() < 2) {
      return func.emitError() << kStepFromAttr << " is " << attr << ", but must be a number of tokens from 2 on";
    }
    if (func.isPublic() || func.isExternal() || func.getFunctionType() != type) {
      return func.emitError() << "@" << func.getSymName() << " has " << kStepFromAttr
                              << ", but is not what it says: a private function with a body and the type of @step";
    }
    if (!starts.insert(from.getInt()).second) {
      return func.emitError() << "@" << func.getSymName() << " is the second step from T = " << from.getInt() << " on";
    }
  }
  return success();
}

/// moe_level_c8: all ops speak of the ranks of the module.
static LogicalResult checkRanks(ModuleOp module) {
  Attribute attr = module->getAttr(kRanksAttr);
  auto number = dyn_cast_or_null<IntegerAttr>(attr);
  if (attr && (!number || number.getInt() < 1 || number.getInt() > 65535)) {
    return module.emitError() << kRanksAttr << " is " << attr << ", but must be a number of ranks from 1 to 65535";
  }
  const int64_t ranks = getRanks(module);
  const bool distributed = module->hasAttr(kDistributedAttr);
  WalkResult result = module.walk([&](Operation *op) {
    if (isa<MaskPaddingOp, DispatchOp>(op) && !distributed) {
      op->emitOpError() << (isa<DispatchOp>(op) ? "sends tokens that other ranks lack"
                                                : "looks for tokens that fill up a step")
                        << ", which only a module with " << kDistributedAttr << " has";
      return WalkResult::interrupt();
    }
    const int64_t own =
        llvm::TypeSwitch<Operation *, int64_t>(op)
            .Case<AllReduceOp, AllGatherOp, ReduceScatterOp, ShardOp>([](auto o) { return o.getRanks(); })
            .Case<LocalizeOp, DispatchOp, PlaceOp>([](auto o) { return o.getPlacement().getRanks(); })
            .Default([&](Operation *) { return ranks; });
    if (own != ranks) {
      op->emitOpError() << "is for " << own << " ranks, but the module is for " << ranks << " (" << kRanksAttr << ")";
      return WalkResult::interrupt();
    }
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

LogicalResult moe::verifyMoeLevel(ModuleOp module) {
  WalkResult result = module->walk([](Operation *op) {
    bool bad =
        failed(checkDialect(op)) || failed(checkShapes(op)) || failed(checkConstants(op)) || failed(checkNoTarget(op));
    if (auto func = dyn_cast<func::FuncOp>(op); func && !bad) {
      bad = failed(checkStateWriters(func));
    }
    return bad ? WalkResult::interrupt() : WalkResult::advance();
  });
  if (result.wasInterrupted() || failed(checkStep(module)) || failed(checkRanks(module)) ||
      failed(checkStepVariants(module))) {
    return failure();
  }
  return success(
      llvm::all_of(module.getOps<func::FuncOp>(), [](func::FuncOp func) { return succeeded(checkEntry(func)); }));
}

void VerifyMoeLevelPass::runOnOperation() {
  if (failed(verifyMoeLevel(getOperation()))) {
    return signalPassFailure();
  }
  markAllAnalysesPreserved();
}
