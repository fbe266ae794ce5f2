//===- Bounds.h - How good a map of one layer can be at best ----*- C++ -*-===//
//
// Lower bounds on the load of the hottest rank, in closed form or by
// bisection; loads scaled so that the mean rank has load 1 (`scaleLoads`).
// The first three hold for any split of an expert's load over its replicas, the
// last two for an equal split. No map is made here.
//
//   mean     1: somebody carries the mean
//   slots    the least T with sum_e max(1, ceil(w_e / T)) <= S
//   full     S = E: the j heaviest experts apart, each with s - 1 of the lightest, or two of them together
//   replica  the largest share after the best S - E copies (greedy copies are optimal)
//   pairs    s = 2, see PairBound.cpp
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_BOUNDS_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_BOUNDS_H

#include "passes/Analysis/Placement/LayerProblem.h"

namespace moe::placement {

struct Bounds {
  double mean = 1, slots = 1, full = 0, replica = 0, pairs = 0;

  /// For any split of load over replicas.
  double ofAnySplit() const;
  /// For an equal split.
  double best() const;
};

/// All bounds but `pairs`.
Bounds computeBounds(const Loads &loads, const Cluster &cluster);

/// The largest T found below `reached` (the peak of a known map) that two slots per rank provably cannot reach; 0 if
/// none. Exact arithmetic is not needed: a bound is raised only with a margin.
double boundPairs(const Loads &loads, const Cluster &cluster, double reached);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_BOUNDS_H
