//===- CheckStep.cpp - What kernels take on trust ---------------------------===//
//
// A kernel indexes memory with what its operands hold and does not look twice.
// The moe level leaves three things open that kernels rely on:
//
//   roles  the runtime checks the step's inputs by name (an id in `tokens` is
//          below V, a row in `rows` below T), so an op must take the input of
//          the role that its kernel trusts
//   rows   a launch has one row per token or one per wanted logit; `?` says
//          neither, so the two kinds are followed from gather_rows on
//   sizes  bytes of a row are 64-bit products that must not wrap
//
// Each is an error at its op. What the ops or the moe level check is not checked
// again.
//
//===----------------------------------------------------------------------===//

#include "lowering/MoeToSched/StepLowering.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

/// Bytes of one row of a tensor: far beyond any model, and times the largest T far below 2^63.
static constexpr int64_t kMaxRowBytes = int64_t(1) << 31;

/// The operands that have a row per token or per logit: all but weights and indices.
static SmallVector<Value> activationsOf(Operation *op) {
  return llvm::TypeSwitch<Operation *, SmallVector<Value>>(op)
      .Case([](AddOp o) { return SmallVector<Value>{o.getLhs(), o.getRhs()}; })
      .Case([](AttentionOp o) { return SmallVector<Value>{o.getQ(), o.getK(), o.getV()}; })
      .Case([](RouteOp o) { return SmallVector<Value>{o.getLogits()}; })
      .Case([](ExpertsOp o) { return SmallVector<Value>{o.getX(), o.getExperts()}; })
      .Case([](CombineOp o) { return SmallVector<Value>{o.getY(), o.getWeights()}; })
      .Case<MaskPaddingOp, LocalizeOp>([](auto o) { return SmallVector<Value>{o.getExperts()}; })
      .Case<AllReduceOp, AllGatherOp, ReduceScatterOp, DispatchOp>([](auto o) { return SmallVector<Value>{o.getX()}; })
      .Case([](CollectOp o) { return SmallVector<Value>{o.getY(), o.getSlots()}; })
      .Case<GatherRowsOp, RMSNormOp, LinearOp, FFNOp, RopeOp>([](auto o) { return SmallVector<Value>{o.getX()}; })
      .Default([](Operation *) { return SmallVector<Value>(); });
}

/// The operands that must be inputs of the step, with the input's number.
static SmallVector<std::pair<Value, unsigned>> inputsOf(Operation *op) {
  using Roles = SmallVector<std::pair<Value, unsigned>>;
  return llvm::TypeSwitch<Operation *, Roles>(op)
      .Case([](EmbeddingOp o) { return Roles{{o.getTokens(), 0}}; })
      .Case([](RopeOp o) { return Roles{{o.getPos(), 2}}; })
      .Case([](AttentionOp o) { return Roles{{o.getSeq(), 1}, {o.getPos(), 2}, {o.getRuns(), 3}}; })
      .Case([](GatherRowsOp o) { return Roles{{o.getRows(), 4}}; })
      .Case([](MaskPaddingOp o) { return Roles{{o.getSeq(), 1}}; })
      .Default([](Operation *) { return Roles(); });
}

static LogicalResult checkRoles(Operation *op) {
  static constexpr llvm::StringLiteral names[] = {"tokens", "seq", "pos", "runs", "rows"};
  auto step = op->getParentOfType<func::FuncOp>();
  for (auto [value, number] : inputsOf(op)) {
    if (value != step.getArgument(number)) {
      return op->emitOpError() << "must take the input '" << names[number] << "' of @step (argument #" << number
                               << "): the runtime checks its values, and no others";
    }
  }
  return success();
}

/// Rows of logits start at gather_rows and stay rows of logits; those of all ranks last from all_gather or dispatch to
/// reduce_scatter or collect.
LogicalResult StepLowering::checkRows(Operation *op) {
  auto nameOf = [](Rows rows) {
    return rows == Rows::Tokens   ? "a row per token"
           : rows == Rows::Logits ? "a row per wanted logit"
                                  : "a row per token of all ranks";
  };
  std::optional<Rows> rows;
  for (Value value : activationsOf(op)) {
    if (!cast<RankedTensorType>(value.getType()).isDynamicDim(0)) {
      return op->emitOpError() << "takes " << value.getType()
                               << " as an activation, but those of @step have '?' rows; a weight is none";
    }
    if (rows && *rows != rowsOf(value)) {
      return op->emitOpError() << "takes " << nameOf(*rows) << " beside " << nameOf(rowsOf(value))
                               << ": gather the rows of both, or of neither";
    }
    rows = rowsOf(value);
  }
  if (auto collect = dyn_cast<CollectOp>(op)) {
    auto dispatch = collect.getSlots().getDefiningOp<DispatchOp>();
    auto experts = collect.getY().getDefiningOp<ExpertsOp>();
    if (!dispatch || !experts || experts.getExperts() != collect.getSlots()) {
      return op->emitOpError("must take the slots of a moe.dispatch, which says where rows came from, and what "
                             "moe.experts made of these slots");
    }
  }
  if (isa<AllReduceOp, AllGatherOp, ReduceScatterOp, DispatchOp, CollectOp>(op)) {
    const Rows expected = isa<ReduceScatterOp, CollectOp>(op) ? Rows::AllRanks : Rows::Tokens;
    if (rows != expected) {
      return op->emitOpError("takes ") << nameOf(*rows) << ", but exchanges " << nameOf(expected)
                                       << (rows == Rows::Logits ? ": ranks may want different numbers of logits" : "");
    }
    if (isa<AllGatherOp, DispatchOp>(op)) {
      gatheredRows.insert(op->result_begin(), op->result_end());
    }
    if (auto dispatch = dyn_cast<DispatchOp>(op); dispatch && rowsOf(dispatch.getExperts()) != Rows::AllRanks) {
      return op->emitOpError("takes the experts of ")
             << nameOf(rowsOf(dispatch.getExperts())) << ", but needs those of " << nameOf(Rows::AllRanks)
             << ": gather them";
    }
  } else if (rows == Rows::AllRanks) {
    if (!isa<ExpertsOp, CombineOp, LocalizeOp>(op)) {
      return op->emitOpError("takes a row per token of all ranks, which in kernels only moe.localize, moe.experts, "
                             "moe.combine, moe.reduce_scatter and moe.collect do");
    }
    gatheredRows.insert(op->result_begin(), op->result_end());
  } else if (auto gather = dyn_cast<GatherRowsOp>(op)) {
    if (rows == Rows::Logits) {
      return op->emitOpError("takes a row per wanted logit, but 'rows' of @step numbers tokens: gather once");
    }
    logitRows.insert(gather.getResult());
  } else if (rows == Rows::Logits) {
    if (isa<RopeOp, AttentionOp>(op)) {
      return op->emitOpError("takes a row per wanted logit beside a position per token: gather rows after it");
    }
    logitRows.insert(op->result_begin(), op->result_end());
  }
  return success();
}

/// Fails if a row of `dims` elements, which `op` has as `what`, is too large.
static LogicalResult checkRow(Operation *op, const Twine &what, ArrayRef<int64_t> dims, Type element) {
  int64_t bytes = byteWidth(element);
  for (int64_t dim : dims) {
    if (llvm::MulOverflow(bytes, dim, bytes) || bytes > kMaxRowBytes) {
      return op->emitOpError() << "has " << what << " whose row takes more than " << kMaxRowBytes
                               << " bytes, the most that kernels address";
    }
  }
  return success();
}

/// The same for a tensor that has a row per token or logit.
static LogicalResult checkRow(Operation *op, const Twine &what, Value value) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type || type.getRank() == 0 || !type.isDynamicDim(0)) {
    return success(); // a weight or a constant
  }
  return checkRow(op, what, type.getShape().drop_front(), type.getElementType());
}

static LogicalResult checkSizes(Operation *op) {
  for (Value value : op->getResults()) {
    if (failed(checkRow(op, "a result", value))) {
      return failure();
    }
  }
  // The hidden activation stands in no type of these ops.
  if (auto ffn = dyn_cast<FFNOp>(op)) {
    return checkRow(op, "a hidden activation", {ffn.getUp().getType().getDimSize(0)},
                    ffn.getX().getType().getElementType());
  }
  if (auto experts = dyn_cast<ExpertsOp>(op)) {
    return checkRow(op, "a hidden activation",
                    {experts.getExperts().getType().getDimSize(1), experts.getUp().getType().getDimSize(1)},
                    experts.getX().getType().getElementType());
  }
  return success();
}

/// Kernels compute in f32 and bf16 on any of the storage types but f64.
static LogicalResult checkTypes(Operation *op) {
  for (Value value : llvm::concat<Value>(SmallVector<Value>(op->getOperands()), SmallVector<Value>(op->getResults()))) {
    if (!getElementTypeOrSelf(value.getType()).isF64()) {
      continue;
    }
    if (isa<GetWeightOp>(op)) {
      return op->emitOpError("is a weight of type ")
             << value.getType()
             << ", but kernels read f32, bf16 and f16; store the checkpoint in one of them, or use the linalg path "
             << "(--emit linalg), which takes f64";
    }
    return op->emitOpError("has a value of type ")
           << value.getType() << ", but kernels compute in f32 or bf16; use --dtype f32 or bf16, or the linalg path "
           << "(--emit linalg), which takes f64";
  }
  return success();
}

/// An id is below the number of experts of the route that chose it, or of the slots of a rank; a caller's may be
/// anything. `experts`: the number of experts of `op`.
static LogicalResult checkExperts(Operation *op, Value ids, int64_t experts) {
  if (auto localize = ids.getDefiningOp<LocalizeOp>()) {
    const int64_t slots = localize.getPlacement().getSlotsPerRank();
    if (slots == experts && isa<ExpertsOp>(op)) {
      return success();
    }
    InFlightDiagnostic diag = op->emitOpError() << "has weights of " << experts << " experts, but its ids are " << slots
                                                << " slots of a rank";
    diag.attachNote(localize.getLoc()) << "which this gives";
    return diag;
  }
  if (auto dispatch = ids.getDefiningOp<DispatchOp>()) {
    // Nobody fills the rows of y that have no slot, so that nobody else may read them.
    const bool isCollected = llvm::all_of(
        op->getUsers(), [&](Operation *user) { return isa<CollectOp>(user) && user->getOperand(1) == ids; });
    if (dispatch.getPlacement().getSlotsPerRank() == experts && isa<ExpertsOp>(op) && isCollected) {
      return success();
    }
    InFlightDiagnostic diag = op->emitOpError()
                              << "with the slots of a moe.dispatch must have the weights of "
                              << dispatch.getPlacement().getSlotsPerRank() << " slots (has " << experts
                              << "), and its result must go to moe.collect of these slots and nowhere else";
    diag.attachNote(dispatch.getLoc()) << "the dispatch is here";
    return diag;
  }
  while (isa_and_nonnull<MaskPaddingOp, AllGatherOp>(ids.getDefiningOp())) {
    ids = ids.getDefiningOp()->getOperand(0);
  }
  if (isa<BlockArgument>(ids)) {
    return op->emitOpError("takes expert ids from the caller, which nothing checks: take them from a moe.route");
  }
  auto route = ids.getDefiningOp<RouteOp>();
  if (!route || route.getLogits().getType().getDimSize(1) == experts) {
    return success();
  }
  InFlightDiagnostic diag = op->emitOpError()
                            << "has weights of E = " << experts << " experts, but its ids are chosen of "
                            << route.getLogits().getType().getDimSize(1);
  diag.attachNote(route.getLoc()) << "the route is here";
  return diag;
}

LogicalResult StepLowering::check() {
  logitRows.insert(step.getArgument(4));
  for (BlockArgument argument : step.getArguments()) {
    if (failed(checkRow(step, "an argument", argument))) {
      return failure();
    }
  }
  for (Operation &op : step.getBody().front()) {
    if (isa<func::ReturnOp>(op)) {
      continue;
    }
    if (failed(checkTypes(&op)) || failed(checkRoles(&op)) || failed(checkRows(&op)) || failed(checkSizes(&op))) {
      return failure();
    }
    if (auto experts = dyn_cast<ExpertsOp>(op);
        experts && failed(checkExperts(experts, experts.getExperts(), experts.getUp().getType().getDimSize(0)))) {
      return failure();
    }
    if (auto localize = dyn_cast<LocalizeOp>(op);
        localize && failed(checkExperts(localize, localize.getExperts(), localize.getPlacement().getNumExperts()))) {
      return failure();
    }
    if (auto dispatch = dyn_cast<DispatchOp>(op);
        dispatch && failed(checkExperts(dispatch, dispatch.getExperts(), dispatch.getPlacement().getNumExperts()))) {
      return failure();
    }
  }
  return success();
}
