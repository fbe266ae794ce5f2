//===- MapFile.h - Placements in the files of engines -----------*- C++ -*-===//
//
// Writes and reads maps as SGLang (--init-expert-location), TensorRT-LLM
// (moe_config.load_balancer), vllm-ascend (expert_map_path) and moe-opt itself
// (moe-place-experts{map=...}) load them. What an engine's loader demands is
// written down in `engineRules` and checked on the text of the file.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_MAPFILE_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_MAPFILE_H

#include "passes/Analysis/Placement/Model.h"

namespace moe::placement {

enum class MapFormat { Json, Sglang, Trtllm, VllmAscend };

/// "json", "sglang", "trtllm" or "vllm-ascend".
Result<MapFormat> parseMapFormat(const std::string &name);

/// The text of the file; ends with a newline.
std::string writeMap(const Map &map, MapFormat format);

/// Whether a file that begins so may be a map, as `writeMap` or the script of an engine writes it.
bool startsLikeMap(const std::string &text);

/// Reads a map of any of the formats, which the text says. `model` and `ranks` are what it must fit; they also say what
/// the formats leave out. Duplicates on a rank are left for `checkMap`. `path` is for messages.
Result<Map> parseMap(const std::string &path, const std::string &text, const ModelLayers &model, int ranks);
Result<Map> readMap(const std::string &path, const ModelLayers &model, int ranks);

/// What the loader of an engine demands of a map file, one sentence each.
std::vector<std::string> engineRules(MapFormat format);

/// Reads `text` back, compares it with `map` and checks every rule of the engine.
Status checkMapFile(const Map &map, MapFormat format, const std::string &text);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_MAPFILE_H
