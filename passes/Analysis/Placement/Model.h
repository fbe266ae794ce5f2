//===- Model.h - What expert placement is about -----------------*- C++ -*-===//
//
// The data of the planner: how often each expert is chosen (profiles), which
// machines there are (cluster), and which slot holds which expert (map). Plain
// numbers: no MLIR, no files. A layer here is an MoE layer; dense layers
// exist only as numbers in `layerIds`, so that files can be read and written
// that count them.
//
// Letters: E experts, R ranks, S slots in total, s = S/R slots of one rank,
// N nodes, L MoE layers, K profiles (in this folder only).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_MODEL_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_MODEL_H

#include "runtime/core/Status.h"
#include <cstdint>
#include <string>
#include <vector>

namespace moe::placement {

using moert::Code;
using moert::Result;
using moert::Status;

/// How much work each expert of one layer gets; any unit.
using Loads = std::vector<double>;

/// How often two experts of one layer were chosen by the same token, i < j.
struct Pair {
  int first, second;
  double count;
};

/// One workload: what a recording or a statistics file holds.
struct Profile {
  std::string name;
  /// [layer][expert].
  std::vector<Loads> layers;
  /// [window][layer][expert]: the same counts, cut along time; may be empty.
  std::vector<std::vector<Loads>> windows;
  /// [layer]: pairs of experts; may be empty.
  std::vector<std::vector<Pair>> pairs;
  /// [layer][expert]: how many tokens chose the expert first, and the mean over tokens of its probability (softmax over
  /// all experts, or normalised sigmoid); both or neither, may be empty.
  std::vector<Loads> firstCounts, probabilities;
};

/// Which decoder layers are MoE layers, and how wide they are: what profiles and maps of one model share.
struct ModelLayers {
  int experts = 0;
  /// Decoder layers in total, dense ones included.
  int totalLayers = 0;
  /// The number of each MoE layer among them, ascending.
  std::vector<int> layerIds;

  bool operator==(const ModelLayers &other) const {
    return experts == other.experts && totalLayers == other.totalLayers && layerIds == other.layerIds;
  }
};

/// Profiles of one model.
struct Statistics {
  ModelLayers model;
  /// Experts per token where the source says so, else 0.
  int expertsPerToken = 0;
  /// The source counts MoE layers only and no model says which they are: layers are numbered as if all were MoE layers.
  bool assumesNoDenseLayers = false;
  std::vector<Profile> profiles;
};

/// The machines that a map is for.
struct Cluster {
  int ranks = 1;
  /// S, a multiple of `ranks`.
  int slots = 1;
  /// Ranks [n*R/N, (n+1)*R/N) are node n.
  int nodes = 1;

  int slotsPerRank() const { return slots / ranks; }
  int rankOf(int slot) const { return slot / slotsPerRank(); }
  int nodeOf(int rank) const { return rank / (ranks / nodes); }
};

/// Which expert each slot of one layer holds; slot p is on rank p / s.
using LayerMap = std::vector<int>;

/// A placement of all MoE layers.
struct Map {
  ModelLayers model;
  int ranks = 1;
  /// [layer][slot].
  std::vector<LayerMap> layers;
  /// [layer][slot]: how much of its expert's load the replica in the slot should take, relative to the expert's other
  /// replicas. Empty: replicas are alike.
  std::vector<std::vector<int>> shares;

  int slots() const { return layers.empty() ? 0 : static_cast<int>(layers.front().size()); }
};

/// Fails unless E <= S, S % R == 0, R % N == 0 and a rank has no more slots than there are experts.
Status checkCluster(const Cluster &cluster, int experts);

/// Fails unless every layer has S slots, every expert a slot and, where there are shares, one that is not 0, and
/// (`allowDuplicates` aside) no rank an expert twice.
Status checkMap(const Map &map, bool allowDuplicates = false);

/// Fails on counts that are not finite or negative, on layers of another width, and on MoE layers without any load.
Status checkStatistics(const Statistics &statistics);

/// How often each expert occurs.
std::vector<int> countReplicas(const LayerMap &map, int experts);

/// Slots whose expert is on the same rank as an earlier slot with it.
int countDuplicates(const LayerMap &map, const Cluster &cluster);

/// The map of an engine that has none: slot p holds expert p % E.
LayerMap trivialMap(const Cluster &cluster, int experts);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_MODEL_H
