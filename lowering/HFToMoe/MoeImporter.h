//===- MoeImporter.h - From a config and tensor headers to moe IR -----------===//
//
// Builds the `moe` module of a model: weights by name with the storage type of
// the checkpoint, KV-cache states, and one entry `@step`. Bytes of weights are
// never touched. Every shape is checked against the config: a checkpoint that
// does not match is refused here, not at run time.
//
// The module carries what later stages want to know without the config, as the
// attribute `moe.model`: family, dtype, parameters, trained_context, checkpoint, and
// max_context where a longer one would be computed wrongly.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_HFTOMOE_MOEIMPORTER_H
#define MOE_LOWERING_HFTOMOE_MOEIMPORTER_H

#include "lowering/HFToMoe/ModelConfig.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/ADT/StringMap.h"

namespace mlir::moe {

/// The module attribute (a dictionary) that describes the model.
constexpr llvm::StringLiteral kModelAttr = "moe.model";

/// A tensor of a checkpoint without its bytes: dtype as safetensors spells it ("BF16") and shape.
struct TensorHeader {
  std::string dtype;
  llvm::SmallVector<int64_t, 3> shape;
};
using TensorHeaders = llvm::StringMap<TensorHeader>;

/// What the user decides about an import.
struct ImportOptions {
  /// Element type of activations: "f32", "bf16", or "" for that of the checkpoint (bf16 if its weights are, else f32).
  std::string dtype;
  /// Turn tensors that the model does not use from an error into a note.
  bool allowUnusedTensors = false;
  /// Recorded as the hint where the weights are.
  std::string checkpoint;
};

/// A module and what was found on the way.
struct ImportedModel {
  OwningOpRef<ModuleOp> module;
  /// Elements of all weights, a tied head counted once.
  int64_t parameters = 0;
  /// One sentence each, for the user.
  std::vector<std::string> notes;
};

/// Builds the module. Every mismatch is reported, one line each. The dialects moe and func must be loaded in `context`.
llvm::Expected<ImportedModel> importModel(MLIRContext &context, const ModelConfig &config, const TensorHeaders &tensors,
                                          const ImportOptions &options);

} // namespace mlir::moe

#endif // MOE_LOWERING_HFTOMOE_MOEIMPORTER_H
