//===- fuzz_config.cpp - libFuzzer target of the config.json reader ---------===//
//
// Any bytes as a config.json: an error or a config whose numbers keep what
// later stages rely on. The reader's two files are compiled into the target, so
// that they are instrumented; LLVM is the distribution's.
//
//   fuzz_config -max_total_time=600 test/fuzz/corpus/config
//
//===----------------------------------------------------------------------===//

#include "lowering/HFToMoe/ModelConfig.h"
#include "passes/Json/JsonFile.h"
#include <cmath>

using namespace mlir::moe;

/// Ends the run, as a finding, unless `condition` holds.
static void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  llvm::StringRef text(reinterpret_cast<const char *>(data), size);
  llvm::Expected<llvm::json::Value> value = parseJson(text, "config.json");
  if (!value) {
    require(!llvm::toString(value.takeError()).empty());
    return 0;
  }
  llvm::Expected<ModelConfig> config = parseModelConfig(*value, "config.json");
  if (!config) {
    require(llvm::StringRef(llvm::toString(config.takeError())).starts_with("config.json: "));
    return 0;
  }
  require(config->family && config->layers >= 1 && config->hidden >= 1 && config->vocab >= 1);
  require(config->headDim >= 2 && config->headDim % 2 == 0);
  require(config->perLayer.size() == static_cast<size_t>(config->layers));
  for (const LayerConfig &layer : config->perLayer) {
    require(layer.ffn >= 0 && layer.ffn <= config->ffn && layer.kvHeads <= config->kvHeads);
    require(layer.kvHeads == 0 ? layer.heads == 0 : layer.heads % layer.kvHeads == 0);
  }
  require(config->expertsPerToken <= config->experts && config->maxPositions >= 1);
  require(std::isfinite(config->normEps) && config->normEps >= 0);
  const RopeConfig &rope = config->rope;
  require(std::isfinite(rope.theta) && rope.theta > 1 && std::isfinite(rope.factor) && rope.factor > 0);
  require(std::isfinite(rope.attentionFactor) && rope.attentionFactor > 0);
  require(rope.kind != RopeKind::Llama3 || rope.lowFreqFactor < rope.highFreqFactor);
  return 0;
}
