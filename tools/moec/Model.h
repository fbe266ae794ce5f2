//===- Model.h - The module that a command works on, and where it came from -===//
//
// Either imported from a Hugging Face directory or parsed from a file of moe
// IR. Text of unknown origin is guarded first: MLIR's parser recurses with the
// nesting of its input, and its bytecode reader is not hardened.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_MODEL_H
#define MOE_TOOLS_MOEC_MODEL_H

#include "lowering/HFToMoe/CheckpointDirectory.h"
#include "tools/moec/Console.h"

namespace moec {

struct Model {
  mlir::OwningOpRef<mlir::ModuleOp> module;
  /// The open checkpoint; absent when IR was read and no weights were asked for.
  std::optional<moert::readers::Checkpoint> checkpoint;
  /// Of a GGUF file: the tokenizer inside.
  std::optional<mlir::moe::GgufTokenizer> tokenizer;
  /// Where the weights are, as the user named it.
  std::string directory;
  std::string family, dtype;
  int64_t parameters = 0, trainedContext = 0;
  std::vector<std::string> notes;
  /// Of a model for ranks with tokens of their own: how these travel, and what the ways cost.
  std::optional<llvm::json::Object> exchange;
};

struct ModelOptions {
  std::string dtype;
  bool allowUnusedTensors = false;
};

/// Imports an open directory. The module passes the verifier or an error is returned.
llvm::Expected<Model> importDirectory(mlir::MLIRContext &context, mlir::moe::CheckpointDirectory directory,
                                      const ModelOptions &options);

/// Parses a file of moe IR. Diagnostics go to the handler of `context`; the error says only that it failed.
llvm::Expected<Model> parseModel(mlir::MLIRContext &context, llvm::StringRef path);

/// Carries out a fusion plan on the model, which then describes what became of it. What was done, and what was not and
/// why, is appended to `notes`. Errors go to the handler of the context too.
llvm::Error applyPlan(Model &model, llvm::StringRef plan);

/// Opens the files that hold weights of the model beside its checkpoint, as its IR names them.
llvm::Expected<std::vector<moert::readers::Checkpoint>> openWeightFiles(const Model &model);

/// How a model is divided among ranks.
struct RankOptions {
  /// 0: of the map, else 1.
  int64_t ranks = 0;
  /// "expert", "tensor" or empty: what suits the model; "split" or "whole".
  std::string parallel, attention;
  /// A map of experts; may be empty.
  std::string map;
  /// "gather", "exact", "auto" or empty, which is auto; of expert ranks only. A topology file for auto, or empty.
  std::string exchange, topology;
  /// Largest T of a step.
  int64_t maxTokens = 512;
  /// Whether ranks are GPUs, which know only one exchange.
  bool areGpus = false;
};

/// Makes the model one for several ranks; `options` then says what was chosen. What was done is appended to `notes`.
llvm::Error divideAmongRanks(Model &model, RankOptions &options);

/// An error if `model` is one file, as an export is made from a model's directory, or if something is at `output` that
/// no export wrote.
llvm::Error checkExportNames(llvm::StringRef model, llvm::StringRef output);

/// The module as text.
std::string printModule(mlir::ModuleOp module, bool locations);

/// "mixtral, 5,551,744 parameters, activations bf16".
std::string summarize(const Model &model);

/// What --json says about a model.
llvm::json::Object describeModel(const Model &model);

} // namespace moec

#endif // MOE_TOOLS_MOEC_MODEL_H
