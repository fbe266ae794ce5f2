//===- LowerWeights.cpp - Computations on weights as tensor ---------------===//

#include "lowering/MoeToLinalg/LinalgBuilder.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

struct LowerPart : OpRewritePattern<PartOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(PartOp op, PatternRewriter &rewriter) const override {
    auto type = llvm::cast<RankedTensorType>(op.getType());
    Sizes offsets(type.getRank(), rewriter.getIndexAttr(0)), strides(type.getRank(), rewriter.getIndexAttr(1));
    offsets[op.getDim()] = rewriter.getIndexAttr(static_cast<int64_t>(op.getFrom()));
    rewriter.replaceOpWithNewOp<tensor::ExtractSliceOp>(
        op, type, op.getWeight(), offsets, getAsIndexOpFoldResult(op.getContext(), type.getShape()), strides);
    return success();
  }
};

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

/// The type in which a computation on weights is done.
Type computeType(Operation *op) {
  for (Value value : llvm::concat<const Value>(llvm::to_vector(op->getOperands()), llvm::to_vector(op->getResults()))) {
    if (elementOf(value).isF64()) {
      return elementOf(value);
    }
  }
  return Float32Type::get(op->getContext());
}

SmallVector<unsigned> allDims(Value tensor) {
  return llvm::to_vector(llvm::seq<unsigned>(0, llvm::cast<RankedTensorType>(tensor.getType()).getRank()));
}

struct LowerScale : OpRewritePattern<ScaleOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ScaleOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    Type acc = computeType(op), out = elementOf(op.getResult());
    SmallVector<unsigned> dims = allDims(op.getWeight());
    SmallVector<unsigned> along{static_cast<unsigned>(op.getDim())};
    SmallVector<LinalgBuilder::Operand> operands{{op.getWeight(), dims}, {op.getBy(), along}};
    if (op.getOver()) {
      operands.push_back({op.getOver(), along});
    }
    Value init = b.empty(b.sizes(op.getWeight()), out);
    Value scaled = b.loops(operands, init, dims, dims.size(), [&](LinalgBuilder &b, ValueRange args) {
      Value factor = b.convert(args[1], acc);
      if (op.getOver()) {
        factor = b.div(factor, b.convert(args[2], acc));
      }
      Value weight = b.convert(args[0], acc);
      return b.convert(b.mul(weight, factor), out);
    });
    rewriter.replaceOp(op, scaled);
    return success();
  }
};

struct LowerFloorMagnitude : OpRewritePattern<FloorMagnitudeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(FloorMagnitudeOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    Type acc = computeType(op), out = elementOf(op.getResult());
    Value result = b.elementwise(op.getWeight(), out, [&](LinalgBuilder &b, ValueRange args) {
      Value value = b.convert(args[0], acc), floor = b.constant(acc, op.getFloor().convertToDouble());
      Value magnitude = math::AbsFOp::create(b, value);
      Value below = b.compare(arith::CmpFPredicate::OLT, magnitude, floor);
      return b.convert(b.select(below, floor, value), out);
    });
    rewriter.replaceOp(op, result);
    return success();
  }
};

struct LowerProduct : OpRewritePattern<ProductOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ProductOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    Type acc = computeType(op);
    Value zero = b.constant(acc, 0.0);
    auto type = llvm::cast<RankedTensorType>(op.getType());
    Value sums = b.fill(getAsIndexOpFoldResult(b.getContext(), type.getShape()), zero);
    // Loops (m, n, k), with the expert in front of them if there are experts.
    const auto lead = static_cast<unsigned>(type.getRank() - 2);
    auto dims = [&](Value operand, unsigned row, unsigned column) {
      SmallVector<unsigned> result;
      if (llvm::cast<RankedTensorType>(operand.getType()).getRank() > 2) {
        result.push_back(0);
      }
      result.append({lead + row, lead + column});
      return result;
    };
    sums = b.loops({{op.getLhs(), dims(op.getLhs(), 0, 2)}, {op.getRhs(), dims(op.getRhs(), 2, 1)}}, sums,
                   dims(op.getResult(), 0, 1), lead + 3, [&](LinalgBuilder &b, ValueRange args) {
                     Value left = b.convert(args[0], acc), right = b.convert(args[1], acc);
                     Value term = b.mul(left, right);
                     return b.add(args[2], term);
                   });
    rewriter.replaceOp(op, b.convertTensor(sums, elementOf(op.getResult())));
    return success();
  }
};

struct LowerSum : OpRewritePattern<SumOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(SumOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    Type acc = computeType(op), out = elementOf(op.getResult());
    Value result = b.elementwise(op.getInputs(), out, [&](LinalgBuilder &b, ValueRange args) {
      Value sum = b.convert(args[0], acc);
      for (Value next : args.slice(1, op.getInputs().size() - 1)) {
        Value term = b.convert(next, acc);
        sum = b.add(sum, term);
      }
      return b.convert(sum, out);
    });
    rewriter.replaceOp(op, result);
    return success();
  }
};

struct LowerPad : OpRewritePattern<PadOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(PadOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    auto type = llvm::cast<RankedTensorType>(op.getType());
    Value zeros =
        b.fill(getAsIndexOpFoldResult(b.getContext(), type.getShape()), b.constant(type.getElementType(), 0.0));
    Sizes offsets(type.getRank(), b.getIndexAttr(0));
    rewriter.replaceOp(op, b.insert(op.getWeight(), zeros, offsets, b.sizes(op.getWeight())));
    return success();
  }
};

} // namespace

void moe::populateWeightPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerPart, LowerConcat, LowerScale, LowerFloorMagnitude, LowerProduct, LowerSum, LowerPad>(
      patterns.getContext());
}
