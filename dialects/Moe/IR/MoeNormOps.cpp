//===- MoeNormOps.cpp - Verifiers of the norm family ------------------------===//
//
// Only relations that ODS cannot say, each under its label of docs/spec.md.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeVerify.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult RMSNormOp::verify() {
  // rms_norm_c1
  if (failed(checkShape(*this, "result", getResult(), "[T, N], as x", getX().getType().getShape()))) {
    return failure();
  }
  // rms_norm_c2
  int64_t width = dimOf(getX(), 1), groups = static_cast<int64_t>(getGroups());
  if (width % groups != 0) {
    return emitOpError() << "groups (" << groups << ") must divide the width N of x (" << width << ")";
  }
  // rms_norm_c3
  if (failed(checkEqual(*this, "length of weight", dimOf(getWeight(), 0), "N / groups", width / groups))) {
    return failure();
  }
  // rms_norm_c4
  if (getEps().isNegative() || !getEps().isFinite()) {
    return emitOpError() << "eps (" << getEpsAttr() << ") must be finite and not negative";
  }
  return success();
}
