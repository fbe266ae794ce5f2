//===- Anneal.cpp - Simulated annealing of any objective --------------------===//
//
// A walk on the smooth objective (SmoothState.h), first with p = 32, then with p = 128 to come close to the maximum.
// Most proposals move load away from the hottest rank of a profile. What it returns is judged by the objective itself.
//
//===----------------------------------------------------------------------===//

#include "passes/Analysis/Placement/Random.h"
#include "passes/Analysis/Placement/Search.h"
#include "passes/Analysis/Placement/SmoothState.h"
#include <algorithm>
#include <cmath>

using namespace moe::placement;

namespace {

class Annealing {
public:
  Annealing(const LayerProblem &problem, const LayerMap &start, const SearchLimits &limits)
      : problem(problem), cluster(problem.cluster), limits(limits), state(problem, start, 5), random(limits.seed) {}

  LayerMap run(const LayerMap &start);

private:
  /// A random proposal that is possible, or none (p < 0).
  Proposal propose();
  /// How much a typical proposal changes the locality term.
  double localityStep();
  /// That many proposals while the temperature falls.
  void walk(int64_t steps, int doublings, double from, double to);

  const LayerProblem &problem;
  const Cluster cluster;
  const SearchLimits &limits;
  SmoothState state;
  Random random;
};

} // namespace

Proposal Annealing::propose() {
  const int perRank = cluster.slotsPerRank(), experts = problem.experts;
  const LayerState &layer = state.layer();
  const bool aimed = random.below(4) != 0;
  const int hot = aimed ? state.hottest(random.below(problem.profiles())) : random.below(cluster.ranks);
  if (cluster.slots > experts && random.below(3) == 0) {
    const int p = random.below(cluster.slots);
    const int expert = aimed ? layer.expertAt(hot * perRank + random.below(perRank)) : random.below(experts);
    return layer.canReplace(p, expert) ? Proposal{p, -1, expert} : Proposal{};
  }
  const int p = hot * perRank + random.below(perRank);
  const int q = random.below(cluster.slots);
  return layer.canSwap(p, q) ? Proposal{p, q, -1} : Proposal{};
}

void Annealing::walk(int64_t steps, int doublings, double from, double to) {
  double now = 0, temperature = from;
  const double cooling = std::pow(to / from, 64.0 / static_cast<double>(std::max<int64_t>(steps, 64)));
  for (int64_t step = 0; step < steps; ++step) {
    if (step % 4096 == 0) {
      if (limits.isLate()) {
        return;
      }
      state.rebuild(doublings);
      now = state.value();
    }
    if (step % 64 == 0) {
      temperature *= cooling;
    }
    const Proposal proposal = propose();
    if (proposal.p < 0) {
      continue;
    }
    if (problem.maxMoves >= 0) {
      const int moves = state.movesOf(proposal);
      if (moves > 0 && state.layer().moves() + moves > problem.maxMoves) {
        continue;
      }
    }
    const double next = state.valueAfter(proposal);
    if (next <= now || random.uniform() < std::exp((now - next) / temperature)) {
      state.accept(proposal);
      now = next;
    }
  }
}

double Annealing::localityStep() {
  double sum = 0;
  int count = 0;
  for (int i = 0; i < 200; ++i) {
    const Proposal proposal = propose();
    if (proposal.p >= 0) {
      const double change = proposal.q >= 0 ? state.layer().localityOfSwap(proposal.p, proposal.q)
                                            : state.layer().localityOfReplace(proposal.p, proposal.expert);
      sum += std::abs(change) * problem.localityWeight;
      ++count;
    }
  }
  return count == 0 ? 0 : sum / count;
}

LayerMap Annealing::run(const LayerMap &start) {
  LayerMap best = start;
  double bestTotal = evaluate(problem, start).total;
  if (bestTotal <= limits.goal) {
    return best;
  }
  // Temperatures in units of the mean rank load; warm enough for a typical change of locality.
  const double warm = std::max(1e-3, localityStep());
  const struct {
    int doublings;
    double part, from, to;
  } phases[] = {{5, 0.6, warm, 2e-5}, {7, 0.4, 5e-5, 1e-6}};
  for (const auto &phase : phases) {
    walk(static_cast<int64_t>(static_cast<double>(limits.steps) * phase.part), phase.doublings, phase.from, phase.to);
    if (const double total = evaluate(problem, state.layer().map()).total; total < bestTotal) {
      bestTotal = total;
      best = state.layer().map();
    }
  }
  return best;
}

LayerMap moe::placement::anneal(const LayerProblem &problem, const LayerMap &start, const SearchLimits &limits) {
  return Annealing(problem, start, limits).run(start);
}
