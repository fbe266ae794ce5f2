//===- LowerRope.cpp - moe.rope as linalg -----------------------------------===//
//
// cos and sin are made once per (token, pair), in f32 as transformers does:
// the inverse frequency is rounded to f32 and multiplied by the position in
// f32. A head [D] is then seen as [before | rotary | after], and the rotary
// part as [2, dim/2] (half-split) or [dim/2, 2] (interleaved), so that both
// layouts are slices of stride 1.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeRope.h"
#include "lowering/MoeToLinalg/LinalgBuilder.h"

using namespace mlir;
using namespace mlir::moe;

/// cos or sin of pos[t] * inv_freq[i], times the attention factor, as f32 [T, dim/2].
template <typename MathOp>
static Value buildAngles(LinalgBuilder &b, Value positions, Value frequencies, double factor) {
  Type f32 = b.getF32Type();
  OpFoldResult tokens = b.size(positions, 0), pairs = b.size(frequencies, 0);
  return b.loops({{positions, {0}}, {frequencies, {1}}}, b.empty({tokens, pairs}, f32), {0, 1}, 2,
                 [&](LinalgBuilder &b, ValueRange args) {
                   Value position = arith::SIToFPOp::create(b, f32, args[0]);
                   Value turned = MathOp::create(b, b.mul(position, args[1]));
                   return factor == 1.0 ? turned : b.mul(turned, b.constant(f32, factor));
                 });
}

namespace {

struct LowerRope : OpRewritePattern<RopeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(RopeOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    RopeAttr rope = op.getRope();
    Type acc = accumulatorType(elementOf(op.getX())), out = elementOf(op.getResult());
    int64_t heads = static_cast<int64_t>(op.getHeads()), width = op.getX().getType().getDimSize(1) / heads;
    int64_t half = rope.getDim() / 2;
    bool interleaved = rope.getInterleaved();
    double factor = rope.getAttentionFactor().getValueAsDouble();

    SmallVector<float> rounded;
    for (double frequency : computeInverseFrequencies(rope)) {
      rounded.push_back(static_cast<float>(frequency));
    }
    auto type = RankedTensorType::get({half}, b.getF32Type());
    Value frequencies = arith::ConstantOp::create(b, DenseElementsAttr::get(type, ArrayRef<float>(rounded)));
    Value cos = buildAngles<math::CosOp>(b, op.getPos(), frequencies, factor);
    Value sin = buildAngles<math::SinOp>(b, op.getPos(), frequencies, factor);

    Value x = b.splitLast(op.getX(), {heads, width}); // [T, heads, D]
    OpFoldResult tokens = b.size(op.getX(), 0), zero = b.getIndexAttr(0), one = b.getIndexAttr(1);
    OpFoldResult headsAttr = b.getIndexAttr(heads), offset = b.getIndexAttr(rope.getOffset());
    Sizes rotarySizes = {tokens, headsAttr, b.getIndexAttr(rope.getDim())};
    Value rotary = b.slice(x, {zero, zero, offset}, rotarySizes);
    // Half-split [T, heads, 2, dim/2]: the pair is dim 2; interleaved [T, heads, dim/2, 2]: it is dim 3.
    Value pairs = interleaved ? b.splitLast(rotary, {half, 2}) : b.splitLast(rotary, {2, half});
    unsigned pairDim = interleaved ? 3 : 2;
    Sizes memberSizes = b.sizes(pairs);
    memberSizes[pairDim] = one;
    auto memberOffsets = [&](int64_t member) {
      Sizes offsets(4, zero);
      offsets[pairDim] = b.getIndexAttr(member);
      return offsets;
    };
    Value first = b.slice(pairs, memberOffsets(0), memberSizes, pairDim);
    Value second = b.slice(pairs, memberOffsets(1), memberSizes, pairDim);

    // One member of the turned pair: p * cos -+ q * sin.
    auto turn = [&](Value p, Value q, bool minus) {
      return b.loops({{p, {0, 1, 2}}, {q, {0, 1, 2}}, {cos, {0, 2}}, {sin, {0, 2}}}, b.empty(b.sizes(p), out),
                     {0, 1, 2}, 3, [&](LinalgBuilder &b, ValueRange args) {
                       SmallVector<Value> v =
                           llvm::map_to_vector(args.take_front(4), [&](Value arg) { return b.convert(arg, acc); });
                       Value kept = b.mul(v[0], v[2]), moved = b.mul(v[1], v[3]);
                       Value turned = minus ? b.sub(kept, moved) : b.add(kept, moved);
                       return b.convert(turned, out);
                     });
    };
    Value turnedFirst = turn(first, second, /*minus=*/true);
    Value turnedSecond = turn(second, first, /*minus=*/false);
    Value turned = b.empty(b.sizes(pairs), out);
    turned = b.insert(turnedFirst, turned, memberOffsets(0), memberSizes, pairDim);
    turned = b.insert(turnedSecond, turned, memberOffsets(1), memberSizes, pairDim);
    turned = b.joinFrom(turned, 2); // [T, heads, dim]
    if (rope.getDim() != width) {
      turned = b.insert(turned, b.convertTensor(x, out), {zero, zero, offset}, rotarySizes);
    }
    rewriter.replaceOp(op, b.castTo(b.joinFrom(turned, 1), op.getType()));
    return success();
  }
};

} // namespace

void moe::populateRopePatterns(RewritePatternSet &patterns) { patterns.add<LowerRope>(patterns.getContext()); }
