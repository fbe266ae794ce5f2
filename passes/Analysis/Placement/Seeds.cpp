//===- Seeds.cpp - Maps to start a search from ------------------------------===//

#include "passes/Analysis/Placement/Search.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace moe::placement;

LayerMap moe::placement::removeDuplicates(const LayerMap &map, const Loads &loads, const Cluster &cluster) {
  LayerMap fixed = map;
  const int experts = static_cast<int>(loads.size()), perRank = cluster.slotsPerRank();
  std::vector<int> counts = countReplicas(fixed, experts);
  std::vector<double> ranks = rankLoads(fixed, loads, cluster);
  std::vector<int> held(static_cast<size_t>(cluster.ranks) * experts, 0);
  for (int slot = 0; slot < cluster.slots; ++slot) {
    ++held[cluster.rankOf(slot) * experts + fixed[slot]];
  }
  auto put = [&](int slot, int expert) {
    const int rank = slot / perRank;
    --held[rank * experts + fixed[slot]];
    ++held[rank * experts + expert];
    fixed[slot] = expert;
  };
  for (int p = 0; p < cluster.slots; ++p) {
    const int g = p / perRank, a = fixed[p];
    if (held[g * experts + a] < 2) {
      continue;
    }
    // The swap that keeps the heavier of the two ranks lightest.
    int best = -1;
    double bestPeak = 0;
    for (int q = 0; q < cluster.slots; ++q) {
      const int h = q / perRank, b = fixed[q];
      if (h == g || held[h * experts + a] != 0 || held[g * experts + b] != 0) {
        continue;
      }
      const double change = loads[a] / counts[a] - loads[b] / counts[b];
      const double peak = std::max(ranks[g] - change, ranks[h] + change);
      if (best < 0 || peak < bestPeak) {
        best = q;
        bestPeak = peak;
      }
    }
    if (best >= 0) {
      const int b = fixed[best];
      const double change = loads[a] / counts[a] - loads[b] / counts[b];
      ranks[g] -= change;
      ranks[best / perRank] += change;
      put(p, b);
      put(best, a);
      continue;
    }
    // No rank can take it: this replica becomes one of an expert that the rank lacks.
    for (int b = 0; b < experts; ++b) {
      if (held[g * experts + b] == 0 && (best < 0 || loads[b] / counts[b] > loads[best] / counts[best])) {
        best = b;
      }
    }
    --counts[a];
    ++counts[best];
    put(p, best);
    ranks = rankLoads(fixed, loads, cluster);
  }
  return fixed;
}

std::vector<int> moe::placement::greedyCounts(const Loads &loads, const Cluster &cluster) {
  std::vector<int> counts(loads.size(), 1);
  for (int slots = static_cast<int>(loads.size()); slots < cluster.slots; ++slots) {
    int heaviest = -1;
    for (int expert = 0; expert < static_cast<int>(loads.size()); ++expert) {
      if (counts[expert] < cluster.ranks &&
          (heaviest < 0 || loads[expert] / counts[expert] > loads[heaviest] / counts[heaviest])) {
        heaviest = expert;
      }
    }
    ++counts[heaviest];
  }
  return counts;
}

std::vector<int> moe::placement::leastCounts(const Loads &loads, const Cluster &cluster, double limit) {
  const int experts = static_cast<int>(loads.size());
  std::vector<int> counts(experts), order(experts);
  int left = cluster.slots;
  for (int expert = 0; expert < experts; ++expert) {
    counts[expert] = std::max(1, static_cast<int>(std::ceil(loads[expert] / limit * (1 - 1e-9))));
    left -= counts[expert];
  }
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return loads[a] != loads[b] ? loads[a] < loads[b] : a < b; });
  for (size_t i = 0; left > 0; i = (i + 1) % order.size()) {
    if (counts[order[i]] < cluster.ranks) {
      ++counts[order[i]];
      --left;
    }
  }
  return counts;
}

LayerMap moe::placement::packCounts(const Loads &loads, const std::vector<int> &counts, const Cluster &cluster) {
  const int experts = static_cast<int>(loads.size()), perRank = cluster.slotsPerRank();
  std::vector<int> items;
  for (int expert = 0; expert < experts; ++expert) {
    items.insert(items.end(), counts[expert], expert);
  }
  std::sort(items.begin(), items.end(), [&](int a, int b) {
    const double mine = loads[a] / counts[a], other = loads[b] / counts[b];
    return mine != other ? mine > other : a < b;
  });
  LayerMap map(cluster.slots, -1);
  std::vector<double> load(cluster.ranks, 0.0);
  std::vector<int> filled(cluster.ranks, 0), held(cluster.ranks * experts, 0);
  for (int expert : items) {
    int best = -1;
    bool bestHolds = true;
    for (int rank = 0; rank < cluster.ranks; ++rank) {
      if (filled[rank] == perRank) {
        continue;
      }
      const bool holds = held[rank * experts + expert] != 0;
      if (best < 0 || holds < bestHolds || (holds == bestHolds && load[rank] < load[best])) {
        best = rank;
        bestHolds = holds;
      }
    }
    map[best * perRank + filled[best]++] = expert;
    load[best] += loads[expert] / counts[expert];
    held[best * experts + expert] = 1;
  }
  return removeDuplicates(map, loads, cluster);
}
