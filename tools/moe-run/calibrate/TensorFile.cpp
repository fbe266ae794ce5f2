//===- TensorFile.cpp - Writing and reading small safetensors -------------===//
#include "tools/moe-run/calibrate/TensorFile.h"

#include "runtime/readers/File.h"
#include "runtime/readers/OutputFile.h"

#include <nlohmann/json.hpp>

using namespace moert;
using namespace moert::readers;
using namespace moerun;

Status moerun::writeTensors(const std::string &path, const std::map<std::string, OutputTensor> &tensors,
                            const std::string &textKey, const std::string &text) {
  // Wide ones first, then by name.
  std::map<std::pair<bool, std::string>, const OutputTensor *> order;
  for (const auto &[name, tensor] : tensors) {
    order[{std::string(tensor.type) != "F64", name}] = &tensor;
  }
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!textKey.empty()) {
    header["__metadata__"] = {{textKey, text}};
  }
  uint64_t offset = 0;
  for (const auto &[key, tensor] : order) {
    header[key.second] = {
        {"dtype", tensor->type}, {"shape", tensor->shape}, {"data_offsets", {offset, offset + tensor->bytes.size()}}};
    offset += tensor->bytes.size();
  }
  std::string json = header.dump();
  json.resize((json.size() + 7) / 8 * 8, ' ');
  const uint64_t length = json.size();
  MOERT_ASSIGN(file, OutputFile::create(path));
  MOERT_TRY(file.write(&length, sizeof(length)));
  MOERT_TRY(file.write(json.data(), json.size()));
  for (const auto &[key, tensor] : order) {
    MOERT_TRY(file.write(tensor->bytes.data(), tensor->bytes.size()));
  }
  return file.commit();
}

Result<TensorFile> TensorFile::open(const std::string &path) {
  TensorFile result;
  CheckpointFile facts;
  MOERT_ASSIGN(header, readSafetensorsHeader(path, facts));
  result.path = path;
  result.header = std::move(header);
  return result;
}

const std::string *TensorFile::text(const std::string &key) const {
  auto found = header.metadata.find(key);
  return found == header.metadata.end() ? nullptr : &found->second;
}

const TensorInfo *TensorFile::find(const std::string &name) const {
  for (const TensorInfo &tensor : header.tensors) {
    if (tensor.name == name) {
      return &tensor;
    }
  }
  return nullptr;
}

Result<size_t> TensorFile::sizeOf(const std::string &name, ElementType type) const {
  const TensorInfo *tensor = find(name);
  if (!tensor) {
    return error(Code::InvalidArgument, path, ": has no tensor '", name, "'");
  }
  if (tensor->type != type) {
    return error(Code::InvalidArgument, path, ": tensor '", name, "' has type ", elementTypeName(tensor->type),
                 ", expected ", elementTypeName(type));
  }
  return size_t(tensor->bytes);
}

Status TensorFile::readBytes(const std::string &name, void *out, size_t bytes) const {
  MOERT_ASSIGN(file, InputFile::open(path));
  return file.read(find(name)->offset, out, bytes);
}
