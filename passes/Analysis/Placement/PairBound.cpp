//===- PairBound.cpp - What two slots per rank cannot reach -----------------===//
//
// Suppose a map with peak T exists. Every rank holds two shares x + y <= T, so at most one is above T/2. Take any
// function u that is non-decreasing, with u(y) = -u(T - y) below T/2: then u(x) + u(y) <= 0 on every rank, and over all
// slots sum_e c_e u(w_e / c_e) <= 0 for the replica counts c of the map. With a price p on slots (sum_e c_e = S),
//
//   D(u, p) = sum_e min_c [ c u(w_e / c) + p c ] - p S  <=  0.
//
// So a u and p with D > 0 prove that no map, whatever its counts, reaches T. Such functions are sums of steps at the
// shares that can occur; D is concave, and a subgradient method climbs it. How well it climbs decides only how strong
// the bound is: a bound is claimed only after D was computed over all counts that are possible.
//
// Example: shares 0.7 and 0.6 twice each, 2 ranks, T = 1.2, S = E = 4: u = 1 at and above 0.6 and -1 at and below 0.6
// (a share of exactly T/2 is below) gives 1 + 1 - 1 - 1 = 0, no proof; T = 1.19 gives 1 + 1 + 1 + 1 > 0.
//
//===----------------------------------------------------------------------===//

#include "passes/Analysis/Placement/Bounds.h"
#include "passes/Analysis/Placement/Search.h"
#include <algorithm>
#include <cmath>

using namespace moe::placement;

namespace {

/// Looks for a proof that `limit` cannot be reached.
class PairProof {
public:
  PairProof(const Loads &loads, const Cluster &cluster, double limit);
  /// Climbs for that many rounds; true once a proof is found.
  bool find(int rounds);

private:
  /// A replica count of an expert, with the step that its share stands on.
  struct Option {
    int count;
    /// Steps at or below the share (above T/2), or minus the steps at or below T - share.
    int steps;
  };

  int stepsOf(double share) const;
  double valueOf(int steps) const { return steps >= 0 ? prefix[steps] : -prefix[-steps]; }
  void sumSteps();
  /// D with the counts that are looked at; leaves the best of each expert in `chosen` and their sum in `chosenSlots`.
  double value();
  /// The price at which D is highest for these steps: where the chosen counts sum to S.
  void findPrice();
  /// D over all counts.
  double fullValue() const;

  const Loads &loads;
  const Cluster cluster;
  const double limit;
  std::vector<double> thresholds, steps, prefix;
  std::vector<std::vector<Option>> options;
  std::vector<const Option *> chosen;
  double price = 0;
  int chosenSlots = 0;
};

} // namespace

PairProof::PairProof(const Loads &loads, const Cluster &cluster, double limit)
    : loads(loads), cluster(cluster), limit(limit), options(loads.size()), chosen(loads.size()) {
  const int most = std::min(cluster.ranks, 1 + cluster.slots - static_cast<int>(loads.size()));
  std::vector<std::pair<int, int>> ranges(loads.size());
  for (size_t expert = 0; expert < loads.size(); ++expert) {
    const int least = std::max(1, static_cast<int>(std::ceil(loads[expert] / limit * (1 - 1e-12))));
    // One count beyond the first that leaves shares below T/2: more copies only make more small shares.
    int last = least;
    while (last < most && loads[expert] / last > limit / 2) {
      ++last;
    }
    ranges[expert] = {least, std::min(most, last + 1)};
    for (int count = least; count <= ranges[expert].second; ++count) {
      if (const double share = loads[expert] / count; share > limit / 2) {
        thresholds.push_back(share);
      }
    }
  }
  std::sort(thresholds.begin(), thresholds.end());
  thresholds.erase(std::unique(thresholds.begin(), thresholds.end()), thresholds.end());
  steps.assign(thresholds.size(), 1.0 / std::max<size_t>(1, thresholds.size()));
  for (size_t expert = 0; expert < loads.size(); ++expert) {
    for (int count = ranges[expert].first; count <= ranges[expert].second; ++count) {
      options[expert].push_back({count, stepsOf(loads[expert] / count)});
    }
  }
}

int PairProof::stepsOf(double share) const {
  // With the rounding on the side of a weaker bound.
  if (share > limit / 2) {
    return static_cast<int>(std::upper_bound(thresholds.begin(), thresholds.end(), share) - thresholds.begin());
  }
  return -static_cast<int>(std::upper_bound(thresholds.begin(), thresholds.end(), limit - share + 1e-12) -
                           thresholds.begin());
}

void PairProof::sumSteps() {
  prefix.resize(steps.size() + 1);
  prefix[0] = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    prefix[i + 1] = prefix[i] + steps[i];
  }
}

double PairProof::value() {
  double sum = -price * cluster.slots;
  chosenSlots = 0;
  for (size_t expert = 0; expert < loads.size(); ++expert) {
    double least = INFINITY;
    for (const Option &option : options[expert]) {
      if (const double cost = option.count * (valueOf(option.steps) + price); cost < least) {
        least = cost;
        chosen[expert] = &option;
      }
    }
    sum += least;
    chosenSlots += chosen[expert]->count;
  }
  return sum;
}

void PairProof::findPrice() {
  double low = -1.5, high = 2.5;
  for (int i = 0; i < 14; ++i) {
    price = (low + high) / 2;
    value();
    (chosenSlots > cluster.slots ? low : high) = price;
  }
}

double PairProof::fullValue() const {
  const int most = std::min(cluster.ranks, 1 + cluster.slots - static_cast<int>(loads.size()));
  double sum = -price * cluster.slots;
  for (double load : loads) {
    double least = INFINITY;
    for (int count = 1; count <= most; ++count) {
      if (load / count <= limit * (1 + 1e-12)) {
        least = std::min(least, count * (valueOf(stepsOf(load / count)) + price));
      }
    }
    sum += least;
  }
  return sum;
}

bool PairProof::find(int rounds) {
  for (const std::vector<Option> &of : options) {
    if (of.empty()) {
      return true; // The expert needs more replicas than there can be.
    }
  }
  if (thresholds.empty()) {
    return false;
  }
  std::vector<double> slope(steps.size() + 1);
  for (int round = 0; round < rounds; ++round) {
    sumSteps();
    findPrice();
    if (value() > 1e-9 && fullValue() > 1e-9) {
      return true;
    }
    // Where D rises: at a step with more shares above it than there are small shares to go with them.
    std::fill(slope.begin(), slope.end(), 0.0);
    for (const Option *option : chosen) {
      slope[std::abs(option->steps)] += option->steps > 0 ? option->count : -option->count;
    }
    double above = 0, largest = 1;
    for (size_t i = steps.size(); i-- > 0;) {
      above += slope[i + 1];
      slope[i + 1] = above;
      largest = std::max(largest, std::abs(above));
    }
    // The pace was found by trial: large steps at first.
    const double pace = 50 / std::sqrt(1.0 + round);
    double sum = 0;
    for (size_t i = 0; i < steps.size(); ++i) {
      steps[i] = std::max(steps[i], 1e-12) * std::exp(pace * slope[i + 1] / largest);
      sum += steps[i];
    }
    for (double &step : steps) {
      step /= sum;
    }
  }
  return false;
}

double moe::placement::boundPairs(const Loads &loads, const Cluster &cluster, double reached) {
  double low = std::max(1.0, computeBounds(loads, cluster).best()), high = reached;
  bool proven = false;
  // Down to a twentieth of a percent.
  while (high - low > 5e-4) {
    // Most bounds lie close below what was reached.
    const double middle = low + (high - low) * 0.75;
    if (PairProof(loads, cluster, middle).find(80)) {
      low = middle;
      proven = true;
    } else {
      high = middle;
    }
  }
  return proven ? low : 0;
}
