//===- LowerRouting.cpp - moe.route as linalg -------------------------------===//
//
// No sort: the rank of an entry is the number of entries that beat it, where a
// beats b if a > b, or a == b and a has the lower index. Ranks are a
// permutation, so "the K best in order" is "the entries of rank 0 .. K-1", and
// ties go to the lower index by construction. Example: c = [3, 5, 5, 1] has
// ranks [2, 0, 1, 3]; the best two are experts 1, 2.
//
//===----------------------------------------------------------------------===//

#include "lowering/MoeToLinalg/LinalgBuilder.h"

using namespace mlir;
using namespace mlir::moe;

/// rank[..., i] of `values` [outer..., N] among the N entries of its row, as i32.
static Value rankRows(LinalgBuilder &b, Value values) {
  Type i32 = b.getI32Type();
  unsigned inner = llvm::cast<RankedTensorType>(values.getType()).getRank() - 1, other = inner + 1;
  SmallVector<unsigned> own = llvm::to_vector(llvm::seq<unsigned>(0, inner + 1)), rival = own;
  rival[inner] = other;
  Value zeros = b.fill(b.sizes(values), b.constantInt(i32, 0));
  return b.loops({{values, own}, {values, rival}}, zeros, own, inner + 2, [&](LinalgBuilder &b, ValueRange args) {
    Value larger = b.compare(arith::CmpFPredicate::OGT, args[1], args[0]);
    Value equal = b.compare(arith::CmpFPredicate::OEQ, args[1], args[0]);
    Value ownIndex = b.loopIndex(inner), rivalIndex = b.loopIndex(other);
    Value earlier = b.compare(arith::CmpIPredicate::ult, rivalIndex, ownIndex);
    Value tied = arith::AndIOp::create(b, equal, earlier);
    Value beaten = arith::OrIOp::create(b, larger, tied);
    Value one = arith::ExtUIOp::create(b, i32, beaten);
    return Value(arith::AddIOp::create(b, args[2], one));
  });
}

/// The sum, or the maximum, of the last dim of `values` [outer..., N].
static Value reduceLast(LinalgBuilder &b, Value values, bool maximum) {
  unsigned rank = llvm::cast<RankedTensorType>(values.getType()).getRank();
  SmallVector<unsigned> all = llvm::to_vector(llvm::seq<unsigned>(0, rank));
  Sizes shape = b.sizes(values);
  shape.pop_back();
  Type type = elementOf(values);
  Value start = maximum ? b.negativeInfinity(type) : b.constant(type, 0.0);
  return b.loops(
      {{values, all}}, b.fill(shape, start), ArrayRef(all).drop_back(), rank,
      [&](LinalgBuilder &b, ValueRange args) { return maximum ? b.max(args[0], args[1]) : b.add(args[1], args[0]); });
}

/// softmax over the last dim of [T, N].
static Value softmaxRows(LinalgBuilder &b, Value values) {
  Type type = elementOf(values);
  Value largest = reduceLast(b, values, /*maximum=*/true);
  Value powers = b.loops({{values, {0, 1}}, {largest, {0}}}, b.empty(b.sizes(values), type), {0, 1}, 2,
                         [&](LinalgBuilder &b, ValueRange args) { return b.exp(b.sub(args[0], args[1])); });
  Value sum = reduceLast(b, powers, /*maximum=*/false);
  return b.loops({{powers, {0, 1}}, {sum, {0}}}, b.empty(b.sizes(values), type), {0, 1}, 2,
                 [&](LinalgBuilder &b, ValueRange args) { return b.div(args[0], args[1]); });
}

/// `choices` [T, E] with -inf for every expert outside the `keep` best of `groups` groups.
static Value maskGroups(LinalgBuilder &b, Value choices, int64_t groups, int64_t keep, GroupScore kind) {
  Type type = elementOf(choices), i32 = b.getI32Type();
  int64_t size = llvm::cast<RankedTensorType>(choices.getType()).getDimSize(1) / groups;
  Value grouped = b.splitLast(choices, {groups, size}); // [T, groups, size]
  Value scores;
  if (kind == GroupScore::Max) {
    scores = reduceLast(b, grouped, /*maximum=*/true);
  } else {
    Value ranks = rankRows(b, grouped);
    Sizes shape = b.sizes(grouped);
    shape.pop_back();
    Value zeros = b.fill(shape, b.constant(type, 0.0));
    scores =
        b.loops({{grouped, {0, 1, 2}}, {ranks, {0, 1, 2}}}, zeros, {0, 1}, 3, [&](LinalgBuilder &b, ValueRange args) {
          Value best = b.compare(arith::CmpIPredicate::slt, args[1], b.constantInt(i32, 2));
          Value more = b.add(args[2], args[0]);
          return b.select(best, more, args[2]);
        });
  }
  Value groupRanks = rankRows(b, scores);
  Value masked = b.loops({{grouped, {0, 1, 2}}, {groupRanks, {0, 1}}}, b.empty(b.sizes(grouped), type), {0, 1, 2}, 3,
                         [&](LinalgBuilder &b, ValueRange args) {
                           Value kept = b.compare(arith::CmpIPredicate::slt, args[1], b.constantInt(i32, keep));
                           return b.select(kept, args[0], b.negativeInfinity(type));
                         });
  return b.joinFrom(masked, 1);
}

namespace {

struct LowerRoute : OpRewritePattern<RouteOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(RouteOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    Type i32 = b.getI32Type(), out = elementOf(op.getWeights());
    const int64_t routers = static_cast<int64_t>(op.getRouters()), k = static_cast<int64_t>(op.getK());
    const int64_t experts = llvm::cast<RankedTensorType>(op.getLogits().getType()).getDimSize(1) / routers;
    if (routers == 1) {
      auto [ids, weights] = chooseExperts(b, op, op.getLogits(), op.getBias());
      finish(b, rewriter, op, ids, weights);
      return success();
    }
    // Each router by itself, on its columns of the logits; its choices are columns of the result.
    OpFoldResult tokens = b.size(op.getLogits(), 0), zero = b.getIndexAttr(0), own = b.getIndexAttr(experts);
    Sizes all = {tokens, b.getIndexAttr(k)}, each = {tokens, b.getIndexAttr(k / routers)};
    Value allIds = b.empty(all, i32), allWeights = b.empty(all, out);
    for (int64_t router = 0; router < routers; ++router) {
      const int64_t first = router * experts;
      OpFoldResult from = b.getIndexAttr(first), column = b.getIndexAttr(router * (k / routers));
      Value logits = b.slice(op.getLogits(), {zero, from}, {tokens, own});
      Value bias = op.getBias() ? b.slice(op.getBias(), {from}, {own}) : Value();
      auto [ids, weights] = chooseExperts(b, op, logits, bias);
      Value numbered = b.elementwise(ids, i32, [&](LinalgBuilder &b, ValueRange args) {
        return Value(arith::AddIOp::create(b, args[0], b.constantInt(i32, first)));
      });
      allIds = b.insert(numbered, allIds, {zero, column}, each);
      allWeights = b.insert(weights, allWeights, {zero, column}, each);
    }
    finish(b, rewriter, op, allIds, allWeights);
    return success();
  }

private:
  static void finish(LinalgBuilder &b, PatternRewriter &rewriter, RouteOp op, Value ids, Value weights) {
    Value idsResult = b.castTo(ids, op.getExperts().getType()),
          weightsResult = b.castTo(weights, op.getWeights().getType());
    rewriter.replaceOp(op, {idsResult, weightsResult});
  }

  /// What one router of `op` makes of its logits: ids of its own experts, and weights.
  static std::pair<Value, Value> chooseExperts(LinalgBuilder &b, RouteOp op, Value logits, Value bias) {
    Type acc = elementOf(logits), out = elementOf(op.getWeights());
    int64_t chosen = static_cast<int64_t>(op.getK() / op.getRouters());
    OpFoldResult tokens = b.size(logits, 0);
    Sizes chosenSizes = {tokens, b.getIndexAttr(chosen)};

    Value scores = logits;
    if (op.getScore() == Score::Softmax) {
      scores = softmaxRows(b, scores);
    } else if (op.getScore() == Score::Sigmoid) {
      scores = b.elementwise(scores, acc, [](LinalgBuilder &b, ValueRange args) { return b.sigmoid(args[0]); });
    }
    Value choices = buildChoices(b, scores, bias);
    if (op.getGroups() > 1) {
      choices = maskGroups(b, choices, static_cast<int64_t>(op.getGroups()), static_cast<int64_t>(op.getKeepGroups()),
                           op.getGroupScore());
    }
    Value ranks = rankRows(b, choices);

    // Loops (token, k, e): the entry of rank k is taken, the others leave the value as it is.
    Type i32 = b.getI32Type();
    auto takeRank = [](LinalgBuilder &b, Value rank) {
      Value wanted = b.asInt(b.loopIndex(1), b.getI32Type());
      return b.compare(arith::CmpIPredicate::eq, rank, wanted);
    };
    Value ids = b.fill(chosenSizes, b.constantInt(i32, 0));
    ids = b.loops({{ranks, {0, 2}}}, ids, {0, 1}, 3, [&](LinalgBuilder &b, ValueRange args) {
      Value taken = takeRank(b, args[0]);
      Value expert = b.asInt(b.loopIndex(2), i32);
      return b.select(taken, expert, args[1]);
    });
    Value weights = b.fill(chosenSizes, b.constant(acc, 0.0));
    weights = b.loops({{ranks, {0, 2}}, {scores, {0, 2}}}, weights, {0, 1}, 3, [&](LinalgBuilder &b, ValueRange args) {
      Value taken = takeRank(b, args[0]);
      return b.select(taken, args[1], args[2]);
    });
    weights = renormalize(b, weights, op);
    double scale = op.getScale().convertToDouble();
    weights = b.elementwise(weights, out, [&](LinalgBuilder &b, ValueRange args) {
      Value scaled = scale == 1.0 ? args[0] : b.mul(args[0], b.constant(acc, scale));
      return b.convert(scaled, out);
    });
    return {ids, weights};
  }

  /// What is compared: score + bias. A NaN counts as -inf, so that ranks stay a permutation and ids stay in range.
  static Value buildChoices(LinalgBuilder &b, Value scores, Value bias) {
    Type acc = elementOf(scores);
    SmallVector<LinalgBuilder::Operand> operands = {{scores, {0, 1}}};
    if (bias) {
      operands.push_back({bias, {1}});
    }
    return b.loops(operands, b.empty(b.sizes(scores), acc), {0, 1}, 2, [&](LinalgBuilder &b, ValueRange args) {
      Value choice = bias ? b.add(args[0], b.convert(args[1], acc)) : args[0];
      Value unordered = b.compare(arith::CmpFPredicate::UNO, choice, choice);
      return b.select(unordered, b.negativeInfinity(acc), choice);
    });
  }

  static Value renormalize(LinalgBuilder &b, Value weights, RouteOp op) {
    switch (op.getRenormalize()) {
    case Renormalize::None:
      return weights;
    case Renormalize::Softmax:
      return softmaxRows(b, weights);
    case Renormalize::Sum: {
      Type acc = elementOf(weights);
      double epsilon = op.getEpsilon().convertToDouble();
      Value sum = reduceLast(b, weights, /*maximum=*/false);
      return b.loops({{weights, {0, 1}}, {sum, {0}}}, b.empty(b.sizes(weights), acc), {0, 1}, 2,
                     [&](LinalgBuilder &b, ValueRange args) {
                       Value divisor = epsilon == 0.0 ? args[1] : b.add(args[1], b.constant(acc, epsilon));
                       return b.div(args[0], divisor);
                     });
    }
    }
    return weights;
  }
};

} // namespace

void moe::populateRoutingPatterns(RewritePatternSet &patterns) { patterns.add<LowerRoute>(patterns.getContext()); }
