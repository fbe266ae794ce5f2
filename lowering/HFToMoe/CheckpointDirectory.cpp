//===- CheckpointDirectory.cpp - A Hugging Face directory, opened -----------===//

#include "lowering/HFToMoe/CheckpointDirectory.h"
#include "lowering/HFToMoe/JsonFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::Expected;
using llvm::StringRef;
using moert::readers::Checkpoint;

Expected<Checkpoint> moe::openWeights(StringRef path) {
  moert::Result<Checkpoint> checkpoint = Checkpoint::open(path.str());
  if (!checkpoint.ok()) {
    return makeError(checkpoint.status().message());
  }
  return std::move(*checkpoint);
}

Expected<CheckpointDirectory> moe::openCheckpointDirectory(StringRef path) {
  if (!llvm::sys::fs::exists(path)) {
    return makeError(path + ": no such directory");
  }
  llvm::SmallString<256> configPath(path);
  llvm::sys::path::append(configPath, "config.json");
  if (!llvm::sys::fs::is_directory(path) || !llvm::sys::fs::exists(configPath)) {
    return makeError(path + ": is not a Hugging Face model directory: it has no config.json");
  }
  Expected<ModelConfig> config = readModelConfig(configPath);
  if (!config) {
    return config.takeError();
  }
  Expected<Checkpoint> checkpoint = openWeights(path);
  if (!checkpoint) {
    return checkpoint.takeError();
  }
  return CheckpointDirectory{path.str(), std::move(*config), std::move(*checkpoint)};
}

TensorHeaders moe::getTensorHeaders(const Checkpoint &checkpoint) {
  TensorHeaders headers;
  for (const moert::readers::TensorInfo &tensor : checkpoint.tensors()) {
    TensorHeader &header = headers[tensor.name];
    header.dtype = std::string(elementTypeName(tensor.type));
    header.shape.assign(tensor.shape.begin(), tensor.shape.end());
  }
  return headers;
}
