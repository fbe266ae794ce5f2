//===- GenerationConfig.cpp - Which tokens begin and end a text -----------===//
//
// Small JSON files, read through JsonView.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/GenerationConfig.h"

#include "runtime/readers/File.h"
#include "runtime/readers/Json.h"

#include <algorithm>

using namespace moert;
using namespace moert::readers;

namespace {

constexpr uint64_t maxConfigBytes = 16u << 20;
constexpr uint64_t maxIdsBytes = 1u << 30;

std::vector<int32_t> idsOf(const JsonView &json) {
  std::vector<int32_t> ids;
  if (!json.isArray()) {
    ids.push_back(static_cast<int32_t>(json.integer(0, INT32_MAX)));
    return ids;
  }
  for (const JsonView &id : json.elements()) {
    ids.push_back(static_cast<int32_t>(id.integer(0, INT32_MAX)));
  }
  return ids;
}

/// Fills what `config` does not have yet from the file; a file that is not there has nothing.
Status fillFrom(const std::string &path, GenerationConfig &config) {
  if (!exists(path)) {
    return Status();
  }
  MOERT_ASSIGN(text, readWholeFile(path, maxConfigBytes));
  MOERT_ASSIGN(tree, parseJson(path, text));
  return guarded(path, [&]() -> Status {
    JsonView json(path, tree);
    // Multimodal models keep the language model's values one level down.
    JsonView inner = json.has("text_config") ? json.at("text_config") : json;
    for (auto [key, ids] : {std::pair("eos_token_id", &config.eos), std::pair("bos_token_id", &config.bos)}) {
      if (ids->empty() && (json.has(key) || inner.has(key))) {
        *ids = idsOf(json.has(key) ? json.at(key) : inner.at(key));
      }
    }
    return Status();
  });
}

} // namespace

bool GenerationConfig::ends(int32_t id) const { return std::find(eos.begin(), eos.end(), id) != eos.end(); }

Result<GenerationConfig> moert::readers::readGenerationConfig(const std::string &directory) {
  GenerationConfig config;
  MOERT_TRY(fillFrom(joinPath(directory, "generation_config.json"), config));
  MOERT_TRY(fillFrom(joinPath(directory, "config.json"), config));
  return config;
}

Result<std::vector<std::vector<int32_t>>> moert::readers::readIdsFile(const std::string &path) {
  MOERT_ASSIGN(text, readWholeFile(path, maxIdsBytes));
  MOERT_ASSIGN(tree, parseJson(path, text));
  return guarded(path, [&]() -> Result<std::vector<std::vector<int32_t>>> {
    std::vector<std::vector<int32_t>> sequences;
    for (const JsonView &sequence : JsonView(path, tree).elements()) {
      if (!sequence.isArray()) {
        sequence.fail(Code::InvalidArgument, "must be a list of token ids: the file is [[ids], [ids], ...]");
      }
      sequences.push_back(idsOf(sequence));
    }
    return sequences;
  });
}
