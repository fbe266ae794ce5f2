//===- MoeAttentionOps.cpp - Verifiers of the attention family

#include "dialects/Moe/IR/MoeOps.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult RopeOp::verify() { return success(); }
LogicalResult AttentionOp::verify() { return success(); }

LogicalResult AttentionOp::verifySymbolUses(SymbolTableCollection &symbols) { return success(); }

void AttentionOp::getEffects(SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  effects.emplace_back(MemoryEffects::Read::get(), getCacheAttr());
  effects.emplace_back(MemoryEffects::Write::get(), getCacheAttr());
}
