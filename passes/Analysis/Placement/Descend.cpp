//===- Descend.cpp - Swaps, count changes and kicks for one profile ---------===//

#include "passes/Analysis/Placement/LayerState.h"
#include "passes/Analysis/Placement/Random.h"
#include "passes/Analysis/Placement/Search.h"
#include <algorithm>

using namespace moe::placement;

namespace {

/// Iterated local search, see Search.h. Every move is logged, so that a trip that led nowhere is undone in the time
/// that it took.
class Descent {
public:
  Descent(const LayerProblem &problem, const LayerMap &start, const SearchLimits &limits)
      : cluster(problem.cluster), experts(problem.experts), limits(limits), state(problem, start), random(limits.seed) {
  }

  LayerMap run();

private:
  struct Move {
    int p, q;   ///< Slots that swapped, or the slot that changed and -1.
    int expert; ///< What the slot held before.
  };

  void swap(int p, int q) {
    state.swap(p, q);
    log.push_back({p, q, -1});
  }
  void replace(int p, int expert) {
    log.push_back({p, -1, state.expertAt(p)});
    state.replace(p, expert);
  }
  void undo() {
    for (; !log.empty(); log.pop_back()) {
      if (log.back().q >= 0) {
        state.swap(log.back().p, log.back().q);
      } else {
        state.replace(log.back().p, log.back().expert);
      }
    }
  }

  int hottest() const {
    return static_cast<int>(std::max_element(state.loads().begin(), state.loads().end()) - state.loads().begin());
  }
  double peak() const { return *std::max_element(state.loads().begin(), state.loads().end()); }
  /// A sum that tells maps of equal peak apart: how full the nearly hottest ranks are.
  double crowd(double top) const;

  bool swapFromHottest();
  void kick();

  const Cluster cluster;
  const int experts;
  const SearchLimits &limits;
  LayerState state;
  Random random;
  std::vector<Move> log;
};

} // namespace

double Descent::crowd(double top) const {
  double sum = 0;
  const double floor = 1 + (top - 1) * 0.5;
  for (double load : state.loads()) {
    if (load > floor) {
      sum += (load - floor) * (load - floor);
    }
  }
  return sum;
}

/// The swap with the hottest rank after which the heavier of the two ranks is lightest. False: none makes it lighter.
bool Descent::swapFromHottest() {
  const int perRank = cluster.slotsPerRank(), g = hottest();
  const std::vector<double> &load = state.loads();
  const double top = load[g];
  double best = top * (1 - 1e-12);
  int bestP = -1, bestQ = -1;
  for (int p = g * perRank; p < (g + 1) * perRank; ++p) {
    const double mine = state.share(state.expertAt(p), 0);
    for (int h = 0; h < cluster.ranks; ++h) {
      // The pair cannot become lighter than its mean.
      if (h == g || (top + load[h]) * 0.5 >= best) {
        continue;
      }
      for (int q = h * perRank; q < (h + 1) * perRank; ++q) {
        const double change = mine - state.share(state.expertAt(q), 0);
        const double heavier = std::max(top - change, load[h] + change);
        if (heavier < best && state.canSwap(p, q)) {
          best = heavier;
          bestP = p;
          bestQ = q;
        }
      }
    }
  }
  if (bestP < 0) {
    return false;
  }
  swap(bestP, bestQ);
  return true;
}

/// A random change: of replica counts half of the time where there are redundant replicas (of several, since one alone
/// may help nothing: two heavy experts that meet on a rank both have a replica too many), else swaps of the hottest
/// rank with others.
void Descent::kick() {
  const int perRank = cluster.slotsPerRank(), g = hottest();
  if (cluster.slots > experts && random.below(2) == 0) {
    const int changes = random.below(8) != 0 ? 1 : 2 + random.below(2);
    int done = 0;
    for (int attempt = 0; done < changes && attempt < 50; ++attempt) {
      const int p = random.below(cluster.slots);
      const int expert =
          random.below(2) == 0 ? state.expertAt(g * perRank + random.below(perRank)) : random.below(experts);
      if (state.canReplace(p, expert)) {
        replace(p, expert);
        ++done;
      }
    }
    if (done > 0) {
      return;
    }
  }
  const int swaps = 1 + random.below(3);
  for (int done = 0, attempt = 0; done < swaps && attempt < 50; ++attempt) {
    const int p = (done == 0 ? g * perRank + random.below(perRank) : random.below(cluster.slots));
    const int q = random.below(cluster.slots);
    if (state.canSwap(p, q)) {
      swap(p, q);
      ++done;
    }
  }
}

LayerMap Descent::run() {
  while (peak() > limits.goal && swapFromHottest()) {
  }
  log.clear();
  double best = peak(), bestCrowd = crowd(best);
  for (int64_t step = 0; step < limits.steps && best > limits.goal; ++step) {
    if (step % 64 == 0) {
      state.refresh();
      if (limits.isLate()) {
        break;
      }
    }
    kick();
    for (int swaps = 0; swaps < 200 && peak() > limits.goal && swapFromHottest(); ++swaps) {
    }
    const double now = peak();
    if (now < best * (1 - 1e-12) || (now <= best * (1 + 1e-12) && crowd(now) <= bestCrowd)) {
      best = now;
      bestCrowd = crowd(best);
      log.clear();
    } else {
      undo();
    }
  }
  return state.map();
}

LayerMap moe::placement::descend(const LayerProblem &problem, const LayerMap &start, const SearchLimits &limits) {
  return Descent(problem, start, limits).run();
}
