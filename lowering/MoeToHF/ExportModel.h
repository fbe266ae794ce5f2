//===- ExportModel.h - A fused model as a checkpoint that an engine loads ---===//
//
// Chooses the format that the engine loads and that can say what the model is,
// checks its rules (layer 0, biases, widths), and writes files. What the values of
// computed weights are is not decided here: whoever calls gives their bytes.
//
//   Expected<ModelExport> plan = ModelExport::plan(module, "smollm2", options);
//   ... compute plan->getComputedWeights() ...
//   plan->write("out.tmp", weights, progress)
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOHF_EXPORTMODEL_H
#define MOE_LOWERING_MOETOHF_EXPORTMODEL_H

#include "lowering/MoeToHF/ExportTensors.h"
#include "lowering/MoeToHF/GgufFile.h"
#include "lowering/MoeToHF/SafetensorsWriter.h"
#include "passes/Analysis/EngineFacts.h"
#include "llvm/Support/JSON.h"

namespace mlir::moe {

struct ExportOptions {
  const EngineFacts *engine = nullptr;
  /// The most bytes of tensors in one safetensors file.
  int64_t shardBytes = 5'000'000'000;
  /// llama.cpp's name of the tokenizer's way to cut text; empty: found in a table.
  std::string preTokenizer;
  /// Write weights of 16 bits as f32.
  bool storeInF32 = false;
};

/// What was written, for reports.
struct ExportFacts {
  ExportFormat format = ExportFormat::NemotronNas;
  std::string minimumVersion, triedVersion, how;
  int64_t layers = 0, tensors = 0, computedTensors = 0, parameters = 0, bytes = 0;
  std::vector<std::string> files;
  /// One sentence each, for the user.
  std::vector<std::string> notes;
};

class ModelExport {
public:
  /// Decides everything that needs no weight. `module`: the fused model, in which FFNs may be padded. `directory`: that
  /// of the model it was made from, for config and tokenizer.
  static llvm::Expected<ModelExport> plan(ModuleOp module, llvm::StringRef directory, const ExportOptions &options);

  /// Weights that are computed and under which names they will be written.
  std::vector<std::pair<std::string, Value>> getComputedWeights() const;
  /// Whether the result is one file; else a directory.
  bool isOneFile() const { return facts.format == ExportFormat::Gguf; }

  /// Writes the files into the directory `path`, or the one file there.
  llvm::Error write(llvm::StringRef path, WeightBytes &weights, TensorProgress progress);

  const ExportFacts &getFacts() const { return facts; }

private:
  ModelExport() = default;
  llvm::Expected<const EngineFormat *> chooseFormat() const;
  llvm::Error check(const FormatFacts &format) const;
  llvm::Error writeDirectory(llvm::StringRef path, WeightBytes &weights, TensorProgress progress);
  llvm::Error writeFile(llvm::StringRef path, WeightBytes &weights, TensorProgress progress);

  std::string directory;
  ExportOptions options;
  ExportGraph graph;
  /// The embedding first.
  std::vector<ExportTensor> tensors;
  llvm::json::Object config;
  int64_t contextLength = 0;
  /// Of a GGUF file; made by plan(), so that a tokenizer it cannot hold is refused before the weights are computed.
  GgufMetadata metadata;
  ExportFacts facts;
};

/// In every directory that is written: what made it, and that it may be replaced by the like.
constexpr llvm::StringLiteral kExportMarker = "moe-opt-export.json";

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOHF_EXPORTMODEL_H
