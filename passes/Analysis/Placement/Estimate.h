//===- Estimate.h - What a plan is worth in time ----------------*- C++ -*-===//
//
// Balancedness is not time: at few tokens a rank waits for the weights of its
// experts, at many for their arithmetic, and moving experts costs once what
// balance gains per step. The step time of a layer is that of its slowest
// rank,
//
//   max_rank [ active experts * bytes / memory rate + tokens * operations / rate ]
//     + exchange between nodes,
//
// with the expected number of experts that get a token at all. Expected loads:
// noise within a batch comes on top (`noiseFloor`). Exchange is counted as the
// bytes that leave a rank's node (1-byte activations with scales one way, 2-byte
// results back) over its network rate, not overlapped. Kernel efficiency is 1:
// differences between maps are meant, not absolute times.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_ESTIMATE_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_ESTIMATE_H

#include "passes/Analysis/Placement/Facts.h"

namespace moe::placement {

/// Balancedness that random routing leaves even when expected loads are equal: m assignments per rank have the expected
/// maximum m + k_R sqrt(m), k_R being the expected maximum of R standard normal numbers.
double noiseFloor(double assignmentsPerRank, int ranks);

/// Seconds of one layer and step; see above. `shares` as in Map (empty: the replicas of an expert are alike);
/// `remoteNodes` is the number of other nodes that a token visits.
double layerSeconds(const LayerMap &map, const std::vector<int> &shares, const Loads &loads, const Cluster &cluster,
                    double tokens, double remoteNodes, const ModelFacts &model, const Topology &topology);

/// Bytes that cross node borders per token and layer.
double remoteBytes(double remoteNodes, int64_t hidden);

/// Seconds until every rank has loaded its new experts: the rank with the most of them, over all layers.
double migrationSeconds(const Map &map, const Map &previous, double expertBytes, double bandwidth);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_ESTIMATE_H
