//===- Planner.h - Placements of all layers ---------------------*- C++ -*-===//
//
// Chooses for every layer the seeds, the search and the bound that fit the
// question (one or several profiles, nodes, a map in use), and never returns a
// layer that scores worse than EPLB's map, its duplicates taken out, on the
// same objective. The result depends on the statistics, the options and the
// seed only, unless a time budget ends a search early; then it says so.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_PLANNER_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_PLANNER_H

#include "passes/Analysis/Placement/Model.h"
#include "passes/Analysis/Placement/Traffic.h"
#include <functional>

namespace moe::placement {

struct PlanOptions {
  Cluster cluster;
  RoutingModel routing;
  /// How much a token's experts being on few nodes counts against balance; only with several nodes and groups or pairs.
  double localityWeight = 1;
  /// [profile]; empty: all alike.
  std::vector<double> importance;
  /// Plan for so many resamplings of each profile's windows instead of for its sum, which a short recording fits too
  /// well; 0: for the sum. Profiles without windows count as they are.
  int resamples = 0;
  /// S = E only: the groups of the router stay whole and in slots of their own, so that renumbered experts route alike.
  bool wholeGroups = false;
  /// The map in use; null: none.
  const Map *previous = nullptr;
  /// Most slots that may change, as a fraction of all; 1: any number.
  double maxMoves = 1;
  uint64_t seed = 1;
  /// Multiplies the steps of every search.
  double effort = 1;
  /// Seconds; 0: no limit.
  double timeBudget = 0;
  /// Called after each layer with the number of layers done.
  std::function<void(int done, int total)> progress;
};

/// One layer of a plan. Balancedness is the mean over profiles of mean/max rank load.
struct LayerReport {
  double before = 0, eplb = 0, after = 0;
  /// Of the new map, when replicas share the load of their expert as `sharesOf` says for the mean of the profiles, and
  /// not alike.
  double afterSplit = 0;
  /// No map reaches a higher balancedness; `bound` for an equal split over replicas, `anySplitBound` for any.
  double bound = 1, anySplitBound = 1;
  /// Slots that change against the previous map; all without one.
  int moves = 0;
  /// Modelled remote nodes per token, with several nodes.
  double remoteBefore = 0, remoteEplb = 0, remoteAfter = 0;
};

struct Plan {
  Map map;
  /// What is compared with: the previous map, or the map that an engine starts with.
  Map before;
  /// EPLB, with its duplicates.
  Map eplb;
  std::vector<LayerReport> layers;
  bool endedByTime = false;
};

/// Whether the planner weighs locality for these options.
bool usesLocality(const Statistics &statistics, const PlanOptions &options);

/// Plans all layers. Fails on statistics, a cluster or a previous map that do not fit together.
Result<Plan> planPlacement(const Statistics &statistics, const PlanOptions &options);

/// Mean over profiles of mean/max rank load of one layer.
double meanBalancedness(const LayerMap &map, const Statistics &statistics, size_t layer, const Cluster &cluster,
                        const std::vector<double> &importance);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_PLANNER_H
