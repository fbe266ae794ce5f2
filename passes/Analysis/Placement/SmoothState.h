//===- SmoothState.h - A map under change, judged smoothly ------*- C++ -*-===//
//
// The maximum over ranks says nothing about the second hottest rank, so a walk guided by it drifts. Here it is replaced
// by the p-norm (sum_rank load^p / R)^(1/p), p = 2^doublings. A move touches a few ranks, so its effect on the sums is
// known before it is made.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_SMOOTHSTATE_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_SMOOTHSTATE_H

#include "passes/Analysis/Placement/LayerState.h"
#include <algorithm>

namespace moe::placement {

/// A swap of the experts of two slots, or (q < 0) another expert in slot p.
struct Proposal {
  int p = -1, q = -1, expert = -1;
};

class SmoothState {
public:
  SmoothState(const LayerProblem &problem, const LayerMap &start, int doublings);

  const LayerState &layer() const { return state; }
  /// Sets p = 2^doublings and computes all sums anew: small changes drift.
  void rebuild(int newDoublings);
  /// The objective of the map as it is, but for a constant: that of the map at the start.
  double value() const { return smoothPeak(sums) + extra; }
  /// How the terms besides the peak changed since the start.
  double changeOfOthers() const { return extra; }
  /// Prepares the proposal, which must be possible.
  void consider(const Proposal &proposal);
  /// The objective after the proposal considered last.
  double valueAfter() const { return smoothPeak(nextSums) + nextExtra; }
  /// Whether that is at most `limit`; of one profile, without roots.
  bool isAtMost(double limit) const {
    return profiles > 1 ? valueAfter() <= limit
                        : limit > nextExtra && nextSums[0] <= power(limit - nextExtra) * cluster.ranks;
  }
  /// Makes the proposal considered last.
  void accept(const Proposal &proposal);
  int movesOf(const Proposal &proposal) const {
    return proposal.q >= 0 ? state.movesOfSwap(proposal.p, proposal.q)
                           : state.movesOfReplace(proposal.p, proposal.expert);
  }
  /// The rank with the most load; looked for again only after a change.
  int hottest(int profile) {
    int &known = hottestRanks[profile];
    return known >= 0 ? known : known = findHottest(profile);
  }

private:
  /// `consider` of a swap, touching no more than it must; false: sums have to be added up anew.
  bool considerSwap(int p, int q);
  int findHottest(int profile) const;
  /// Adds `factor` of the expert's whole load to the change of the rank.
  void touch(int rank, int expert, double factor) {
    double *to = &change[static_cast<size_t>(rank) * profiles];
    if (!isTouched[rank]) {
      isTouched[rank] = 1;
      touched[touchedRanks++] = rank;
      std::fill(to, to + profiles, 0.0);
    }
    for (int k = 0; k < profiles; ++k) {
      to[k] += factor * problem.loads[k][expert];
    }
  }
  /// Load^p, by repeated squaring.
  double power(double load) const {
    for (int i = 0; i < doublings; ++i) {
      load *= load;
    }
    return load;
  }
  double smoothPeak(const std::vector<double> &of) const;

  const LayerProblem &problem;
  const Cluster cluster;
  const int profiles;
  LayerState state;
  int doublings;
  std::vector<double> powers, sums, builtSums, nextSums, change;
  /// The ranks that a proposal changes: the first so many.
  std::vector<int> touched;
  int touchedRanks = 0;
  /// [profile]; -1: not known.
  std::vector<int> hottestRanks;
  std::vector<uint8_t> isTouched;
  /// The terms besides the peak.
  double extra = 0, nextExtra = 0;
};

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_SMOOTHSTATE_H
