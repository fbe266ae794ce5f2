//===- Estimate.cpp - What a plan is worth in time --------------------------===//

#include "passes/Analysis/Placement/Estimate.h"
#include "passes/Analysis/Placement/LayerProblem.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace moe::placement;

/// E[max of n standard normal numbers] = integral of 1 - F^n above 0 minus integral of F^n below.
static double expectedMaximum(int n) {
  double sum = 0;
  constexpr double kStep = 1e-3;
  for (double x = kStep / 2; x < 8; x += kStep) {
    const double above = 0.5 * std::erfc(-x / std::sqrt(2.0)), below = 0.5 * std::erfc(x / std::sqrt(2.0));
    sum += (1 - std::pow(above, n) - std::pow(below, n)) * kStep;
  }
  return sum;
}

double moe::placement::noiseFloor(double assignmentsPerRank, int ranks) {
  return assignmentsPerRank / (assignmentsPerRank + expectedMaximum(ranks) * std::sqrt(assignmentsPerRank));
}

double moe::placement::remoteBytes(double remoteNodes, int64_t hidden) {
  // One byte per element with a 4-byte scale per 128, and two bytes per element back.
  return remoteNodes * static_cast<double>(hidden) * (1 + 4.0 / 128 + 2);
}

double moe::placement::layerSeconds(const LayerMap &map, const std::vector<int> &shares, const Loads &loads,
                                    const Cluster &cluster, double tokens, double remoteNodes, const ModelFacts &model,
                                    const Topology &topology) {
  const double sum = std::accumulate(loads.begin(), loads.end(), 0.0);
  const double assignments = tokens * model.routing.expertsPerToken;
  std::vector<int> sums(loads.size());
  for (int slot = 0; slot < cluster.slots; ++slot) {
    sums[map[slot]] += shares.empty() ? 1 : shares[slot];
  }
  std::vector<double> active(cluster.ranks, 0.0), work(cluster.ranks, 0.0);
  for (int slot = 0; slot < cluster.slots; ++slot) {
    const int expert = map[slot], rank = cluster.rankOf(slot);
    const double part = (shares.empty() ? 1.0 : shares[slot]) / sums[expert];
    const double here = sum > 0 ? assignments * loads[expert] / sum * part : 0;
    active[rank] += 1 - std::exp(-here);
    work[rank] += here;
  }
  double slowest = 0;
  for (int rank = 0; rank < cluster.ranks; ++rank) {
    slowest = std::max(slowest, active[rank] * model.expertBytes() / topology.memoryRate +
                                    work[rank] * model.expertOperations() / topology.operationRate);
  }
  const double exchange = tokens / cluster.ranks * remoteBytes(remoteNodes, model.hidden) / topology.networkRate;
  return slowest + exchange;
}

double moe::placement::migrationSeconds(const Map &map, const Map &previous, double expertBytes, double bandwidth) {
  const int perRank = map.slots() / map.ranks;
  std::vector<int> arriving(map.ranks, 0);
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    for (int slot = 0; slot < map.slots(); ++slot) {
      auto begin = previous.layers[layer].begin() + slot / perRank * perRank;
      arriving[slot / perRank] += std::find(begin, begin + perRank, map.layers[layer][slot]) == begin + perRank;
    }
  }
  return *std::max_element(arriving.begin(), arriving.end()) * expertBytes / bandwidth;
}
