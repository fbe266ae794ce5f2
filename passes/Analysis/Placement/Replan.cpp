//===- Replan.cpp - As much balance as possible for few moves ---------------===//
//
// Starts from the map that is in use and takes, again and again, the move that lowers the smooth objective most per
// slot that has to load new weights: a changed replica costs one, a swap two. Every step looks at all changes of
// replicas and at all swaps with the hottest ranks. The list of maps along the way is the trade of balance for moves.
//
//===----------------------------------------------------------------------===//

#include "passes/Analysis/Placement/Search.h"
#include "passes/Analysis/Placement/SmoothState.h"
#include <algorithm>
#include <numeric>

using namespace moe::placement;

/// p = 8: with few moves the ranks behind the hottest one matter as much.
static constexpr int kDoublings = 3;

/// Ranks in descending order of their load in the profile where it is largest.
static std::vector<int> hotRanks(const LayerState &state, int ranks, int profiles, int count) {
  std::vector<double> heat(ranks, 0.0);
  for (int rank = 0; rank < ranks; ++rank) {
    for (int k = 0; k < profiles; ++k) {
      heat[rank] = std::max(heat[rank], state.loads()[rank * profiles + k]);
    }
  }
  std::vector<int> order(ranks);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) { return heat[a] != heat[b] ? heat[a] > heat[b] : a < b; });
  order.resize(std::min(ranks, count));
  return order;
}

std::vector<LayerMap> moe::placement::replan(const LayerProblem &problem, const LayerMap &start, int maxMoves,
                                             const SearchLimits &limits) {
  const Cluster &cluster = problem.cluster;
  const int perRank = cluster.slotsPerRank();
  SmoothState state(problem, start, kDoublings);
  const LayerState &layer = state.layer();
  std::vector<LayerMap> path = {start};
  while (layer.moves() < maxMoves && !limits.isLate()) {
    state.rebuild(kDoublings);
    const double now = state.value();
    double bestRate = 1e-9;
    Proposal best;
    auto consider = [&](const Proposal &proposal) {
      const int moves = state.movesOf(proposal);
      if (layer.moves() + moves > maxMoves) {
        return;
      }
      // A move that costs nothing, or gives slots back, counts like one that costs little.
      const double rate = (now - state.valueAfter(proposal)) / std::max(moves, 1);
      if (rate > bestRate) {
        bestRate = rate;
        best = proposal;
      }
    };
    std::vector<int> hot = hotRanks(layer, cluster.ranks, problem.profiles(), 4);
    for (int rank : hot) {
      for (int p = rank * perRank; p < (rank + 1) * perRank; ++p) {
        for (int q = 0; q < cluster.slots; ++q) {
          if (layer.canSwap(p, q)) {
            consider({p, q, -1});
          }
        }
      }
    }
    std::vector<uint8_t> wanted(problem.experts, 0);
    for (int rank : hot) {
      for (int p = rank * perRank; p < (rank + 1) * perRank; ++p) {
        wanted[layer.expertAt(p)] = 1;
      }
    }
    for (int p = 0; p < cluster.slots; ++p) {
      // A replica on a hot rank may become anything, one elsewhere an expert of a hot rank.
      const bool isHot = std::find(hot.begin(), hot.end(), layer.rankOf(p)) != hot.end();
      for (int expert = 0; expert < problem.experts; ++expert) {
        if ((isHot || wanted[expert]) && layer.canReplace(p, expert)) {
          consider({p, -1, expert});
        }
      }
    }
    if (best.p < 0) {
      break;
    }
    state.valueAfter(best);
    state.accept(best);
    path.push_back(layer.map());
  }
  return path;
}
