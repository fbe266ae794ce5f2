//===- GenerationConfig.h - Which tokens begin and end a text ---*- C++ -*-===//
//
// Reads generation_config.json and config.json of a package or checkpoint. The
// first wins key by key; both may be missing. `eos_token_id` is one id or a
// list. Sampling defaults of the files are not used: moe-run is greedy unless
// told otherwise.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_GENERATIONCONFIG_H
#define MOERT_READERS_GENERATIONCONFIG_H

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moert::readers {

/// See above.
struct GenerationConfig {
  std::vector<int32_t> eos;
  std::vector<int32_t> bos; ///< One or none.
  bool ends(int32_t id) const;
};

Result<GenerationConfig> readGenerationConfig(const std::string &directory);

/// A file of token ids: [[ids], [ids], ...].
Result<std::vector<std::vector<int32_t>>> readIdsFile(const std::string &path);

} // namespace moert::readers

#endif // MOERT_READERS_GENERATIONCONFIG_H
