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
  /// The objective of the map as it is.
  double value() const { return smoothPeak(sums) + extra; }
  /// The objective after the proposal, which must be possible.
  double valueAfter(const Proposal &proposal);
  /// Makes the proposal that `valueAfter` was last asked about.
  void accept(const Proposal &proposal);
  int movesOf(const Proposal &proposal) const {
    return proposal.q >= 0 ? state.movesOfSwap(proposal.p, proposal.q)
                           : state.movesOfReplace(proposal.p, proposal.expert);
  }
  int hottest(int profile) const;

private:
  void touch(int rank, int expert, double factor);
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
  std::vector<int> touched;
  std::vector<uint8_t> isTouched;
  /// The terms besides the peak.
  double extra = 0, nextExtra = 0;
};

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_SMOOTHSTATE_H
