//===- CheckpointDirectory.cpp - A Hugging Face directory, opened -----------===//

#include "lowering/HFToMoe/CheckpointDirectory.h"
#include "passes/Json/JsonFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::Expected;
using llvm::StringRef;
using moert::readers::Checkpoint;

Expected<Checkpoint> moe::openWeights(StringRef path, std::optional<GgufTokenizer> *tokenizer) {
  if (tokenizer && moert::readers::isGguf(path.str())) {
    moert::readers::CheckpointFile facts;
    moert::Result<moert::readers::GgufHeader> header = moert::readers::readGgufHeader(path.str(), facts);
    if (!header.ok()) {
      return makeError(header.status().message());
    }
    *tokenizer = convertGgufTokenizer(*header);
    return Checkpoint::of(std::move(facts), std::move(header->tensors));
  }
  moert::Result<Checkpoint> checkpoint = Checkpoint::open(path.str());
  if (!checkpoint.ok()) {
    return makeError(checkpoint.status().message());
  }
  return std::move(*checkpoint);
}

/// The bytes of `tensor`, mapped.
static Expected<std::unique_ptr<llvm::MemoryBuffer>> mapTensor(const Checkpoint &checkpoint,
                                                               const moert::readers::TensorInfo &tensor) {
  const std::string &path = checkpoint.files()[tensor.file].path;
  auto buffer = llvm::MemoryBuffer::getFileSlice(path, tensor.bytes, static_cast<int64_t>(tensor.offset));
  if (!buffer) {
    return makeError(path + ": cannot be read: " + buffer.getError().message());
  }
  return std::move(*buffer);
}

/// A head that is stored beside the embedding and differs from it is not tied, whatever the config says: transformers
/// 5 reads such checkpoints that way.
static llvm::Error checkTiedHead(ModelConfig &config, const Checkpoint &checkpoint) {
  const moert::readers::TensorInfo *head = checkpoint.find("lm_head.weight"),
                                   *table = checkpoint.find("model.embed_tokens.weight");
  if (!config.tiedHead || !head || !table) {
    return llvm::Error::success();
  }
  bool isSame = head->type == table->type && head->shape == table->shape;
  if (isSame) {
    auto headBytes = mapTensor(checkpoint, *head), tableBytes = mapTensor(checkpoint, *table);
    if (!headBytes || !tableBytes) {
      return llvm::joinErrors(headBytes.takeError(), tableBytes.takeError());
    }
    isSame = (*headBytes)->getBuffer() == (*tableBytes)->getBuffer();
  }
  if (!isSame) {
    config.tiedHead = false;
    config.notes.push_back("tie_word_embeddings is true, but the checkpoint has a 'lm_head.weight' that differs from "
                           "the embedding: it is used, and nothing is tied");
  }
  return llvm::Error::success();
}

static Expected<CheckpointDirectory> openGguf(StringRef path) {
  moert::readers::CheckpointFile facts;
  moert::Result<moert::readers::GgufHeader> header = moert::readers::readGgufHeader(path.str(), facts);
  if (!header.ok()) {
    return makeError(header.status().message());
  }
  Expected<ModelConfig> config = readGgufConfig(*header, path);
  if (!config) {
    return config.takeError();
  }
  GgufTokenizer tokenizer = convertGgufTokenizer(*header);
  if (!tokenizer.problem.empty()) {
    config->notes.push_back("there will be no tokenizer.json: " + tokenizer.problem +
                            "; for text, compile with --tokenizer and the model's original directory");
  }
  Checkpoint checkpoint = Checkpoint::of(std::move(facts), std::move(header->tensors));
  return CheckpointDirectory{path.str(), std::move(*config), std::move(checkpoint), std::move(tokenizer)};
}

Expected<CheckpointDirectory> moe::openCheckpointDirectory(StringRef path) {
  if (!llvm::sys::fs::exists(path)) {
    return makeError(path + ": no such file or directory");
  }
  if (moert::readers::isGguf(path.str())) {
    return openGguf(path);
  }
  llvm::SmallString<256> configPath(path);
  llvm::sys::path::append(configPath, "config.json");
  // Any other trouble with the file is told by who reads it.
  bool hasConfig =
      llvm::sys::fs::access(configPath, llvm::sys::fs::AccessMode::Exist) != std::errc::no_such_file_or_directory;
  if (!llvm::sys::fs::is_directory(path) || !hasConfig) {
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
  if (llvm::Error error = checkTiedHead(*config, *checkpoint)) {
    return std::move(error);
  }
  return CheckpointDirectory{path.str(), std::move(*config), std::move(*checkpoint), std::nullopt};
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
