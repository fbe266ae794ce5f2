//===- PlacementFile.cpp - The map of experts that a pass is given ----------===//

#include "passes/Analysis/PlacementFile.h"
#include "lowering/HFToMoe/JsonFile.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;

static constexpr llvm::StringLiteral kFormat = "moe-placement";
static constexpr int64_t kVersion = 1, kMost = 1 << 20;

namespace {

/// Reads members of objects; the first fault is kept.
class Reader {
public:
  explicit Reader(StringRef file) : file(file) {}

  int64_t integer(const json::Object &object, const Twine &where, StringRef key, int64_t min) {
    const json::Value *value = object.get(key);
    std::optional<int64_t> number = value ? value->getAsInteger() : std::nullopt;
    if (!number || *number < min || *number > kMost) {
      fail("'" + where + key + "' must be an integer from " + Twine(min) + " to " + Twine(kMost) + ", but is " +
           (value ? describe(*value) : std::string("missing")));
    }
    return number.value_or(min);
  }

  /// A list of `count` integers from 0 on.
  std::vector<int64_t> list(const json::Object &object, const Twine &where, StringRef key, int64_t count) {
    const json::Value *value = object.get(key);
    const json::Array *array = value ? value->getAsArray() : nullptr;
    std::vector<int64_t> numbers;
    if (!array || static_cast<int64_t>(array->size()) != count) {
      fail("'" + where + key + "' must be a list of " + Twine(count) + " numbers (one per slot), but is " +
           (array   ? "one of " + std::to_string(array->size())
            : value ? describe(*value)
                    : std::string("missing")));
      return numbers;
    }
    for (const json::Value &entry : *array) {
      std::optional<int64_t> number = entry.getAsInteger();
      if (!number || *number < 0 || *number > kMost) {
        fail("'" + where + key + "' must hold integers from 0 to " + Twine(kMost) + ", but holds " + describe(entry));
        return numbers;
      }
      numbers.push_back(*number);
    }
    return numbers;
  }

  void fail(const Twine &message) {
    if (fault.empty()) {
      fault = (file + ": " + message).str();
    }
  }

  StringRef file;
  std::string fault;
};

} // namespace

static bool isPlacement(const json::Value &value) {
  const json::Object *root = value.getAsObject();
  return root && root->getString("format") == kFormat;
}

bool moe::isPlacementFile(StringRef path) {
  Expected<json::Value> value = readJsonFile(path);
  if (!value) {
    llvm::consumeError(value.takeError());
    return false;
  }
  return isPlacement(*value);
}

Expected<PlacementFile> moe::readPlacementFile(StringRef path) {
  Expected<json::Value> value = readJsonFile(path);
  if (!value) {
    return value.takeError();
  }
  if (!isPlacement(*value)) {
    return makeError(path + ": is not a placement: an object with \"format\": \"" + kFormat +
                     "\" is expected, as moec place --format json writes it");
  }
  const json::Object &root = *value->getAsObject();
  if (root.getInteger("version") != kVersion) {
    return makeError(path + ": 'version' is " +
                     (root.get("version") ? describe(*root.get("version")) : std::string("missing")) +
                     ", but only version " + Twine(kVersion) + " is known");
  }
  Reader reader(path);
  PlacementFile file;
  file.experts = reader.integer(root, "", "experts", 1);
  file.ranks = reader.integer(root, "", "ranks", 1);
  file.slots = reader.integer(root, "", "slots", 1);
  file.totalLayers = reader.integer(root, "", "total_layers", 1);
  const json::Array *layers = root.getArray("layers");
  if (!layers) {
    reader.fail("'layers' must be a list, but is " +
                (root.get("layers") ? describe(*root.get("layers")) : std::string("missing")));
  }
  for (size_t i = 0; layers && i < layers->size() && reader.fault.empty(); ++i) {
    const std::string where = "layers[" + std::to_string(i) + "].";
    const json::Object *layer = (*layers)[i].getAsObject();
    if (!layer) {
      reader.fail("'layers[" + Twine(i) + "]' must be an object, but is " + describe((*layers)[i]));
      break;
    }
    LayerPlacement placement;
    const int64_t number = reader.integer(*layer, where, "layer", 0);
    placement.slots = reader.list(*layer, where, "slots", file.slots);
    if (layer->get("shares")) {
      placement.shares = reader.list(*layer, where, "shares", file.slots);
    }
    if (!file.layers.try_emplace(number, std::move(placement)).second) {
      reader.fail("layer " + Twine(number) + " occurs twice");
    }
  }
  if (!reader.fault.empty()) {
    return makeError(reader.fault);
  }
  return file;
}
