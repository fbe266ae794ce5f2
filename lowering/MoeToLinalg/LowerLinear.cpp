//===- LowerLinear.cpp - Embedding, linear, add and row gather as linalg ----===//

#include "lowering/MoeToLinalg/LinalgBuilder.h"

using namespace mlir;
using namespace mlir::moe;

/// result[i] = table[ids[i]] with elements of type `element`.
static Value gatherRows(LinalgBuilder &b, Value ids, Value table, Type element) {
  OpFoldResult rows = b.size(ids, 0), width = b.size(table, 1);
  return b.loops({{ids, {0}}}, b.empty({rows, width}, element), {0, 1}, 2, [&](LinalgBuilder &b, ValueRange args) {
    Value row = b.asIndex(args[0]), column = b.loopIndex(1);
    return b.convert(b.extract(table, {row, column}), element);
  });
}

namespace {

struct LowerEmbedding : OpRewritePattern<EmbeddingOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(EmbeddingOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    Value rows = gatherRows(b, op.getTokens(), op.getTable(), elementOf(op.getResult()));
    rewriter.replaceOp(op, b.castTo(rows, op.getType()));
    return success();
  }
};

// ANCHOR: docs/adding-an-op.md quotes this.
struct LowerGatherRows : OpRewritePattern<GatherRowsOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(GatherRowsOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    Value rows = gatherRows(b, op.getRows(), op.getX(), elementOf(op.getResult()));
    rewriter.replaceOp(op, b.castTo(rows, op.getType()));
    return success();
  }
};

struct LowerLinear : OpRewritePattern<LinearOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(LinearOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    Value sum = b.project(op.getX(), op.getWeight(), op.getBias(), accumulatorType(elementOf(op.getX())));
    Value result = b.convertTensor(sum, elementOf(op.getResult()));
    rewriter.replaceOp(op, b.castTo(result, op.getType()));
    return success();
  }
};

struct LowerAdd : OpRewritePattern<AddOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(AddOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    Type left = accumulatorType(elementOf(op.getLhs())), right = accumulatorType(elementOf(op.getRhs()));
    Type acc = left.isF64() ? left : right, out = elementOf(op.getResult());
    Value sum = b.elementwise({op.getLhs(), op.getRhs()}, out, [&](LinalgBuilder &b, ValueRange args) {
      Value lhs = b.convert(args[0], acc), rhs = b.convert(args[1], acc);
      return b.convert(b.add(lhs, rhs), out);
    });
    rewriter.replaceOp(op, b.castTo(sum, op.getType()));
    return success();
  }
};

/// An exchange of one rank with itself. Of more, linalg knows nothing: what is left is diagnosed by the pass.
template <typename Op> struct LowerExchangeOfOne : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;

  LogicalResult matchAndRewrite(Op op, PatternRewriter &rewriter) const override {
    if (op.getRanks() != 1) {
      return rewriter.notifyMatchFailure(op, "is among several ranks");
    }
    rewriter.replaceOp(op, op.getX());
    return success();
  }
};

} // namespace

void moe::populateLinearPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerEmbedding, LowerGatherRows, LowerLinear, LowerAdd, LowerExchangeOfOne<AllReduceOp>,
               LowerExchangeOfOne<AllGatherOp>, LowerExchangeOfOne<ReduceScatterOp>>(patterns.getContext());
}
