//===- Bake.cpp - A checkpoint whose experts lie as a map says --------------===//

#include "tools/moec/place/Bake.h"
#include "runtime/readers/File.h"
#include "runtime/readers/OutputFile.h"
#include "runtime/readers/Safetensors.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"
#include <algorithm>
#include <optional>
#include <set>

using namespace moec;
using llvm::StringRef;
using moe::placement::Code;
using moe::placement::LayerMap;
using moe::placement::Map;
using moe::placement::Result;
using moe::placement::Status;
using moert::error;
using moert::readers::Checkpoint;
using moert::readers::InputFile;
using moert::readers::OutputFile;
using moert::readers::TensorInfo;

static constexpr size_t kChunk = 8 << 20;

namespace {

/// What becomes of a tensor.
struct Change {
  std::string name;
  /// Blocks of dimension 0 in a new order: block j comes from order[j]; null: copied as it is.
  const LayerMap *order = nullptr;
};

/// The parts of "model.layers.3.mlp.experts.7.up_proj.weight": layer 3, "mlp", "experts.7.up_proj.weight".
struct LayerName {
  int layer = -1;
  StringRef module, rest;
};

} // namespace

static std::optional<LayerName> splitName(StringRef name) {
  const size_t at = name.find("layers.");
  if (at == StringRef::npos) {
    return std::nullopt;
  }
  LayerName parts;
  StringRef tail = name.drop_front(at + 7);
  auto [number, inLayer] = tail.split('.');
  if (number.getAsInteger(10, parts.layer)) {
    return std::nullopt;
  }
  std::tie(parts.module, parts.rest) = inLayer.split('.');
  return parts;
}

/// The renumbering of one tensor, or why it cannot be told.
static Result<Change> changeOf(const TensorInfo &tensor, const Map &map, const std::vector<LayerMap> &newNumber,
                               std::set<int> &routed, std::set<int> &moved) {
  std::optional<LayerName> parts = splitName(tensor.name);
  const std::vector<int> &ids = map.model.layerIds;
  if (!parts || !std::binary_search(ids.begin(), ids.end(), parts->layer)) {
    return Change{tensor.name};
  }
  const size_t layer = std::lower_bound(ids.begin(), ids.end(), parts->layer) - ids.begin();
  const bool perExpert = !tensor.shape.empty() && tensor.shape[0] == map.model.experts;
  StringRef rest = parts->rest;
  if (rest.consume_front("experts.")) {
    auto [number, leaf] = rest.split('.');
    unsigned expert;
    if (number.getAsInteger(10, expert)) {
      if (!perExpert) {
        return error(Code::Unsupported, tensor.name, ": does not have the ", map.model.experts,
                     " experts in its first dimension; this form of experts cannot be renumbered");
      }
      moved.insert(parts->layer);
      return Change{tensor.name, &map.layers[layer]};
    }
    if (static_cast<int>(expert) >= map.model.experts) {
      return error(Code::InvalidArgument, tensor.name, ": the model has ", map.model.experts, " experts");
    }
    moved.insert(parts->layer);
    const size_t prefix = tensor.name.size() - rest.size();
    return Change{tensor.name.substr(0, prefix) + std::to_string(newNumber[layer][expert]) + "." + leaf.str()};
  }
  // Router and correction bias: gate.weight, router.weight, gate.e_score_correction_bias and the like.
  const bool isRouter = rest.starts_with("gate.") || rest.starts_with("router.") || rest.contains("correction_bias");
  if (isRouter && perExpert) {
    routed.insert(parts->layer);
    return Change{tensor.name, &map.layers[layer]};
  }
  if (isRouter) {
    return error(Code::Unsupported, tensor.name, ": a router tensor whose first dimension is not the ",
                 map.model.experts, " experts cannot be renumbered");
  }
  return Change{tensor.name};
}

/// Copies `size` bytes at `offset`.
static Status copyBytes(const InputFile &from, uint64_t offset, uint64_t size, OutputFile &to,
                        std::vector<char> &buffer) {
  while (size != 0) {
    const size_t part = static_cast<size_t>(std::min<uint64_t>(size, kChunk));
    buffer.resize(std::max(buffer.size(), part));
    MOERT_TRY(from.read(offset, buffer.data(), part));
    MOERT_TRY(to.write(buffer.data(), part));
    offset += part;
    size -= part;
  }
  return Status();
}

static Status writeFile(const Checkpoint &checkpoint, uint32_t file, const std::vector<Change> &changes,
                        const std::string &to) {
  std::vector<size_t> order;
  for (size_t i = 0; i < checkpoint.tensors().size(); ++i) {
    if (checkpoint.tensors()[i].file == file) {
      order.push_back(i);
    }
  }
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return checkpoint.tensors()[a].offset < checkpoint.tensors()[b].offset; });
  llvm::json::Object header;
  if (!checkpoint.files()[file].metadata.empty()) {
    llvm::json::Object metadata;
    for (const auto &entry : checkpoint.files()[file].metadata) {
      metadata[entry.first] = entry.second;
    }
    header["__metadata__"] = std::move(metadata);
  }
  uint64_t end = 0;
  for (size_t i : order) {
    const TensorInfo &tensor = checkpoint.tensors()[i];
    header[changes[i].name] = llvm::json::Object{
        {"dtype", elementTypeName(tensor.type).data()},
        {"shape", llvm::json::Array(tensor.shape)},
        {"data_offsets", llvm::json::Array{static_cast<int64_t>(end), static_cast<int64_t>(end + tensor.bytes)}}};
    end += tensor.bytes;
  }
  std::string text = llvm::formatv("{0}", llvm::json::Value(std::move(header)));
  text.resize((text.size() + 7) / 8 * 8, ' ');
  MOERT_ASSIGN(out, OutputFile::create(to + "/" + checkpoint.files()[file].name));
  MOERT_ASSIGN(in, InputFile::open(checkpoint.files()[file].path));
  const uint64_t size = text.size();
  MOERT_TRY(out.write(&size, sizeof(size)));
  MOERT_TRY(out.write(text.data(), text.size()));
  std::vector<char> buffer;
  for (size_t i : order) {
    const TensorInfo &tensor = checkpoint.tensors()[i];
    if (!changes[i].order) {
      MOERT_TRY(copyBytes(in, tensor.offset, tensor.bytes, out, buffer));
      continue;
    }
    const uint64_t block = tensor.bytes / changes[i].order->size();
    for (int expert : *changes[i].order) {
      MOERT_TRY(copyBytes(in, tensor.offset + block * expert, block, out, buffer));
    }
  }
  return out.commit();
}

/// Everything of the directory that is no weight: configs, tokenizers, code.
static Status copyOthers(const std::string &from, const std::string &to) {
  std::error_code code;
  for (llvm::sys::fs::directory_iterator it(from, code), end; it != end && !code; it.increment(code)) {
    StringRef name = llvm::sys::path::filename(it->path());
    if (!llvm::sys::fs::is_regular_file(it->path()) || name.ends_with(".safetensors") ||
        name.ends_with(".safetensors.index.json") || name.ends_with(".bin") || name.ends_with(".gguf")) {
      continue;
    }
    if (std::error_code failed = llvm::sys::fs::copy_file(it->path(), to + "/" + name)) {
      return error(Code::IO, it->path(), ": cannot be copied: ", failed.message());
    }
  }
  return code ? error(Code::IO, from, ": cannot be listed: ", code.message()) : Status();
}

Status moec::checkBakeable(const Map &map) {
  if (map.slots() != map.model.experts) {
    return error(Code::InvalidArgument, "--bake needs as many slots as experts (", map.model.experts,
                 "), but there are ", map.slots(), ": a checkpoint holds every expert once");
  }
  return Status();
}

Status moec::bakeCheckpoint(const std::string &from, const Map &map, const std::string &to) {
  MOERT_TRY(checkBakeable(map));
  MOERT_ASSIGN(checkpoint, Checkpoint::open(from));
  std::vector<LayerMap> newNumber(map.layers.size(), LayerMap(map.model.experts));
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    for (int slot = 0; slot < map.slots(); ++slot) {
      newNumber[layer][map.layers[layer][slot]] = slot;
    }
  }
  std::vector<Change> changes;
  std::set<int> routed, moved;
  for (const TensorInfo &tensor : checkpoint.tensors()) {
    MOERT_ASSIGN(change, changeOf(tensor, map, newNumber, routed, moved));
    changes.push_back(std::move(change));
  }
  for (int layer : map.model.layerIds) {
    if (routed.count(layer) == 0 || moved.count(layer) == 0) {
      return error(Code::Unsupported, from, ": layer ", layer, " has no ",
                   moved.count(layer) == 0 ? "experts (layers.N.MODULE.experts.E...)"
                                           : "router (layers.N.MODULE.gate...)",
                   " under a name that is known; it cannot be renumbered");
    }
  }
  llvm::json::Object weightMap;
  for (uint32_t file = 0; file < checkpoint.files().size(); ++file) {
    MOERT_TRY(writeFile(checkpoint, file, changes, to));
  }
  int64_t bytes = 0;
  for (size_t i = 0; i < changes.size(); ++i) {
    weightMap[changes[i].name] = checkpoint.files()[checkpoint.tensors()[i].file].name;
    bytes += static_cast<int64_t>(checkpoint.tensors()[i].bytes);
  }
  if (weightMap.size() != changes.size()) {
    return error(Code::Internal, "two tensors have one name after renumbering");
  }
  if (checkpoint.files().size() > 1) {
    const std::string index = llvm::formatv(
        "{0:2}\n", llvm::json::Value(llvm::json::Object{{"metadata", llvm::json::Object{{"total_size", bytes}}},
                                                        {"weight_map", std::move(weightMap)}}));
    MOERT_TRY(moert::readers::writeWholeFile(to + "/model.safetensors.index.json", index));
  }
  MOERT_TRY(copyOthers(from, to));
  MOERT_ASSIGN(written, Checkpoint::open(to));
  if (written.tensors().size() != checkpoint.tensors().size()) {
    return error(Code::Internal, to, ": reads back with ", written.tensors().size(), " tensors, but ",
                 checkpoint.tensors().size(), " were written");
  }
  return Status();
}
