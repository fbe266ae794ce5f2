//===- LowerFFN.cpp - moe.ffn as linalg -------------------------------------===//
//
// buildFFN is shared with moe.experts, whose experts are the same network.
//
//===----------------------------------------------------------------------===//

#include "lowering/MoeToLinalg/LinalgBuilder.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;

/// min(x, high), and at least `low` if given.
static Value clamp(LinalgBuilder &b, Value x, std::optional<double> low, double high) {
  Type type = x.getType();
  Value result = arith::MinimumFOp::create(b, x, b.constant(type, high));
  return low ? b.max(result, b.constant(type, *low)) : result;
}

/// act(x) for the activations of one argument.
static Value activate(LinalgBuilder &b, Value x, Activation activation) {
  Type type = x.getType();
  switch (activation) {
  case Activation::Silu:
    return b.mul(x, b.sigmoid(x));
  case Activation::Relu:
    return b.max(x, b.constant(type, 0.0));
  case Activation::Gelu: {
    Value scaled = b.mul(x, b.constant(type, M_SQRT1_2));
    Value erf = math::ErfOp::create(b, scaled);
    Value half = b.mul(x, b.constant(type, 0.5));
    return b.mul(half, b.add(erf, b.constant(type, 1.0)));
  }
  case Activation::GeluTanh: {
    Value square = b.mul(x, x);
    Value cube = b.mul(square, x);
    Value inner = b.add(x, b.mul(cube, b.constant(type, 0.044715)));
    Value tanh = math::TanhOp::create(b, b.mul(inner, b.constant(type, M_2_SQRTPI * M_SQRT1_2)));
    Value half = b.mul(x, b.constant(type, 0.5));
    return b.mul(half, b.add(tanh, b.constant(type, 1.0)));
  }
  case Activation::OssSwiglu:
    break; // gated: activateGated
  }
  return x;
}

/// act(gate) * up, or gpt-oss's clamped form.
static Value activateGated(LinalgBuilder &b, Value gate, Value up, Activation activation, double alpha, double limit) {
  if (activation != Activation::OssSwiglu) {
    return b.mul(activate(b, gate, activation), up);
  }
  Type type = gate.getType();
  Value g = clamp(b, gate, std::nullopt, limit);
  Value u = clamp(b, up, -limit, limit);
  Value gated = b.mul(g, b.sigmoid(b.mul(g, b.constant(type, alpha))));
  return b.mul(gated, b.add(u, b.constant(type, 1.0)));
}

Value moe::buildFFN(LinalgBuilder &b, Value x, const FFNWeights &weights, Activation activation, double alpha,
                    double limit) {
  Type element = elementOf(x), acc = accumulatorType(element);
  Value up = b.project(x, weights.up, weights.upBias, acc);
  Value hidden;
  if (weights.gate) {
    Value gate = b.project(x, weights.gate, weights.gateBias, acc);
    hidden = b.elementwise({gate, up}, element, [&](LinalgBuilder &b, ValueRange args) {
      return b.convert(activateGated(b, args[0], args[1], activation, alpha, limit), element);
    });
  } else {
    hidden = b.elementwise(up, element, [&](LinalgBuilder &b, ValueRange args) {
      return b.convert(activate(b, args[0], activation), element);
    });
  }
  return b.project(hidden, weights.down, weights.downBias, acc);
}

namespace {

struct LowerFFN : OpRewritePattern<FFNOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(FFNOp op, PatternRewriter &rewriter) const override {
    LinalgBuilder b(op.getLoc(), rewriter);
    FFNWeights weights{op.getGate(), op.getUp(), op.getDown(), op.getGateBias(), op.getUpBias(), op.getDownBias()};
    Value sum = buildFFN(b, op.getX(), weights, op.getActivation(), op.getAlpha().convertToDouble(),
                         op.getLimit().convertToDouble());
    Value result = b.convertTensor(sum, elementOf(op.getResult()));
    rewriter.replaceOp(op, b.castTo(result, op.getType()));
    return success();
  }
};

} // namespace

void moe::populateFFNPatterns(RewritePatternSet &patterns) { patterns.add<LowerFFN>(patterns.getContext()); }
