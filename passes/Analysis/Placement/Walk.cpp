//===- Walk.cpp - Simulated annealing with a policy -------------------------===//

#include "passes/Analysis/Placement/Walk.h"
#include <algorithm>
#include <cmath>

using namespace moe::placement;

void Walker::walk(const WalkPhase &phase) {
  double now = 0, temperature = phase.from;
  const double cooling =
      std::pow(phase.to / phase.from, 64.0 / static_cast<double>(std::max<int64_t>(phase.steps, 64)));
  const bool countsMoves = phase.price != 0 || phase.maxMoves >= 0;
  for (int64_t step = 0; step < phase.steps; ++step) {
    if (step % 4096 == 0) {
      if (limits.isLate()) {
        return;
      }
      state.rebuild(phase.doublings);
      now = state.value();
    }
    if (step % 64 == 0) {
      temperature *= cooling;
    }
    const Proposal proposal = propose();
    if (proposal.p < 0) {
      continue;
    }
    const int moves = countsMoves ? state.movesOf(proposal) : 0;
    if (phase.maxMoves >= 0 && moves > 0 && layer().moves() + moves > phase.maxMoves) {
      continue;
    }
    state.consider(proposal);
    const double limit = now - phase.price * moves;
    // With chance exp(-rise / temperature): the rise that is allowed is exponentially distributed.
    if (state.isAtMost(limit) || state.isAtMost(limit - temperature * std::log(random.uniform()))) {
      state.accept(proposal);
      now = state.value();
      arrive(now);
    }
  }
}
