//===- Relabel.cpp - The same placement with fewer moves --------------------===//

#include "passes/Analysis/Placement/Relabel.h"
#include <cmath>

using namespace moe::placement;

/// The Hungarian method with potentials, one row at a time: O(n^3).
std::vector<int> moe::placement::solveAssignment(const std::vector<double> &cost, int n) {
  // Row and column 0 stand for "none".
  std::vector<double> rowPrice(n + 1, 0.0), columnPrice(n + 1, 0.0);
  std::vector<int> rowOf(n + 1, 0), before(n + 1, 0);
  for (int row = 1; row <= n; ++row) {
    rowOf[0] = row;
    int column = 0;
    std::vector<double> least(n + 1, INFINITY);
    std::vector<uint8_t> done(n + 1, 0);
    do {
      done[column] = 1;
      int next = 0;
      double step = INFINITY;
      for (int j = 1; j <= n; ++j) {
        if (done[j]) {
          continue;
        }
        const int i = rowOf[column];
        const double reduced = cost[(i - 1) * n + j - 1] - rowPrice[i] - columnPrice[j];
        if (reduced < least[j]) {
          least[j] = reduced;
          before[j] = column;
        }
        if (least[j] < step) {
          step = least[j];
          next = j;
        }
      }
      for (int j = 0; j <= n; ++j) {
        if (done[j]) {
          rowPrice[rowOf[j]] += step;
          columnPrice[j] -= step;
        } else {
          least[j] -= step;
        }
      }
      column = next;
    } while (rowOf[column] != 0);
    for (; column != 0; column = before[column]) {
      rowOf[column] = rowOf[before[column]];
    }
  }
  std::vector<int> columnOf(n);
  for (int j = 1; j <= n; ++j) {
    columnOf[rowOf[j] - 1] = j - 1;
  }
  return columnOf;
}

LayerMap moe::placement::relabel(const LayerMap &map, const LayerMap &previous, const Cluster &cluster, int experts) {
  const int perRank = cluster.slotsPerRank(), perNode = cluster.ranks / cluster.nodes;
  std::vector<uint8_t> held(static_cast<size_t>(cluster.ranks) * experts, 0);
  for (int slot = 0; slot < cluster.slots; ++slot) {
    held[cluster.rankOf(slot) * experts + previous[slot]] = 1;
  }
  // What rank g of the map has to load when it becomes rank h.
  auto loads = [&](int g, int h) {
    int missing = 0;
    for (int slot = g * perRank; slot < (g + 1) * perRank; ++slot) {
      missing += !held[h * experts + map[slot]];
    }
    return static_cast<double>(missing);
  };
  std::vector<std::vector<int>> inner(cluster.nodes * cluster.nodes);
  std::vector<double> nodeCost(cluster.nodes * cluster.nodes, 0.0);
  for (int m = 0; m < cluster.nodes; ++m) {
    for (int n = 0; n < cluster.nodes; ++n) {
      std::vector<double> cost(perNode * perNode);
      for (int i = 0; i < perNode; ++i) {
        for (int j = 0; j < perNode; ++j) {
          cost[i * perNode + j] = loads(m * perNode + i, n * perNode + j);
        }
      }
      std::vector<int> &assignment = inner[m * cluster.nodes + n];
      assignment = solveAssignment(cost, perNode);
      for (int i = 0; i < perNode; ++i) {
        nodeCost[m * cluster.nodes + n] += cost[i * perNode + assignment[i]];
      }
    }
  }
  std::vector<int> nodeOf = solveAssignment(nodeCost, cluster.nodes);
  LayerMap renamed(map.size(), -1);
  for (int g = 0; g < cluster.ranks; ++g) {
    const int m = g / perNode, n = nodeOf[m];
    const int h = n * perNode + inner[m * cluster.nodes + n][g % perNode];
    // First those that stay, then the others into the free slots.
    std::vector<int> arriving;
    for (int slot = g * perRank; slot < (g + 1) * perRank; ++slot) {
      int at = h * perRank;
      while (at < (h + 1) * perRank && (previous[at] != map[slot] || renamed[at] >= 0)) {
        ++at;
      }
      if (at < (h + 1) * perRank) {
        renamed[at] = map[slot];
      } else {
        arriving.push_back(map[slot]);
      }
    }
    for (int slot = h * perRank; slot < (h + 1) * perRank; ++slot) {
      if (renamed[slot] < 0) {
        renamed[slot] = arriving.back();
        arriving.pop_back();
      }
    }
  }
  return renamed;
}
