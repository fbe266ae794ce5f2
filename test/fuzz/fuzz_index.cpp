//===- fuzz_index.cpp - libFuzzer target of the small JSON readers --------===//
//
// Any bytes as a model.safetensors.index.json and as a tree with checked keys.
//
//   fuzz_index -max_total_time=600 test/fuzz/corpus/index
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Json.h"
#include "runtime/readers/Safetensors.h"

using namespace moert;
using namespace moert::readers;

/// Ends the run, as a finding, unless `condition` holds.
static void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view text(reinterpret_cast<const char *>(data), size);
  Result<WeightMap> map = parseSafetensorsIndex("index.json", text);
  Result<nlohmann::json> tree = parseJson("index.json", text);
  require(tree.ok() || !tree.status().message().empty());
  if (!map.ok()) {
    require(map.status().message().compare(0, 12, "index.json: ") == 0);
    return 0;
  }
  for (size_t i = 0; i < map->size(); ++i) {
    const auto &[tensor, file] = (*map)[i];
    require(i == 0 || (*map)[i - 1].first < tensor);
    require(!file.empty() && file.find('/') == file.npos && file != "..");
  }
  return 0;
}
