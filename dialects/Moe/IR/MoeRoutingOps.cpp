//===- MoeRoutingOps.cpp - Verifiers of the routing family ------------------===//
//
// Only relations that ODS cannot say, each under its label of docs/spec.md.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeVerify.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult RouteOp::verify() {
  int64_t tokens = dimOf(getLogits(), 0), experts = dimOf(getLogits(), 1), chosen = static_cast<int64_t>(getK());
  // route_c1
  if (chosen > experts) {
    return emitOpError() << "top-k (" << chosen << ") exceeds the number of experts E (" << experts
                         << ") of the logits";
  }
  // route_c2
  if (getBias() &&
      failed(checkEqual(*this, "length of bias", dimOf(getBias(), 0), "the number of experts E", experts))) {
    return failure();
  }
  // route_c3
  if (failed(checkShape(*this, "experts", getExperts(), "[T, K] with T of logits and K = top", {tokens, chosen})) ||
      failed(checkShape(*this, "weights", getWeights(), "[T, K] with T of logits and K = top", {tokens, chosen}))) {
    return failure();
  }
  if (elementOf(getWeights()) != elementOf(getLogits())) {
    return emitOpError() << "element type of weights (" << elementOf(getWeights()) << ") must equal that of logits ("
                         << elementOf(getLogits()) << ")";
  }
  // route_c7
  int64_t routers = static_cast<int64_t>(getRouters());
  if (experts % routers != 0 || chosen % routers != 0) {
    return emitOpError() << "routers (" << routers << ") must divide the number of experts E (" << experts
                         << ") and top-k (" << chosen << ")";
  }
  // What follows holds for each router.
  const char *ofRouter = routers > 1 ? " of a router" : "";
  experts /= routers;
  chosen /= routers;
  // route_c4
  int64_t groups = static_cast<int64_t>(getGroups()), kept = static_cast<int64_t>(getKeepGroups());
  if (experts % groups != 0) {
    return emitOpError() << "groups (" << groups << ") must divide the number of experts E" << ofRouter << " ("
                         << experts << ")";
  }
  if (kept > groups) {
    return emitOpError() << "keep_groups (" << kept << ") exceeds groups (" << groups << ")";
  }
  // route_c5
  int64_t perGroup = experts / groups;
  if (chosen > kept * perGroup) {
    return emitOpError() << "top-k" << ofRouter << " (" << chosen << ") exceeds the experts of the kept groups ("
                         << kept * perGroup << ")";
  }
  if (groups > 1 && getGroupScore() == GroupScore::Top2Sum && perGroup < 2) {
    return emitOpError() << "group score top2sum needs at least 2 experts per group, but a group has " << perGroup;
  }
  // route_c6
  if (!getEpsilon().isFinite() || (getEpsilon().isNegative() && !getEpsilon().isZero())) {
    return emitOpError() << "epsilon (" << getEpsilonAttr() << ") must be finite and not negative";
  }
  if (!getEpsilon().isZero() && getRenormalize() != Renormalize::Sum) {
    return emitOpError() << "epsilon (" << getEpsilonAttr() << ") is given, but renormalize is "
                         << stringifyRenormalize(getRenormalize()) << "; only sum divides";
  }
  if (!getScale().isFinite()) {
    return emitOpError() << "scale (" << getScaleAttr() << ") must be finite";
  }
  return success();
}
