//===- SafetensorsWriter.cpp - Tensors as the files of a directory ----------===//

#include "lowering/MoeToHF/SafetensorsWriter.h"
#include "passes/Json/JsonFile.h"
#include "runtime/readers/OutputFile.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::Error;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;

StringRef moe::spellSafetensorsType(Type element) {
  return element.isF32() ? "F32" : element.isF64() ? "F64" : element.isF16() ? "F16" : "BF16";
}

static Error toError(const moert::Status &status) {
  return status.ok() ? Error::success() : makeError(status.message());
}

/// The header with its eight bytes of length. Padded so that the tensors begin at a multiple of eight.
static std::string makeHeader(ArrayRef<ExportTensor> tensors) {
  json::Object header{{"__metadata__", json::Object{{"format", "pt"}}}};
  int64_t end = 0;
  for (const ExportTensor &tensor : tensors) {
    header[tensor.name] = json::Object{{"dtype", spellSafetensorsType(tensor.element)},
                                       {"shape", json::Array(tensor.shape)},
                                       {"data_offsets", json::Array{end, end + tensor.bytes()}}};
    end += tensor.bytes();
  }
  std::string text = llvm::formatv("{0}", json::Value(std::move(header)));
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  return std::string(reinterpret_cast<const char *>(&size), sizeof(size)) + text;
}

Error moe::writeSafetensors(ArrayRef<ExportTensor> given, int64_t shardBytes, StringRef directory, WeightBytes &weights,
                            TensorProgress progress, std::vector<std::string> &files) {
  // Wide elements first: so every tensor lies at a multiple of its element.
  std::vector<ExportTensor> tensors;
  for (unsigned bits : {64, 32, 16}) {
    llvm::copy_if(given, std::back_inserter(tensors),
                  [&](const ExportTensor &tensor) { return tensor.element.getIntOrFloatBitWidth() == bits; });
  }
  int64_t total = 0, inShard = 0;
  std::vector<size_t> begins{0};
  for (auto [i, tensor] : llvm::enumerate(tensors)) {
    if (inShard != 0 && inShard + tensor.bytes() > shardBytes) {
      begins.push_back(i);
      inShard = 0;
    }
    inShard += tensor.bytes();
    total += tensor.bytes();
  }
  const size_t shards = begins.size();
  begins.push_back(tensors.size());
  json::Object weightMap;
  for (size_t shard = 0; shard < shards; ++shard) {
    const std::string name = shards == 1
                                 ? std::string("model.safetensors")
                                 : llvm::formatv("model-{0,0+5}-of-{1,0+5}.safetensors", shard + 1, shards).str();
    ArrayRef<ExportTensor> part =
        ArrayRef<ExportTensor>(tensors).slice(begins[shard], begins[shard + 1] - begins[shard]);
    moert::Result<moert::readers::OutputFile> file = moert::readers::OutputFile::create((directory + "/" + name).str());
    if (!file.ok()) {
      return toError(file.status());
    }
    const std::string header = makeHeader(part);
    if (Error error = toError(file->write(header.data(), header.size()))) {
      return error;
    }
    for (auto [i, tensor] : llvm::enumerate(part)) {
      progress(begins[shard] + i, tensors.size());
      auto sink = [&](StringRef bytes) { return toError(file->write(bytes.data(), bytes.size())); };
      if (Error error = writeTensor(tensor, weights, sink)) {
        return error;
      }
      weightMap[tensor.name] = name;
    }
    if (Error error = toError(file->commit())) {
      return error;
    }
    files.push_back(name);
  }
  if (shards == 1) {
    return Error::success();
  }
  files.push_back("model.safetensors.index.json");
  const std::string index =
      llvm::formatv("{0:2}\n", json::Value(json::Object{{"metadata", json::Object{{"total_size", total}}},
                                                        {"weight_map", std::move(weightMap)}}));
  return toError(moert::readers::writeWholeFile((directory + "/" + files.back()).str(), index));
}
