//===- LayerProblem.cpp - One layer's placement as an objective -------------===//

#include "passes/Analysis/Placement/LayerProblem.h"
#include <algorithm>
#include <numeric>

using namespace moe::placement;

Loads moe::placement::scaleLoads(const Loads &loads, int ranks) {
  const double sum = std::accumulate(loads.begin(), loads.end(), 0.0);
  Loads scaled(loads.size());
  for (size_t expert = 0; expert < loads.size(); ++expert) {
    scaled[expert] = sum > 0 ? loads[expert] * ranks / sum : 0;
  }
  return scaled;
}

std::vector<double> moe::placement::rankLoads(const LayerMap &map, const Loads &loads, const Cluster &cluster) {
  std::vector<int> counts = countReplicas(map, static_cast<int>(loads.size()));
  std::vector<double> ranks(cluster.ranks, 0.0);
  for (size_t slot = 0; slot < map.size(); ++slot) {
    ranks[cluster.rankOf(static_cast<int>(slot))] += loads[map[slot]] / counts[map[slot]];
  }
  return ranks;
}

double moe::placement::balancedness(const LayerMap &map, const Loads &loads, const Cluster &cluster) {
  std::vector<double> ranks = rankLoads(map, loads, cluster);
  const double most = *std::max_element(ranks.begin(), ranks.end());
  return most > 0 ? std::accumulate(ranks.begin(), ranks.end(), 0.0) / cluster.ranks / most : 1.0;
}

int moe::placement::countMoves(const LayerMap &map, const LayerMap &previous, const Cluster &cluster) {
  int moves = 0;
  const int perRank = cluster.slotsPerRank();
  for (size_t slot = 0; slot < map.size(); ++slot) {
    auto begin = previous.begin() + cluster.rankOf(static_cast<int>(slot)) * perRank;
    moves += std::find(begin, begin + perRank, map[slot]) == begin + perRank;
  }
  return moves;
}

/// shares[expert * N + node]: which part of an expert's tokens goes to each node.
static std::vector<double> nodeShares(const LayerMap &map, int experts, const Cluster &cluster) {
  std::vector<int> counts = countReplicas(map, experts);
  std::vector<double> shares(static_cast<size_t>(experts) * cluster.nodes, 0.0);
  for (size_t slot = 0; slot < map.size(); ++slot) {
    const int node = cluster.nodeOf(cluster.rankOf(static_cast<int>(slot)));
    shares[map[slot] * cluster.nodes + node] += 1.0 / counts[map[slot]];
  }
  return shares;
}

LayerScore moe::placement::evaluate(const LayerProblem &problem, const LayerMap &map) {
  LayerScore score;
  const int nodes = problem.cluster.nodes, experts = problem.experts;
  for (int profile = 0; profile < problem.profiles(); ++profile) {
    std::vector<double> ranks = rankLoads(map, problem.loads[profile], problem.cluster);
    score.peak += problem.importance[profile] * *std::max_element(ranks.begin(), ranks.end());
  }
  if (problem.localityWeight != 0) {
    std::vector<double> shares = nodeShares(map, experts, problem.cluster);
    if (!problem.homes.empty()) {
      score.locality += std::inner_product(shares.begin(), shares.end(), problem.homes.begin(), 0.0);
    }
    if (!problem.pairs.empty()) {
      for (int a = 0; a < experts; ++a) {
        for (int b = 0; b < experts; ++b) {
          if (const double together = problem.pairs[a * experts + b]; together != 0) {
            score.locality +=
                together * std::inner_product(&shares[a * nodes], &shares[a * nodes] + nodes, &shares[b * nodes], 0.0);
          }
        }
      }
    }
  }
  if (!problem.previous.empty()) {
    score.moves = countMoves(map, problem.previous, problem.cluster);
  }
  score.total = score.peak - problem.localityWeight * score.locality;
  return score;
}
