//===- Statistics.h - Routing statistics from files -------------*- C++ -*-===//
//
// Reads how often experts were chosen, as engines record it, without
// conversion; which form it is, the file says:
//
// - SGLang: JSON or `.pt` with `logical_count`, [layers][E] or
//   [steps][layers][E]. Layers count dense layers (rows of zeros).
// - TensorRT-LLM: a directory with meta_info.json and rank*.safetensors.
// - vllm-ascend: `.pt` with one tensor [MoE layers, E].
// - our recording: JSON with "format": "moe-routing" (docs/placement.md).
//
// Steps and iterations become windows along time (at most 16). Every count is
// checked; an MoE layer without any load is an error.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_STATISTICS_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_STATISTICS_H

#include "passes/Analysis/Placement/Model.h"

namespace moe::placement {

/// What is known of the model besides the statistics; zero and empty: unknown.
struct ModelHint {
  int experts = 0, totalLayers = 0;
  std::vector<int> moeLayers;
};

/// Reads one source; the profile is named after it.
Result<Statistics> readStatistics(const std::string &path, const ModelHint &hint);

/// Puts several sources of one model together, as one profile each (or as many as a source holds).
Result<Statistics> readAllStatistics(const std::vector<std::string> &paths, const ModelHint &hint);

/// Writes statistics as our recording.
std::string writeRecording(const Statistics &statistics);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_STATISTICS_H
