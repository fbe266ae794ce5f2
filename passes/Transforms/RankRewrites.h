//===- RankRewrites.h - What the passes for several ranks share -------------===//
//
// How the experts of a layer become those of one rank. The passes differ in
// where the tokens are: every rank has its own and they are gathered
// (moe-expert-parallel), or all ranks have the same (moe-tensor-parallel).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_TRANSFORMS_RANKREWRITES_H
#define MOE_PASSES_TRANSFORMS_RANKREWRITES_H

#include "dialects/Moe/IR/MoeOps.h"
#include "dialects/Moe/IR/MoeRanks.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

namespace mlir::moe {

/// @step of a module that is for one rank and is to become one for `ranks`; null, and an error, if it cannot. `pass`
/// names the pass in errors.
func::FuncOp getStepForRanks(ModuleOp module, int64_t ranks, StringRef pass);

/// The experts of a layer and the sum of their results: what is rewritten together.
struct RoutedExperts {
  ExpertsOp experts;
  CombineOp combine;
};

/// All of @step in order; nothing, and an error, if one has a form that cannot be divided among ranks.
FailureOr<SmallVector<RoutedExperts>> findRoutedExperts(func::FuncOp step);

/// The placement of an op's experts: its own, or experts in order. An error if neither is for `ranks`.
FailureOr<PlacementAttr> getPlacement(ExpertsOp op, int64_t ranks);

/// `whole` restricted to the slots of a rank, on rows `x` with `slots` for ids.
Value buildOwnExperts(OpBuilder &b, ExpertsOp whole, PlacementAttr placement, Value x, Value slots);

/// The weighted sums, for the rows of `x`, of those choices in `ids` whose slots are on this rank.
Value buildPartialSums(OpBuilder &b, RoutedExperts layer, PlacementAttr placement, Value x, Value ids, Value weights);

} // namespace mlir::moe

#endif // MOE_PASSES_TRANSFORMS_RANKREWRITES_H
