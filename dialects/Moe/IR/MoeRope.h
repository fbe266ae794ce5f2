//===- MoeRope.h - Rotary frequencies of every RoPE kind --------------------===//

#ifndef MOE_ROPE_H
#define MOE_ROPE_H

#include "dialects/Moe/IR/MoeOps.h"

namespace mlir::moe {

/// The dim/2 inverse frequencies of `rope` after scaling (formulas: docs/spec.md, rope), computed in f64.
/// `dynamic` gives those of contexts up to `original_context`.
llvm::SmallVector<double> computeInverseFrequencies(RopeAttr rope);

} // namespace mlir::moe

#endif // MOE_ROPE_H
