//===- CheckpointDirectory.h - A Hugging Face directory, opened -------------===//
//
// config.json and the headers of all safetensors files of one directory, or the
// metadata and tensors of one GGUF file: what importModel needs, and what the
// program file records about the weights. The formats themselves are read by
// runtime/readers.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_HFTOMOE_CHECKPOINTDIRECTORY_H
#define MOE_LOWERING_HFTOMOE_CHECKPOINTDIRECTORY_H

#include "lowering/HFToMoe/GgufConfig.h"
#include "lowering/HFToMoe/MoeImporter.h"
#include "runtime/readers/Safetensors.h"

namespace mlir::moe {

struct CheckpointDirectory {
  std::string path;
  ModelConfig config;
  moert::readers::Checkpoint checkpoint;
  /// Of a GGUF file, whose tokenizer is inside.
  std::optional<GgufTokenizer> tokenizer;
};

/// Opens `path`, a directory with config.json and safetensors files, or a GGUF file.
llvm::Expected<CheckpointDirectory> openCheckpointDirectory(llvm::StringRef path);

/// Opens only the weights of `path` (a directory, or one file: .safetensors or .gguf). `tokenizer` receives that of a
/// GGUF file.
llvm::Expected<moert::readers::Checkpoint> openWeights(llvm::StringRef path,
                                                       std::optional<GgufTokenizer> *tokenizer = nullptr);

/// The tensors of a checkpoint by name.
TensorHeaders getTensorHeaders(const moert::readers::Checkpoint &checkpoint);

} // namespace mlir::moe

#endif // MOE_LOWERING_HFTOMOE_CHECKPOINTDIRECTORY_H
