//===- MoeFFNOps.cpp - Verifiers of the ffn family --------------------------===//
//
// Only relations that ODS cannot say, each under its label of docs/spec.md.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeVerify.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult FFNOp::verify() {
  int64_t tokens = dimOf(getX(), 0), hidden = dimOf(getX(), 1), inner = dimOf(getUp(), 0), out = dimOf(getDown(), 0);
  // ffn_c1
  if (failed(checkShape(*this, "up", getUp(), "[I, H] with the width H of x", {inner, hidden})) ||
      failed(checkShape(*this, "down", getDown(), "[N, I] with the rows I of up", {out, inner})) ||
      failed(checkShape(*this, "result", getResult(), "[T, N] with the rows N of down", {tokens, out}))) {
    return failure();
  }
  // ffn_c2
  if (failed(checkShape(*this, "gate", getGate(), "[I, H], as up", {inner, hidden}))) {
    return failure();
  }
  // ffn_c3
  if (failed(checkShape(*this, "gate_bias", getGateBias(), "[I]", {inner})) ||
      failed(checkShape(*this, "up_bias", getUpBias(), "[I]", {inner})) ||
      failed(checkShape(*this, "down_bias", getDownBias(), "[N]", {out}))) {
    return failure();
  }
  // ffn_c4, ffn_c5
  return checkGateAndLimit(*this, getGate(), getGateBias(), getActivation(), getAlphaAttr(), getLimitAttr());
}
