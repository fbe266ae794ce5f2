//===- PairSearch.cpp - Two slots per rank: search the replica counts -------===//
//
// With shares sorted in descending order a_1 .. a_2R, pairing a_i with a_(2R+1-i) makes the heaviest pair lightest. So
// a map is its replica counts, and the search walks over counts: one replica less of an expert here, one more there.
// The maximum alone would be a plateau; instead a target T is set a little below the best peak known, and the sum over
// pairs of what exceeds T is annealed to zero.
//
//===----------------------------------------------------------------------===//

#include "passes/Analysis/Placement/Random.h"
#include "passes/Analysis/Placement/Search.h"
#include <algorithm>
#include <cmath>

using namespace moe::placement;

namespace {

/// A replica: its share of load and its expert.
struct Item {
  double share;
  int expert;

  /// Heaviest first; replicas of one expert lie together.
  bool operator<(const Item &other) const { return share != other.share ? share > other.share : expert < other.expert; }
};

class PairSearch {
public:
  PairSearch(const LayerProblem &problem, const SearchLimits &limits)
      : cluster(problem.cluster), loads(problem.loads.front()), limits(limits), random(limits.seed) {}

  LayerMap run();

private:
  void build();
  void setCount(int expert, int count);
  /// Sum over pairs of the load above `target`.
  double excess(double target) const;
  double peak() const;
  /// An expert that is in a pair above the target, or any.
  int chooseHot(double target);

  const Cluster cluster;
  const Loads &loads;
  const SearchLimits &limits;
  Random random;
  std::vector<int> counts;
  std::vector<Item> items;
};

} // namespace

void PairSearch::build() {
  items.clear();
  for (int expert = 0; expert < static_cast<int>(loads.size()); ++expert) {
    items.insert(items.end(), counts[expert], Item{loads[expert] / counts[expert], expert});
  }
  std::sort(items.begin(), items.end());
}

void PairSearch::setCount(int expert, int count) {
  const Item old{loads[expert] / counts[expert], expert}, fresh{loads[expert] / count, expert};
  auto at = std::lower_bound(items.begin(), items.end(), old);
  items.erase(at, at + counts[expert]);
  items.insert(std::lower_bound(items.begin(), items.end(), fresh), count, fresh);
  counts[expert] = count;
}

double PairSearch::excess(double target) const {
  double sum = 0;
  const Item *heavy = items.data(), *light = items.data() + items.size() - 1;
  for (; heavy < light; ++heavy, --light) {
    sum += std::max(0.0, heavy->share + light->share - target);
  }
  return sum;
}

double PairSearch::peak() const {
  double most = 0;
  for (size_t i = 0, j = items.size() - 1; i < j; ++i, --j) {
    most = std::max(most, items[i].share + items[j].share);
  }
  return most;
}

int PairSearch::chooseHot(double target) {
  const int pairs = cluster.ranks;
  const int from = random.below(pairs);
  for (int i = 0; i < pairs; ++i) {
    const int pair = (from + i) % pairs;
    const Item &heavy = items[pair], &light = items[items.size() - 1 - pair];
    if (heavy.share + light.share > target) {
      return random.below(3) != 0 ? heavy.expert : light.expert;
    }
  }
  return random.below(static_cast<int>(loads.size()));
}

LayerMap PairSearch::run() {
  const int experts = static_cast<int>(loads.size());
  counts = greedyCounts(loads, cluster);
  build();
  double best = peak();
  std::vector<int> bestCounts = counts;
  std::vector<int> redundant;
  double target = best * 0.9985, now = excess(target);
  for (int64_t step = 0; step < limits.steps && best > limits.goal && cluster.slots > experts; ++step) {
    if (step % 1024 == 0 && limits.isLate()) {
      break;
    }
    redundant.clear();
    for (int expert = 0; expert < experts; ++expert) {
      if (counts[expert] > 1) {
        redundant.push_back(expert);
      }
    }
    const int less = redundant[random.below(static_cast<int>(redundant.size()))];
    const int more = random.below(4) != 0 ? chooseHot(target) : random.below(experts);
    if (less == more || counts[more] == cluster.ranks) {
      continue;
    }
    setCount(less, counts[less] - 1);
    setCount(more, counts[more] + 1);
    const double next = excess(target);
    // From 2 % of a rank's load to next to nothing.
    const double part = static_cast<double>(step) / static_cast<double>(limits.steps);
    const double temperature = 0.05 * std::pow(0.01, part);
    if (next > now && random.uniform() >= std::exp((now - next) / temperature)) {
      setCount(more, counts[more] - 1);
      setCount(less, counts[less] + 1);
      continue;
    }
    now = next;
    if (const double reached = peak(); reached < best) {
      best = reached;
      bestCounts = counts;
      target = std::max(limits.goal, best * 0.9985);
      now = excess(target);
    }
  }
  counts = bestCounts;
  build();
  LayerMap map(cluster.slots);
  for (int pair = 0; pair < cluster.ranks; ++pair) {
    map[2 * pair] = items[pair].expert;
    map[2 * pair + 1] = items[items.size() - 1 - pair].expert;
  }
  return removeDuplicates(map, loads, cluster);
}

LayerMap moe::placement::searchPairs(const LayerProblem &problem, const SearchLimits &limits) {
  return PairSearch(problem, limits).run();
}
