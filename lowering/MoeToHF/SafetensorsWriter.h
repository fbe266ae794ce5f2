//===- SafetensorsWriter.h - Tensors as the files of a directory ------------===//
//
// Writes model.safetensors, or shards with model.safetensors.index.json where one
// file would exceed a limit. Headers are known before any tensor is: so tensors
// stream through, one in memory at a time.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOHF_SAFETENSORSWRITER_H
#define MOE_LOWERING_MOETOHF_SAFETENSORSWRITER_H

#include "lowering/MoeToHF/ExportTensors.h"

namespace mlir::moe {

/// Told before each tensor: how many are done, of how many.
using TensorProgress = llvm::function_ref<void(size_t done, size_t total)>;

/// Writes the files into `directory` and appends their names to `files`. No shard exceeds `shardBytes` of tensors,
/// unless one tensor does.
llvm::Error writeSafetensors(llvm::ArrayRef<ExportTensor> tensors, int64_t shardBytes, llvm::StringRef directory,
                             WeightBytes &weights, TensorProgress progress, std::vector<std::string> &files);

/// As safetensors spells it: "BF16".
llvm::StringRef spellSafetensorsType(Type element);

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOHF_SAFETENSORSWRITER_H
