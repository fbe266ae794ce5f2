//===- FusionPlan.cpp - Which layers are to be fused, and how ----------------===//

#include "passes/Analysis/FusionPlan.h"
#include "passes/Json/JsonReader.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;

/// What `format` says, and the only version that there is.
static constexpr llvm::StringLiteral kFormat = "moe-fusion-plan";
static constexpr int64_t kVersion = 1;

StringRef moe::spell(FusionForm form) {
  switch (form) {
  case FusionForm::Removed:
    return "R";
  case FusionForm::Deferred:
    return "D";
  case FusionForm::Pair:
    return "P";
  }
  return "";
}

bool FusionMaps::any() const {
  auto named = [](const std::string &name) { return !name.empty(); };
  return named(output) || llvm::any_of(attention, named) || llvm::any_of(ffn, named);
}

/// The name of a tensor, or null for none.
static std::string readMap(JsonReader &reader, const json::Value *value, const Twine &place) {
  if (!value || value->kind() == json::Value::Null) {
    return "";
  }
  std::optional<StringRef> name = value->getAsString();
  if (!name || name->empty()) {
    reader.fail("'" + place + "' must be the name of a tensor or null, but is " + describe(*value));
  }
  return name.value_or("").str();
}

static FusionMaps readMaps(JsonReader &reader, const json::Value &value, const std::string &place,
                           const FusionWindow &window) {
  FusionMaps maps;
  const json::Object *object = reader.object(value, place);
  if (!object) {
    return maps;
  }
  reader.checkKeys(*object, place + ".", {"attention", "ffn", "output"});
  maps.output = readMap(reader, object->get("output"), place + ".output");
  for (auto [key, list] :
       {std::pair(StringRef("attention"), &maps.attention), std::pair(StringRef("ffn"), &maps.ffn)}) {
    const json::Value *names = object->get(key);
    if (!names) {
      continue;
    }
    const json::Array *array = names->getAsArray();
    if (!array || array->size() != static_cast<size_t>(window.length)) {
      reader.fail("'" + place + "." + key + "' must be an array with one name or null for each of the " +
                  Twine(window.length) + " layers, but is " + describe(*names));
      continue;
    }
    for (auto [i, name] : llvm::enumerate(*array)) {
      list->push_back(readMap(reader, &name, place + "." + key + "[" + Twine(i) + "]"));
    }
  }
  if (window.length == 1 && window.form != FusionForm::Removed) {
    reader.fail("'" + place + "' is given for a window of one layer, which needs none");
  }
  if (window.form == FusionForm::Removed && !maps.attention.empty()) {
    reader.fail("'" + place + ".attention' maps what attentions read, but form R has none");
  }
  return maps;
}

static FusionWindow readWindow(JsonReader &reader, const json::Value &value, const std::string &place, int64_t layers) {
  FusionWindow window;
  const json::Object *object = reader.object(value, place);
  if (!object) {
    return window;
  }
  const std::string where = place + ".";
  reader.checkKeys(*object, where, {"first", "length", "form", "maps"});
  window.first = reader.integer(*object, where, "first", 0, kMaxFusionLayers);
  window.length = reader.integer(*object, where, "length", 1, kMaxFusionLayers);
  if (window.first + window.length > layers) {
    reader.fail("'" + place + "' ends at layer " + Twine(window.last()) + ", but 'layers' says that the last one is " +
                Twine(layers - 1));
  }
  const json::Value *form = object->get("form");
  StringRef name = form ? form->getAsString().value_or("") : "";
  auto known = llvm::StringSwitch<std::optional<FusionForm>>(name)
                   .Case("R", FusionForm::Removed)
                   .Case("D", FusionForm::Deferred)
                   .Case("P", FusionForm::Pair)
                   .Default(std::nullopt);
  if (!known) {
    reader.fail("'" + where + "form' must be \"R\" (attentions removed), \"D\" (FFNs deferred) or \"P\" (pair form), " +
                (form ? "but is " + describe(*form) : std::string("but is missing")));
  }
  window.form = known.value_or(FusionForm::Deferred);
  if (const json::Value *maps = object->get("maps")) {
    window.maps = readMaps(reader, *maps, where + "maps", window);
  }
  return window;
}

/// Where the maps of the plan `file` are: in its folder or below, so that a plan of somebody else's makes nobody read
/// (and copy into a package) what lies elsewhere.
static std::string readMapsFile(JsonReader &reader, const json::Value &value, StringRef file) {
  std::optional<StringRef> name = value.getAsString();
  if (!name || name->empty() || llvm::sys::path::is_absolute(*name) ||
      llvm::is_contained(llvm::make_range(llvm::sys::path::begin(*name), llvm::sys::path::end(*name)), "..")) {
    reader.fail(
        "'maps_file' must be the path of a safetensors file in the plan's folder or below, seen from there, but "
        "is " +
        describe(value));
    return "";
  }
  llvm::SmallString<256> path(llvm::sys::path::parent_path(file));
  llvm::sys::path::append(path, *name);
  return path.str().str();
}

Expected<FusionPlan> moe::readFusionPlan(StringRef file) {
  Expected<json::Value> value = readJsonFile(file);
  if (!value) {
    return value.takeError();
  }
  JsonReader reader(file);
  const json::Object *root = reader.root(*value, kFormat, kVersion, "a fusion plan");
  if (!root) {
    return reader.takeError();
  }
  FusionPlan plan;
  reader.checkKeys(*root, "",
                   {"format", "version", "layers", "remove_attention", "windows", "pad_width_to", "maps_file"});
  plan.layers = reader.integer(*root, "", "layers", 1, kMaxFusionLayers);
  plan.padWidthTo = reader.integer(*root, "", "pad_width_to", 1, kMaxWidthPad, 1);
  if (const json::Array *removed = reader.array(*root, "", "remove_attention", JsonReader::Optional)) {
    for (auto [i, entry] : llvm::enumerate(*removed)) {
      std::optional<int64_t> layer = entry.getAsInteger();
      if (!layer || *layer < 0 || *layer >= plan.layers ||
          (!plan.removeAttention.empty() && *layer <= plan.removeAttention.back())) {
        reader.fail("'remove_attention[" + Twine(i) + "]' must be a layer from 0 to " + Twine(plan.layers - 1) +
                    " and above the one before it, but is " + describe(entry));
        break;
      }
      plan.removeAttention.push_back(*layer);
    }
  }
  if (const json::Array *windows = reader.array(*root, "", "windows", JsonReader::Optional)) {
    for (auto [i, entry] : llvm::enumerate(*windows)) {
      const std::string place = "windows[" + std::to_string(i) + "]";
      FusionWindow window = readWindow(reader, entry, place, plan.layers);
      if (!plan.windows.empty() && window.first <= plan.windows.back().last()) {
        reader.fail("'" + place + "' begins at layer " + Twine(window.first) + ", but the window before it ends at " +
                    Twine(plan.windows.back().last()) + "; windows must ascend and lie apart");
      }
      plan.windows.push_back(window);
    }
  }
  if (const json::Value *maps = root->get("maps_file")) {
    plan.mapsFile = readMapsFile(reader, *maps, file);
  }
  if (reader.hasFailed()) {
    return reader.takeError();
  }
  return plan;
}
