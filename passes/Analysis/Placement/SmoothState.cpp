//===- SmoothState.cpp - A map under change, judged smoothly ----------------===//

#include "passes/Analysis/Placement/SmoothState.h"
#include <algorithm>
#include <cmath>

using namespace moe::placement;

/// A sum that falls below this part of what it was has lost its digits.
static constexpr double kLeastPart = 1e-4;

SmoothState::SmoothState(const LayerProblem &problem, const LayerMap &start, int doublings)
    : problem(problem), cluster(problem.cluster), profiles(problem.profiles()), state(problem, start),
      nextSums(profiles), change(static_cast<size_t>(cluster.ranks) * profiles, 0.0), touched(cluster.ranks),
      isTouched(cluster.ranks, 0) {
  rebuild(doublings);
}

void SmoothState::rebuild(int newDoublings) {
  doublings = newDoublings;
  state.refresh();
  powers.resize(state.loads().size());
  sums.assign(profiles, 0.0);
  for (size_t i = 0; i < powers.size(); ++i) {
    powers[i] = power(state.loads()[i]);
    sums[i % profiles] += powers[i];
  }
  builtSums = sums;
  hottestRanks.assign(profiles, -1);
}

double SmoothState::smoothPeak(const std::vector<double> &of) const {
  double value = 0;
  for (int k = 0; k < profiles; ++k) {
    double norm = std::max(0.0, of[k]) / cluster.ranks;
    for (int i = 0; i < doublings; ++i) {
      norm = std::sqrt(norm);
    }
    value += problem.importance[k] * norm;
  }
  return value;
}

int SmoothState::findHottest(int profile) const {
  int best = 0;
  const double *load = state.loads().data() + profile;
  for (int rank = 1; rank < cluster.ranks; ++rank) {
    if (load[rank * profiles] > load[best * profiles]) {
      best = rank;
    }
  }
  return best;
}

bool SmoothState::considerSwap(int p, int q) {
  const int a = state.expertAt(p), g = state.rankOf(p), b = state.expertAt(q), h = state.rankOf(q);
  bool isExact = true;
  for (int k = 0; k < profiles; ++k) {
    const double change = state.share(b, k) - state.share(a, k);
    const size_t from = static_cast<size_t>(g) * profiles + k, to = static_cast<size_t>(h) * profiles + k;
    nextSums[k] = sums[k] + (power(state.loads()[from] + change) - powers[from]) +
                  (power(state.loads()[to] - change) - powers[to]);
    isExact &= nextSums[k] >= kLeastPart * sums[k];
  }
  touched[0] = g;
  touched[1] = h;
  touchedRanks = 2;
  nextExtra = extra - problem.localityWeight * state.localityOfSwap(p, q);
  return isExact;
}

void SmoothState::consider(const Proposal &proposal) {
  for (int i = 0; i < touchedRanks; ++i) {
    isTouched[touched[i]] = 0;
  }
  // Most proposals are swaps, and few are accepted: the quick way.
  if (proposal.q >= 0 && considerSwap(proposal.p, proposal.q)) {
    return;
  }
  touchedRanks = 0;
  const int a = state.expertAt(proposal.p), g = state.rankOf(proposal.p);
  double locality;
  if (proposal.q >= 0) {
    const int b = state.expertAt(proposal.q), h = state.rankOf(proposal.q);
    const double shareA = 1.0 / state.replicas(a), shareB = 1.0 / state.replicas(b);
    touch(g, a, -shareA);
    touch(g, b, shareB);
    touch(h, a, shareA);
    touch(h, b, -shareB);
    locality = state.localityOfSwap(proposal.p, proposal.q);
  } else {
    const int b = proposal.expert, countA = state.replicas(a), countB = state.replicas(b);
    for (int slot : state.slotsOf(a)) {
      touch(state.rankOf(slot), a, slot == proposal.p ? -1.0 / countA : 1.0 / (countA - 1) - 1.0 / countA);
    }
    for (int slot : state.slotsOf(b)) {
      touch(state.rankOf(slot), b, 1.0 / (countB + 1) - 1.0 / countB);
    }
    touch(g, b, 1.0 / (countB + 1));
    locality = state.localityOfReplace(proposal.p, b);
  }
  nextExtra = extra - problem.localityWeight * locality;
  nextSums = sums;
  for (int i = 0; i < touchedRanks; ++i) {
    const size_t at = static_cast<size_t>(touched[i]) * profiles;
    for (int k = 0; k < profiles; ++k) {
      nextSums[k] += power(state.loads()[at + k] + change[at + k]) - powers[at + k];
    }
  }
  // Where a rank was much hotter than all others, its power left nothing of their digits: add up anew.
  for (int k = 0; k < profiles; ++k) {
    if (nextSums[k] < kLeastPart * sums[k]) {
      nextSums[k] = 0;
      for (int rank = 0; rank < cluster.ranks; ++rank) {
        const size_t at = static_cast<size_t>(rank) * profiles + k;
        nextSums[k] += isTouched[rank] ? power(state.loads()[at] + change[at]) : powers[at];
      }
    }
  }
}

void SmoothState::accept(const Proposal &proposal) {
  if (proposal.q >= 0) {
    state.swap(proposal.p, proposal.q);
  } else {
    state.replace(proposal.p, proposal.expert);
  }
  sums = nextSums;
  extra = nextExtra;
  hottestRanks.assign(profiles, -1);
  for (int i = 0; i < touchedRanks; ++i) {
    const size_t at = static_cast<size_t>(touched[i]) * profiles;
    for (int k = 0; k < profiles; ++k) {
      powers[at + k] = power(state.loads()[at + k]);
    }
  }
  for (int k = 0; k < profiles; ++k) {
    // As above, for falls in many steps.
    if (sums[k] < kLeastPart * builtSums[k]) {
      rebuild(doublings);
      return;
    }
  }
}
