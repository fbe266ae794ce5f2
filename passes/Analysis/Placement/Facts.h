//===- Facts.h - What a plan must know of model and machine -----*- C++ -*-===//
//
// Facts of a model from its config.json (which layers route, how the router
// chooses, how large an expert is) and of the machines from a topology file
// (targets/*.json). Families that the compiler cannot import yet can still be
// placed: only these few keys are read.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_FACTS_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_FACTS_H

#include "passes/Analysis/Placement/Statistics.h"
#include "passes/Analysis/Placement/Traffic.h"

namespace moe::placement {

struct ModelFacts {
  ModelHint layers;
  RoutingModel routing;
  int64_t hidden = 0, expertWidth = 0;
  /// Bytes of one element of an expert's weights.
  double bytesPerWeight = 2;

  /// Bytes of one expert: gate, up and down.
  double expertBytes() const {
    return 3.0 * static_cast<double>(hidden) * static_cast<double>(expertWidth) * bytesPerWeight;
  }
  /// Operations of one token in one expert.
  double expertOperations() const { return 6.0 * static_cast<double>(hidden) * static_cast<double>(expertWidth); }
};

/// Reads DIR/config.json. Fails when the model has no experts.
Result<ModelFacts> readModelFacts(const std::string &directory);

/// One kind of machine. Rates per GPU, one direction, in bytes or operations per second.
struct Topology {
  std::string name;
  int ranksPerNode = 1;
  double memoryRate = 0, operationRate = 0, nodeRate = 0, networkRate = 0;
  /// Seconds of a round of small messages among ranks, and until the host has a number that a GPU computed.
  double roundSeconds = 20e-6, readSeconds = 20e-6;
};

Result<Topology> readTopology(const std::string &path);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_FACTS_H
