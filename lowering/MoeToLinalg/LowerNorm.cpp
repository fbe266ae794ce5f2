//===- LowerNorm.cpp - moe.rms_norm as linalg -------------------------------===//

#include "lowering/MoeToLinalg/LinalgBuilder.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

struct LowerRMSNorm : OpRewritePattern<RMSNormOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(RMSNormOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    Type acc = accumulatorType(elementOf(op.getX())), out = elementOf(op.getResult());
    int64_t groups = static_cast<int64_t>(op.getGroups());
    int64_t width = op.getX().getType().getDimSize(1) / groups;
    bool roundFirst = op.getRounding() == ScaleRounding::BeforeWeight;

    Value x = b.splitLast(op.getX(), {groups, width}); // [T, groups, width]
    OpFoldResult tokens = b.size(op.getX(), 0);
    Value squares = b.fill({tokens, b.getIndexAttr(groups)}, b.constant(acc, 0.0));
    squares = b.loops({{x, {0, 1, 2}}}, squares, {0, 1}, 3, [&](LinalgBuilder &b, ValueRange args) {
      Value element = b.convert(args[0], acc);
      Value square = b.mul(element, element);
      return b.add(args[1], square);
    });
    Value root = b.elementwise(squares, acc, [&](LinalgBuilder &b, ValueRange args) -> Value {
      Value mean = b.div(args[0], b.constant(acc, static_cast<double>(width)));
      Value shifted = b.add(mean, b.constant(acc, op.getEps().convertToDouble()));
      return math::SqrtOp::create(b, shifted);
    });
    Value result = b.loops({{x, {0, 1, 2}}, {root, {0, 1}}, {op.getWeight(), {2}}}, b.empty(b.sizes(x), out), {0, 1, 2},
                           3, [&](LinalgBuilder &b, ValueRange args) {
                             Value normed = b.div(b.convert(args[0], acc), args[1]);
                             if (roundFirst) {
                               normed = b.convert(b.convert(normed, out), acc);
                             }
                             Value weight = b.convert(args[2], acc);
                             return b.convert(b.mul(normed, weight), out);
                           });
    rewriter.replaceOp(op, b.castTo(b.joinFrom(result, 1), op.getType()));
    return success();
  }
};

} // namespace

void moe::populateNormPatterns(RewritePatternSet &patterns) { patterns.add<LowerRMSNorm>(patterns.getContext()); }
