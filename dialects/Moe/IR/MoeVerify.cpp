//===- MoeVerify.cpp - Checks that the verifiers of all families share ------===//

#include "dialects/Moe/IR/MoeVerify.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult moe::checkEqual(Operation *op, const Twine &what, int64_t actual, const Twine &rule, int64_t expected) {
  if (actual == expected) {
    return success();
  }
  InFlightDiagnostic diag = op->emitOpError();
  *diag.getUnderlyingDiagnostic() << what << " (" << Dim{actual} << ") must equal " << rule << " (" << Dim{expected}
                                  << ")";
  return diag;
}

/// `dims` as in a type: "?x2x128".
static std::string spell(ArrayRef<int64_t> dims) {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::interleave(
      dims, os, [&](int64_t dim) { ShapedType::isDynamic(dim) ? (void)(os << "?") : (void)(os << dim); }, "x");
  return text;
}

LogicalResult moe::checkShape(Operation *op, StringRef name, Value value, StringRef shape, ArrayRef<int64_t> expected) {
  if (!value || llvm::cast<ShapedType>(value.getType()).getShape() == expected) {
    return success();
  }
  InFlightDiagnostic diag = op->emitOpError() << name << " must be " << shape;
  diag.attachNote() << "expected: " << spell(expected);
  diag.attachNote() << "actual: " << spell(llvm::cast<ShapedType>(value.getType()).getShape());
  return diag;
}

LogicalResult moe::checkPartAlong(Operation *op, int64_t dim, RankedTensorType whole, RankedTensorType result) {
  // part_c1, shard_c1
  if (dim >= whole.getRank()) {
    return op->emitOpError() << "dim (" << dim << ") must be less than the rank of weight (" << whole.getRank() << ")";
  }
  // part_c2, shard_c2
  if (result.getRank() != whole.getRank() || result.getElementType() != whole.getElementType()) {
    return op->emitOpError() << "result (" << result << ") must have the rank and element type of weight (" << whole
                             << ")";
  }
  for (int64_t d = 0; d < result.getRank(); ++d) {
    if (d != dim && failed(checkEqual(op, "dim " + Twine(d) + " of the result", result.getDimSize(d), "that of weight",
                                      whole.getDimSize(d)))) {
      return failure();
    }
  }
  return success();
}

LogicalResult moe::checkGateAndLimit(Operation *op, Value gate, Value gateBias, Activation activation, FloatAttr alpha,
                                     FloatAttr limit) {
  // ffn_c4, experts_c5
  if (!gate && (gateBias || activation == Activation::OssSwiglu)) {
    return op->emitOpError() << (gateBias ? "gate_bias" : "activation oss_swiglu")
                             << " is given, but no gate: add `gate %g`";
  }
  // ffn_c5, experts_c6
  if (!alpha.getValue().isFinite()) {
    return op->emitOpError() << "alpha (" << alpha << ") must be finite";
  }
  if (!limit.getValue().isFinite() || limit.getValueAsDouble() <= 0) {
    return op->emitOpError() << "limit (" << limit << ") must be positive and finite";
  }
  return success();
}
