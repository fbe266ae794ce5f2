//===- Model.cpp - What expert placement is about ---------------------------===//

#include "passes/Analysis/Placement/Model.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace moe::placement;
using moert::concat;
using moert::error;

/// Most counts of a layer: room for sums over profiles and squares.
static constexpr double kMostCounts = 1e100;

Status moe::placement::checkCluster(const Cluster &cluster, int experts) {
  if (cluster.ranks < 1 || cluster.nodes < 1) {
    return error(Code::InvalidArgument, "a placement needs at least one rank and one node, but there are ",
                 cluster.ranks, " ranks and ", cluster.nodes, " nodes");
  }
  if (cluster.slots < experts) {
    return error(Code::InvalidArgument, "slots (", cluster.slots, ") must be at least the experts (", experts,
                 "): S is the total number of slots of all ranks; raise --slots");
  }
  if (cluster.slots % cluster.ranks != 0) {
    return error(Code::InvalidArgument, "slots (", cluster.slots, ") must be a multiple of the ranks (", cluster.ranks,
                 "): every rank has the same number; take ", cluster.slots - cluster.slots % cluster.ranks, " or ",
                 cluster.slots + cluster.ranks - cluster.slots % cluster.ranks);
  }
  if (cluster.ranks % cluster.nodes != 0) {
    return error(Code::InvalidArgument, "ranks (", cluster.ranks, ") must be a multiple of the nodes (", cluster.nodes,
                 "): every node has the same number");
  }
  if (cluster.slotsPerRank() > experts) {
    return error(Code::InvalidArgument, "slots of one rank (", cluster.slotsPerRank(),
                 ") must be at most the experts (", experts, "), or a rank would hold an expert twice; lower --slots");
  }
  return Status();
}

Status moe::placement::checkMap(const Map &map, bool allowDuplicates) {
  const int experts = map.model.experts;
  if (map.layers.size() != map.model.layerIds.size()) {
    return error(Code::InvalidArgument, "the map has ", map.layers.size(), " layers, but the model has ",
                 map.model.layerIds.size(), " MoE layers");
  }
  if (map.ranks < 1 || map.slots() % map.ranks != 0) {
    return error(Code::InvalidArgument, "the map has ", map.slots(), " slots, which ", map.ranks,
                 " ranks cannot share evenly");
  }
  std::vector<int> seenOnRank(experts), seen(experts);
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    const std::string place = concat("layer ", map.model.layerIds[layer], ": ");
    const LayerMap &slots = map.layers[layer];
    if (static_cast<int>(slots.size()) != map.slots()) {
      return error(Code::InvalidArgument, place, "has ", slots.size(), " slots, but layer ", map.model.layerIds[0],
                   " has ", map.slots());
    }
    std::fill(seenOnRank.begin(), seenOnRank.end(), -1);
    std::fill(seen.begin(), seen.end(), 0);
    const int perRank = map.slots() / map.ranks;
    for (int slot = 0; slot < map.slots(); ++slot) {
      const int expert = slots[slot], rank = slot / perRank;
      if (expert < 0 || expert >= experts) {
        return error(Code::InvalidArgument, place, "slot ", slot, " holds expert ", expert, ", but experts are 0 to ",
                     experts - 1);
      }
      if (seenOnRank[expert] == rank && !allowDuplicates) {
        return error(Code::InvalidArgument, place, "rank ", rank, " holds expert ", expert, " twice");
      }
      seenOnRank[expert] = rank;
      seen[expert] = 1;
    }
    if (auto missing = std::find(seen.begin(), seen.end(), 0); missing != seen.end()) {
      return error(Code::InvalidArgument, place, "expert ", missing - seen.begin(), " has no slot");
    }
    if (map.shares.empty()) {
      continue;
    }
    std::vector<int64_t> sums(experts);
    for (int slot = 0; slot < map.slots(); ++slot) {
      sums[slots[slot]] += map.shares[layer][slot];
    }
    if (auto none = std::find(sums.begin(), sums.end(), 0); none != sums.end()) {
      return error(Code::InvalidArgument, place, "all shares of expert ", none - sums.begin(),
                   " are 0, so that none of its replicas takes a token");
    }
  }
  return Status();
}

static Status checkLoads(const std::string &place, const Loads &loads, int experts) {
  if (static_cast<int>(loads.size()) != experts) {
    return error(Code::InvalidArgument, place, "has counts of ", loads.size(), " experts, but the model has ", experts);
  }
  for (int expert = 0; expert < experts; ++expert) {
    if (!std::isfinite(loads[expert]) || loads[expert] < 0) {
      return error(Code::InvalidArgument, place, "the count of expert ", expert, " is ", loads[expert],
                   ", but counts are finite and not negative");
    }
  }
  return Status();
}

Status moe::placement::checkStatistics(const Statistics &statistics) {
  const ModelLayers &model = statistics.model;
  if (statistics.profiles.empty() || model.layerIds.empty() || model.experts < 1) {
    return error(Code::InvalidArgument, "the statistics hold ", statistics.profiles.size(), " profiles of ",
                 model.layerIds.size(), " MoE layers with ", model.experts, " experts: there is nothing to place");
  }
  for (const Profile &profile : statistics.profiles) {
    if (profile.layers.size() != model.layerIds.size()) {
      return error(Code::InvalidArgument, profile.name, ": has ", profile.layers.size(), " MoE layers, but there are ",
                   model.layerIds.size());
    }
    for (size_t layer = 0; layer < profile.layers.size(); ++layer) {
      const std::string place = concat(profile.name, ": layer ", model.layerIds[layer], ": ");
      const Loads &loads = profile.layers[layer];
      if (Status status = checkLoads(place, loads, model.experts); !status.ok()) {
        return status;
      }
      if (const double sum = std::accumulate(loads.begin(), loads.end(), 0.0); !(sum <= kMostCounts)) {
        return error(Code::InvalidArgument, place,
                     "the counts add up to more than 1e100, beyond which sums over profiles "
                     "would no longer be numbers");
      }
      if (std::all_of(loads.begin(), loads.end(), [](double load) { return load == 0; })) {
        return error(Code::InvalidArgument, place,
                     "all counts are zero, but it is an MoE layer: record more steps, or name the model with --model "
                     "if this is a dense layer");
      }
    }
  }
  return Status();
}

std::vector<int> moe::placement::countReplicas(const LayerMap &map, int experts) {
  std::vector<int> counts(experts);
  for (int expert : map) {
    ++counts[expert];
  }
  return counts;
}

int moe::placement::countDuplicates(const LayerMap &map, const Cluster &cluster) {
  int duplicates = 0;
  const int perRank = cluster.slotsPerRank();
  for (size_t begin = 0; begin < map.size(); begin += perRank) {
    for (int i = 1; i < perRank; ++i) {
      duplicates += std::find(map.begin() + begin, map.begin() + begin + i, map[begin + i]) != map.begin() + begin + i;
    }
  }
  return duplicates;
}

LayerMap moe::placement::trivialMap(const Cluster &cluster, int experts) {
  LayerMap map(cluster.slots);
  for (int slot = 0; slot < cluster.slots; ++slot) {
    map[slot] = slot % experts;
  }
  return map;
}
