//===- Weights.h - Declared weights as tensors, tables and initializers ------===//
//
// A schedule names checkpoint tensors. This gives every weight value of the moe
// level its operand: a tensor, a table with one pointer per expert, or, for a
// computation on weights (moe.concat and its like), the result of an initializer.
// A rank's own rows, or its own experts, are the same operand at a step per rank.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOSCHED_WEIGHTS_H
#define MOE_LOWERING_MOETOSCHED_WEIGHTS_H

#include "dialects/Moe/IR/MoeOps.h"
#include "dialects/Sched/IR/SchedOps.h"
#include "lowering/Kernels/KernelCatalogue.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"
#include <map>

namespace mlir::moe {

class Weights {
public:
  /// Declares tensors and tables at the end of `program`.
  Weights(ModuleOp module, sched::ProgramOp program);

  /// The operand that points at a weight value; an error at `user` if it is none or is stacked.
  FailureOr<Attribute> getTensor(Operation *user, Value weight);
  /// The operand that points at a table of E pointers, one per row of a stacked weight value.
  FailureOr<Attribute> getTable(Operation *user, Value weight);

  /// The tensor that holds a weight value; one that is computed and has none yet gets it under `name`, or one like it.
  FailureOr<FlatSymbolRefAttr> getNamed(Value weight, StringRef name);

  /// Writes the initializers of every computed weight met so far into `variant`, using kernels of `kernels`.
  void emitInitializers(sched::VariantOp variant, kernels::KernelCatalogue &kernels);

private:
  /// `name`: of a computed weight; empty: of its op.
  FailureOr<FlatSymbolRefAttr> resolve(Operation *user, Value weight, StringRef name = "");
  /// The symbol of a tensor of the checkpoint; an error at `user` if it is declared with another type.
  FailureOr<FlatSymbolRefAttr> declare(Operation *user, StringRef name, RankedTensorType type);
  /// `name`, or one like it that no tensor of the checkpoint and nothing else here has.
  std::string freshName(std::string name);

  /// Declares the checkpoint tensors that `weight` is computed from; an error at `user` if it cannot be.
  LogicalResult declareSources(Operation *user, Value weight);

  ModuleOp module;
  sched::ProgramOp program;
  OpBuilder builder;
  llvm::StringMap<RankedTensorType> tensors; ///< of the checkpoint
  llvm::StringSet<> ownNames;                ///< of tables and computed tensors
  /// By the tensor's name, or the pattern of the names; whether it is a pattern; the first byte of every expert; and
  /// the expert of every slot, if experts are placed on ranks.
  std::map<std::tuple<std::string, bool, int64_t, std::vector<int64_t>>, Attribute> tables;
  /// Weights to be computed once, in the order in which they were asked for, and the tensor of each.
  llvm::MapVector<Value, FlatSymbolRefAttr> computed;
};

/// Whether the ranks' parts of a weight are its rows in order, so that each is read where it lies.
bool isRowsOfRank(ShardOp shard);
/// The operand that reads them in the tensor `whole`.
sched::WeightAttr rowsOfRank(ShardOp shard, FlatSymbolRefAttr whole);

/// Bytes of an element as a checkpoint stores it.
int64_t byteWidth(Type element);

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOSCHED_WEIGHTS_H
