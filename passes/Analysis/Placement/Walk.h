//===- Walk.h - Simulated annealing with a policy ---------------*- C++ -*-===//
//
// The one loop in which maps change at random: proposals that lower the smooth value (SmoothState.h) are accepted,
// others with a chance that falls with the temperature. What is proposed, and what is kept of the maps on the way, is
// the policy of the search that walks. Nothing here knows a goal.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_WALK_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_WALK_H

#include "passes/Analysis/Placement/Random.h"
#include "passes/Analysis/Placement/Search.h"
#include "passes/Analysis/Placement/SmoothState.h"

namespace moe::placement {

/// What differs between walks of one search.
struct WalkPhase {
  /// Proposals, possible or not.
  int64_t steps = 0;
  /// The exponent of the smooth value is 2^doublings.
  int doublings = 5;
  /// Temperatures at the start and at the end, in units of the mean rank load.
  double from = 0, to = 0;
  /// What a slot costs that holds something else than in the map before.
  double price = 0;
  /// Most such slots; negative: any number.
  int maxMoves = -1;
};

/// A search that walks.
class Walker {
public:
  virtual ~Walker() = default;

protected:
  Walker(const LayerProblem &problem, const LayerMap &start, int doublings, const SearchLimits &limits)
      : problem(problem), cluster(problem.cluster), perRank(cluster.slotsPerRank()), limits(limits),
        state(problem, start, doublings), random(limits.seed) {}

  /// A random proposal that is possible, or none (p < 0).
  virtual Proposal propose() = 0;
  /// A proposal was accepted; `value` is the smooth value now, without prices.
  virtual void arrive(double value) { (void)value; }

  void walk(const WalkPhase &phase);

  const LayerState &layer() const { return state.layer(); }
  /// A slot of the rank.
  int slotOf(int rank) { return rank * perRank + random.below(perRank); }
  Proposal swapOf(int p, int q) const { return layer().canSwap(p, q) ? Proposal{p, q, -1} : Proposal{}; }
  Proposal replaceAt(int p, int expert) const {
    return layer().canReplace(p, expert) ? Proposal{p, -1, expert} : Proposal{};
  }

  const LayerProblem &problem;
  const Cluster cluster;
  const int perRank;
  const SearchLimits &limits;
  SmoothState state;
  Random random;
};

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_WALK_H
