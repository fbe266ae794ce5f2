//===- LowerExperts.cpp - moe.experts and moe.combine as linalg -------------===//
//
// Routed (token, choice) pairs are put in order of their expert; a loop over
// the experts that have any then runs the FFN on each expert's slice of rows,
// with its slice of the stacked weights. Weights are never gathered, and an
// expert without tokens is not touched. Example, E = 3, K = 2, ids
// [[2, 0], [0, -1], [2, 0]]:
//
//   pairs     p       0  1  2  3  4  5      (token p / K, choice p % K)
//   expert    id[p]   2  0  0 -1  2  0
//   offsets           0 (expert 0), 3 (1), 3 (2), 5 (end)
//   slot      s[p]    3  0  1  -  4  2      (offset + earlier pairs of the same expert)
//   order     p[s]    1  2  5  0  4
//   busy              0  2                  (numBusy 2: expert 1 has no token)
//
// The loop runs over `busy` and has no scf.if: IREE does not find the dynamic
// sizes of an scf.if's results.
//
//===----------------------------------------------------------------------===//

#include "lowering/MoeToLinalg/LinalgBuilder.h"

using namespace mlir;
using namespace mlir::moe;

/// Adds 1 to `count` where `condition` holds.
static Value countIf(LinalgBuilder &b, Value condition, Value count) {
  Value one = arith::ExtUIOp::create(b, count.getType(), condition);
  return arith::AddIOp::create(b, count, one);
}

/// True if the pair has an expert.
static Value isRouted(LinalgBuilder &b, Value id) {
  return b.compare(arith::CmpIPredicate::sge, id, b.constantInt(id.getType(), 0));
}

namespace {

/// Where the routed pairs of a step go.
struct Dispatch {
  Value offsets; // [E + 1]: first row of every expert, and the number of rows
  Value slots;   // [P]: row of a pair
  Value order;   // [P]: pair of a row
  Value busy;    // [E]: experts that have rows, ascending; what follows is unspecified
  Value numBusy; // how many
};

/// Fills in `busy` and `numBusy` from `offsets`.
void findBusyExperts(LinalgBuilder &b, Dispatch &dispatch, int64_t experts) {
  Type i32 = b.getI32Type();
  Value zero = b.constantInt(i32, 0);
  OpFoldResult count = b.getIndexAttr(experts);
  Value begins = b.slice(dispatch.offsets, {b.getIndexAttr(0)}, {count}),
        ends = b.slice(dispatch.offsets, {b.getIndexAttr(1)}, {count});
  // before[e]: busy experts below e; before[E]: all of them.
  Value before = b.fill({b.getIndexAttr(experts + 1)}, zero);
  before = b.loops({{begins, {1}}, {ends, {1}}}, before, {0}, 2, [&](LinalgBuilder &b, ValueRange args) {
    Value hasRows = b.compare(arith::CmpIPredicate::sgt, args[1], args[0]);
    Value expert = b.loopIndex(0), other = b.loopIndex(1);
    Value lower = b.compare(arith::CmpIPredicate::ult, other, expert);
    Value counted = arith::AndIOp::create(b, hasRows, lower);
    return countIf(b, counted, args[2]);
  });
  Value places = b.slice(before, {b.getIndexAttr(0)}, {count});
  dispatch.busy = b.loops({{begins, {1}}, {ends, {1}}, {places, {1}}}, b.fill({count}, zero), {0}, 2,
                          [&](LinalgBuilder &b, ValueRange args) {
                            Value hasRows = b.compare(arith::CmpIPredicate::sgt, args[1], args[0]);
                            Value place = b.asInt(b.loopIndex(0), i32);
                            Value here = b.compare(arith::CmpIPredicate::eq, args[2], place);
                            Value taken = arith::AndIOp::create(b, hasRows, here);
                            Value expert = b.asInt(b.loopIndex(1), i32);
                            return b.select(taken, expert, args[3]);
                          });
  dispatch.numBusy = b.asIndex(b.extract(before, b.index(experts)));
}

/// `ids` [P] to rows in order of expert, pairs of one expert in their own order.
Dispatch buildDispatch(LinalgBuilder &b, Value ids, int64_t experts) {
  Type i32 = b.getI32Type();
  OpFoldResult pairs = b.size(ids, 0);
  Value zero = b.constantInt(i32, 0);
  Dispatch result;
  result.offsets = b.loops(
      {{ids, {1}}}, b.fill({b.getIndexAttr(experts + 1)}, zero), {0}, 2, [&](LinalgBuilder &b, ValueRange args) {
        Value expert = b.asInt(b.loopIndex(0), i32);
        Value lower = b.compare(arith::CmpIPredicate::slt, args[0], expert), routed = isRouted(b, args[0]);
        Value before = arith::AndIOp::create(b, lower, routed);
        return countIf(b, before, args[1]);
      });
  result.slots =
      b.loops({{ids, {0}}, {ids, {1}}}, b.fill({pairs}, zero), {0}, 2, [&](LinalgBuilder &b, ValueRange args) {
        Value lower = b.compare(arith::CmpIPredicate::slt, args[1], args[0]);
        Value same = b.compare(arith::CmpIPredicate::eq, args[1], args[0]);
        Value own = b.loopIndex(0), other = b.loopIndex(1);
        Value earlier = b.compare(arith::CmpIPredicate::ult, other, own);
        Value sameEarlier = arith::AndIOp::create(b, same, earlier);
        Value first = arith::OrIOp::create(b, lower, sameEarlier);
        Value routed = isRouted(b, args[1]);
        Value before = arith::AndIOp::create(b, first, routed);
        return countIf(b, before, args[2]);
      });
  result.order =
      b.loops({{ids, {1}}, {result.slots, {1}}}, b.fill({pairs}, zero), {0}, 2, [&](LinalgBuilder &b, ValueRange args) {
        Value row = b.asInt(b.loopIndex(0), i32);
        Value here = b.compare(arith::CmpIPredicate::eq, args[1], row), routed = isRouted(b, args[0]);
        Value taken = arith::AndIOp::create(b, here, routed);
        Value pair = b.asInt(b.loopIndex(1), i32);
        return b.select(taken, pair, args[2]);
      });
  findBusyExperts(b, result, experts);
  return result;
}

struct LowerExperts : OpRewritePattern<ExpertsOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ExpertsOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    int64_t experts = op.getUp().getType().getDimSize(0), choices = op.getExperts().getType().getDimSize(1);
    int64_t width = op.getDown().getType().getDimSize(1);
    Type element = elementOf(op.getX()), out = elementOf(op.getResult());

    Value ids = b.joinFrom(op.getExperts(), 0);
    Dispatch dispatch = buildDispatch(b, ids, experts);
    OpFoldResult pairs = b.size(ids, 0), inputWidth = b.size(op.getX(), 1);
    Value sorted = b.loops({{dispatch.order, {0}}}, b.empty({pairs, inputWidth}, element), {0, 1}, 2,
                           [&](LinalgBuilder &b, ValueRange args) {
                             Value pair = b.asIndex(args[0]);
                             Value token = arith::DivUIOp::create(b, pair, b.index(choices));
                             Value column = b.loopIndex(1);
                             return b.extract(op.getX(), {token, column});
                           });

    Value rows = b.fill({pairs, b.getIndexAttr(width)}, b.constant(out, 0.0));
    Value first = b.index(0), step = b.index(1);
    auto loop = scf::ForOp::create(b, first, dispatch.numBusy, step, ValueRange(rows),
                                   [&](OpBuilder &nested, Location loc, Value i, ValueRange carried) {
                                     LinalgBuilder inner(loc, nested);
                                     Value expert = inner.asIndex(inner.extract(dispatch.busy, i));
                                     Value next =
                                         runExpert(inner, op, expert, dispatch.offsets, sorted, carried.front());
                                     scf::YieldOp::create(inner, next);
                                   });

    // Back to [T, K, H]: the row of every pair, 0 for a pair without an expert.
    OpFoldResult tokens = b.size(op.getX(), 0);
    Value done = loop.getResult(0);
    Sizes resultSizes = {tokens, b.getIndexAttr(choices), b.getIndexAttr(width)};
    Value result = b.loops({{op.getExperts(), {0, 1}}}, b.empty(resultSizes, out), {0, 1, 2}, 3,
                           [&](LinalgBuilder &b, ValueRange args) {
                             Value routed = isRouted(b, args[0]);
                             Value token = b.loopIndex(0), choice = b.loopIndex(1), column = b.loopIndex(2);
                             Value firstPair = arith::MulIOp::create(b, token, b.index(choices));
                             Value pair = arith::AddIOp::create(b, firstPair, choice);
                             Value row = b.asIndex(b.extract(dispatch.slots, pair));
                             Value value = b.extract(done, {row, column});
                             return b.select(routed, value, b.constant(out, 0.0));
                           });
    rewriter.replaceOp(op, b.castTo(result, op.getType()));
    return success();
  }

private:
  /// `rows` with those of `expert` computed.
  static Value runExpert(LinalgBuilder &b, ExpertsOp op, Value expert, Value offsets, Value sorted, Value rows) {
    Value next = arith::AddIOp::create(b, expert, b.index(1));
    Value begin = b.asIndex(b.extract(offsets, expert));
    Value end = b.asIndex(b.extract(offsets, next));
    Value count = arith::SubIOp::create(b, end, begin);
    OpFoldResult zero = b.getIndexAttr(0), one = b.getIndexAttr(1), inputWidth = b.size(sorted, 1),
                 width = b.size(rows, 1);
    auto weightOf = [&](Value stacked) {
      if (!stacked) {
        return Value();
      }
      Sizes sizes = b.sizes(stacked), offsets(sizes.size(), zero);
      sizes[0] = one;
      offsets[0] = expert;
      return b.slice(stacked, offsets, sizes, 0);
    };
    FFNWeights weights;
    weights.gate = weightOf(op.getGate());
    weights.up = weightOf(op.getUp());
    weights.down = weightOf(op.getDown());
    weights.gateBias = weightOf(op.getGateBias());
    weights.upBias = weightOf(op.getUpBias());
    weights.downBias = weightOf(op.getDownBias());
    Value x = b.slice(sorted, {begin, zero}, {count, inputWidth});
    Value sum =
        buildFFN(b, x, weights, op.getActivation(), op.getAlpha().convertToDouble(), op.getLimit().convertToDouble());
    Value y = b.convertTensor(sum, elementOf(rows));
    return b.insert(y, rows, {begin, zero}, {count, width});
  }
};

struct LowerCombine : OpRewritePattern<CombineOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(CombineOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    Type acc = accumulatorType(elementOf(op.getY())), out = elementOf(op.getResult());
    OpFoldResult tokens = b.size(op.getY(), 0), width = b.size(op.getY(), 2);
    Value zeros = b.fill({tokens, width}, b.constant(acc, 0.0));
    // Loops (token, column, k).
    Value sum = b.loops({{op.getY(), {0, 2, 1}}, {op.getWeights(), {0, 2}}}, zeros, {0, 1}, 3,
                        [&](LinalgBuilder &b, ValueRange args) {
                          Value y = b.convert(args[0], acc), weight = b.convert(args[1], acc);
                          Value term = b.mul(weight, y);
                          return b.add(args[2], term);
                        });
    rewriter.replaceOp(op, b.castTo(b.convertTensor(sum, out), op.getType()));
    return success();
  }
};

} // namespace

void moe::populateExpertPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerExperts, LowerCombine>(patterns.getContext());
}
