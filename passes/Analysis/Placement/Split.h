//===- Split.h - The best split of load over given replicas -----*- C++ -*-===//
//
// For one batch: how many tokens of an expert each of its replicas should
// take, so that the fullest rank is as empty as possible. Exact, by maximum
// flow with a rising capacity: load runs from ranks above T to ranks below
// along replicas; where no path is left, the ranks that can be reached are
// closed under every split, so their mean is a lower bound and the next T.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_SPLIT_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_SPLIT_H

#include "passes/Analysis/Placement/Model.h"

namespace moe::placement {

struct Split {
  /// Load of the fullest rank.
  double peak = 0;
  /// [slot]: load that the replica there takes; sums to the expert's load over its slots.
  std::vector<double> slots;
};

Split splitLoads(const LayerMap &map, const Loads &loads, const Cluster &cluster);

/// The best split as whole numbers, what an engine can follow: of every 1000 tokens of an expert, how many the replica
/// in each slot takes. Replicas of an expert without load are alike.
std::vector<int> sharesOf(const LayerMap &map, const Loads &loads, const Cluster &cluster);

/// mean / max of the rank loads when the replicas of an expert share its load as `shares` says, whatever its unit.
double balancednessOfShares(const LayerMap &map, const std::vector<int> &shares, const Loads &loads,
                            const Cluster &cluster);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_SPLIT_H
