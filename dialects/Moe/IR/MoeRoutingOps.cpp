//===- MoeRoutingOps.cpp - Verifiers of the routing family

#include "dialects/Moe/IR/MoeOps.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult RouteOp::verify() { return success(); }
