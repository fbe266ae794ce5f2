//===- FusionMaps.cpp - The file with the maps of a fusion plan --------------===//

#include "passes/Analysis/FusionMaps.h"
#include "passes/Json/JsonFile.h"
#include "runtime/readers/File.h"
#include "runtime/readers/Safetensors.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"
#include <cmath>

using namespace mlir::moe;
using llvm::Error;
using llvm::StringRef;
using llvm::Twine;
using moert::readers::TensorInfo;

/// Numbers that are in memory at a time.
static constexpr size_t kPiece = 1 << 18;

/// The place of the first number of `tensor` that is none, or its count.
static moert::Result<uint64_t> findNonFinite(const moert::readers::InputFile &file, const TensorInfo &tensor) {
  std::vector<float> piece(kPiece);
  const uint64_t count = tensor.bytes / sizeof(float);
  for (uint64_t first = 0; first < count; first += kPiece) {
    const size_t length = std::min<uint64_t>(kPiece, count - first);
    MOERT_TRY(file.read(tensor.offset + first * sizeof(float), piece.data(), length * sizeof(float)));
    auto end = piece.begin() + length;
    auto found = std::find_if(piece.begin(), end, [](float value) { return !std::isfinite(value); });
    if (found != end) {
      return first + static_cast<uint64_t>(found - piece.begin());
    }
  }
  return count;
}

Error mlir::moe::checkFusionMaps(const FusionPlan &plan, StringRef file, int64_t hidden) {
  if (plan.mapsFile.empty()) {
    return Error::success();
  }
  moert::readers::CheckpointFile facts;
  moert::Result<moert::readers::SafetensorsHeader> header = moert::readers::readSafetensorsHeader(plan.mapsFile, facts);
  if (!header.ok()) {
    return makeError(file + ": 'maps_file': " + header.status().message());
  }
  moert::Result<moert::readers::InputFile> data = moert::readers::InputFile::open(plan.mapsFile);
  if (!data.ok()) {
    return makeError(file + ": 'maps_file': " + data.status().message());
  }
  llvm::StringSet<> seen;
  auto check = [&](StringRef name, const Twine &place) -> Error {
    if (name.empty() || !seen.insert(name).second) {
      return Error::success();
    }
    const std::string here = (file + ": '" + place + "' names '" + name + "'").str();
    auto found = llvm::find_if(header->tensors, [&](const TensorInfo &tensor) { return tensor.name == name; });
    if (found == header->tensors.end()) {
      return makeError(here + ", which is not in " + plan.mapsFile);
    }
    if (found->type != moert::readers::ElementType::F32 || found->shape != std::vector<int64_t>{hidden, hidden}) {
      std::string shape;
      for (int64_t dim : found->shape) {
        shape += (shape.empty() ? "" : ", ") + std::to_string(dim);
      }
      return makeError(here + ", which is " + std::string(moert::readers::elementTypeName(found->type)) + " [" + shape +
                       "] in " + plan.mapsFile + ", but a map is F32 [H, H] = [" + Twine(hidden) + ", " +
                       Twine(hidden) + "]");
    }
    moert::Result<uint64_t> index = findNonFinite(*data, *found);
    if (!index.ok()) {
      return makeError(index.status().message());
    }
    if (*index < found->bytes / sizeof(float)) {
      return makeError(here + ", which holds a number that is not finite at [" + Twine(*index / hidden) + ", " +
                       Twine(*index % hidden) + "] in " + plan.mapsFile + ": repair the plan again");
    }
    return Error::success();
  };
  for (auto [w, window] : llvm::enumerate(plan.windows)) {
    const std::string place = "windows[" + std::to_string(w) + "].maps.";
    for (auto [key, names] : {std::pair("attention", &window.maps.attention), std::pair("ffn", &window.maps.ffn)}) {
      for (auto [i, name] : llvm::enumerate(*names)) {
        if (Error error = check(name, Twine(place) + key + "[" + Twine(i) + "]")) {
          return error;
        }
      }
    }
    if (Error error = check(window.maps.output, Twine(place) + "output")) {
      return error;
    }
  }
  return Error::success();
}
