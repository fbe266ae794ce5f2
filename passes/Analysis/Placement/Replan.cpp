//===- Replan.cpp - As much balance as possible for few moves ---------------===//
//
// For every number of moves up to a limit, the best map that is found: the frontier of one layer. What moves are worth
// differs much between layers, so the caller gives each layer the point of its frontier that serves all of them best.
//
// Points are found by walks (Walk.h) in which a slot that has to load new weights has a price: a changed replica costs
// one, a swap two. Each price looks at another part of the frontier. Beside changes that relieve a hot rank, a walk
// proposes to take a move back, and to spend one elsewhere, for else what was moved early stays moved. Every map on the
// way is offered to the frontier. Once a layer has its number of moves, a last walk keeps to it and needs no price.
//
//===----------------------------------------------------------------------===//

#include "passes/Analysis/Placement/Walk.h"

using namespace moe::placement;

/// p = 32: with few moves, ranks behind the hottest one matter too.
static constexpr int kWalkDoublings = 5;
/// Temperatures at the start and the end of a walk, in prices.
static constexpr double kWarm = 0.3, kCold = 1.0 / 16;
/// The walk at the end: p = 128, and temperatures in units of the mean rank load.
static constexpr int kPolishDoublings = 7;
static constexpr double kPolishWarm = 3e-3, kPolishCold = 3e-5;

namespace {

class Replanning final : private Walker {
public:
  Replanning(const LayerProblem &problem, const std::vector<FrontierPoint> &known, size_t start, int maxMoves,
             const SearchLimits &limits)
      : Walker(problem, known[start].map, kWalkDoublings, limits), maxMoves(maxMoves), frontier(maxMoves + 1),
        bestTotals(maxMoves + 1, 1e300),
        othersAtStart(-problem.localityWeight * evaluate(problem, known[start].map).locality) {
    for (const FrontierPoint &point : known) {
      frontier[point.moves] = point;
      bestTotals[point.moves] = point.total;
    }
  }

  /// A walk at each price; the frontier that is known then.
  std::vector<FrontierPoint> run(const std::vector<double> &prices);
  /// A walk without a price, within the moves of the start.
  std::vector<FrontierPoint> polish();

private:
  Proposal propose() override;
  /// Brings an expert back to a rank that held it before.
  Proposal proposeReturn();
  /// Something else in a slot that has been moved anyway, which mostly costs nothing more.
  Proposal proposeElsewhere();
  /// Keeps the map as it is if it is the best with its number of moves.
  void arrive(double value) override;
  /// sum_k importance_k * max_rank load_k.
  double peak();
  std::vector<FrontierPoint> takePoints();

  const int maxMoves;
  std::vector<FrontierPoint> frontier;
  std::vector<double> bestTotals;
  /// The terms besides the peak, of the map at the start.
  const double othersAtStart;
};

} // namespace

double Replanning::peak() {
  double sum = 0;
  for (int k = 0; k < problem.profiles(); ++k) {
    sum += problem.importance[k] * layer().loads()[state.hottest(k) * problem.profiles() + k];
  }
  return sum;
}

void Replanning::arrive(double value) {
  const int moves = layer().moves();
  // The smooth value is never above the peak, so most maps need no closer look.
  if (moves > maxMoves || value + othersAtStart >= bestTotals[moves]) {
    return;
  }
  if (const double now = peak() + state.changeOfOthers() + othersAtStart; now < bestTotals[moves] - 1e-12) {
    bestTotals[moves] = now;
    frontier[moves] = {moves, now, layer().map()};
  }
}

Proposal Replanning::proposeReturn() {
  for (int attempt = 0; attempt < 8; ++attempt) {
    const int old = random.below(cluster.slots), expert = problem.previous[old], rank = cluster.rankOf(old);
    if (layer().holds(rank, expert)) {
      continue;
    }
    const int p = slotOf(rank);
    if (layer().canReplace(p, expert) && random.below(2) == 0) {
      return {p, -1, expert};
    }
    const std::vector<int> &holders = layer().slotsOf(expert);
    return swapOf(p, holders[random.below(static_cast<int>(holders.size()))]);
  }
  return {};
}

Proposal Replanning::proposeElsewhere() {
  const int p = layer().movedSlots()[random.below(layer().moves())];
  if (layer().replicas(layer().expertAt(p)) > 1 && random.below(4) != 0) {
    const bool relieve = random.below(4) != 0;
    return replaceAt(p, relieve ? layer().expertAt(slotOf(state.hottest(random.below(problem.profiles()))))
                                : random.below(problem.experts));
  }
  return swapOf(p, random.below(cluster.slots));
}

Proposal Replanning::propose() {
  const int kind = random.below(8);
  if (kind == 0) {
    return proposeReturn();
  }
  if (kind <= 2 && !layer().movedSlots().empty()) {
    return proposeElsewhere();
  }
  const int hot = random.below(4) != 0 ? state.hottest(random.below(problem.profiles())) : random.below(cluster.ranks);
  if (kind < 5 && cluster.slots > problem.experts) {
    // Another replica for an expert of the hot rank, or another expert in a redundant slot of it.
    const bool relieve = random.below(4) != 0;
    const int p = relieve ? random.below(cluster.slots) : slotOf(hot);
    return replaceAt(p, relieve ? layer().expertAt(slotOf(hot)) : random.below(problem.experts));
  }
  const int p = slotOf(hot);
  return swapOf(p, random.below(cluster.slots));
}

std::vector<FrontierPoint> Replanning::run(const std::vector<double> &prices) {
  const auto steps = limits.steps / static_cast<int64_t>(prices.size());
  for (double price : prices) {
    walk({steps, kWalkDoublings, price * kWarm, price * kCold, price, maxMoves});
  }
  return takePoints();
}

std::vector<FrontierPoint> Replanning::polish() {
  walk({limits.steps, kPolishDoublings, kPolishWarm, kPolishCold, 0, layer().moves()});
  return takePoints();
}

std::vector<FrontierPoint> Replanning::takePoints() {
  std::vector<FrontierPoint> points;
  double best = 1e300;
  for (FrontierPoint &point : frontier) {
    if (!point.map.empty() && point.total < best) {
      best = point.total;
      points.push_back(std::move(point));
    }
  }
  return points;
}

std::vector<FrontierPoint> moe::placement::replan(const LayerProblem &problem, const std::vector<FrontierPoint> &known,
                                                  size_t start, int maxMoves, const std::vector<double> &prices,
                                                  const SearchLimits &limits) {
  return Replanning(problem, known, start, maxMoves, limits).run(prices);
}

std::vector<FrontierPoint> moe::placement::polish(const LayerProblem &problem, const std::vector<FrontierPoint> &known,
                                                  size_t start, const SearchLimits &limits) {
  return Replanning(problem, known, start, known.back().moves, limits).polish();
}
