//===- MoeExpertOps.cpp - Verifiers of the expert family --------------------===//
//
// Only relations that ODS cannot say, each under its label of docs/spec.md.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeVerify.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult ExpertsOp::verify() {
  int64_t tokens = dimOf(getX(), 0), hidden = dimOf(getX(), 1), chosen = dimOf(getExperts(), 1);
  int64_t experts = dimOf(getUp(), 0), inner = dimOf(getUp(), 1), out = dimOf(getDown(), 1);
  // experts_c1
  if (failed(checkShape(*this, "up", getUp(), "[E, I, H] with the width H of x", {experts, inner, hidden})) ||
      failed(checkShape(*this, "down", getDown(), "[E, N, I] with E and I of up", {experts, out, inner}))) {
    return failure();
  }
  // experts_c2
  if (failed(checkShape(*this, "experts", getExperts(), "[T, K] with the rows T of x", {tokens, chosen})) ||
      failed(checkShape(*this, "result", getResult(), "[T, K, N] with K of experts and N of down",
                        {tokens, chosen, out}))) {
    return failure();
  }
  // experts_c3
  if (failed(checkShape(*this, "gate", getGate(), "[E, I, H], as up", {experts, inner, hidden}))) {
    return failure();
  }
  // experts_c4
  if (failed(checkShape(*this, "gate_bias", getGateBias(), "[E, I]", {experts, inner})) ||
      failed(checkShape(*this, "up_bias", getUpBias(), "[E, I]", {experts, inner})) ||
      failed(checkShape(*this, "down_bias", getDownBias(), "[E, N]", {experts, out}))) {
    return failure();
  }
  // experts_c7
  if (PlacementAttr placement = getPlacementAttr();
      placement &&
      failed(checkEqual(*this, "E of placement", placement.getNumExperts(), "the experts E of up", experts))) {
    return failure();
  }
  // experts_c5, experts_c6
  return checkGateAndLimit(*this, getGate(), getGateBias(), getActivation(), getAlphaAttr(), getLimitAttr());
}

LogicalResult CombineOp::verify() {
  int64_t tokens = dimOf(getY(), 0), chosen = dimOf(getY(), 1), hidden = dimOf(getY(), 2);
  // combine_c1
  if (failed(checkShape(*this, "weights", getWeights(), "[T, K] with T and K of y", {tokens, chosen}))) {
    return failure();
  }
  return checkShape(*this, "result", getResult(), "[T, H] with T and H of y", {tokens, hidden});
}
