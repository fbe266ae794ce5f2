//===- Bounds.cpp - How good a map of one layer can be at best --------------===//

#include "passes/Analysis/Placement/Bounds.h"
#include "passes/Analysis/Placement/Search.h"
#include <algorithm>
#include <cmath>
#include <functional>

using namespace moe::placement;

double Bounds::ofAnySplit() const { return std::max({mean, slots, full}); }
double Bounds::best() const { return std::max({ofAnySplit(), replica, pairs}); }

/// Whether every rank can stay within `T` as far as the number of replicas goes.
static bool fitsSlots(const Loads &loads, const Cluster &cluster, double limit) {
  int64_t needed = 0;
  for (double load : loads) {
    const double replicas = std::ceil(load / limit * (1 - 1e-12));
    if (replicas > cluster.ranks) {
      return false;
    }
    needed += std::max<int64_t>(1, static_cast<int64_t>(replicas));
  }
  return needed <= cluster.slots;
}

/// S = E. The j heaviest experts are either on j ranks, whose mean load is at least that of these experts and the
/// j (s - 1) lightest, or two of them are together, with the s - 2 lightest. j = 1 is the heaviest expert with the s -
/// 1 lightest; larger j matter when several experts are about as heavy.
static double boundFull(const Loads &loads, const Cluster &cluster) {
  std::vector<double> sorted = loads;
  std::sort(sorted.begin(), sorted.end(), std::greater<double>());
  const int experts = static_cast<int>(sorted.size()), perRank = cluster.slotsPerRank();
  double companions = 0;
  for (int i = 0; i < perRank - 2; ++i) {
    companions += sorted[experts - 1 - i];
  }
  double best = 0, heavy = 0, light = 0;
  for (int j = 1; j <= cluster.ranks; ++j) {
    heavy += sorted[j - 1];
    for (int i = (j - 1) * (perRank - 1); i < j * (perRank - 1); ++i) {
      light += sorted[experts - 1 - i];
    }
    double bound = (heavy + light) / j;
    if (j > 1 && perRank > 1) {
      bound = std::min(bound, sorted[j - 2] + sorted[j - 1] + companions);
    }
    best = std::max(best, bound);
  }
  return best;
}

Bounds moe::placement::computeBounds(const Loads &loads, const Cluster &cluster) {
  Bounds bounds;
  const int experts = static_cast<int>(loads.size());
  double low = 1, high = std::max(1.0, *std::max_element(loads.begin(), loads.end()));
  if (!fitsSlots(loads, cluster, low)) {
    for (int i = 0; i < 60; ++i) {
      const double middle = (low + high) / 2;
      (fitsSlots(loads, cluster, middle) ? high : low) = middle;
    }
    bounds.slots = low;
  }
  if (cluster.slots == experts) {
    bounds.full = boundFull(loads, cluster);
  }
  // Greedy counts make the largest share smallest.
  std::vector<int> counts = greedyCounts(loads, cluster);
  for (int expert = 0; expert < experts; ++expert) {
    bounds.replica = std::max(bounds.replica, loads[expert] / counts[expert]);
  }
  return bounds;
}
