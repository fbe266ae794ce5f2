//===- WeightComputation.h - One computed weight as commands -----------------===//
//
// Writes the commands of an initializer: a tree of weight ops (concat, pad,
// scale, sum, floor_magnitude, product) over checkpoint tensors, computed into
// one result.
//
// Key idea: every value is computed into a place, not returned. The place of a
// part of a concatenation is a box inside the result, with the result's strides,
// so
//
//   concat(scale(w0, s0), scale(w1, s1)) dim 1
//
// is two launches that write columns of the result, and nothing is copied. Only
// what another op reads whole (the operand of a product that is itself computed)
// gets scratch of its own.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOSCHED_WEIGHTCOMPUTATION_H
#define MOE_LOWERING_MOETOSCHED_WEIGHTCOMPUTATION_H

#include "dialects/Moe/IR/MoeOps.h"
#include "dialects/Sched/IR/SchedOps.h"
#include "lowering/Kernels/KernelCatalogue.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace mlir::moe {

class WeightComputation {
public:
  /// Commands go into `initializer`. `tensorOf` gives the tensor that holds a value already (of the checkpoint, or of
  /// an earlier initializer), or null. With `expertOf`, the result is one expert's part of weights [E, .., ..], and it
  /// says where that expert's part of such an operand lies.
  WeightComputation(sched::InitializerOp initializer, kernels::KernelCatalogue &kernels,
                    llvm::function_ref<FlatSymbolRefAttr(Value)> tensorOf,
                    llvm::function_ref<sched::WeightAttr(Value)> expertOf = {});

  /// Computes `value`, which has the type of the result, into the result.
  void compute(Value value);

private:
  /// A box of the result or of a scratch buffer; in bytes.
  struct Place {
    std::string scratch; ///< empty: the result
    int64_t offset = 0;
    SmallVector<int64_t> strides; ///< one per dim
  };
  /// A box as `count` runs of `length` elements, `stride` elements apart.
  struct Rows {
    int64_t count, length, stride;
  };

  bool isOfExperts(Value value);
  /// The type of `value`, of an expert's part without E.
  RankedTensorType typeOf(Value value);
  /// Computes `value` into `place`.
  void write(Value value, const Place &place);
  /// The box of `shape` at `place` with the dims before `outer` as rows; null if they have no common stride.
  std::optional<Rows> rowsOf(RankedTensorType type, const Place &place, int64_t outer);
  /// Computes `value` into all of the scratch buffer (or the result) of its shape, with zeros where it is padded.
  void fill(Value value, StringRef scratch);
  /// An operand that reads all of `value`: the tensor that holds it, or scratch that it is computed into first.
  Attribute read(Value value);
  /// An operand that writes `bytes` bytes of `place`.
  Attribute writeOperand(const Place &place, int64_t bytes);
  void copy(FlatSymbolRefAttr tensor, RankedTensorType type, int64_t offset, const Place &place);
  void launch(Operation *op, const kernels::Kernel &kernel, int64_t grid, ArrayRef<Attribute> operands);
  sched::ExtentAttr extent(int64_t bytes) { return sched::ExtentAttr::get(builder.getContext(), bytes); }
  Attribute number(int64_t value) { return sched::ScalarAttr::get(builder.getContext(), value); }

  sched::InitializerOp initializer;
  kernels::KernelCatalogue &kernels;
  llvm::function_ref<FlatSymbolRefAttr(Value)> tensorOf;
  llvm::function_ref<sched::WeightAttr(Value)> expertOf;
  OpBuilder builder;
  int scratchCount = 0;
};

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOSCHED_WEIGHTCOMPUTATION_H
