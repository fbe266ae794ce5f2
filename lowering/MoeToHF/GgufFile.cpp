//===- GgufFile.cpp - A model as one GGUF file, architecture deci -----------===//

#include "lowering/MoeToHF/GgufFile.h"
#include "passes/Json/JsonFile.h"
#include "runtime/readers/OutputFile.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::Error;
using llvm::StringRef;

/// Types of metadata values.
enum GgufType : uint32_t { kUInt32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9 };
static constexpr uint32_t kMagic = 0x46554747, kVersion = 3; // "GGUF"
static constexpr uint64_t kAlignment = 32;

//===----------------------------------------------------------------------===//
// Metadata
//===----------------------------------------------------------------------===//

void GgufMetadata::append(StringRef value) {
  append<uint64_t>(value.size());
  text += value;
}

void GgufMetadata::begin(StringRef key, uint32_t type) {
  append(key);
  append<uint32_t>(type);
  ++count;
}

void GgufMetadata::beginArray(StringRef key, uint32_t type, size_t size) {
  begin(key, kArray);
  append<uint32_t>(type);
  append<uint64_t>(size);
}

void GgufMetadata::addString(StringRef key, StringRef value) {
  begin(key, kString);
  append(value);
}

void GgufMetadata::addUInt(StringRef key, int64_t value) {
  begin(key, kUInt32);
  append(static_cast<uint32_t>(value));
}

void GgufMetadata::addFloat(StringRef key, double value) {
  begin(key, kFloat32);
  append(static_cast<float>(value));
}

void GgufMetadata::addBool(StringRef key, bool value) {
  begin(key, kBool);
  append(static_cast<uint8_t>(value));
}

void GgufMetadata::addStrings(StringRef key, llvm::ArrayRef<std::string> values) {
  beginArray(key, kString, values.size());
  for (const std::string &value : values) {
    append(StringRef(value));
  }
}

void GgufMetadata::addInts(StringRef key, llvm::ArrayRef<int64_t> values) {
  beginArray(key, kInt32, values.size());
  for (int64_t value : values) {
    append(static_cast<int32_t>(value));
  }
}

void GgufMetadata::addFloats(StringRef key, llvm::ArrayRef<float> values) {
  beginArray(key, kFloat32, values.size());
  for (float value : values) {
    append(value);
  }
}

/// `general.file_type` of a file whose matrices are of type `element`.
static int64_t fileType(Type element) { return element.isF32() ? 0 : element.isF16() ? 1 : 32; }

void moe::addModelKeys(GgufMetadata &metadata, const ExportGraph &graph, Type storage, StringRef name,
                       int64_t contextLength) {
  SmallVector<int64_t> heads, kvHeads, widths;
  for (const ExportLayer &layer : graph.layers) {
    heads.push_back(layer.heads);
    kvHeads.push_back(layer.kvHeads);
    widths.push_back(layer.ffn);
  }
  metadata.addString("general.architecture", "deci");
  metadata.addString("general.type", "model");
  metadata.addString("general.name", name);
  metadata.addUInt("general.file_type", fileType(storage));
  metadata.addUInt("general.quantization_version", 2);
  metadata.addUInt("deci.vocab_size", graph.vocab);
  metadata.addUInt("deci.context_length", contextLength);
  metadata.addUInt("deci.embedding_length", graph.hidden);
  metadata.addUInt("deci.block_count", static_cast<int64_t>(graph.layers.size()));
  metadata.addInts("deci.feed_forward_length", widths);
  metadata.addInts("deci.attention.head_count", heads);
  metadata.addInts("deci.attention.head_count_kv", kvHeads);
  metadata.addUInt("deci.attention.key_length", graph.headDim);
  metadata.addUInt("deci.attention.value_length", graph.headDim);
  metadata.addFloat("deci.attention.layer_norm_rms_epsilon", graph.normEps);
  metadata.addUInt("deci.rope.dimension_count", graph.headDim);
  metadata.addFloat("deci.rope.freq_base", graph.rope.getTheta().getValueAsDouble());
  // How frequencies are scaled is in the tensor rope_freqs, whatever the kind; cos and sin may be scaled too.
  if (const double factor = graph.rope.getAttentionFactor().getValueAsDouble(); factor != 1) {
    metadata.addFloat("deci.rope.scaling.attn_factor", factor);
  }
}

//===----------------------------------------------------------------------===//
// The file
//===----------------------------------------------------------------------===//

/// ggml's number of an element type.
static uint32_t ggmlType(Type element) { return element.isF32() ? 0 : element.isF16() ? 1 : 30; }

static Error toError(const moert::Status &status) {
  return status.ok() ? Error::success() : makeError(status.message());
}

Error moe::writeGguf(StringRef path, const GgufMetadata &metadata, llvm::ArrayRef<ExportTensor> tensors,
                     WeightBytes &weights, TensorProgress progress) {
  std::string header;
  auto append = [&](auto value) { header.append(reinterpret_cast<const char *>(&value), sizeof(value)); };
  append(kMagic);
  append(kVersion);
  append(static_cast<uint64_t>(tensors.size()));
  append(static_cast<uint64_t>(metadata.size()));
  header += metadata.bytes();
  uint64_t end = 0;
  for (const ExportTensor &tensor : tensors) {
    append(static_cast<uint64_t>(tensor.name.size()));
    header += tensor.name;
    append(static_cast<uint32_t>(tensor.shape.size()));
    for (int64_t dim : llvm::reverse(tensor.shape)) {
      append(static_cast<uint64_t>(dim));
    }
    append(ggmlType(tensor.element));
    append(end);
    end = llvm::alignTo(end + static_cast<uint64_t>(tensor.bytes()), kAlignment);
  }
  header.resize(llvm::alignTo(header.size(), kAlignment), '\0');
  moert::Result<moert::readers::OutputFile> file = moert::readers::OutputFile::create(path.str());
  if (!file.ok()) {
    return toError(file.status());
  }
  if (Error error = toError(file->write(header.data(), header.size()))) {
    return error;
  }
  const char zeros[kAlignment] = {};
  for (auto [i, tensor] : llvm::enumerate(tensors)) {
    progress(i, tensors.size());
    uint64_t written = 0;
    auto sink = [&](StringRef bytes) {
      written += bytes.size();
      return toError(file->write(bytes.data(), bytes.size()));
    };
    if (Error error = writeTensor(tensor, weights, sink)) {
      return error;
    }
    if (Error error = toError(file->write(zeros, llvm::alignTo(written, kAlignment) - written))) {
      return error;
    }
  }
  return toError(file->commit());
}
