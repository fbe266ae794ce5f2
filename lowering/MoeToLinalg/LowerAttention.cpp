//===- LowerAttention.cpp - moe.attention as linalg -------------------------===//
//
// Two loops over tokens. The first writes every key and value at
// [seq[t], pos[t]] of the caches; the second attends, token by token, to the
// slice [lo, pos[t]] of its slot, all heads at once:
//
//   a[g, r, p] = scale * sum_d q[g, r, d] K[p, g, d]      head h = g * (Q / G) + r
//   result     = sum_p exp(a - m) V[p, g] / (sum_p exp(a - m) + exp(sink - m))
//
// The pass threads the caches: they are values here, not memory.
//
//===----------------------------------------------------------------------===//

#include "lowering/MoeToLinalg/LinalgBuilder.h"

using namespace mlir;
using namespace mlir::moe;

/// `cache` with rows[t] (as [G, D]) at [seq[t], pos[t]] for every token.
static Value writeCache(LinalgBuilder &b, Value rows, Value seq, Value pos, Value cache) {
  auto type = llvm::cast<RankedTensorType>(cache.getType());
  int64_t heads = type.getDimSize(2), width = type.getDimSize(3);
  Value split = b.splitLast(b.convertTensor(rows, type.getElementType()), {heads, width}); // [T, G, D]
  Value first = b.index(0), last = b.asValue(b.size(rows, 0)), step = b.index(1);
  auto loop = scf::ForOp::create(
      b, first, last, step, ValueRange(cache), [&](OpBuilder &nested, Location loc, Value t, ValueRange carried) {
        LinalgBuilder b(loc, nested);
        OpFoldResult zero = b.getIndexAttr(0), one = b.getIndexAttr(1), g = b.getIndexAttr(heads),
                     d = b.getIndexAttr(width);
        Value slot = b.asIndex(b.extract(seq, t));
        Value row = b.asIndex(b.extract(pos, t));
        Value part = b.slice(split, {t, zero, zero}, {one, g, d}); // [1, G, D]
        Value next = b.insert(part, carried.front(), {slot, row, zero, zero}, {one, one, g, d}, 0);
        scf::YieldOp::create(b, next);
      });
  return loop.getResult(0);
}

namespace {

/// One token's attention: what does not change from token to token.
struct TokenAttention {
  Value keys, values; // caches after the writes
  Value sinks;        // [G, Q / G] in the accumulator type, or null
  double scale;
  std::optional<int64_t> window;
  Type acc;

  /// The result [G, Q / G, value_dim] of the query `q` [G, Q / G, key_dim] at [slot, position].
  Value build(LinalgBuilder &b, Value q, Value slot, Value position) const {
    Value end = arith::AddIOp::create(b, position, b.index(1)), begin = b.index(0);
    if (window) {
      Value cut = arith::SubIOp::create(b, end, b.index(*window));
      begin = arith::MaxSIOp::create(b, cut, b.index(0));
    }
    Value count = arith::SubIOp::create(b, end, begin);
    auto visible = [&](Value cache) {
      Sizes sizes = b.sizes(cache), offsets(4, b.getIndexAttr(0));
      sizes[0] = b.getIndexAttr(1);
      sizes[1] = count;
      offsets[0] = slot;
      offsets[1] = begin;
      return b.slice(cache, offsets, sizes, 0); // [P, G, D]
    };
    Value k = visible(keys), v = visible(values);
    OpFoldResult groups = b.size(q, 0), ratio = b.size(q, 1), width = b.size(v, 2);

    // Loops (g, r, p, d).
    Value scores = b.fill({groups, ratio, count}, b.constant(acc, 0.0));
    scores = b.loops({{q, {0, 1, 3}}, {k, {2, 0, 3}}}, scores, {0, 1, 2}, 4, [&](LinalgBuilder &b, ValueRange args) {
      Value left = b.convert(args[0], acc), right = b.convert(args[1], acc);
      Value term = b.mul(left, right);
      return b.add(args[2], term);
    });
    Value scaled = b.elementwise(
        scores, acc, [&](LinalgBuilder &b, ValueRange args) { return b.mul(args[0], b.constant(acc, scale)); });
    Value start = sinks ? sinks : b.fill({groups, ratio}, b.negativeInfinity(acc));
    Value largest = b.loops({{scaled, {0, 1, 2}}}, start, {0, 1}, 3,
                            [&](LinalgBuilder &b, ValueRange args) { return b.max(args[0], args[1]); });
    Value powers = b.loops({{scaled, {0, 1, 2}}, {largest, {0, 1}}}, b.empty({groups, ratio, count}, acc), {0, 1, 2}, 3,
                           [&](LinalgBuilder &b, ValueRange args) { return b.exp(b.sub(args[0], args[1])); });
    Value sum = sinks ? b.elementwise({sinks, largest}, acc,
                                      [&](LinalgBuilder &b, ValueRange args) { return b.exp(b.sub(args[0], args[1])); })
                      : b.fill({groups, ratio}, b.constant(acc, 0.0));
    sum = b.loops({{powers, {0, 1, 2}}}, sum, {0, 1}, 3,
                  [&](LinalgBuilder &b, ValueRange args) { return b.add(args[1], args[0]); });

    // Loops (g, r, d, p).
    Value mixed = b.fill({groups, ratio, width}, b.constant(acc, 0.0));
    mixed = b.loops({{powers, {0, 1, 3}}, {v, {3, 0, 2}}}, mixed, {0, 1, 2}, 4, [&](LinalgBuilder &b, ValueRange args) {
      Value value = b.convert(args[1], acc);
      Value term = b.mul(args[0], value);
      return b.add(args[2], term);
    });
    return b.loops({{mixed, {0, 1, 2}}, {sum, {0, 1}}}, b.empty({groups, ratio, width}, acc), {0, 1, 2}, 3,
                   [&](LinalgBuilder &b, ValueRange args) { return b.div(args[0], args[1]); });
  }
};

} // namespace

AttentionValues moe::buildAttention(RewriterBase &rewriter, AttentionOp op, Value keys, Value values) {
  auto keyType = llvm::cast<RankedTensorType>(keys.getType()),
       valueType = llvm::cast<RankedTensorType>(values.getType());
  int64_t heads = static_cast<int64_t>(op.getHeads()), kvHeads = static_cast<int64_t>(op.getKvHeads());
  int64_t keyWidth = keyType.getDimSize(3), valueWidth = valueType.getDimSize(3);
  LinalgBuilder b(op.getLoc(), rewriter);
  b.setInsertionPoint(op);
  int64_t ratio = heads / kvHeads;
  Type acc = accumulatorType(elementOf(op.getQ())), out = elementOf(op.getResult());

  AttentionValues after;
  after.keys = writeCache(b, op.getK(), op.getSeq(), op.getPos(), keys);
  after.values = writeCache(b, op.getV(), op.getSeq(), op.getPos(), values);
  Value sinks;
  if (op.getSinks()) {
    sinks = b.splitLast(b.convertTensor(op.getSinks(), acc), {kvHeads, ratio});
  }
  std::optional<int64_t> window;
  if (op.getWindow()) {
    window = static_cast<int64_t>(*op.getWindow());
  }
  TokenAttention token{after.keys, after.values, sinks, op.getScale().convertToDouble(), window, acc};

  Value q = b.splitLast(op.getQ(), {kvHeads, ratio, keyWidth}); // [T, G, Q / G, D]
  OpFoldResult tokens = b.size(op.getQ(), 0), zero = b.getIndexAttr(0), one = b.getIndexAttr(1);
  OpFoldResult groups = b.getIndexAttr(kvHeads), ratioAttr = b.getIndexAttr(ratio),
               valueAttr = b.getIndexAttr(valueWidth);
  Value init = b.empty({tokens, groups, ratioAttr, valueAttr}, out);
  Value first = b.index(0), last = b.asValue(tokens), step = b.index(1);
  auto loop = scf::ForOp::create(
      b, first, last, step, ValueRange(init), [&](OpBuilder &nested, Location loc, Value t, ValueRange carried) {
        LinalgBuilder b(loc, nested);
        Value slot = b.asIndex(b.extract(op.getSeq(), t));
        Value position = b.asIndex(b.extract(op.getPos(), t));
        Value query = b.slice(q, {t, zero, zero, zero}, {one, groups, ratioAttr, b.getIndexAttr(keyWidth)}, 0);
        Value result = b.convertTensor(token.build(b, query, slot, position), out);
        Value next = b.insert(result, carried.front(), {t, zero, zero, zero}, {one, groups, ratioAttr, valueAttr}, 0);
        scf::YieldOp::create(b, next);
      });
  after.result = b.castTo(b.joinFrom(loop.getResult(0), 1), op.getType());
  return after;
}
