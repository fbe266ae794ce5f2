//===- MoeRanks.h - How a module says that several ranks run it -------------===//
//
// A module with `moe.ranks = R` is run by R ranks at the same time. With
// `moe.distributed` every rank has its own tokens, states and logits; without it
// all have the same tokens and compute the same logits.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RANKS_H
#define MOE_RANKS_H

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinOps.h"

namespace mlir::moe {

constexpr llvm::StringLiteral kRanksAttr = "moe.ranks";
constexpr llvm::StringLiteral kDistributedAttr = "moe.distributed";
/// On a private function: it is what @step is, for steps of at least so many tokens.
constexpr llvm::StringLiteral kStepFromAttr = "moe.step_from";

/// The number of ranks that a module is for.
inline int64_t getRanks(ModuleOp module) {
  auto ranks = module->getAttrOfType<IntegerAttr>(kRanksAttr);
  return ranks ? ranks.getInt() : 1;
}

} // namespace mlir::moe

#endif // MOE_RANKS_H
