//===- Eplb.cpp - DeepSeek's load balancer, exactly -------------------------===//

#include "passes/Analysis/Placement/Eplb.h"
#include <algorithm>
#include <numeric>

using namespace moe::placement;

namespace {

/// Where an item went: its pack, and its place in it.
struct Packed {
  int pack, rank;
};

} // namespace

/// Items in descending order of weight, each to the lightest pack that is not full; the first of equals.
static std::vector<Packed> packBalanced(const std::vector<float> &weights, int packs) {
  const int items = static_cast<int>(weights.size()), perPack = items / packs;
  std::vector<Packed> packed(items);
  if (perPack == 1) {
    for (int i = 0; i < items; ++i) {
      packed[i] = {i, 0};
    }
    return packed;
  }
  std::vector<int> order(items);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return weights[a] != weights[b] ? weights[a] > weights[b] : a < b; });
  std::vector<float> load(packs, 0.0f);
  std::vector<int> filled(packs, 0);
  for (int item : order) {
    int best = -1;
    for (int pack = 0; pack < packs; ++pack) {
      if (filled[pack] < perPack && (best < 0 || load[pack] < load[best])) {
        best = pack;
      }
    }
    packed[item] = {best, filled[best]++};
    load[best] += weights[item];
  }
  return packed;
}

/// Copies of the heaviest replica until there are `slots`; the expert of each, in order of creation. `counts` receives
/// the replicas of each expert.
static std::vector<int> replicate(const std::vector<float> &weights, int slots, std::vector<int> &counts) {
  const int experts = static_cast<int>(weights.size());
  counts.assign(experts, 1);
  std::vector<int> expertOf(experts);
  std::iota(expertOf.begin(), expertOf.end(), 0);
  std::vector<float> share = weights;
  while (static_cast<int>(expertOf.size()) < slots) {
    const int heaviest = static_cast<int>(std::max_element(share.begin(), share.end()) - share.begin());
    expertOf.push_back(heaviest);
    ++counts[heaviest];
    share[heaviest] = weights[heaviest] / static_cast<float>(counts[heaviest]);
  }
  return expertOf;
}

LayerMap moe::placement::runEplb(const Loads &loads, const Cluster &cluster, int groups) {
  const bool hierarchical = groups % cluster.nodes == 0;
  const int nodes = hierarchical ? cluster.nodes : 1;
  groups = hierarchical ? groups : 1;
  const int experts = static_cast<int>(loads.size()), groupSize = experts / groups;
  const int nodeExperts = experts / nodes, nodeSlots = cluster.slots / nodes, nodeRanks = cluster.ranks / nodes;
  const int perRank = cluster.slotsPerRank();

  // 1. Groups to nodes; `order` lists the experts node by node.
  std::vector<float> groupLoads(groups, 0.0f);
  for (int expert = 0; expert < experts; ++expert) {
    groupLoads[expert / groupSize] += static_cast<float>(loads[expert]);
  }
  std::vector<Packed> groupPlace = packBalanced(groupLoads, nodes);
  std::vector<int> order(experts);
  for (int expert = 0; expert < experts; ++expert) {
    const Packed &place = groupPlace[expert / groupSize];
    order[(place.pack * (groups / nodes) + place.rank) * groupSize + expert % groupSize] = expert;
  }
  // 2. Replicas inside each node, and 3. replicas to the node's ranks.
  LayerMap map(cluster.slots);
  for (int node = 0; node < nodes; ++node) {
    const int *expertsHere = &order[node * nodeExperts];
    std::vector<float> weights(nodeExperts), shares(nodeSlots);
    for (int i = 0; i < nodeExperts; ++i) {
      weights[i] = static_cast<float>(loads[expertsHere[i]]);
    }
    std::vector<int> counts;
    std::vector<int> replicas = replicate(weights, nodeSlots, counts);
    for (int i = 0; i < nodeSlots; ++i) {
      shares[i] = weights[replicas[i]] / static_cast<float>(counts[replicas[i]]);
    }
    std::vector<Packed> places = packBalanced(shares, nodeRanks);
    for (int i = 0; i < nodeSlots; ++i) {
      map[node * nodeSlots + places[i].pack * perRank + places[i].rank] = expertsHere[replicas[i]];
    }
  }
  return map;
}
