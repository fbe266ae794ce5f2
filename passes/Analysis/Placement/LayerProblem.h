//===- LayerProblem.h - One layer's placement as an objective ---*- C++ -*-===//
//
// What is minimised for one layer:
//
//   sum_k importance_k * max_rank load_k(rank)
//     - localityWeight * locality(map)
//
// Loads are scaled so that the mean rank has load 1 in every profile, so the
// first term is 1 when all ranks are equal and balancedness is its inverse.
// A replica gets an equal share of its expert's load (that is how the engines
// split). Locality is in [0, 1], see `LayerProblem`.
//
// Only states the objective; Search.h minimises it.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_LAYERPROBLEM_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_LAYERPROBLEM_H

#include "passes/Analysis/Placement/Model.h"

namespace moe::placement {

struct LayerProblem {
  Cluster cluster;
  int experts = 0;
  /// [profile][expert], scaled: the sum over experts is R.
  std::vector<Loads> loads;
  /// [profile], sums to 1.
  std::vector<double> importance;

  double localityWeight = 0;
  /// [expert * N + node]: what a replica on that node adds, as share of the expert; sums to 1 over the best choice.
  /// Empty: none. Made from groups by `homeRewards`.
  std::vector<double> homes;
  /// [expert * E + expert], symmetric, zero diagonal, sums to 1: how often two experts are chosen together. The
  /// locality is the chance that such a pair meets on one node (replicas chosen at random). Empty: none.
  std::vector<double> pairs;

  /// The map before; empty: nothing to move from.
  LayerMap previous;

  int profiles() const { return static_cast<int>(loads.size()); }
  /// Profiles only: what closed forms and the search for one profile can use.
  bool isPlain() const { return profiles() == 1 && localityWeight == 0; }
};

/// The value of the objective's terms for a map.
struct LayerScore {
  /// sum_k importance_k * max_rank load_k.
  double peak = 0;
  double locality = 0;
  int moves = 0;
  /// The objective.
  double total = 0;
};

/// Scales loads (any unit) for `problem.loads`.
Loads scaleLoads(const Loads &loads, int ranks);

/// The load of every rank under an equal split over replicas.
std::vector<double> rankLoads(const LayerMap &map, const Loads &loads, const Cluster &cluster);

/// mean / max of the rank loads: 1 is perfect.
double balancedness(const LayerMap &map, const Loads &loads, const Cluster &cluster);

/// Slots of `map` whose expert the same rank did not hold in `previous`.
int countMoves(const LayerMap &map, const LayerMap &previous, const Cluster &cluster);

LayerScore evaluate(const LayerProblem &problem, const LayerMap &map);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_LAYERPROBLEM_H
