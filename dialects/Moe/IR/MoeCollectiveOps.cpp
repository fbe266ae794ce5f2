//===- MoeCollectiveOps.cpp - Verifiers and folds of the collective family --===//
//
// Only relations that ODS cannot say, each under its label of docs/spec.md. That
// all ops of a module name the same R is a rule of the moe level.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeVerify.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Placement
//===----------------------------------------------------------------------===//

/// The largest share: times a count of choices it stays far below 2^63.
static constexpr int64_t kMaxShare = 65536;

int64_t PlacementAttr::getNumExperts() const { return *llvm::max_element(getSlots().asArrayRef()) + 1; }

PlacementAttr PlacementAttr::getLinear(MLIRContext *context, int64_t experts, int64_t ranks) {
  auto slots = llvm::to_vector(llvm::seq<int64_t>(0, experts));
  return get(context, ranks, DenseI64ArrayAttr::get(context, slots), DenseI64ArrayAttr());
}

LogicalResult PlacementAttr::verify(function_ref<InFlightDiagnostic()> emitError, int64_t ranks,
                                    DenseI64ArrayAttr slotsAttr, DenseI64ArrayAttr sharesAttr) {
  ArrayRef<int64_t> slots = slotsAttr.asArrayRef();
  const int64_t count = slots.size();
  // placement_c1
  if (ranks < 1 || count == 0 || count % ranks != 0) {
    return emitError() << "ranks (" << ranks << ") must be positive and divide the number of slots (" << count
                       << "), which must be positive";
  }
  // placement_c2
  const int64_t least = *llvm::min_element(slots), most = *llvm::max_element(slots);
  if (least < 0 || most >= count) {
    return emitError() << "slots holds the expert number " << (least < 0 ? least : most) << ", but " << count
                       << " slots hold every expert from 0 to the largest: at most " << count - 1;
  }
  SmallVector<int64_t> lastRank(most + 1, -1), shareOf(most + 1, 0);
  for (auto [slot, expert] : llvm::enumerate(slots)) {
    const int64_t rank = static_cast<int64_t>(slot) / (count / ranks);
    // placement_c3
    if (lastRank[expert] == rank) {
      return emitError() << "rank " << rank << " holds expert " << expert << " twice (slot " << slot
                         << " again), but one copy serves a rank";
    }
    lastRank[expert] = rank;
  }
  // placement_c2
  for (auto [expert, rank] : llvm::enumerate(lastRank)) {
    if (rank < 0) {
      return emitError() << "no slot holds expert " << expert << ", but all from 0 to " << most << " must have one";
    }
  }
  if (!sharesAttr) {
    return success();
  }
  // placement_c4
  ArrayRef<int64_t> shares = sharesAttr.asArrayRef();
  if (static_cast<int64_t>(shares.size()) != count) {
    return emitError() << "shares has " << shares.size() << " numbers, but there are " << count << " slots";
  }
  for (auto [slot, share] : llvm::enumerate(shares)) {
    if (share < 0 || share > kMaxShare) {
      return emitError() << "the share of slot " << slot << " is " << share << ", but must be from 0 to " << kMaxShare;
    }
    shareOf[slots[slot]] += share;
  }
  for (auto [expert, share] : llvm::enumerate(shareOf)) {
    if (share == 0) {
      return emitError() << "all replicas of expert " << expert << " have the share 0, so that none takes its tokens";
    }
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Exchanges
//===----------------------------------------------------------------------===//

/// `whole` has `ranks` times the rows of `part`, and else its type.
static LogicalResult checkRows(Operation *op, StringRef wholeName, RankedTensorType whole, StringRef partName,
                               RankedTensorType part, int64_t ranks) {
  // all_gather_c1, reduce_scatter_c1
  if (whole.getRank() != part.getRank() || whole.getElementType() != part.getElementType() || part.getRank() == 0 ||
      whole.getShape().drop_front() != part.getShape().drop_front()) {
    return op->emitOpError() << wholeName << " (" << whole
                             << ") must have the rank, the element type and the dims after "
                             << "the first of " << partName << " (" << part << ")";
  }
  // all_gather_c2, reduce_scatter_c2
  const int64_t rows = part.getDimSize(0);
  const int64_t expected = part.isDynamicDim(0) ? ShapedType::kDynamic : rows * ranks;
  return checkEqual(op, "rows of " + wholeName, whole.getDimSize(0), Twine(ranks) + " times those of " + partName,
                    expected);
}

static RankedTensorType typeOf(Value value) { return llvm::cast<RankedTensorType>(value.getType()); }

LogicalResult AllGatherOp::verify() {
  return checkRows(*this, "result", typeOf(getResult()), "x", typeOf(getX()), getRanks());
}

LogicalResult ReduceScatterOp::verify() {
  return checkRows(*this, "x", typeOf(getX()), "result", typeOf(getResult()), getRanks());
}

/// Of one rank an exchange changes nothing.
template <typename Op> static OpFoldResult foldOfOneRank(Op op) {
  return op.getRanks() == 1 && op.getX().getType() == op.getType() ? op.getX() : Value();
}

OpFoldResult AllReduceOp::fold(FoldAdaptor) { return foldOfOneRank(*this); }
OpFoldResult AllGatherOp::fold(FoldAdaptor) { return foldOfOneRank(*this); }
OpFoldResult ReduceScatterOp::fold(FoldAdaptor) { return foldOfOneRank(*this); }

//===----------------------------------------------------------------------===//
// Experts of a rank
//===----------------------------------------------------------------------===//

LogicalResult MaskPaddingOp::verify() {
  // mask_padding_c2
  return checkEqual(*this, "length of seq", dimOf(getSeq(), 0), "the rows of experts", dimOf(getExperts(), 0));
}

LogicalResult DispatchOp::verify() {
  // dispatch_c2
  if (elementOf(getRows()) != elementOf(getX()) || dimOf(getRows(), 1) != dimOf(getX(), 1)) {
    return emitOpError() << "rows (" << getRows().getType() << ") must have the element type and H of x ("
                         << getX().getType() << ")";
  }
  if (failed(checkEqual(*this, "the number of rows", dimOf(getRows(), 0), "the rows of experts",
                        dimOf(getExperts(), 0)))) {
    return failure();
  }
  // dispatch_c3
  const int64_t tokens = dimOf(getX(), 0), ranks = getPlacement().getRanks();
  return checkEqual(*this, "rows of experts", dimOf(getExperts(), 0), Twine(ranks) + " times those of x",
                    ShapedType::isDynamic(tokens) ? tokens : tokens * ranks);
}

LogicalResult CollectOp::verify() {
  // collect_c1
  if (failed(checkEqual(*this, "rows of y", dimOf(getY(), 0), "those of slots", dimOf(getSlots(), 0))) ||
      failed(checkEqual(*this, "K of y", dimOf(getY(), 1), "K of slots", dimOf(getSlots(), 1)))) {
    return failure();
  }
  // collect_c2
  if (elementOf(getResult()) != elementOf(getY()) || dimOf(getResult(), 1) != dimOf(getY(), 1) ||
      dimOf(getResult(), 2) != dimOf(getY(), 2)) {
    return emitOpError() << "result (" << getType() << ") must have the element type, K and H of y ("
                         << getY().getType() << ")";
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Weights of a rank
//===----------------------------------------------------------------------===//

void PlaceOp::build(OpBuilder &builder, OperationState &state, Value weight, PlacementAttr placement) {
  SmallVector<int64_t> shape(typeOf(weight).getShape());
  shape.front() = placement.getSlotsPerRank();
  build(builder, state, typeOf(weight).clone(shape), weight, placement);
}

LogicalResult PlaceOp::verify() {
  // place_c1
  if (typeOf(getWeight()).getRank() == 0) {
    return emitOpError("weight must have a dim of experts, but is a scalar");
  }
  if (failed(checkEqual(*this, "experts of weight", dimOf(getWeight(), 0), "those of placement",
                        getPlacement().getNumExperts()))) {
    return failure();
  }
  // place_c2
  SmallVector<int64_t> expected(typeOf(getWeight()).getShape());
  expected.front() = getPlacement().getSlotsPerRank();
  if (elementOf(getResult()) != elementOf(getWeight())) {
    return emitOpError() << "result (" << getType() << ") must have the element type of weight ("
                         << getWeight().getType() << ")";
  }
  return checkShape(*this, "result", getResult(), "[S/R, ...] with the dims after the first of weight", expected);
}

void ShardOp::build(OpBuilder &builder, OperationState &state, Value weight, int64_t dim, int64_t ranks,
                    int64_t copies) {
  SmallVector<int64_t> shape(typeOf(weight).getShape());
  shape[dim] /= ranks / copies;
  build(builder, state, typeOf(weight).clone(shape), weight, dim, ranks, copies);
}

LogicalResult ShardOp::verify() {
  RankedTensorType whole = typeOf(getWeight()), result = typeOf(getResult());
  const int64_t dim = getDim(), ranks = getRanks(), copies = getCopies();
  if (failed(checkPartAlong(*this, dim, whole, result))) {
    return failure();
  }
  // shard_c3
  if (ranks % copies != 0) {
    return emitOpError() << "copies (" << copies << ") must divide ranks (" << ranks << ")";
  }
  const int64_t parts = ranks / copies;
  if (whole.getDimSize(dim) % parts != 0 || whole.getDimSize(dim) / parts != result.getDimSize(dim)) {
    return emitOpError() << "dim " << dim << " of weight (" << whole.getDimSize(dim) << ") must be " << parts
                         << " times that of the result (" << result.getDimSize(dim) << "): ranks / copies";
  }
  return success();
}

OpFoldResult ShardOp::fold(FoldAdaptor) { return getWeight().getType() == getType() ? getWeight() : Value(); }
