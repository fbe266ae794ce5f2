//===- MoeExpertOps.cpp - Verifiers of the expert family

#include "dialects/Moe/IR/MoeOps.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult ExpertsOp::verify() { return success(); }
LogicalResult CombineOp::verify() { return success(); }
