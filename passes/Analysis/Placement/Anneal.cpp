//===- Anneal.cpp - Simulated annealing of any objective --------------------===//
//
// A walk (Walk.h), first with p = 32, then with p = 128 to come close to the maximum. Most proposals move load away
// from the hottest rank of a profile. What it returns is judged by the objective itself.
//
//===----------------------------------------------------------------------===//

#include "passes/Analysis/Placement/Walk.h"
#include <algorithm>
#include <cmath>

using namespace moe::placement;

namespace {

class Annealing final : private Walker {
public:
  Annealing(const LayerProblem &problem, const LayerMap &start, const SearchLimits &limits)
      : Walker(problem, start, 5, limits) {}

  LayerMap run(const LayerMap &start);

private:
  Proposal propose() override;
  /// How much a typical proposal changes the locality term.
  double localityStep();
};

} // namespace

Proposal Annealing::propose() {
  const bool aimed = random.below(4) != 0;
  const int hot = aimed ? state.hottest(random.below(problem.profiles())) : random.below(cluster.ranks);
  if (cluster.slots > problem.experts && random.below(3) == 0) {
    const int p = random.below(cluster.slots);
    return replaceAt(p, aimed ? layer().expertAt(slotOf(hot)) : random.below(problem.experts));
  }
  const int p = slotOf(hot);
  return swapOf(p, random.below(cluster.slots));
}

double Annealing::localityStep() {
  double sum = 0;
  int count = 0;
  for (int i = 0; i < 200; ++i) {
    const Proposal proposal = propose();
    if (proposal.p >= 0) {
      const double change = proposal.q >= 0 ? layer().localityOfSwap(proposal.p, proposal.q)
                                            : layer().localityOfReplace(proposal.p, proposal.expert);
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
  const auto steps = static_cast<double>(limits.steps);
  for (const WalkPhase &phase : {WalkPhase{static_cast<int64_t>(steps * 0.6), 5, warm, 2e-5},
                                 WalkPhase{static_cast<int64_t>(steps * 0.4), 7, 5e-5, 1e-6}}) {
    walk(phase);
    if (const double total = evaluate(problem, layer().map()).total; total < bestTotal) {
      bestTotal = total;
      best = layer().map();
    }
  }
  return best;
}

LayerMap moe::placement::anneal(const LayerProblem &problem, const LayerMap &start, const SearchLimits &limits) {
  return Annealing(problem, start, limits).run(start);
}
