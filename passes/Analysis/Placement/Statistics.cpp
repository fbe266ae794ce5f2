//===- Statistics.cpp - Routing statistics from files -----------------------===//

#include "passes/Analysis/Placement/Statistics.h"
#include "passes/Analysis/Placement/Pickle.h"
#include "runtime/readers/File.h"
#include "runtime/readers/Json.h"
#include "runtime/readers/Safetensors.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <dirent.h>
#include <numeric>
#include <set>
#include <sys/stat.h>

using namespace moe::placement;
using moert::concat;
using moert::error;
using moert::readers::JsonView;

static constexpr uint64_t kMaxBytes = uint64_t(1) << 31;
static constexpr size_t kMaxWindows = 16;

namespace {

/// Counts as a file holds them: [step][row][expert].
using Rows = std::vector<std::vector<Loads>>;

} // namespace

static std::string nameOf(const std::string &path) {
  const size_t last = path.find_last_not_of('/');
  std::string name = path.substr(0, last + 1);
  name = name.substr(name.find_last_of('/') + 1);
  for (const char *suffix : {".json", ".pt"}) {
    const size_t size = std::strlen(suffix);
    if (name.size() > size && name.compare(name.size() - size, size, suffix) == 0) {
      name.resize(name.size() - size);
    }
  }
  return name;
}

static bool isZero(const Loads &loads) {
  return std::all_of(loads.begin(), loads.end(), [](double load) { return load == 0; });
}

/// Which rows are MoE layers. `countsDense`: the format has a row for every decoder layer.
static Status chooseLayers(const std::string &path, const std::vector<Loads> &rows, bool countsDense,
                           const ModelHint &hint, ModelLayers &model, std::vector<int> &rowOf) {
  const int count = static_cast<int>(rows.size());
  if (hint.totalLayers > 0) {
    model.totalLayers = hint.totalLayers;
    model.layerIds = hint.moeLayers;
    if (count != hint.totalLayers && count != static_cast<int>(hint.moeLayers.size())) {
      return error(Code::InvalidArgument, path, ": has ", count, " layers, but the model has ", hint.totalLayers,
                   " decoder layers, of which ", hint.moeLayers.size(), " are MoE layers");
    }
    for (size_t i = 0; i < hint.moeLayers.size(); ++i) {
      rowOf.push_back(count == hint.totalLayers ? hint.moeLayers[i] : static_cast<int>(i));
    }
    for (int row = 0; count == hint.totalLayers && row < count; ++row) {
      if (!isZero(rows[row]) && std::find(rowOf.begin(), rowOf.end(), row) == rowOf.end()) {
        return error(Code::InvalidArgument, path, ": layer ", row,
                     " has counts, but it is a dense layer of the model; are the statistics of another model?");
      }
    }
    return Status();
  }
  // The first layers of a model may be dense: where the format has a row for them, it is zero.
  int first = 0;
  while (countsDense && first < count && isZero(rows[first])) {
    ++first;
  }
  model.totalLayers = count;
  for (int row = first; row < count; ++row) {
    model.layerIds.push_back(row);
    rowOf.push_back(row);
  }
  return Status();
}

/// One profile of counts per step: sums, and at most kMaxWindows windows. Steps without any count are empty buffer.
static Result<Statistics> makeProfile(const std::string &path, Rows steps, bool countsDense, const ModelHint &hint) {
  if (steps.empty() || steps.front().empty() || steps.front().front().empty()) {
    return error(Code::InvalidArgument, path, ": holds no counts");
  }
  Rows used;
  for (std::vector<Loads> &step : steps) {
    if (!std::all_of(step.begin(), step.end(), isZero)) {
      used.push_back(std::move(step));
    }
  }
  if (used.empty()) {
    return error(Code::InvalidArgument, path, ": all counts are zero; record more steps");
  }
  Statistics statistics;
  ModelLayers &model = statistics.model;
  model.experts = static_cast<int>(used.front().front().size());
  if (hint.experts > 0 && model.experts != hint.experts) {
    return error(Code::InvalidArgument, path, ": has counts of ", model.experts, " experts, but the model has ",
                 hint.experts);
  }
  std::vector<Loads> sums(used.front().size(), Loads(model.experts, 0.0));
  const size_t windows = std::min(used.size(), kMaxWindows);
  std::vector<std::vector<Loads>> windowSums(windows, sums);
  for (size_t step = 0; step < used.size(); ++step) {
    for (size_t row = 0; row < sums.size(); ++row) {
      for (int expert = 0; expert < model.experts; ++expert) {
        sums[row][expert] += used[step][row][expert];
        windowSums[step * windows / used.size()][row][expert] += used[step][row][expert];
      }
    }
  }
  std::vector<int> rowOf;
  MOERT_TRY(chooseLayers(path, sums, countsDense, hint, model, rowOf));
  Profile profile;
  profile.name = nameOf(path);
  for (int row : rowOf) {
    profile.layers.push_back(sums[row]);
  }
  if (windows > 1) {
    for (const std::vector<Loads> &window : windowSums) {
      profile.windows.emplace_back();
      for (int row : rowOf) {
        profile.windows.back().push_back(window[row]);
      }
    }
  }
  statistics.profiles.push_back(std::move(profile));
  return statistics;
}

//===----------------------------------------------------------------------===//
// JSON: SGLang's and ours
//===----------------------------------------------------------------------===//

/// A list of numbers.
static Loads readCounts(const JsonView &view, size_t experts) {
  const nlohmann::json &json = view.json();
  if (!json.is_array() || (experts != 0 && json.size() != experts)) {
    view.fail(Code::InvalidArgument, "must be a list of ", experts, " counts, but ",
              json.is_array() ? concat("has ", json.size()) : std::string("is none"));
  }
  Loads loads;
  loads.reserve(json.size());
  for (const nlohmann::json &value : json) {
    if (!value.is_number()) {
      view.fail(Code::InvalidArgument, "must hold numbers only, but holds ", value.dump().substr(0, 40));
    }
    loads.push_back(value.get<double>());
  }
  return loads;
}

static std::vector<Loads> readTable(const JsonView &view, size_t experts = 0) {
  std::vector<Loads> rows;
  for (const JsonView &row : view.elements()) {
    rows.push_back(readCounts(row, rows.empty() ? experts : rows.front().size()));
  }
  return rows;
}

static Result<Statistics> readSglangJson(const std::string &path, const JsonView &root, const ModelHint &hint) {
  const JsonView counts = root.at("logical_count");
  const nlohmann::json &json = counts.json();
  Rows steps;
  if (json.is_array() && !json.empty() && json.front().is_array() && !json.front().empty() &&
      json.front().front().is_array()) {
    for (const JsonView &step : counts.elements()) {
      steps.push_back(readTable(step));
      if (steps.back().size() != steps.front().size()) {
        step.fail(Code::InvalidArgument, "has ", steps.back().size(), " layers, but the first step has ",
                  steps.front().size());
      }
    }
  } else {
    steps.push_back(readTable(counts));
  }
  return makeProfile(path, std::move(steps), /*countsDense=*/true, hint);
}

static Result<Statistics> readRecording(const std::string &path, const JsonView &root, const ModelHint &hint) {
  if (root.at("version").json() != 1) {
    root.at("version").fail(Code::Unsupported, "is ", root.at("version").json().dump(),
                            ", but this program reads version 1");
  }
  Statistics statistics;
  ModelLayers &model = statistics.model;
  constexpr int kMost = 1 << 20;
  model.experts = static_cast<int>(root.at("experts").integer(1, kMost));
  model.totalLayers = static_cast<int>(root.at("total_layers").integer(1, kMost));
  statistics.expertsPerToken = static_cast<int>(root.at("top_k").integer(0, kMost));
  for (const JsonView &layer : root.at("layers").elements()) {
    const int id = static_cast<int>(layer.integer(0, model.totalLayers - 1));
    if (!model.layerIds.empty() && id <= model.layerIds.back()) {
      layer.fail(Code::InvalidArgument, "is ", id, ", but layers ascend");
    }
    model.layerIds.push_back(id);
  }
  const size_t layers = model.layerIds.size();
  if (hint.totalLayers > 0 &&
      (model.totalLayers != hint.totalLayers || model.layerIds != hint.moeLayers || model.experts != hint.experts)) {
    return error(Code::InvalidArgument, path, ": has ", layers, " MoE layers of ", model.totalLayers, " with ",
                 model.experts, " experts, but the model has ", hint.moeLayers.size(), " of ", hint.totalLayers,
                 " with ", hint.experts);
  }
  auto table = [&](const JsonView &view) {
    std::vector<Loads> rows = readTable(view, model.experts);
    if (rows.size() != layers) {
      view.fail(Code::InvalidArgument, "has ", rows.size(), " layers, but 'layers' names ", layers);
    }
    return rows;
  };
  for (const JsonView &view : root.at("profiles").elements()) {
    Profile profile;
    profile.name = view.at("name").text();
    profile.layers = table(view.at("counts"));
    if (view.has("windows")) {
      for (const JsonView &window : view.at("windows").elements()) {
        profile.windows.push_back(table(window.at("counts")));
      }
    }
    if (view.has("pairs")) {
      for (const JsonView &layer : view.at("pairs").elements()) {
        profile.pairs.emplace_back();
        for (const nlohmann::json &pair : layer.json()) {
          const bool whole = pair.is_array() && pair.size() == 3 && pair[0].is_number_integer() &&
                             pair[1].is_number_integer() && pair[2].is_number();
          const int64_t first = whole ? pair[0].get<int64_t>() : 0, second = whole ? pair[1].get<int64_t>() : 0;
          const double count = whole ? pair[2].get<double>() : -1;
          if (first < 0 || first >= second || second >= model.experts || !(count >= 0)) {
            layer.fail(Code::InvalidArgument, "a pair is [i, j, count] with 0 <= i < j < ", model.experts,
                       " and count >= 0, but one is ", pair.dump().substr(0, 60));
          }
          profile.pairs.back().push_back({static_cast<int>(first), static_cast<int>(second), count});
        }
      }
      if (profile.pairs.size() != layers) {
        view.at("pairs").fail(Code::InvalidArgument, "has ", profile.pairs.size(), " layers, but 'layers' names ",
                              layers);
      }
    }
    if (view.has("first_counts") || view.has("probabilities")) {
      profile.firstCounts = table(view.at("first_counts"));
      profile.probabilities = table(view.at("probabilities"));
    }
    statistics.profiles.push_back(std::move(profile));
  }
  return statistics;
}

static Result<Statistics> readJson(const std::string &path, const ModelHint &hint) {
  MOERT_ASSIGN(text, moert::readers::readWholeFile(path, kMaxBytes));
  Result<nlohmann::json> json = moert::readers::parseJson(path, text);
  if (!json.ok()) {
    if (text.find("NaN") != std::string::npos || text.find("Infinity") != std::string::npos) {
      return error(Code::InvalidArgument, path,
                   ": holds NaN or Infinity, but counts are finite (and JSON has no such numbers)");
    }
    return json.status();
  }
  return moert::readers::guarded(path, [&]() -> Result<Statistics> {
    const JsonView root(path, *json);
    if (root.isObject() && root.has("logical_count")) {
      return readSglangJson(path, root, hint);
    }
    if (root.isObject() && root.has("format") && root.at("format").text() == "moe-routing") {
      return readRecording(path, root, hint);
    }
    return error(
        Code::InvalidArgument, path,
        ": is not routing statistics: it has neither 'logical_count' (SGLang) nor \"format\": \"moe-routing\"");
  });
}

//===----------------------------------------------------------------------===//
// torch.save: SGLang and vllm-ascend
//===----------------------------------------------------------------------===//

static Result<Statistics> readTorch(const std::string &path, const ModelHint &hint) {
  MOERT_ASSIGN(bytes, moert::readers::readWholeFile(path, kMaxBytes));
  MOERT_ASSIGN(file, parseTorchFile(path, bytes));
  const bool isSglang = file.tensors.count("logical_count") != 0;
  if (!isSglang && file.tensors.count("") == 0) {
    const bool perPass = std::find(file.otherKeys.begin(), file.otherKeys.end(), "records") != file.otherKeys.end();
    return error(Code::InvalidArgument, path, ": has no tensor 'logical_count'",
                 perPass ? "; recordings of single passes are not read, record with mode stat" : "");
  }
  const PickledTensor &tensor = file.tensors[isSglang ? "logical_count" : ""];
  const size_t rank = tensor.shape.size();
  if (rank != 2 && rank != 3) {
    return error(Code::InvalidArgument, path, ": the counts have ", rank,
                 " dimensions, but they are [layers, experts] or [steps, layers, experts]");
  }
  const int64_t experts = tensor.shape[rank - 1], layers = tensor.shape[rank - 2];
  Rows steps(rank == 3 ? tensor.shape[0] : 1, std::vector<Loads>(layers));
  const double *from = tensor.values.data();
  for (std::vector<Loads> &step : steps) {
    for (Loads &row : step) {
      row.assign(from, from + experts);
      from += experts;
    }
  }
  MOERT_ASSIGN(statistics, makeProfile(path, std::move(steps), isSglang, hint));
  statistics.assumesNoDenseLayers = !isSglang && hint.totalLayers == 0;
  return std::move(statistics);
}

//===----------------------------------------------------------------------===//
// TensorRT-LLM
//===----------------------------------------------------------------------===//

static Result<std::vector<std::string>> listRankFiles(const std::string &path) {
  std::vector<std::string> names;
  DIR *directory = ::opendir(path.c_str());
  if (!directory) {
    return error(Code::IO, path, ": cannot be listed: ", std::strerror(errno));
  }
  const std::string suffix = ".safetensors";
  while (const dirent *entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (name.compare(0, 4, "rank") == 0 && name.size() > 4 + suffix.size() &&
        name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0 &&
        name.find_first_not_of("0123456789", 4) == name.size() - suffix.size()) {
      names.push_back(name);
    }
  }
  ::closedir(directory);
  std::sort(names.begin(), names.end());
  if (names.empty()) {
    return error(Code::InvalidArgument, path,
                 ": has meta_info.json but no rank*.safetensors with counts; record with "
                 "EXPERT_STATISTIC_PATH and EXPERT_STATISTIC_ITER_RANGE");
  }
  return names;
}

/// Adds the counts of one rank: tensors "{iteration}_{layer}".
static Status addRankFile(const std::string &path, int experts, std::map<int, std::map<int, Loads>> &counts) {
  moert::readers::CheckpointFile facts;
  MOERT_ASSIGN(header, moert::readers::readSafetensorsHeader(path, facts));
  MOERT_ASSIGN(file, moert::readers::InputFile::open(path));
  for (const moert::readers::TensorInfo &tensor : header.tensors) {
    int iteration = 0, layer = 0, used = 0;
    if (std::sscanf(tensor.name.c_str(), "%d_%d%n", &iteration, &layer, &used) != 2 ||
        used != static_cast<int>(tensor.name.size()) || iteration < 0 || layer < 0 || layer >= 1 << 16) {
      return error(Code::InvalidArgument, path, ": tensor '", tensor.name,
                   "' is not named iteration_layer; is this a statistics directory of TensorRT-LLM?");
    }
    const bool wide = tensor.type == moert::readers::ElementType::I64;
    if ((!wide && tensor.type != moert::readers::ElementType::I32) || tensor.shape.size() != 1 ||
        tensor.shape[0] != experts) {
      return error(Code::InvalidArgument, path, ": tensor '", tensor.name, "' is ", elementTypeName(tensor.type),
                   " of ", tensor.shape.empty() ? 0 : tensor.shape[0], ", but counts are I32 or I64 of the ", experts,
                   " experts in meta_info.json");
    }
    std::vector<char> bytes(tensor.bytes);
    MOERT_TRY(file.read(tensor.offset, bytes.data(), bytes.size()));
    Loads &sum = counts[iteration].try_emplace(layer, Loads(experts, 0.0)).first->second;
    for (int expert = 0; expert < experts; ++expert) {
      int64_t count = 0;
      int32_t narrow = 0;
      if (wide) {
        std::memcpy(&count, &bytes[expert * 8], 8);
      } else {
        std::memcpy(&narrow, &bytes[expert * 4], 4);
        count = narrow;
      }
      sum[expert] += static_cast<double>(count);
    }
  }
  return Status();
}

static Result<Statistics> readTrtllm(const std::string &path, const ModelHint &hint) {
  const std::string metaPath = moert::readers::joinPath(path, "meta_info.json");
  MOERT_ASSIGN(text, moert::readers::readWholeFile(metaPath, 1 << 20));
  MOERT_ASSIGN(json, moert::readers::parseJson(metaPath, text));
  int experts = 0, perToken = 0;
  MOERT_TRY(moert::readers::guarded(metaPath, [&]() -> Status {
    const JsonView root(metaPath, json);
    experts = static_cast<int>(root.at("num_experts").integer(1, 1 << 20));
    perToken = static_cast<int>(root.at("num_experts_per_token").integer(1, experts));
    return Status();
  }));
  MOERT_ASSIGN(names, listRankFiles(path));
  std::map<int, std::map<int, Loads>> counts;
  for (const std::string &name : names) {
    MOERT_TRY(addRankFile(moert::readers::joinPath(path, name), experts, counts));
  }
  // Layers are named by their number in the decoder; only MoE layers occur.
  std::set<int> layers;
  for (const auto &iteration : counts) {
    for (const auto &layer : iteration.second) {
      layers.insert(layer.first);
    }
  }
  if (layers.empty()) {
    return error(Code::InvalidArgument, path, ": holds no counts");
  }
  const int total = std::max(hint.totalLayers, *layers.rbegin() + 1);
  Rows steps;
  for (const auto &iteration : counts) {
    std::vector<Loads> rows(total, Loads(experts, 0.0));
    for (const auto &layer : iteration.second) {
      rows[layer.first] = layer.second;
    }
    steps.push_back(std::move(rows));
  }
  ModelHint known = hint;
  if (hint.totalLayers == 0) {
    known = {experts, total, {layers.begin(), layers.end()}};
  }
  MOERT_ASSIGN(statistics, makeProfile(path, std::move(steps), /*countsDense=*/true, known));
  statistics.expertsPerToken = perToken;
  return std::move(statistics);
}

//===----------------------------------------------------------------------===//
// All of them
//===----------------------------------------------------------------------===//

Result<Statistics> moe::placement::readStatistics(const std::string &path, const ModelHint &hint) {
  struct stat facts;
  if (::stat(path.c_str(), &facts) != 0) {
    return error(Code::NotFound, path, ": cannot be read: ", std::strerror(errno));
  }
  auto read = [&]() -> Result<Statistics> {
    if (S_ISDIR(facts.st_mode)) {
      if (!moert::readers::exists(moert::readers::joinPath(path, "meta_info.json"))) {
        return error(Code::InvalidArgument, path,
                     ": is a directory without meta_info.json, so not statistics of TensorRT-LLM");
      }
      return readTrtllm(path, hint);
    }
    const size_t dot = path.find_last_of('.');
    return dot != std::string::npos && path.substr(dot) == ".pt" ? readTorch(path, hint) : readJson(path, hint);
  };
  Result<Statistics> statistics = read();
  if (statistics.ok()) {
    if (Status status = checkStatistics(*statistics); !status.ok()) {
      return error(status.code(), path, ": ", status.message());
    }
  }
  return statistics;
}

Result<Statistics> moe::placement::readAllStatistics(const std::vector<std::string> &paths, const ModelHint &hint) {
  Statistics all;
  for (const std::string &path : paths) {
    MOERT_ASSIGN(statistics, readStatistics(path, hint));
    if (all.profiles.empty()) {
      all.model = statistics.model;
    } else if (!(all.model == statistics.model)) {
      return error(Code::InvalidArgument, path, ": has ", statistics.model.layerIds.size(), " MoE layers of ",
                   statistics.model.totalLayers, " with ", statistics.model.experts, " experts, but ", paths.front(),
                   " has ", all.model.layerIds.size(), " of ", all.model.totalLayers, " with ", all.model.experts,
                   ": statistics of one plan are of one model");
    }
    all.expertsPerToken = std::max(all.expertsPerToken, statistics.expertsPerToken);
    all.assumesNoDenseLayers |= statistics.assumesNoDenseLayers;
    for (Profile &profile : statistics.profiles) {
      all.profiles.push_back(std::move(profile));
    }
  }
  return all;
}

std::string moe::placement::writeRecording(const Statistics &statistics) {
  auto number = [](double value) -> nlohmann::ordered_json {
    return value == std::floor(value) && std::abs(value) < 1e15 ? nlohmann::ordered_json(static_cast<int64_t>(value))
                                                                : nlohmann::ordered_json(value);
  };
  auto table = [&](const std::vector<Loads> &rows) {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    for (const Loads &row : rows) {
      nlohmann::ordered_json counts = nlohmann::ordered_json::array();
      for (double value : row) {
        counts.push_back(number(value));
      }
      out.push_back(std::move(counts));
    }
    return out;
  };
  nlohmann::ordered_json root;
  root["format"] = "moe-routing";
  root["version"] = 1;
  root["experts"] = statistics.model.experts;
  root["top_k"] = statistics.expertsPerToken;
  root["total_layers"] = statistics.model.totalLayers;
  root["layers"] = statistics.model.layerIds;
  root["profiles"] = nlohmann::ordered_json::array();
  for (const Profile &profile : statistics.profiles) {
    nlohmann::ordered_json out;
    out["name"] = profile.name;
    out["counts"] = table(profile.layers);
    for (const std::vector<Loads> &window : profile.windows) {
      out["windows"].push_back({{"counts", table(window)}});
    }
    for (const std::vector<Pair> &layer : profile.pairs) {
      nlohmann::ordered_json pairs = nlohmann::ordered_json::array();
      for (const Pair &pair : layer) {
        pairs.push_back(nlohmann::ordered_json{pair.first, pair.second, number(pair.count)});
      }
      out["pairs"].push_back(std::move(pairs));
    }
    if (!profile.firstCounts.empty()) {
      out["first_counts"] = table(profile.firstCounts);
      out["probabilities"] = table(profile.probabilities);
    }
    root["profiles"].push_back(std::move(out));
  }
  return root.dump() + "\n";
}
