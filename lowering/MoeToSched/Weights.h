//===- Weights.h - Declared weights as tensors, tables and initializers ------===//
//
// A schedule names checkpoint tensors. This gives every weight value of the moe
// level its operand: a tensor, a table with one pointer per expert, or, for a
// computation on weights (moe.concat and its like), the result of an initializer.
// Weights of experts are never joined or computed as one tensor: joined tables
// are longer tables, and what is computed is so expert by expert.
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
  /// The tensor of a computed weight, or of an expert's part of it.
  FlatSymbolRefAttr addComputed(Value weight, int64_t expert, RankedTensorType type, StringRef wish = "");
  /// Where the weights of every expert of `weight` lie; an error at `user` if that cannot be said.
  FailureOr<ArrayRef<sched::WeightAttr>> getEntries(Operation *user, Value weight);
  /// Appends those of the computation `op`, each of which gets an initializer.
  LogicalResult computeExperts(Operation *op, SmallVectorImpl<sched::WeightAttr> &entries);
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
  /// By their entries, and how many of them a rank has if experts are placed on ranks.
  llvm::DenseMap<std::pair<Attribute, int64_t>, Attribute> tables;
  /// Weights of experts asked for so far. (No DenseMap: its lists move when it grows.)
  std::map<void *, SmallVector<sched::WeightAttr>> entriesOf;
  /// Weights to be computed once, in the order in which they were asked for, and the tensor of each; of weights of
  /// experts the number of the expert, else -1.
  llvm::MapVector<std::pair<Value, int64_t>, FlatSymbolRefAttr> computed;
};

/// Whether the ranks' parts of a weight are its rows in order, so that each is read where it lies.
bool isRowsOfRank(ShardOp shard);
/// The operand that reads them in the tensor `whole`.
sched::WeightAttr rowsOfRank(ShardOp shard, FlatSymbolRefAttr whole);

/// Bytes of an element as a checkpoint stores it.
int64_t byteWidth(Type element);

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOSCHED_WEIGHTS_H
