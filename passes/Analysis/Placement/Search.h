//===- Search.h - Local search over maps of one layer -----------*- C++ -*-===//
//
// Three searches, all deterministic for a seed and all free of duplicates:
//
// - `descend`: for one profile. Swaps with the hottest rank, the best first,
//   until none helps; then changes of replica counts and kicks, each followed
//   by such a descent and undone if it led nowhere. Reaches 1.0001 of the lower
//   bound in milliseconds where ranks have three slots or more.
// - `searchPairs`: two slots per rank. For given replica counts the best map
//   is known (the largest share with the smallest, and so on inwards), so only
//   the counts are searched.
// - `anneal`: any objective (several profiles, locality), by simulated
//   annealing on a smooth stand-in for the maximum (a p-norm of rank loads).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_SEARCH_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_SEARCH_H

#include "passes/Analysis/Placement/LayerProblem.h"
#include <chrono>

namespace moe::placement {

/// How far a search goes.
struct SearchLimits {
  uint64_t seed = 1;
  /// Stop when the peak (or, for `anneal`, the total) is no more than this: a lower bound with its tolerance.
  double goal = 0;
  /// Steps: kicks of `descend`, changes of counts of `searchPairs`, proposals of `anneal` and `replan`. The result
  /// depends on it.
  int64_t steps = 1000;
  /// A wall clock limit on top, for people who wait; a search that it ends is no longer the same on every machine.
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();

  bool isLate() const { return std::chrono::steady_clock::now() >= deadline; }
};

/// The same replicas where possible, without two of an expert on one rank.
LayerMap removeDuplicates(const LayerMap &map, const Loads &loads, const Cluster &cluster);

/// Replica counts that make the largest share smallest (greedy, optimal).
std::vector<int> greedyCounts(const Loads &loads, const Cluster &cluster);

/// As few replicas as keep every share within `limit`, which must leave room for them; slots that are left go to the
/// lightest experts. Where greedy counts split heavy experts so often that two of them must meet on a rank, these do
/// not.
std::vector<int> leastCounts(const Loads &loads, const Cluster &cluster, double limit);

/// Replicas in descending order of share, each to the lightest rank that has a free slot and lacks the expert.
LayerMap packCounts(const Loads &loads, const std::vector<int> &counts, const Cluster &cluster);

/// For one profile: improves `start`.
LayerMap descend(const LayerProblem &problem, const LayerMap &start, const SearchLimits &limits);

/// For one profile and two slots per rank.
LayerMap searchPairs(const LayerProblem &problem, const SearchLimits &limits);

/// For any objective: improves `start`; returns it if nothing better was found.
LayerMap anneal(const LayerProblem &problem, const LayerMap &start, const SearchLimits &limits);

/// The best map found with so many moves; `total`, the objective, as in LayerScore.
struct FrontierPoint {
  int moves = 0;
  double total = 0;
  LayerMap map;
};

/// Walks from point `start` of `known`, one after the other, in which a moved slot costs the price (in units of the
/// mean rank load). Gives `known` with what was found: ascending moves up to `maxMoves`, each with a lower total than
/// all before.
std::vector<FrontierPoint> replan(const LayerProblem &problem, const std::vector<FrontierPoint> &known, size_t start,
                                  int maxMoves, const std::vector<double> &prices, const SearchLimits &limits);

/// A walk from point `start` of `known` that never moves more slots than it, close to the maximum itself: for when it
/// is known how many moves the layer gets. Gives as `replan` does.
std::vector<FrontierPoint> polish(const LayerProblem &problem, const std::vector<FrontierPoint> &known, size_t start,
                                  const SearchLimits &limits);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_SEARCH_H
