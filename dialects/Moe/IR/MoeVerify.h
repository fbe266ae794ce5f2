//===- MoeVerify.h - Checks that the verifiers of all families share --------===//
//
// Every message has one form: what it is (actual) must equal the rule (expected).
// Only for the verifiers of this folder.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_VERIFY_H
#define MOE_VERIFY_H

#include "dialects/Moe/IR/MoeOps.h"

namespace mlir::moe {

/// A dim of a type: printed as `?` when it is dynamic.
struct Dim {
  int64_t value;
};
inline Diagnostic &operator<<(Diagnostic &diag, Dim dim) {
  return ShapedType::isDynamic(dim.value) ? diag << "?" : diag << dim.value;
}

/// Fails unless `actual` is `expected`: "<what> (actual) must equal <rule> (expected)".
LogicalResult checkEqual(Operation *op, const Twine &what, int64_t actual, const Twine &rule, int64_t expected);

/// Fails unless the tensor `value` has the dims `expected`; notes name both shapes. `shape` spells them, as in "[T,
/// H]". For a value that is absent: success.
LogicalResult checkShape(Operation *op, StringRef name, Value value, StringRef shape, ArrayRef<int64_t> expected);

/// The rules on `dim` and the types of ops that take a part of a weight along one dim: moe.part and moe.shard.
LogicalResult checkPartAlong(Operation *op, int64_t dim, RankedTensorType whole, RankedTensorType result);

/// The rules on gate, alpha and limit that moe.ffn and moe.experts share.
LogicalResult checkGateAndLimit(Operation *op, Value gate, Value gateBias, Activation activation, FloatAttr alpha,
                                FloatAttr limit);

/// The length of dimension `dim` of `value`.
inline int64_t dimOf(Value value, unsigned dim) { return llvm::cast<ShapedType>(value.getType()).getDimSize(dim); }

/// The element type of `value`.
inline Type elementOf(Value value) { return llvm::cast<ShapedType>(value.getType()).getElementType(); }

} // namespace mlir::moe

#endif // MOE_VERIFY_H
