//===- Eplb.h - DeepSeek's load balancer, exactly ---------------*- C++ -*-===//
//
// The baseline that every plan is compared with, and one of the planner's
// seeds. Follows deepseek-ai/EPLB to the last tie: f32 arithmetic, stable
// descending order, replicas enter the packing as all primaries in order of
// expert, then redundant copies in order of creation. Like the original it may
// put two replicas of an expert on one rank.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_EPLB_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_EPLB_H

#include "passes/Analysis/Placement/Model.h"

namespace moe::placement {

/// The map of one layer. Groups of experts stay on a node if `groups` is a multiple of the nodes; otherwise nodes and
/// groups are ignored, as in the original. E % groups, S % R and R % N must be 0.
LayerMap runEplb(const Loads &loads, const Cluster &cluster, int groups);

/// The same, without regard to nodes.
inline LayerMap runGlobalEplb(const Loads &loads, const Cluster &cluster) {
  return runEplb(loads, {cluster.ranks, cluster.slots, 1}, 1);
}

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_EPLB_H
