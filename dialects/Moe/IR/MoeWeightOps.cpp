//===- MoeWeightOps.cpp - Verifiers of the weight family

#include "dialects/Moe/IR/MoeOps.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult WeightOp::verify() { return success(); }
LogicalResult ConcatOp::verify() { return success(); }

LogicalResult GetWeightOp::verifySymbolUses(SymbolTableCollection &symbols) { return success(); }
