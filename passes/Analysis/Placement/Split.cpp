//===- Split.cpp - The best split of load over given replicas ---------------===//

#include "passes/Analysis/Placement/Split.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace moe::placement;

namespace {

class Splitter {
public:
  Splitter(const LayerMap &map, const Loads &loads, const Cluster &cluster);
  Split run();

private:
  /// Searches from all ranks above `limit`; fills `from` and returns a rank below, or -1.
  int searchPath();
  /// Moves load along the path that ends at `rank`.
  void push(int rank);

  const Cluster cluster;
  double tolerance;
  std::vector<double> load, taken;
  /// Slots of experts with several replicas: all slots of that expert, and by rank.
  std::vector<std::vector<int>> siblings, slotsOfRank;
  double limit = 0;
  /// How the search came to a rank: load leaves slot `from[rank].first` and enters slot `.second` on the rank.
  std::vector<std::pair<int, int>> from;
  std::vector<int8_t> isReached;
  std::vector<int> queue;
};

} // namespace

Splitter::Splitter(const LayerMap &map, const Loads &loads, const Cluster &cluster)
    : cluster(cluster), load(cluster.ranks, 0.0), taken(map.size()), siblings(map.size()), slotsOfRank(cluster.ranks),
      from(cluster.ranks), isReached(cluster.ranks) {
  std::vector<std::vector<int>> slotsOf(loads.size());
  for (size_t slot = 0; slot < map.size(); ++slot) {
    slotsOf[map[slot]].push_back(static_cast<int>(slot));
  }
  for (size_t expert = 0; expert < loads.size(); ++expert) {
    for (int slot : slotsOf[expert]) {
      taken[slot] = loads[expert] / static_cast<double>(slotsOf[expert].size());
      load[cluster.rankOf(slot)] += taken[slot];
      if (slotsOf[expert].size() > 1) {
        siblings[slot] = slotsOf[expert];
        slotsOfRank[cluster.rankOf(slot)].push_back(slot);
      }
    }
  }
  const double sum = std::accumulate(load.begin(), load.end(), 0.0);
  limit = sum / cluster.ranks;
  tolerance = limit * 1e-9;
}

int Splitter::searchPath() {
  std::fill(isReached.begin(), isReached.end(), 0);
  queue.clear();
  for (int rank = 0; rank < cluster.ranks; ++rank) {
    if (load[rank] > limit + tolerance) {
      isReached[rank] = 1;
      from[rank] = {-1, -1};
      queue.push_back(rank);
    }
  }
  for (size_t i = 0; i < queue.size(); ++i) {
    for (int slot : slotsOfRank[queue[i]]) {
      if (taken[slot] <= tolerance) {
        continue;
      }
      for (int other : siblings[slot]) {
        const int rank = cluster.rankOf(other);
        if (isReached[rank]) {
          continue;
        }
        isReached[rank] = 1;
        from[rank] = {slot, other};
        if (load[rank] < limit - tolerance) {
          return rank;
        }
        queue.push_back(rank);
      }
    }
  }
  return -1;
}

void Splitter::push(int rank) {
  double amount = limit - load[rank];
  int source = rank;
  while (from[source].first >= 0) {
    amount = std::min(amount, taken[from[source].first]);
    source = cluster.rankOf(from[source].first);
  }
  amount = std::min(amount, load[source] - limit);
  load[rank] += amount;
  load[source] -= amount;
  for (int at = rank; from[at].first >= 0; at = cluster.rankOf(from[at].first)) {
    taken[from[at].first] -= amount;
    taken[from[at].second] += amount;
  }
}

Split Splitter::run() {
  for (;;) {
    if (const int rank = searchPath(); rank >= 0) {
      push(rank);
      continue;
    }
    if (queue.empty()) {
      break; // Nobody is above the limit.
    }
    double sum = 0;
    for (int rank : queue) {
      sum += load[rank];
    }
    limit = std::max(limit + tolerance, sum / static_cast<double>(queue.size()));
  }
  Split split;
  split.peak = *std::max_element(load.begin(), load.end());
  split.slots = std::move(taken);
  return split;
}

Split moe::placement::splitLoads(const LayerMap &map, const Loads &loads, const Cluster &cluster) {
  return Splitter(map, loads, cluster).run();
}

std::vector<int> moe::placement::sharesOf(const LayerMap &map, const Loads &loads, const Cluster &cluster) {
  const Split split = splitLoads(map, loads, cluster);
  std::vector<int> shares(map.size());
  std::vector<int> sums(loads.size());
  for (size_t slot = 0; slot < map.size(); ++slot) {
    const double load = loads[map[slot]];
    shares[slot] = load > 0 ? static_cast<int>(std::lround(1000 * split.slots[slot] / load)) : 1;
    sums[map[slot]] += shares[slot];
  }
  // Rounding may leave nothing of an expert with very many replicas.
  for (size_t slot = 0; slot < map.size(); ++slot) {
    shares[slot] += sums[map[slot]] == 0;
  }
  return shares;
}

double moe::placement::balancednessOfShares(const LayerMap &map, const std::vector<int> &shares, const Loads &loads,
                                            const Cluster &cluster) {
  std::vector<double> sums(loads.size(), 0.0), ranks(cluster.ranks, 0.0);
  for (size_t slot = 0; slot < map.size(); ++slot) {
    sums[map[slot]] += shares[slot];
  }
  for (size_t slot = 0; slot < map.size(); ++slot) {
    ranks[cluster.rankOf(static_cast<int>(slot))] += loads[map[slot]] * shares[slot] / sums[map[slot]];
  }
  const double most = *std::max_element(ranks.begin(), ranks.end());
  return most > 0 ? std::accumulate(ranks.begin(), ranks.end(), 0.0) / cluster.ranks / most : 1.0;
}
