//===- MoeWeightOps.cpp - Verifiers and folds of the weight family ----------===//
//
// Only relations that ODS cannot say, each under its label of docs/spec.md.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeVerify.h"

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
    length += input.getDimSize(dim);
  }
  // concat_c5
  return checkEqual(*this, "dim " + Twine(dim) + " of the result", result.getDimSize(dim), "the sum over the inputs",
                    length);
}

OpFoldResult ConcatOp::fold(FoldAdaptor) { return getInputs().size() == 1 ? getInputs().front() : Value(); }
