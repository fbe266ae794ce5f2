//===- MoeNormOps.cpp - Verifiers of the norm family

#include "dialects/Moe/IR/MoeOps.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult RMSNormOp::verify() { return success(); }
