//===- Traffic.cpp - How many nodes a token visits --------------------------===//

#include "passes/Analysis/Placement/Traffic.h"
#include "passes/Analysis/Placement/Random.h"
#include "passes/Analysis/Placement/Relabel.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace moe::placement;

std::vector<int> moe::placement::sampleTokens(const Loads &loads, const RoutingModel &model, int tokens,
                                              uint64_t seed) {
  const int experts = static_cast<int>(loads.size()), perToken = std::min(model.expertsPerToken, experts);
  const int groupSize = experts / model.groups;
  Random random(seed);
  std::vector<double> base(experts), score(experts);
  for (int expert = 0; expert < experts; ++expert) {
    base[expert] = std::log(loads[expert] + 1e-12);
  }
  std::vector<int> chosen, order(experts), groupOrder(model.groups);
  std::vector<double> groupScore(model.groups), groupBase(model.groups);
  for (int group = 0; group < model.groups; ++group) {
    auto begin = loads.begin() + group * groupSize;
    groupBase[group] = std::log(std::accumulate(begin, begin + groupSize, 1e-12));
  }
  for (int token = 0; token < tokens; ++token) {
    for (int expert = 0; expert < experts; ++expert) {
      score[expert] = base[expert] + random.gumbel();
    }
    order.clear();
    if (model.groups > 1) {
      for (int group = 0; group < model.groups; ++group) {
        groupScore[group] = groupBase[group] + random.gumbel();
      }
      std::iota(groupOrder.begin(), groupOrder.end(), 0);
      std::partial_sort(groupOrder.begin(), groupOrder.begin() + model.topGroups, groupOrder.end(),
                        [&](int a, int b) { return groupScore[a] > groupScore[b]; });
      for (int i = 0; i < model.topGroups; ++i) {
        for (int expert = groupOrder[i] * groupSize; expert < (groupOrder[i] + 1) * groupSize; ++expert) {
          order.push_back(expert);
        }
      }
    } else {
      order.resize(experts);
      std::iota(order.begin(), order.end(), 0);
    }
    std::partial_sort(order.begin(), order.begin() + perToken, order.end(),
                      [&](int a, int b) { return score[a] > score[b]; });
    chosen.insert(chosen.end(), order.begin(), order.begin() + perToken);
  }
  return chosen;
}

/// An index, drawn by weight.
static int draw(const double *weights, int count, Random &random) {
  double left = random.uniform() * std::accumulate(weights, weights + count, 0.0);
  int last = 0;
  for (int i = 0; i < count; ++i) {
    if (weights[i] > 0) {
      last = i;
      if (left < weights[i]) {
        break;
      }
    }
    left -= weights[i];
  }
  return last;
}

std::vector<int> moe::placement::samplePairTokens(const std::vector<double> &pairs, int experts, int expertsPerToken,
                                                  int tokens, uint64_t seed) {
  Random random(seed);
  std::vector<double> sums(experts, 0.0), weights(experts);
  for (int expert = 0; expert < experts; ++expert) {
    sums[expert] = std::accumulate(&pairs[expert * experts], &pairs[expert * experts] + experts, 0.0);
  }
  std::vector<int> chosen;
  for (int token = 0; token < tokens; ++token) {
    const size_t begin = chosen.size();
    chosen.push_back(draw(sums.data(), experts, random));
    for (int i = 1; i < expertsPerToken; ++i) {
      // The small constant: somebody has to come even where no pair was recorded.
      std::fill(weights.begin(), weights.end(), 1e-15);
      for (size_t drawn = begin; drawn < chosen.size(); ++drawn) {
        for (int expert = 0; expert < experts; ++expert) {
          weights[expert] += pairs[chosen[drawn] * experts + expert];
        }
      }
      for (size_t drawn = begin; drawn < chosen.size(); ++drawn) {
        weights[chosen[drawn]] = 0;
      }
      chosen.push_back(draw(weights.data(), experts, random));
    }
  }
  return chosen;
}

double moe::placement::countRemoteNodes(const std::vector<int> &tokens, int expertsPerToken, const LayerMap &map,
                                        int experts, const Cluster &cluster, uint64_t seed) {
  std::vector<std::vector<int>> nodesOf(experts);
  for (size_t slot = 0; slot < map.size(); ++slot) {
    nodesOf[map[slot]].push_back(cluster.nodeOf(cluster.rankOf(static_cast<int>(slot))));
  }
  Random random(seed);
  std::vector<int64_t> seen(cluster.nodes, -1);
  int64_t visits = 0;
  const int64_t count = static_cast<int64_t>(tokens.size()) / expertsPerToken;
  for (int64_t token = 0; token < count; ++token) {
    for (int i = 0; i < expertsPerToken; ++i) {
      const std::vector<int> &nodes = nodesOf[tokens[token * expertsPerToken + i]];
      const int node = nodes[random.below(static_cast<int>(nodes.size()))];
      visits += seen[node] != token;
      seen[node] = token;
    }
  }
  // A uniform source node is among the visited ones with chance visits / N.
  return count == 0 ? 0 : static_cast<double>(visits) / count * (1.0 - 1.0 / cluster.nodes);
}

/// The node of each group: heavy groups first, each to the node with the least load that has room.
static std::vector<int> balancedHomes(const Loads &groupLoads, int nodes) {
  const int groups = static_cast<int>(groupLoads.size());
  std::vector<double> nodeLoads(nodes, 0.0);
  std::vector<int> order(groups), filled(nodes, 0), home(groups);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return groupLoads[a] != groupLoads[b] ? groupLoads[a] > groupLoads[b] : a < b; });
  for (int group : order) {
    int best = -1;
    for (int node = 0; node < nodes; ++node) {
      if (filled[node] < groups / nodes && (best < 0 || nodeLoads[node] < nodeLoads[best])) {
        best = node;
      }
    }
    home[group] = best;
    ++filled[best];
    nodeLoads[best] += groupLoads[group];
  }
  return home;
}

/// The node of each group such that as much load as possible is at home in `map`.
static std::vector<int> presentHomes(const Loads &loads, const Cluster &cluster, int groups, const LayerMap &map) {
  const int experts = static_cast<int>(loads.size()), perNode = groups / cluster.nodes;
  const std::vector<int> counts = countReplicas(map, experts);
  // Each node is as many columns as it has room for groups.
  std::vector<double> cost(static_cast<size_t>(groups) * groups, 0.0);
  for (int slot = 0; slot < cluster.slots; ++slot) {
    const int expert = map[slot], group = expert / (experts / groups), node = cluster.nodeOf(cluster.rankOf(slot));
    for (int column = node * perNode; column < (node + 1) * perNode; ++column) {
      cost[group * groups + column] -= loads[expert] / counts[expert];
    }
  }
  std::vector<int> home = solveAssignment(cost, groups);
  for (int &column : home) {
    column /= perNode;
  }
  return home;
}

std::vector<double> moe::placement::homeRewards(const Loads &loads, const Cluster &cluster, int groups,
                                                const LayerMap &previous) {
  const int experts = static_cast<int>(loads.size()), nodes = cluster.nodes;
  if (groups % nodes != 0 || experts % groups != 0) {
    return {};
  }
  const int groupSize = experts / groups;
  Loads groupLoads(groups, 0.0);
  for (int expert = 0; expert < experts; ++expert) {
    groupLoads[expert / groupSize] += loads[expert];
  }
  const std::vector<int> home =
      previous.empty() ? balancedHomes(groupLoads, nodes) : presentHomes(loads, cluster, groups, previous);
  const double sum = std::accumulate(loads.begin(), loads.end(), 0.0);
  std::vector<double> homes(static_cast<size_t>(experts) * nodes, 0.0);
  for (int expert = 0; expert < experts; ++expert) {
    homes[expert * nodes + home[expert / groupSize]] = sum > 0 ? loads[expert] / sum : 0;
  }
  return homes;
}
