//===- MoeAttentionOps.cpp - Verifiers and effects of the attention family --===//
//
// Only relations that ODS cannot say, each under its label of docs/spec.md.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeVerify.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult RopeOp::verify() {
  int64_t tokens = dimOf(getX(), 0), width = dimOf(getX(), 1), heads = static_cast<int64_t>(getHeads());
  // rope_c1
  if (failed(checkShape(*this, "result", getResult(), "[T, heads * D], as x", getX().getType().getShape()))) {
    return failure();
  }
  // rope_c2
  if (failed(checkEqual(*this, "length of pos", dimOf(getPos(), 0), "the rows T of x", tokens))) {
    return failure();
  }
  // rope_c3
  if (width % heads != 0) {
    return emitOpError() << "heads (" << heads << ") must divide the width of x (" << width << ")";
  }
  // rope_c4
  int64_t end = 0;
  if (llvm::AddOverflow(getRope().getOffset(), getRope().getDim(), end) || end > width / heads) {
    return emitOpError() << "rope turns the elements " << getRope().getOffset() << " .. " << end
                         << " of every head, but the head dim D is " << width / heads;
  }
  return success();
}

LogicalResult AttentionOp::verify() {
  int64_t heads = static_cast<int64_t>(getHeads()), kvHeads = static_cast<int64_t>(getKvHeads());
  // attention_c1
  if (heads % kvHeads != 0) {
    return emitOpError() << "kv_heads (" << kvHeads << ") must divide heads (" << heads << ")";
  }
  // attention_c2, attention_c3: widths are a number of heads times a dim
  for (auto [name, value, count] : {std::tuple("q", getQ(), heads), std::tuple("k", getK(), kvHeads),
                                    std::tuple("v", getV(), kvHeads), std::tuple("result", getResult(), heads)}) {
    if (dimOf(value, 1) % count != 0) {
      return emitOpError() << "width of " << name << " (" << dimOf(value, 1) << ") must be a multiple of its heads ("
                           << count << ")";
    }
  }
  // attention_c2
  if (failed(checkEqual(*this, "head dim of q", dimOf(getQ(), 1) / heads, "the head dim of k",
                        dimOf(getK(), 1) / kvHeads))) {
    return failure();
  }
  // attention_c3
  if (failed(checkEqual(*this, "head dim of result", dimOf(getResult(), 1) / heads, "the head dim of v",
                        dimOf(getV(), 1) / kvHeads))) {
    return failure();
  }
  // attention_c4
  for (auto [name, value] :
       {std::pair<const char *, Value>("k", getK()), std::pair<const char *, Value>("v", getV()),
        std::pair<const char *, Value>("seq", getSeq()), std::pair<const char *, Value>("pos", getPos()),
        std::pair<const char *, Value>("result", getResult())}) {
    if (failed(checkEqual(*this, Twine("tokens of ") + name, dimOf(value, 0), "the tokens T of q", dimOf(getQ(), 0)))) {
      return failure();
    }
  }
  // attention_c5
  for (auto [name, value] : {std::pair("k", getK()), std::pair("v", getV())}) {
    if (elementOf(value) != elementOf(getQ())) {
      return emitOpError() << "element type of " << name << " (" << elementOf(value) << ") must equal that of q ("
                           << elementOf(getQ()) << ")";
    }
  }
  // attention_c6
  if (failed(checkShape(*this, "sinks", getSinks(), "[Q]", {heads}))) {
    return failure();
  }
  // attention_c7
  if (!getScale().isFinite() || getScale().isNegative() || getScale().isZero()) {
    return emitOpError() << "scale (" << getScaleAttr() << ") must be positive and finite";
  }
  return success();
}

LogicalResult AttentionOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // attention_c8
  auto state = symbols.lookupNearestSymbolFrom<StateOp>(*this, getCacheAttr());
  if (!state) {
    return emitOpError() << "cache @" << getCache() << " is not a moe.state of this module";
  }
  auto cache = llvm::cast<KVCacheType>(state.getType());
  // attention_c9
  int64_t kvHeads = static_cast<int64_t>(getKvHeads()), keyDim = dimOf(getK(), 1) / kvHeads,
          valueDim = dimOf(getV(), 1) / kvHeads;
  if (cache.getHeads() == kvHeads && cache.getKeyDim() == keyDim && cache.getValueDim() == valueDim &&
      cache.getElement() == elementOf(getK())) {
    return success();
  }
  InFlightDiagnostic diag = emitOpError() << "needs a cache of its own kv_heads, head dims and element type";
  diag.attachNote() << "expected: heads = " << kvHeads << ", key_dim = " << keyDim << ", value_dim = " << valueDim
                    << ", element = " << elementOf(getK());
  diag.attachNote(state.getLoc()) << "actual: " << cache;
  return diag;
}

void AttentionOp::getEffects(SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  effects.emplace_back(MemoryEffects::Read::get(), getCacheAttr());
  effects.emplace_back(MemoryEffects::Write::get(), getCacheAttr());
}
