//===- LowerWeights.cpp - moe.concat as tensor ------------------------------===//

#include "lowering/MoeToLinalg/LinalgBuilder.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

struct LowerConcat : OpRewritePattern<ConcatOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ConcatOp op, PatternRewriter &rewriter) const override {
    auto type = llvm::cast<RankedTensorType>(op.getType());
    LinalgBuilder b(op.getLoc(), rewriter);
    int64_t dim = static_cast<int64_t>(op.getDim()), begin = 0;
    Value joined = b.empty(getAsIndexOpFoldResult(b.getContext(), type.getShape()), type.getElementType());
    for (Value input : op.getInputs()) {
      Sizes offsets(type.getRank(), b.getIndexAttr(0));
      offsets[dim] = b.getIndexAttr(begin);
      joined = b.insert(input, joined, offsets, b.sizes(input));
      begin += llvm::cast<RankedTensorType>(input.getType()).getDimSize(dim);
    }
    rewriter.replaceOp(op, joined);
    return success();
  }
};

} // namespace

void moe::populateWeightPatterns(RewritePatternSet &patterns) { patterns.add<LowerConcat>(patterns.getContext()); }
