//===- LayerState.cpp - A map under change, with its loads ------------------===//

#include "passes/Analysis/Placement/LayerState.h"
#include <algorithm>

using namespace moe::placement;

LayerState::LayerState(const LayerProblem &problem, const LayerMap &map)
    : problem(problem), experts(problem.experts), profiles(problem.profiles()), nodes(problem.cluster.nodes) {
  const Cluster &cluster = problem.cluster;
  ranks.resize(cluster.slots);
  for (int slot = 0; slot < cluster.slots; ++slot) {
    ranks[slot] = cluster.rankOf(slot);
  }
  nodeOfRank.resize(cluster.ranks);
  for (int rank = 0; rank < cluster.ranks; ++rank) {
    nodeOfRank[rank] = cluster.nodeOf(rank);
  }
  if (!problem.previous.empty()) {
    wasHeld.assign(static_cast<size_t>(cluster.ranks) * experts, 0);
    for (int slot = 0; slot < cluster.slots; ++slot) {
      wasHeld[ranks[slot] * experts + problem.previous[slot]] = 1;
    }
  }
  scratchA.resize(nodes);
  scratchB.resize(nodes);
  reset(map);
}

void LayerState::reset(const LayerMap &map) {
  slots = map;
  counts = countReplicas(map, experts);
  holders.assign(experts, {});
  held.assign(static_cast<size_t>(problem.cluster.ranks) * experts, 0);
  moved.clear();
  placeAmongMoved.assign(problem.cluster.slots, -1);
  for (int slot = 0; slot < problem.cluster.slots; ++slot) {
    holders[slots[slot]].push_back(slot);
    held[ranks[slot] * experts + slots[slot]] = 1;
    setMoved(slot, isForeign(slot, slots[slot]));
  }
  shares.resize(static_cast<size_t>(experts) * profiles);
  for (int expert = 0; expert < experts; ++expert) {
    for (int k = 0; k < profiles; ++k) {
      shares[expert * profiles + k] = problem.loads[k][expert] / counts[expert];
    }
  }
  refresh();
  if (problem.localityWeight == 0) {
    return;
  }
  nodeShares.assign(static_cast<size_t>(experts) * nodes, 0.0);
  for (int slot = 0; slot < problem.cluster.slots; ++slot) {
    nodeShares[slots[slot] * nodes + nodeOfRank[ranks[slot]]] += 1.0 / counts[slots[slot]];
  }
  if (!problem.pairs.empty()) {
    company.assign(static_cast<size_t>(experts) * nodes, 0.0);
    for (int a = 0; a < experts; ++a) {
      for (int b = 0; b < experts; ++b) {
        if (const double together = problem.pairs[a * experts + b]; together != 0) {
          for (int node = 0; node < nodes; ++node) {
            company[a * nodes + node] += together * nodeShares[b * nodes + node];
          }
        }
      }
    }
  }
}

void LayerState::refresh() {
  load.assign(static_cast<size_t>(problem.cluster.ranks) * profiles, 0.0);
  for (int slot = 0; slot < problem.cluster.slots; ++slot) {
    for (int k = 0; k < profiles; ++k) {
      load[ranks[slot] * profiles + k] += shares[slots[slot] * profiles + k];
    }
  }
}

void LayerState::setExpert(int slot, int expert) {
  const int old = slots[slot], rank = ranks[slot];
  setMoved(slot, isForeign(slot, expert));
  held[rank * experts + old] = 0;
  held[rank * experts + expert] = 1;
  auto &from = holders[old];
  from.erase(std::find(from.begin(), from.end(), slot));
  holders[expert].push_back(slot);
  slots[slot] = expert;
}

void LayerState::setMoved(int slot, bool isMoved) {
  int &place = placeAmongMoved[slot];
  if (isMoved == (place >= 0)) {
    return;
  }
  if (isMoved) {
    place = static_cast<int>(moved.size());
    moved.push_back(slot);
  } else {
    moved[place] = moved.back();
    placeAmongMoved[moved[place]] = place;
    moved.pop_back();
    place = -1;
  }
}

void LayerState::swap(int p, int q) {
  const int a = slots[p], b = slots[q], g = ranks[p], h = ranks[q];
  if (problem.localityWeight != 0) {
    changeOfShares(a, nodeOfRank[g], nodeOfRank[h], scratchA.data());
    changeOfShares(b, nodeOfRank[h], nodeOfRank[g], scratchB.data());
    applyShares(a, scratchA.data());
    applyShares(b, scratchB.data());
  }
  for (int k = 0; k < profiles; ++k) {
    const double change = shares[b * profiles + k] - shares[a * profiles + k];
    load[g * profiles + k] += change;
    load[h * profiles + k] -= change;
  }
  setExpert(p, b);
  setExpert(q, a);
}

void LayerState::replace(int p, int expert) {
  const int old = slots[p];
  if (problem.localityWeight != 0) {
    changeOfShares(old, nodeOfRank[ranks[p]], -1, scratchA.data());
    changeOfShares(expert, -1, nodeOfRank[ranks[p]], scratchB.data());
    applyShares(old, scratchA.data());
    applyShares(expert, scratchB.data());
  }
  for (int touched : {old, expert}) {
    for (int slot : holders[touched]) {
      for (int k = 0; k < profiles; ++k) {
        load[ranks[slot] * profiles + k] -= shares[touched * profiles + k];
      }
    }
  }
  setExpert(p, expert);
  --counts[old];
  ++counts[expert];
  for (int touched : {old, expert}) {
    for (int k = 0; k < profiles; ++k) {
      shares[touched * profiles + k] = problem.loads[k][touched] / counts[touched];
    }
    for (int slot : holders[touched]) {
      for (int k = 0; k < profiles; ++k) {
        load[ranks[slot] * profiles + k] += shares[touched * profiles + k];
      }
    }
  }
}

void LayerState::changeOfShares(int expert, int leave, int enter, double *change) const {
  const int count = counts[expert], next = count - (leave >= 0) + (enter >= 0);
  for (int node = 0; node < nodes; ++node) {
    const double replicasHere = nodeShares[expert * nodes + node] * count - (node == leave) + (node == enter);
    change[node] = replicasHere / next - nodeShares[expert * nodes + node];
  }
}

double LayerState::localityOf(int a, const double *changeA, int b, const double *changeB) const {
  double gain = 0, meeting = 0;
  for (int node = 0; node < nodes; ++node) {
    if (!problem.homes.empty()) {
      gain += changeA[node] * problem.homes[a * nodes + node] + changeB[node] * problem.homes[b * nodes + node];
    }
    if (!company.empty()) {
      // The sum over ordered pairs counts each change from both sides.
      gain += 2 * (changeA[node] * company[a * nodes + node] + changeB[node] * company[b * nodes + node]);
      meeting += changeA[node] * changeB[node];
    }
  }
  return company.empty() ? gain : gain + 2 * problem.pairs[a * experts + b] * meeting;
}

double LayerState::localityOfSwap(int p, int q) const {
  const int m = nodeOfRank[ranks[p]], n = nodeOfRank[ranks[q]];
  if (problem.localityWeight == 0 || m == n) {
    return 0;
  }
  changeOfShares(slots[p], m, n, scratchA.data());
  changeOfShares(slots[q], n, m, scratchB.data());
  return localityOf(slots[p], scratchA.data(), slots[q], scratchB.data());
}

double LayerState::localityOfReplace(int p, int expert) const {
  if (problem.localityWeight == 0) {
    return 0;
  }
  changeOfShares(slots[p], nodeOfRank[ranks[p]], -1, scratchA.data());
  changeOfShares(expert, -1, nodeOfRank[ranks[p]], scratchB.data());
  return localityOf(slots[p], scratchA.data(), expert, scratchB.data());
}

void LayerState::applyShares(int expert, const double *change) {
  for (int node = 0; node < nodes; ++node) {
    if (change[node] == 0) {
      continue;
    }
    nodeShares[expert * nodes + node] += change[node];
    if (!company.empty()) {
      for (int other = 0; other < experts; ++other) {
        company[other * nodes + node] += problem.pairs[other * experts + expert] * change[node];
      }
    }
  }
}

int LayerState::movesOfSwap(int p, int q) const {
  return isForeign(p, slots[q]) + isForeign(q, slots[p]) - isForeign(p, slots[p]) - isForeign(q, slots[q]);
}

int LayerState::movesOfReplace(int p, int expert) const { return isForeign(p, expert) - isForeign(p, slots[p]); }
