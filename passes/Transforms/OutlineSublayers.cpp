//===- OutlineSublayers.cpp - Every residual sub-layer as an entry -----------===//
//
// Keeps @step as it is and adds entries (docs/spec.md, moe_level_c7) that compute
// its pieces: the embedding, the norm and the branch of every residual sub-layer,
// the head. Whoever runs them composes the model himself, and so can leave a branch
// out, feed it another value of the stream, or look between two layers: what
// calibration does. Every piece holds the ops of @step and nothing else, so that
// composed as the model is they compute what @step computes.
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/IRMapping.h"
#include "passes/Analysis/ResidualStream.h"
#include "passes/Passes.h"
#include "llvm/Support/FormatVariadic.h"

namespace mlir::moe {
#define GEN_PASS_DEF_OUTLINESUBLAYERS
#include "passes/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

struct OutlineSublayersPass : moe::impl::OutlineSublayersBase<OutlineSublayersPass> {
  void runOnOperation() override;
};

} // namespace

/// The ops that `result` needs when `given` and the function's arguments are there.
static llvm::DenseSet<Operation *> findNeeded(Value result, Value given) {
  llvm::DenseSet<Operation *> needed;
  SmallVector<Value> wanted{result};
  while (!wanted.empty()) {
    Value value = wanted.pop_back_val();
    Operation *op = value.getDefiningOp();
    if (op && value != given && needed.insert(op).second) {
      llvm::append_range(wanted, op->getOperands());
    }
  }
  return needed;
}

/// Adds the entry `name`, which computes `result` from `given` (null: from tokens) and the arguments of the step.
static LogicalResult outline(OpBuilder &builder, func::FuncOp step, StringRef name, Value given, Value result) {
  if (Operation *other = SymbolTable::lookupSymbolIn(step->getParentOp(), name)) {
    return other->emitError() << "@" << name << " is the name of an entry to be added; rename this symbol";
  }
  llvm::DenseSet<Operation *> needed = findNeeded(result, given);
  SmallVector<Type> arguments(step.getArgumentTypes());
  if (given) {
    arguments.push_back(given.getType());
  }
  Location loc = result.getLoc();
  auto entry = func::FuncOp::create(builder, loc, name, builder.getFunctionType(arguments, result.getType()));
  Block *body = entry.addEntryBlock();
  IRMapping mapping;
  mapping.map(step.getArguments(), body->getArguments().take_front(step.getNumArguments()));
  if (given) {
    mapping.map(given, body->getArguments().back());
  }
  OpBuilder inner = OpBuilder::atBlockEnd(body);
  for (Operation &op : step.getBody().front()) { // in the order of the step
    if (needed.contains(&op)) {
      inner.clone(op, mapping);
    }
  }
  func::ReturnOp::create(inner, loc, mapping.lookup(result));
  return success();
}

/// The norm through which alone the branch of `layer` reads the stream; null, with an error, if there is none.
static RMSNormOp findNorm(const SubLayer &layer, StringRef name) {
  llvm::DenseSet<Operation *> branch = findNeeded(layer.branch, layer.base);
  SmallVector<Operation *> readers;
  for (Operation *user : layer.base.getUsers()) {
    if (branch.contains(user)) {
      readers.push_back(user);
    }
  }
  auto norm = readers.size() == 1 ? dyn_cast<RMSNormOp>(readers.front()) : RMSNormOp();
  if (!norm || llvm::any_of(branch, llvm::IsaPred<EmbeddingOp>)) {
    emitError(layer.getLoc()) << "sub-layer " << name << " reads the residual stream through "
                              << (norm ? "more than its norm"
                                       : std::to_string(readers.size()) + " ops that are not one norm")
                              << ", but only a pre-norm sub-layer can be an entry";
    return {};
  }
  return norm;
}

void OutlineSublayersPass::runOnOperation() {
  auto step = getOperation().lookupSymbol<func::FuncOp>("step");
  if (!step) {
    getOperation().emitError("has no function @step, whose sub-layers could become entries");
    return signalPassFailure();
  }
  ResidualStream stream(step);
  if (stream.getBlocks().empty()) {
    step.emitError("has no residual sub-layer: nothing adds to the stream that the embedding begins");
    return signalPassFailure();
  }
  OpBuilder builder = OpBuilder::atBlockEnd(getOperation().getBody());
  Value last;
  for (const LayerBlock &block : stream.getBlocks()) {
    for (auto [kind, subLayer] : {std::pair("attention", &block.attention), {"ffn", &block.network}}) {
      if (!*subLayer) {
        continue;
      }
      const std::string name = llvm::formatv("{0}.{1}", kind, block.firstLayer).str();
      RMSNormOp norm = findNorm(**subLayer, name);
      if (!norm || (!last && failed(outline(builder, step, "embed", {}, (*subLayer)->base))) ||
          failed(outline(builder, step, name + ".norm", (*subLayer)->base, norm.getResult())) ||
          failed(outline(builder, step, name, norm.getResult(), (*subLayer)->branch))) {
        return signalPassFailure();
      }
      last = (*subLayer)->getResult();
      ++numOutlined;
    }
  }
  auto result = cast<func::ReturnOp>(step.getBody().front().getTerminator());
  if (failed(outline(builder, step, "head", last, result.getOperand(0)))) {
    signalPassFailure();
  }
}
