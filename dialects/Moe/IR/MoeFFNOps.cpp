//===- MoeFFNOps.cpp - Verifiers of the ffn family

#include "dialects/Moe/IR/MoeOps.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult FFNOp::verify() { return success(); }
