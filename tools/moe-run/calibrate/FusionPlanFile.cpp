//===- FusionPlanFile.cpp - The windows of a fusion plan ------------------===//
#include "tools/moe-run/calibrate/FusionPlanFile.h"

#include "runtime/core/OutputPath.h"
#include "runtime/readers/File.h"
#include "tools/moe-run/calibrate/TensorFile.h"

#include <algorithm>
#include <filesystem>

using namespace moert;
using namespace moert::readers;
using namespace moerun;

namespace {

constexpr uint64_t kMaxPlanBytes = 64 << 20;
/// What the names of all maps begin with.
constexpr const char *kMapPrefix = "repair.";

bool isPlan(const Json &tree) {
  return tree.is_object() && tree.value("format", Json()) == "moe-fusion-plan" && tree.value("version", Json()) == 1;
}

/// The integer under `key`, or an error that names its place.
Result<int64_t> integer(const std::string &path, const std::string &place, const Json &object, const char *key) {
  auto found = object.find(key);
  if (found == object.end() || !found->is_number_integer()) {
    return error(Code::InvalidArgument, path, ": '", place, key, "' must be an integer, but is ",
                 found == object.end() ? std::string("missing") : found->dump());
  }
  return found->get<int64_t>();
}

} // namespace

Result<FusionPlanFile> FusionPlanFile::read(const std::string &path, int64_t layers) {
  MOERT_ASSIGN(text, readWholeFile(path, kMaxPlanBytes));
  FusionPlanFile plan;
  plan.tree = Json::parse(text, nullptr, false);
  if (!isPlan(plan.tree)) {
    return error(Code::InvalidArgument, path,
                 ": is no fusion plan of version 1: 'format' must be \"moe-fusion-plan\" and 'version' 1");
  }
  MOERT_ASSIGN(planned, integer(path, "", plan.tree, "layers"));
  if (planned != layers) {
    return error(Code::InvalidArgument, path, ": was made for a model of ", planned, " layers, but this one has ",
                 layers);
  }
  for (const char *list : {"remove_attention", "windows"}) {
    if (plan.tree.contains(list) && !plan.tree[list].is_array()) {
      return error(Code::InvalidArgument, path, ": '", list, "' must be an array, but is ", plan.tree[list].dump());
    }
  }
  for (const Json &layer : plan.tree.value("remove_attention", Json::array())) {
    if (!layer.is_number_integer() || layer.get<int64_t>() < 0 || layer.get<int64_t>() >= layers) {
      return error(Code::InvalidArgument, path, ": 'remove_attention' names layer ", layer.dump(),
                   ", but layers are 0 to ", layers - 1);
    }
    plan.removeAttention.insert(layer.get<int64_t>());
  }
  const Json windows = plan.tree.value("windows", Json::array());
  int64_t free = 0;
  for (size_t i = 0; i < windows.size(); ++i) {
    const std::string place = concat("windows[", i, "].");
    if (!windows[i].is_object()) {
      return error(Code::InvalidArgument, path, ": 'windows[", i, "]' must be an object, but is ", windows[i].dump());
    }
    MOERT_ASSIGN(first, integer(path, place, windows[i], "first"));
    MOERT_ASSIGN(length, integer(path, place, windows[i], "length"));
    const Json letter = windows[i].value("form", Json());
    Result<Form> form = parseForm(letter.is_string() ? letter.get<std::string>() : letter.dump());
    if (!form.ok()) {
      return error(Code::InvalidArgument, path, ": '", place, "form': ", form.status().message());
    }
    if (first < free || length < 1 || length > layers - first) {
      return error(Code::InvalidArgument, path, ": 'windows[", i, "]' covers ", length, " layers from ", first,
                   " on, but may only have layers ", free, " to ", layers - 1, ": windows are ascending and apart");
    }
    plan.windows.push_back({first, length, *form});
    free = first + length;
  }
  return plan;
}

std::string moerun::mapName(const Window &window, const std::string &what) {
  return concat(kMapPrefix, window.first, "-", window.first + window.length - 1, ".", what);
}

Result<std::string> moerun::mapsFileOf(const std::string &file, const std::string &plan) {
  std::error_code failure;
  const std::filesystem::path to = std::filesystem::absolute(file, failure).lexically_normal();
  const std::filesystem::path from =
      failure ? to : std::filesystem::absolute(plan, failure).lexically_normal().parent_path();
  if (failure) {
    return error(Code::IO, "the folder of ", file, " cannot be found: ", failure.message());
  }
  const std::filesystem::path relative = to.lexically_relative(from);
  if (*relative.begin() == "..") {
    return error(Code::InvalidArgument, plan, ": would name the maps as ", relative.string(),
                 ", but a plan's maps are in its folder or below; write ", file, " there");
  }
  return relative.string();
}

Status moerun::checkMapsReplaced(const std::string &path) {
  if (!exists(path) || isDevice(path)) {
    return {};
  }
  Result<TensorFile> file = TensorFile::open(path);
  const bool isMaps =
      file.ok() && std::all_of(file->tensors().begin(), file->tensors().end(),
                               [](const TensorInfo &map) { return map.name.rfind(kMapPrefix, 0) == 0; });
  return isMaps ? Status()
                : error(Code::InvalidArgument, path,
                        ": exists and is no maps of a plan, so it is not overwritten; choose another name");
}

Status moerun::checkPlanReplaced(const std::string &path) {
  if (!exists(path) || isDevice(path)) {
    return {};
  }
  Result<std::string> text = readWholeFile(path, kMaxPlanBytes);
  return text.ok() && isPlan(Json::parse(*text, nullptr, false))
             ? Status()
             : error(Code::InvalidArgument, path,
                     ": exists and is no fusion plan, so it is not overwritten; choose another name");
}
