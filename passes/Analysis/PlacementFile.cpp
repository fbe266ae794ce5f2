//===- PlacementFile.cpp - The map of experts that a pass is given ----------===//

#include "passes/Analysis/PlacementFile.h"
#include "passes/Json/JsonReader.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;

static constexpr llvm::StringLiteral kFormat = "moe-placement";
static constexpr int64_t kVersion = 1, kMost = 1 << 20;

bool moe::isPlacementFile(StringRef path) {
  Expected<json::Value> value = readJsonFile(path);
  if (!value) {
    llvm::consumeError(value.takeError());
    return false;
  }
  const json::Object *root = value->getAsObject();
  return root && root->getString("format") == kFormat;
}

Expected<PlacementFile> moe::readPlacementFile(StringRef path) {
  Expected<json::Value> value = readJsonFile(path);
  if (!value) {
    return value.takeError();
  }
  JsonReader reader(path);
  PlacementFile file;
  const json::Object *root = reader.root(*value, kFormat, kVersion, "a placement", "moec place --format json");
  if (!root) {
    return reader.takeError();
  }
  file.experts = reader.integer(*root, "", "experts", 1, kMost);
  file.ranks = reader.integer(*root, "", "ranks", 1, kMost);
  file.slots = reader.integer(*root, "", "slots", 1, kMost);
  file.totalLayers = reader.integer(*root, "", "total_layers", 1, kMost);
  const json::Array *layers = reader.array(*root, "", "layers", JsonReader::Required);
  for (size_t i = 0; layers && i < layers->size() && !reader.hasFailed(); ++i) {
    const std::string place = "layers[" + std::to_string(i) + "]", where = place + ".";
    const json::Object *layer = reader.object((*layers)[i], place);
    if (!layer) {
      break;
    }
    LayerPlacement placement;
    const int64_t number = reader.integer(*layer, where, "layer", 0, kMost);
    placement.slots = reader.integers(*layer, where, "slots", file.slots, kMost, "slot");
    if (layer->get("shares")) {
      placement.shares = reader.integers(*layer, where, "shares", file.slots, kMost, "slot");
    }
    if (!file.layers.try_emplace(number, std::move(placement)).second) {
      reader.fail("layer " + Twine(number) + " occurs twice");
    }
  }
  if (reader.hasFailed()) {
    return reader.takeError();
  }
  return file;
}
