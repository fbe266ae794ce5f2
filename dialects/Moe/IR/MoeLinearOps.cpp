//===- MoeLinearOps.cpp - Verifiers of the linear family

#include "dialects/Moe/IR/MoeOps.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult EmbeddingOp::verify() { return success(); }
LogicalResult LinearOp::verify() { return success(); }
LogicalResult GatherRowsOp::verify() { return success(); }
