//===- MoeLinearOps.cpp - Verifiers of the linear family --------------------===//
//
// Only relations that ODS cannot say, each under its label of docs/spec.md.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeVerify.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult EmbeddingOp::verify() {
  // embedding_c1
  if (failed(checkEqual(*this, "rows of result", dimOf(getResult(), 0), "the number of tokens T",
                        dimOf(getTokens(), 0)))) {
    return failure();
  }
  // embedding_c2
  return checkEqual(*this, "width of result", dimOf(getResult(), 1), "the width H of table", dimOf(getTable(), 1));
}

LogicalResult LinearOp::verify() {
  int64_t outputs = dimOf(getWeight(), 0), inputs = dimOf(getWeight(), 1);
  // linear_c1
  if (failed(checkEqual(*this, "width of x", dimOf(getX(), 1), "the inputs K of weight [N, K]", inputs))) {
    return failure();
  }
  // linear_c2
  if (failed(checkShape(*this, "result", getResult(), "[T, N]", {dimOf(getX(), 0), outputs}))) {
    return failure();
  }
  // linear_c3
  return checkShape(*this, "bias", getBias(), "[N]", {outputs});
}

// ANCHOR: docs/adding-an-op.md quotes this.
LogicalResult GatherRowsOp::verify() {
  // gather_rows_c1
  if (failed(checkEqual(*this, "rows of result", dimOf(getResult(), 0), "the length M of rows", dimOf(getRows(), 0)))) {
    return failure();
  }
  // gather_rows_c2
  if (failed(checkEqual(*this, "width of result", dimOf(getResult(), 1), "the width of x", dimOf(getX(), 1)))) {
    return failure();
  }
  if (elementOf(getResult()) != elementOf(getX())) {
    return emitOpError() << "element type of result (" << elementOf(getResult()) << ") must equal that of x ("
                         << elementOf(getX()) << ")";
  }
  return success();
}
