//===- MapFile.cpp - Placements in the files of engines ---------------------===//

#include "passes/Analysis/Placement/MapFile.h"
#include "runtime/readers/File.h"
#include "runtime/readers/Json.h"
#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

using namespace moe::placement;
using moert::concat;
using moert::error;
using moert::readers::JsonView;

static constexpr uint64_t kMaxBytes = uint64_t(1) << 30;
static constexpr int kMost = 1 << 24;

Result<MapFormat> moe::placement::parseMapFormat(const std::string &name) {
  const std::pair<const char *, MapFormat> formats[] = {{"json", MapFormat::Json},
                                                        {"sglang", MapFormat::Sglang},
                                                        {"trtllm", MapFormat::Trtllm},
                                                        {"vllm-ascend", MapFormat::VllmAscend}};
  for (const auto &format : formats) {
    if (name == format.first) {
      return format.second;
    }
  }
  return error(Code::InvalidArgument, "format '", name, "' is not one of json, sglang, trtllm, vllm-ascend");
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

static std::string listOf(const LayerMap &slots, size_t begin, size_t end) {
  std::string text = "[";
  for (size_t slot = begin; slot < end; ++slot) {
    text += concat(slot == begin ? "" : ", ", slots[slot]);
  }
  return text + "]";
}

static std::string listOf(const LayerMap &slots) { return listOf(slots, 0, slots.size()); }

/// One row per decoder layer; dense layers get the map that an engine starts with.
static std::string writeSglang(const Map &map) {
  LayerMap dense(map.slots());
  for (int slot = 0; slot < map.slots(); ++slot) {
    dense[slot] = slot % map.model.experts;
  }
  std::vector<std::string> rows(map.model.totalLayers, listOf(dense));
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    rows[map.model.layerIds[layer]] = listOf(map.layers[layer]);
  }
  std::string text = "{\"physical_to_logical_map\": [\n";
  for (size_t row = 0; row < rows.size(); ++row) {
    text += rows[row] + (row + 1 < rows.size() ? ",\n" : "\n");
  }
  return text + "]}\n";
}

static std::string writeTrtllm(const Map &map) {
  std::string text = concat("num_slots: ", map.slots(), "\ninitial_global_assignments:\n");
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    text += concat("  ", map.model.layerIds[layer], ": ", listOf(map.layers[layer]), "\n");
  }
  return text + "layer_updates_per_iter: 0\n";
}

static std::string writeVllmAscend(const Map &map) {
  const size_t perRank = map.slots() / map.ranks;
  std::string text = concat("{\"moe_layer_count\": ", map.layers.size(), ", \"layer_list\": [");
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    text += concat(layer == 0 ? "\n" : ",\n", "{\"layer_id\": ", layer, ", \"device_count\": ", map.ranks,
                   ", \"device_list\": [");
    for (int rank = 0; rank < map.ranks; ++rank) {
      text += concat(rank == 0 ? "\n" : ",\n", "  {\"device_id\": ", rank,
                     ", \"device_expert\": ", listOf(map.layers[layer], rank * perRank, (rank + 1) * perRank), "}");
    }
    text += "]}";
  }
  return text + "\n]}\n";
}

static std::string writeOwn(const Map &map) {
  std::string text = concat("{\"format\": \"moe-placement\", \"version\": 1, \"experts\": ", map.model.experts,
                            ", \"ranks\": ", map.ranks, ", \"slots\": ", map.slots(),
                            ", \"total_layers\": ", map.model.totalLayers, ", \"layers\": [");
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    text += concat(layer == 0 ? "\n" : ",\n", "{\"layer\": ", map.model.layerIds[layer],
                   ", \"slots\": ", listOf(map.layers[layer]));
    if (!map.shares.empty()) {
      text += concat(", \"shares\": ", listOf(map.shares[layer]));
    }
    text += "}";
  }
  return text + "\n]}\n";
}

bool moe::placement::startsLikeMap(const std::string &text) {
  for (const char *start : {"{\"format\": \"moe-placement\"", "{\"physical_to_logical_map\"", "{\"moe_layer_count\"",
                            "num_slots:", "initial_global_assignments:"}) {
    if (text.compare(0, std::strlen(start), start) == 0) {
      return true;
    }
  }
  return false;
}

std::string moe::placement::writeMap(const Map &map, MapFormat format) {
  switch (format) {
  case MapFormat::Sglang:
    return writeSglang(map);
  case MapFormat::Trtllm:
    return writeTrtllm(map);
  case MapFormat::VllmAscend:
    return writeVllmAscend(map);
  case MapFormat::Json:
    break;
  }
  return writeOwn(map);
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

static LayerMap readSlots(const JsonView &view) {
  const nlohmann::json &json = view.json();
  LayerMap slots;
  if (!json.is_array()) {
    view.fail(Code::InvalidArgument, "must be a list of expert numbers");
  }
  for (const nlohmann::json &value : json) {
    if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() > kMost) {
      view.fail(Code::InvalidArgument, "must hold expert numbers only, but holds ", value.dump().substr(0, 40));
    }
    slots.push_back(value.get<int>());
  }
  return slots;
}

/// Puts `slots` in the place of decoder layer `id`.
static Status placeLayer(const std::string &path, Map &map, int id, LayerMap slots) {
  const std::vector<int> &ids = map.model.layerIds;
  auto found = std::lower_bound(ids.begin(), ids.end(), id);
  if (found == ids.end() || *found != id) {
    return error(Code::InvalidArgument, path, ": layer ", id, " is not an MoE layer of the model");
  }
  LayerMap &to = map.layers[found - ids.begin()];
  if (!to.empty()) {
    return error(Code::InvalidArgument, path, ": layer ", id, " occurs twice");
  }
  to = std::move(slots);
  return Status();
}

static Result<Map> readSglang(const std::string &path, const JsonView &root, Map map) {
  const std::vector<JsonView> rows = root.at("physical_to_logical_map").elements();
  if (static_cast<int>(rows.size()) != map.model.totalLayers) {
    return error(Code::InvalidArgument, path, ": physical_to_logical_map has ", rows.size(),
                 " layers, but the model has ", map.model.totalLayers, " (dense ones included)");
  }
  for (int id : map.model.layerIds) {
    MOERT_TRY(placeLayer(path, map, id, readSlots(rows[id])));
  }
  return std::move(map);
}

static Result<Map> readVllmAscend(const std::string &path, const JsonView &root, Map map) {
  const std::vector<JsonView> layers = root.at("layer_list").elements();
  if (root.at("moe_layer_count").integer(0, kMost) != static_cast<int64_t>(layers.size()) ||
      layers.size() != map.layers.size()) {
    return error(Code::InvalidArgument, path, ": has ", layers.size(), " layers and moe_layer_count ",
                 root.at("moe_layer_count").integer(0, kMost), ", but the model has ", map.layers.size(),
                 " MoE layers");
  }
  for (const JsonView &layer : layers) {
    const int64_t id = layer.at("layer_id").integer(0, static_cast<int64_t>(layers.size()) - 1);
    const std::vector<JsonView> devices = layer.at("device_list").elements();
    if (layer.at("device_count").integer(0, kMost) != static_cast<int64_t>(devices.size()) ||
        static_cast<int>(devices.size()) != map.ranks) {
      layer.fail(Code::InvalidArgument, "has ", devices.size(), " devices, but there are ", map.ranks, " ranks");
    }
    std::vector<LayerMap> ofDevice(devices.size());
    LayerMap slots;
    for (const JsonView &device : devices) {
      ofDevice[device.at("device_id").integer(0, map.ranks - 1)] = readSlots(device.at("device_expert"));
    }
    for (const LayerMap &part : ofDevice) {
      if (part.size() != ofDevice.front().size()) {
        layer.fail(Code::InvalidArgument, "has devices with ", ofDevice.front().size(), " and with ", part.size(),
                   " experts, but all have the same number");
      }
      slots.insert(slots.end(), part.begin(), part.end());
    }
    MOERT_TRY(placeLayer(path, map, map.model.layerIds[id], std::move(slots)));
  }
  return std::move(map);
}

static Result<Map> readOwn(const std::string &path, const JsonView &root, Map map) {
  if (root.at("version").json() != 1) {
    root.at("version").fail(Code::Unsupported, "is ", root.at("version").json().dump(),
                            ", but this program reads version 1");
  }
  if (root.at("experts").integer(1, kMost) != map.model.experts || root.at("ranks").integer(1, kMost) != map.ranks ||
      root.at("total_layers").integer(1, kMost) != map.model.totalLayers) {
    return error(Code::InvalidArgument, path, ": is for ", root.at("experts").integer(1, kMost), " experts, ",
                 root.at("ranks").integer(1, kMost), " ranks and ", root.at("total_layers").integer(1, kMost),
                 " layers, but these are ", map.model.experts, ", ", map.ranks, " and ", map.model.totalLayers);
  }
  const int64_t slots = root.at("slots").integer(1, kMost);
  for (const JsonView &layer : root.at("layers").elements()) {
    const int id = static_cast<int>(layer.at("layer").integer(0, kMost));
    LayerMap experts = readSlots(layer.at("slots"));
    if (static_cast<int64_t>(experts.size()) != slots) {
      layer.fail(Code::InvalidArgument, "has ", experts.size(), " slots, but the map says ", slots);
    }
    MOERT_TRY(placeLayer(path, map, id, std::move(experts)));
    if (!layer.has("shares")) {
      continue;
    }
    map.shares.resize(map.layers.size());
    const size_t at =
        std::lower_bound(map.model.layerIds.begin(), map.model.layerIds.end(), id) - map.model.layerIds.begin();
    map.shares[at] = readSlots(layer.at("shares"));
    if (map.shares[at].size() != map.layers[at].size()) {
      layer.fail(Code::InvalidArgument, "has ", map.shares[at].size(), " shares, but ", map.layers[at].size(),
                 " slots");
    }
  }
  for (const std::vector<int> &shares : map.shares) {
    if (shares.empty()) {
      root.at("layers").fail(Code::InvalidArgument, "must have 'shares' in every layer, or in none");
    }
  }
  return std::move(map);
}

/// The YAML that TensorRT-LLM's own script and `writeTrtllm` write: three keys in any order (the script sorts them),
/// one flow list per layer.
static Result<Map> readTrtllm(const std::string &path, const std::string &text, Map map) {
  size_t line = 0;
  std::optional<size_t> slots;
  bool inLayers = false;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string content = text.substr(at, end - at);
    at = end + 1;
    ++line;
    content.erase(content.find_last_not_of(" \r\t") + 1);
    if (content.empty() || content[0] == '#') {
      continue;
    }
    auto fail = [&](const char *what) {
      return error(Code::InvalidArgument, path, ":", line, ": ", what, ", but is '", content.substr(0, 60), "'");
    };
    const size_t colon = content.find(':');
    const size_t indent = content.find_first_not_of(' ');
    if (colon == std::string::npos) {
      return fail("must be 'key: value'");
    }
    const std::string key = content.substr(indent, colon - indent), value = content.substr(colon + 1);
    if (indent == 0) {
      inLayers = key == "initial_global_assignments";
      if (key == "num_slots") {
        char *after;
        slots = std::strtoul(value.c_str(), &after, 10);
        if (*after != 0) {
          return fail("num_slots must be a number");
        }
      } else if (!inLayers && key != "layer_updates_per_iter") {
        return fail("the keys are num_slots, initial_global_assignments and layer_updates_per_iter");
      }
      continue;
    }
    if (!inLayers || key.empty() || key.size() > 6 || key.find_first_not_of("0123456789") != std::string::npos) {
      return fail("must be 'layer: [experts]'");
    }
    const size_t open = value.find('['), close = value.find(']');
    if (open == std::string::npos || close != value.size() - 1) {
      return fail("must be 'layer: [experts]' on one line");
    }
    LayerMap experts;
    for (const char *next = value.c_str() + open + 1; *next != ']';) {
      char *after;
      const long expert = std::strtol(next, &after, 10);
      if (after == next || expert < 0 || expert > kMost) {
        return fail("must be a list of expert numbers");
      }
      experts.push_back(static_cast<int>(expert));
      while (*after == ' ' || *after == ',') {
        ++after;
      }
      next = after;
    }
    MOERT_TRY(placeLayer(path, map, std::atoi(key.c_str()), std::move(experts)));
  }
  if (!slots) {
    return error(Code::InvalidArgument, path,
                 ": is not a placement: it is neither JSON nor has it num_slots (TensorRT-LLM)");
  }
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    if (!map.layers[layer].empty() && map.layers[layer].size() != *slots) {
      return error(Code::InvalidArgument, path, ": layer ", map.model.layerIds[layer], " has ",
                   map.layers[layer].size(), " slots, but num_slots is ", *slots);
    }
  }
  return std::move(map);
}

Result<Map> moe::placement::parseMap(const std::string &path, const std::string &text, const ModelLayers &model,
                                     int ranks) {
  Map empty;
  empty.model = model;
  empty.ranks = ranks;
  empty.layers.resize(model.layerIds.size());
  const size_t first = text.find_first_not_of(" \n\r\t");
  auto parse = [&]() -> Result<Map> {
    if (first == std::string::npos || text[first] != '{') {
      return readTrtllm(path, text, std::move(empty));
    }
    MOERT_ASSIGN(json, moert::readers::parseJson(path, text));
    return moert::readers::guarded(path, [&]() -> Result<Map> {
      const JsonView root(path, json);
      if (root.has("physical_to_logical_map")) {
        return readSglang(path, root, std::move(empty));
      }
      if (root.has("layer_list")) {
        return readVllmAscend(path, root, std::move(empty));
      }
      if (root.has("format") && root.at("format").text() == "moe-placement") {
        return readOwn(path, root, std::move(empty));
      }
      return error(Code::InvalidArgument, path,
                   ": is not a placement: it has none of 'physical_to_logical_map' (SGLang), 'layer_list' "
                   "(vllm-ascend), \"format\": \"moe-placement\"");
    });
  };
  Result<Map> map = parse();
  if (!map.ok()) {
    return map;
  }
  for (size_t layer = 0; layer < map->layers.size(); ++layer) {
    if (map->layers[layer].empty()) {
      return error(Code::InvalidArgument, path, ": has no slots for MoE layer ", model.layerIds[layer]);
    }
  }
  if (Status status = checkMap(*map, /*allowDuplicates=*/true); !status.ok()) {
    return error(status.code(), path, ": ", status.message());
  }
  return map;
}

Result<Map> moe::placement::readMap(const std::string &path, const ModelLayers &model, int ranks) {
  MOERT_ASSIGN(text, moert::readers::readWholeFile(path, kMaxBytes));
  return parseMap(path, text, model, ranks);
}

//===----------------------------------------------------------------------===//
// Rules
//===----------------------------------------------------------------------===//

std::vector<std::string> moe::placement::engineRules(MapFormat format) {
  switch (format) {
  case MapFormat::Sglang:
    return {"the object has the key physical_to_logical_map and no other",
            "it has one row per decoder layer, dense layers included",
            "every row has the same number of slots, a multiple of the ranks",
            "every row contains every expert and nothing else"};
  case MapFormat::Trtllm:
    return {"the keys are num_slots, initial_global_assignments and layer_updates_per_iter, and no others",
            "layers are named by their number in the decoder, and every MoE layer occurs once",
            "every layer has num_slots experts, and num_slots is a multiple of the ranks",
            "every layer contains every expert and nothing else"};
  case MapFormat::VllmAscend:
    return {"moe_layer_count is the number of layers, and layer_id counts MoE layers from 0",
            "every layer has one list per device, and all lists have the same length", "no device has an expert twice",
            "every layer contains every expert and nothing else"};
  case MapFormat::Json:
    break;
  }
  return {"format is moe-placement, version 1", "every MoE layer occurs once, by its number in the decoder",
          "every layer contains every expert and nothing else", "no rank has an expert twice"};
}

/// Top-level keys of the file, for formats whose loaders refuse others.
static std::set<std::string> topLevelKeys(const std::string &text, MapFormat format) {
  std::set<std::string> keys;
  if (format != MapFormat::Trtllm) {
    if (Result<nlohmann::json> json = moert::readers::parseJson("", text); json.ok()) {
      for (const auto &item : json->items()) {
        keys.insert(item.key());
      }
    }
    return keys;
  }
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (text[at] != ' ') {
      keys.insert(text.substr(at, text.find(':', at) - at));
    }
    at = end + 1;
  }
  return keys;
}

Status moe::placement::checkMapFile(const Map &map, MapFormat format, const std::string &text) {
  MOERT_TRY(checkMap(map));
  MOERT_ASSIGN(read, parseMap("the written map", text, map.model, map.ranks));
  if (read.layers != map.layers || read.ranks != map.ranks ||
      (format == MapFormat::Json && read.shares != map.shares)) {
    return error(Code::Internal, "the written map reads back as another one");
  }
  std::set<std::string> wanted;
  if (format == MapFormat::Sglang) {
    wanted = {"physical_to_logical_map"};
  } else if (format == MapFormat::Trtllm) {
    wanted = {"num_slots", "initial_global_assignments", "layer_updates_per_iter"};
  } else {
    return Status();
  }
  if (topLevelKeys(text, format) != wanted) {
    return error(Code::Internal, "the written map has other keys than its engine accepts");
  }
  return Status();
}
