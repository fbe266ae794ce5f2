//===- LinalgBuilder.h - Short forms for scalar and tensor code -------------===//
//
// What the lowerings of this folder are written in. A tensor computation is a
// list of operands with the loop dims they are indexed by, and a scalar body:
//
//   y[t, n] = sum_k x[t, k] w[n, k]      loops (t, n, k) = (0, 1, 2)
//   b.loops({{x, {0, 2}}, {w, {1, 2}}}, b.fill({T, N}, zero), {0, 1}, 3, body)
//
// A loop dim that the result lacks is a reduction. Bodies create their ops in
// named locals, so that the text does not depend on the order in which a C++
// compiler evaluates arguments.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LINALG_BUILDER_H
#define MOE_LINALG_BUILDER_H

#include "dialects/Moe/IR/MoeOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/PatternMatch.h"

namespace mlir::moe {

/// Sizes of a tensor, static ones as attributes.
using Sizes = llvm::SmallVector<OpFoldResult>;

class LinalgBuilder : public ImplicitLocOpBuilder {
public:
  using ImplicitLocOpBuilder::ImplicitLocOpBuilder;

  /// A tensor and the loop dims that index it.
  struct Operand {
    Value tensor;
    llvm::SmallVector<unsigned> dims;
  };
  /// Makes the new value of the result's element from the operands' elements and, last, its current value.
  using Body = llvm::function_ref<Value(LinalgBuilder &, ValueRange)>;

  //===- scalars ----------------------------------------------------------===//

  Value index(int64_t value);
  Value constant(Type type, double value);
  Value constantInt(Type type, int64_t value);
  Value negativeInfinity(Type type);
  /// An i32 (or other integer) as index.
  Value asIndex(Value integer);
  /// An index as `type`.
  Value asInt(Value index, Type type);
  /// `value` in the floating-point type `type`, rounded to nearest even.
  Value convert(Value value, Type type);
  Value add(Value a, Value b);
  Value sub(Value a, Value b);
  Value mul(Value a, Value b);
  Value div(Value a, Value b);
  Value max(Value a, Value b);
  Value exp(Value a);
  Value compare(arith::CmpFPredicate predicate, Value a, Value b);
  Value compare(arith::CmpIPredicate predicate, Value a, Value b);
  Value select(Value condition, Value yes, Value no);
  /// 1 / (1 + exp(-x))
  Value sigmoid(Value x);
  /// The loop dim `dim` inside a body.
  Value loopIndex(int64_t dim);

  //===- tensors ----------------------------------------------------------===//

  Sizes sizes(Value tensor);
  OpFoldResult size(Value tensor, int64_t dim);
  /// A size as an index value.
  Value asValue(OpFoldResult size);
  Value empty(llvm::ArrayRef<OpFoldResult> sizes, Type element);
  Value fill(llvm::ArrayRef<OpFoldResult> sizes, Value scalar);
  /// One linalg.generic over `numLoops` loops; `resultDims` index `init` and the result.
  Value loops(llvm::ArrayRef<Operand> operands, Value init, llvm::ArrayRef<unsigned> resultDims, unsigned numLoops,
              Body body);
  /// Element by element: every operand has the shape of the first.
  Value elementwise(ValueRange operands, Type element, Body body);
  /// `tensor` with elements of type `element`; itself if they already are.
  Value convertTensor(Value tensor, Type element);
  /// The slice [offsets, offsets + sizes), without the dim `dropped`, which must have size 1. It is dropped by a
  /// collapse: a rank-reducing slice does not say which dim goes when several have size 1, and clean-up may choose
  /// another.
  Value slice(Value tensor, llvm::ArrayRef<OpFoldResult> offsets, llvm::ArrayRef<OpFoldResult> sizes,
              std::optional<unsigned> dropped = std::nullopt);
  /// `into` with `part`, which lacks the dim `dropped`, written at [offsets, offsets + sizes).
  Value insert(Value part, Value into, llvm::ArrayRef<OpFoldResult> offsets, llvm::ArrayRef<OpFoldResult> sizes,
               std::optional<unsigned> dropped = std::nullopt);
  /// [a, b * c * ...] as [a, b, c, ...]: the last dim of `tensor` cut into static `parts`.
  Value splitLast(Value tensor, llvm::ArrayRef<int64_t> parts);
  /// The inverse: the dims from `first` on joined into one.
  Value joinFrom(Value tensor, int64_t first);
  /// `tensor` as `type`, which may differ in which sizes are static.
  Value castTo(Value tensor, Type type);
  /// The element at `indices`.
  Value extract(Value tensor, ValueRange indices);

  //===- what several families need ---------------------------------------===//

  /// y[t, n] = sum_k x[t, k] weight[n, k] + bias[n] (bias may be null), in `acc`.
  Value project(Value x, Value weight, Value bias, Type acc);
};

/// The type sums are kept in: f64 for f64 operands, else f32.
Type accumulatorType(Type element);

/// The element type of a tensor value.
inline Type elementOf(Value tensor) { return llvm::cast<RankedTensorType>(tensor.getType()).getElementType(); }

/// The weights of one feed-forward network: gate and the biases may be null.
struct FFNWeights {
  Value gate, up, down, gateBias, upBias, downBias;
};

/// The FFN of moe.ffn on x [T, H], with elements in the accumulator type of x.
Value buildFFN(LinalgBuilder &b, Value x, const FFNWeights &weights, Activation activation, double alpha, double limit);

/// The result of an attention op and the caches after it.
struct AttentionValues {
  Value result, keys, values;
};

/// Lowers `op` before itself, with the caches `keys` and `values`.
AttentionValues buildAttention(RewriterBase &rewriter, AttentionOp op, Value keys, Value values);

/// Patterns, one function per family. They take whatever the verifiers let through. moe.attention, moe.get_weight and
/// moe.state are lowered by the pass.
void populateNormPatterns(RewritePatternSet &patterns);
void populateLinearPatterns(RewritePatternSet &patterns);
void populateRopePatterns(RewritePatternSet &patterns);
void populateFFNPatterns(RewritePatternSet &patterns);
void populateRoutingPatterns(RewritePatternSet &patterns);
void populateExpertPatterns(RewritePatternSet &patterns);
void populateWeightPatterns(RewritePatternSet &patterns);

} // namespace mlir::moe

#endif // MOE_LINALG_BUILDER_H
