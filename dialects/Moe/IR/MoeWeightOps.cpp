//===- MoeWeightOps.cpp - Verifiers and folds of the weight family ----------===//
//
// Only relations that ODS cannot say, each under its label of docs/spec.md.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeVerify.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult WeightOp::verify() {
  // weight_c1
  if (llvm::is_contained(getTensorType().getShape(), 0)) {
    return emitOpError() << "type " << getTensorType() << " has a dim of 0, but every dim must be at least 1";
  }
  // weight_c2
  size_t holes = getTensorName().count("{}");
  if (getTensorName().empty()) {
    return emitOpError("the name in the checkpoint must not be empty");
  }
  if (getStacked() && holes != 1) {
    return emitOpError() << "the stacked name '" << getTensorName() << "' has " << holes
                         << " places for the expert's number; write exactly one '{}'";
  }
  // weight_c3
  if (getStacked() && getTensorType().getRank() < 2) {
    return emitOpError() << "stacked type " << getTensorType() << " has rank " << getTensorType().getRank()
                         << ", but the experts' dim and a tensor's own dims make at least 2";
  }
  // weight_c4
  int64_t bits = getTensorType().getElementTypeBitWidth();
  for (int64_t dim : getTensorType().getShape()) {
    if (llvm::MulOverflow(bits, dim, bits)) {
      return emitOpError() << "the size of " << getTensorType() << " must be below 2^63 bits";
    }
  }
  return success();
}

LogicalResult GetWeightOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // get_weight_c1
  auto weight = symbols.lookupNearestSymbolFrom<WeightOp>(*this, getWeightAttr());
  if (!weight) {
    return emitOpError() << "@" << getWeight() << " is not a moe.weight of this module";
  }
  // get_weight_c2
  if (getType() == weight.getTensorType()) {
    return success();
  }
  InFlightDiagnostic diag = emitOpError() << "the type of result must be the declared type of @" << getWeight();
  diag.attachNote(weight.getLoc()) << "expected: " << weight.getTensorType();
  diag.attachNote() << "actual: " << getType();
  return diag;
}

LogicalResult PartOp::verify() {
  auto whole = llvm::cast<RankedTensorType>(getWeight().getType()), result = llvm::cast<RankedTensorType>(getType());
  int64_t dim = static_cast<int64_t>(getDim());
  if (failed(checkPartAlong(*this, dim, whole, result))) {
    return failure();
  }
  // part_c3
  int64_t length = result.getDimSize(dim), from = static_cast<int64_t>(getFrom());
  if (length > whole.getDimSize(dim) || from > whole.getDimSize(dim) - length) {
    return emitOpError() << "from (" << from << ") and the " << length << " of the result reach beyond dim " << dim
                         << " of weight (" << whole.getDimSize(dim) << ")";
  }
  return success();
}

OpFoldResult PartOp::fold(FoldAdaptor) { return getWeight().getType() == getType() ? getWeight() : Value(); }

LogicalResult ConcatOp::verify() {
  auto result = llvm::cast<RankedTensorType>(getType());
  int64_t dim = static_cast<int64_t>(getDim());
  // concat_c1
  if (getInputs().empty()) {
    return emitOpError("needs at least one input");
  }
  // concat_c2
  if (dim >= result.getRank()) {
    return emitOpError() << "dim (" << dim << ") must be less than the rank of the result (" << result.getRank() << ")";
  }
  int64_t length = 0;
  for (auto [index, value] : llvm::enumerate(getInputs())) {
    auto input = llvm::cast<RankedTensorType>(value.getType());
    // concat_c3
    if (input.getRank() != result.getRank() || input.getElementType() != result.getElementType()) {
      return emitOpError() << "input #" << index << " (" << input
                           << ") must have the rank and element type of the result (" << result << ")";
    }
    // concat_c4
    for (int64_t d = 0; d < result.getRank(); ++d) {
      if (d != dim && failed(checkEqual(*this, "dim " + Twine(d) + " of input #" + Twine(index), input.getDimSize(d),
                                        "that of the result", result.getDimSize(d)))) {
        return failure();
      }
    }
    if (llvm::AddOverflow(length, input.getDimSize(dim), length)) {
      length = std::numeric_limits<int64_t>::max();
    }
  }
  // concat_c5
  return checkEqual(*this, "dim " + Twine(dim) + " of the result", result.getDimSize(dim), "the sum over the inputs",
                    length);
}

OpFoldResult ConcatOp::fold(FoldAdaptor) { return getInputs().size() == 1 ? getInputs().front() : Value(); }

LogicalResult ScaleOp::verify() {
  auto type = llvm::cast<RankedTensorType>(getWeight().getType());
  int64_t dim = static_cast<int64_t>(getDim());
  // scale_c1
  if (dim >= type.getRank()) {
    return emitOpError() << "dim (" << dim << ") must be less than the rank of weight (" << type.getRank() << ")";
  }
  // scale_c2
  if (failed(checkShape(*this, "result", getResult(), "of the shape of weight", type.getShape()))) {
    return failure();
  }
  // scale_c3
  StringRef rule = "as long as weight along dim";
  return success(succeeded(checkShape(*this, "by", getBy(), rule, type.getDimSize(dim))) &&
                 succeeded(checkShape(*this, "over", getOver(), rule, type.getDimSize(dim))));
}

LogicalResult FloorMagnitudeOp::verify() {
  // floor_magnitude_c2
  if (!getFloor().isFinite() || getFloor().isNegative() || getFloor().isZero()) {
    return emitOpError() << "floor (" << getFloorAttr() << ") must be positive and finite";
  }
  return success();
}

LogicalResult ProductOp::verify() {
  ArrayRef<int64_t> lhs = llvm::cast<RankedTensorType>(getLhs().getType()).getShape();
  ArrayRef<int64_t> rhs = llvm::cast<RankedTensorType>(getRhs().getType()).getShape();
  // product_c2
  SmallVector<int64_t> expected(lhs.drop_back(2));
  llvm::append_range(expected, rhs.drop_back(2));
  if (expected.size() > 1) {
    return emitOpError() << "lhs (" << getLhs().getType() << ") and rhs (" << getRhs().getType()
                         << ") must not both be weights of experts";
  }
  // product_c1
  lhs = lhs.take_back(2);
  rhs = rhs.take_back(2);
  if (failed(checkEqual(*this, "columns of lhs", lhs[1], "the rows K of rhs", rhs[0]))) {
    return failure();
  }
  StringRef rule = expected.empty() ? "[M, N] with the rows of lhs and the columns of rhs"
                                    : "[E, M, N] with the rows of lhs and the columns of rhs";
  expected.append({lhs[0], rhs[1]});
  return checkShape(*this, "result", getResult(), rule, expected);
}

LogicalResult SumOp::verify() {
  // sum_c1
  if (getInputs().empty()) {
    return emitOpError("needs at least one input");
  }
  // sum_c2
  for (auto [index, input] : llvm::enumerate(getInputs())) {
    if (failed(checkShape(*this, ("input #" + Twine(index)).str(), input, "of the shape of the result",
                          llvm::cast<RankedTensorType>(getType()).getShape()))) {
      return failure();
    }
  }
  return success();
}

OpFoldResult SumOp::fold(FoldAdaptor) {
  return getInputs().size() == 1 && getInputs().front().getType() == getType() ? getInputs().front() : Value();
}

LogicalResult PadOp::verify() {
  auto from = llvm::cast<RankedTensorType>(getWeight().getType()), to = llvm::cast<RankedTensorType>(getType());
  int64_t dim = static_cast<int64_t>(getDim());
  // pad_c1
  if (dim >= from.getRank()) {
    return emitOpError() << "dim (" << dim << ") must be less than the rank of weight (" << from.getRank() << ")";
  }
  // pad_c2
  if (from.getRank() != to.getRank() || from.getElementType() != to.getElementType()) {
    return emitOpError() << "result (" << to << ") must have the rank and element type of weight (" << from << ")";
  }
  // pad_c3
  if (to.getDimSize(dim) < from.getDimSize(dim)) {
    return emitOpError() << "dim " << dim << " of the result (" << to.getDimSize(dim)
                         << ") must not be less than that of weight (" << from.getDimSize(dim) << ")";
  }
  for (int64_t d = 0; d < to.getRank(); ++d) {
    if (d != dim && failed(checkEqual(*this, "dim " + Twine(d) + " of the result", to.getDimSize(d), "that of weight",
                                      from.getDimSize(d)))) {
      return failure();
    }
  }
  return success();
}

OpFoldResult PadOp::fold(FoldAdaptor) { return getWeight().getType() == getType() ? getWeight() : Value(); }
