//===- ExportTensors.h - The tensors of an export, and their bytes ----------===//
//
// A tensor of the result is a weight value under the name that the format gives
// it. Its bytes are those of the value, or its numbers in f32; GGUF has the rows of
// q and k in another order (pairs side by side).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOHF_EXPORTTENSORS_H
#define MOE_LOWERING_MOETOHF_EXPORTTENSORS_H

#include "lowering/MoeToHF/ExportGraph.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace mlir::moe {

struct ExportTensor {
  std::string name;
  /// Null: `contents` is the tensor, in f32.
  Value value;
  /// As it is written.
  Type element;
  SmallVector<int64_t> shape;
  /// Heads whose rows are written in pairs (i, i + D/2); 0: rows as they are.
  int64_t pairedHeads = 0;
  std::vector<float> contents;

  int64_t bytes() const;
};

/// Under the names of transformers' Llama.
std::vector<ExportTensor> listHFTensors(const ExportGraph &graph);
/// Under the names of llama.cpp.
std::vector<ExportTensor> listGgufTensors(const ExportGraph &graph);

/// Makes tensors of 16-bit elements f32 ones, which hold the same numbers.
void storeInF32(std::vector<ExportTensor> &tensors);

/// Where the bytes of weight values come from.
class WeightBytes {
public:
  virtual ~WeightBytes() = default;
  /// The bytes of `value`, which stay until the next call.
  virtual llvm::Expected<llvm::StringRef> read(Value value) = 0;
};

/// Gives the bytes of `tensor` to `sink`, piece by piece; of a tensor that is written as it is stored, in one piece.
llvm::Error writeTensor(const ExportTensor &tensor, WeightBytes &weights,
                        llvm::function_ref<llvm::Error(llvm::StringRef)> sink);

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOHF_EXPORTTENSORS_H
