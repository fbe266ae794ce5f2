//===- Planner.cpp - Placements of all layers -------------------------------===//

#include "passes/Analysis/Placement/Planner.h"
#include "passes/Analysis/Placement/Bounds.h"
#include "passes/Analysis/Placement/Eplb.h"
#include "passes/Analysis/Placement/Random.h"
#include "passes/Analysis/Placement/Relabel.h"
#include "passes/Analysis/Placement/Search.h"
#include "passes/Analysis/Placement/Split.h"
#include <algorithm>
#include <numeric>

using namespace moe::placement;
using moert::error;

/// Steps of each search at effort 1, so that 58 layers of 256 experts take a second or two (with few moves, twelve).
static constexpr int64_t kKicks = 400, kCountChanges = 8000, kProposals = 100000, kLocalProposals = 500000,
                         kReplanProposals = 800000;
/// Tokens drawn for a traffic estimate.
static constexpr int kSampledTokens = 2000;
/// What a move costs in the first walks of a re-plan, in units of the mean rank load: from few moves to many.
static const std::vector<double> kFirstPrices = {0.02, 0.01, 0.005, 0.0025, 0.0012};
/// What an expert gets in a resampling beside its counts (Jeffreys' prior): not seen is not never.
static constexpr double kUnseen = 0.5;
/// Searches stop this close to the bound.
static constexpr double kTolerance = 1.0001;

double moe::placement::meanBalancedness(const LayerMap &map, const Statistics &statistics, size_t layer,
                                        const Cluster &cluster, const std::vector<double> &importance) {
  double sum = 0;
  for (size_t k = 0; k < statistics.profiles.size(); ++k) {
    sum += importance[k] * balancedness(map, statistics.profiles[k].layers[layer], cluster);
  }
  return sum;
}

static bool hasPairs(const Statistics &statistics) {
  return std::any_of(statistics.profiles.begin(), statistics.profiles.end(),
                     [](const Profile &profile) { return !profile.pairs.empty(); });
}

bool moe::placement::usesLocality(const Statistics &statistics, const PlanOptions &options) {
  const int groups = options.routing.groups, nodes = options.cluster.nodes;
  return nodes > 1 && options.localityWeight > 0 && (hasPairs(statistics) || (groups > 1 && groups % nodes == 0));
}

namespace {

/// Plans layer by layer.
class Planner {
public:
  Planner(const Statistics &statistics, const PlanOptions &options);
  Plan run();

private:
  bool hasFewMoves() const { return options.previous && options.maxMoves < 1; }
  /// The layer as the statistics are.
  LayerProblem makeProblem(size_t layer) const;
  /// The layer as it is planned for.
  LayerProblem makePlannedProblem(size_t layer) const;
  /// How much each window of each profile weighs in each resampling.
  void drawWindowWeights();
  /// Pair counts of all profiles, as LayerProblem::pairs wants them.
  std::vector<double> makePairs(size_t layer) const;
  Loads meanLoads(const LayerProblem &problem) const;
  SearchLimits limits(size_t layer, int64_t steps, double goal) const;
  LayerMap search(const LayerProblem &problem, size_t layer, const LayerMap &eplb, double bound) const;
  /// With `wholeGroups`: the ranks of each group, or the groups of each rank.
  LayerMap searchWholeGroups(const LayerProblem &problem, size_t layer) const;
  /// Few moves: one path of maps per layer, and as much of each as pays.
  void replanAll(Plan &plan);
  void report(Plan &plan, size_t layer, const LayerProblem &problem) const;
  void done(size_t layers) const {
    if (options.progress) {
      options.progress(static_cast<int>(layers), static_cast<int>(statistics.model.layerIds.size()));
    }
  }

  const Statistics &statistics;
  const PlanOptions &options;
  const Cluster &cluster;
  std::vector<double> importance;
  /// [profile][resampling][window]; empty for a profile that counts as it is.
  std::vector<std::vector<std::vector<double>>> windowWeights;
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
};

} // namespace

Planner::Planner(const Statistics &statistics, const PlanOptions &options)
    : statistics(statistics), options(options), cluster(options.cluster), importance(options.importance) {
  if (importance.empty()) {
    importance.assign(statistics.profiles.size(), 1.0);
  }
  const double sum = std::accumulate(importance.begin(), importance.end(), 0.0);
  for (double &weight : importance) {
    weight /= sum;
  }
  drawWindowWeights();
  if (options.timeBudget > 0) {
    deadline = std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                                      std::chrono::duration<double>(options.timeBudget));
  }
}

Loads Planner::meanLoads(const LayerProblem &problem) const {
  Loads mean(problem.experts, 0.0);
  for (int k = 0; k < problem.profiles(); ++k) {
    for (int expert = 0; expert < problem.experts; ++expert) {
      mean[expert] += problem.importance[k] * problem.loads[k][expert];
    }
  }
  return mean;
}

std::vector<double> Planner::makePairs(size_t layer) const {
  const int experts = statistics.model.experts;
  std::vector<double> pairs(static_cast<size_t>(experts) * experts, 0.0);
  double used = 0;
  for (size_t k = 0; k < statistics.profiles.size(); ++k) {
    if (statistics.profiles[k].pairs.empty()) {
      continue;
    }
    double sum = 0;
    for (const Pair &pair : statistics.profiles[k].pairs[layer]) {
      sum += pair.count;
    }
    if (sum == 0) {
      continue;
    }
    used += importance[k];
    for (const Pair &pair : statistics.profiles[k].pairs[layer]) {
      const double part = importance[k] * pair.count / (2 * sum);
      pairs[pair.first * experts + pair.second] += part;
      pairs[pair.second * experts + pair.first] += part;
    }
  }
  if (used == 0) {
    return {};
  }
  for (double &pair : pairs) {
    pair /= used;
  }
  return pairs;
}

LayerProblem Planner::makeProblem(size_t layer) const {
  LayerProblem problem;
  problem.cluster = cluster;
  problem.experts = statistics.model.experts;
  problem.importance = importance;
  for (const Profile &profile : statistics.profiles) {
    problem.loads.push_back(scaleLoads(profile.layers[layer], cluster.ranks));
  }
  if (usesLocality(statistics, options)) {
    if (hasPairs(statistics)) {
      problem.pairs = makePairs(layer);
    }
    if (problem.pairs.empty()) {
      problem.homes = homeRewards(meanLoads(problem), cluster, options.routing.groups,
                                  hasFewMoves() ? options.previous->layers[layer] : LayerMap());
    }
    if (!problem.pairs.empty() || !problem.homes.empty()) {
      problem.localityWeight = options.localityWeight;
    }
  }
  if (options.previous) {
    problem.previous = options.previous->layers[layer];
  }
  return problem;
}

void Planner::drawWindowWeights() {
  windowWeights.assign(statistics.profiles.size(), {});
  for (size_t k = 0; k < statistics.profiles.size(); ++k) {
    const size_t windows = statistics.profiles[k].windows.size();
    if (options.resamples == 0 || windows < 2) {
      continue;
    }
    Random random(options.seed * 7919 + k);
    windowWeights[k].assign(options.resamples, std::vector<double>(windows));
    for (std::vector<double> &weights : windowWeights[k]) {
      for (double &weight : weights) {
        weight = -std::log(random.uniform() + 1e-300);
      }
    }
  }
}

LayerProblem Planner::makePlannedProblem(size_t layer) const {
  LayerProblem problem = makeProblem(layer);
  std::vector<Loads> loads;
  std::vector<double> parts;
  for (size_t k = 0; k < statistics.profiles.size(); ++k) {
    if (windowWeights[k].empty()) {
      loads.push_back(std::move(problem.loads[k]));
      parts.push_back(importance[k]);
      continue;
    }
    for (const std::vector<double> &weights : windowWeights[k]) {
      Loads sum(problem.experts, kUnseen);
      for (size_t window = 0; window < weights.size(); ++window) {
        const Loads &counts = statistics.profiles[k].windows[window][layer];
        for (int expert = 0; expert < problem.experts; ++expert) {
          sum[expert] += weights[window] * counts[expert];
        }
      }
      loads.push_back(scaleLoads(sum, cluster.ranks));
      parts.push_back(importance[k] / static_cast<double>(options.resamples));
    }
  }
  problem.loads = std::move(loads);
  problem.importance = std::move(parts);
  return problem;
}

SearchLimits Planner::limits(size_t layer, int64_t steps, double goal) const {
  SearchLimits limits;
  limits.seed = options.seed * 1000003 + layer;
  limits.steps = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(steps) * options.effort));
  limits.goal = goal;
  limits.deadline = deadline;
  return limits;
}

LayerMap Planner::search(const LayerProblem &problem, size_t layer, const LayerMap &eplb, double bound) const {
  if (options.wholeGroups) {
    return searchWholeGroups(problem, layer);
  }
  const Loads mean = meanLoads(problem);
  std::vector<LayerMap> candidates = {removeDuplicates(eplb, mean, cluster)};
  const double goal = bound * kTolerance;
  if (problem.isPlain()) {
    const Loads &loads = problem.loads.front();
    const int perRank = cluster.slotsPerRank();
    if (perRank == 1) {
      // The largest share is the load of its rank: greedy counts are optimal.
      candidates.push_back(packCounts(loads, greedyCounts(loads, cluster), cluster));
    } else if (perRank == 2) {
      candidates.push_back(searchPairs(problem, limits(layer, kCountChanges, goal)));
    } else {
      candidates.push_back(descend(problem, candidates.front(), limits(layer, kKicks, goal)));
      if (evaluate(problem, candidates.back()).peak > goal) {
        const double limit = std::max(1.0, computeBounds(loads, cluster).slots);
        candidates.push_back(descend(problem, packCounts(loads, leastCounts(loads, cluster, limit), cluster),
                                     limits(layer, kKicks, goal)));
      }
    }
  } else {
    if (problem.localityWeight != 0) {
      candidates.push_back(removeDuplicates(runGlobalEplb(mean, cluster), mean, cluster));
    }
    // With locality the objective has no bound that a search could stop at.
    const bool local = problem.localityWeight != 0;
    const SearchLimits annealing = limits(layer, local ? kLocalProposals : kProposals, local ? -1e300 : goal);
    candidates.push_back(anneal(problem, candidates.front(), annealing));
    if (!local && evaluate(problem, candidates.back()).total > goal) {
      const double limit = std::max(1.0, computeBounds(mean, cluster).slots);
      candidates.push_back(anneal(problem, packCounts(mean, leastCounts(mean, cluster, limit), cluster),
                                  limits(layer, kProposals / 2, goal)));
    }
  }
  const LayerMap *best = nullptr;
  double bestTotal = 0;
  for (const LayerMap &candidate : candidates) {
    if (const double total = evaluate(problem, candidate).total; !best || total < bestTotal) {
      best = &candidate;
      bestTotal = total;
    }
  }
  return *best;
}

LayerMap Planner::searchWholeGroups(const LayerProblem &problem, size_t layer) const {
  const int groups = options.routing.groups, size = problem.experts / groups, perRank = cluster.slotsPerRank();
  // A smaller problem of the same kind: items of summed loads, on ranks of their own.
  auto solve = [&](int ranks, int items, const std::function<double(int profile, int item)> &loadOf) {
    LayerProblem part;
    part.cluster = {ranks, items, 1};
    part.experts = items;
    part.importance = problem.importance;
    for (int k = 0; k < problem.profiles(); ++k) {
      Loads loads(items);
      for (int item = 0; item < items; ++item) {
        loads[item] = loadOf(k, item);
      }
      part.loads.push_back(scaleLoads(loads, ranks));
    }
    const LayerMap start = packCounts(meanLoads(part), std::vector<int>(items, 1), part.cluster);
    if (ranks == 1 || ranks == items) {
      return start;
    }
    return part.isPlain() ? descend(part, start, limits(layer, kKicks, kTolerance))
                          : anneal(part, start, limits(layer, kProposals, kTolerance));
  };
  LayerMap map;
  if (perRank % size == 0) {
    const LayerMap order = solve(cluster.ranks, groups, [&](int profile, int group) {
      auto begin = problem.loads[profile].begin() + group * size;
      return std::accumulate(begin, begin + size, 0.0);
    });
    for (int group : order) {
      for (int expert = group * size; expert < (group + 1) * size; ++expert) {
        map.push_back(expert);
      }
    }
    return map;
  }
  for (int group = 0; group < groups; ++group) {
    for (int expert : solve(size / perRank, size,
                            [&](int profile, int expert) { return problem.loads[profile][group * size + expert]; })) {
      map.push_back(group * size + expert);
    }
  }
  return map;
}

namespace {

/// Which point of every layer's frontier to take.
struct Allotment {
  std::vector<size_t> chosen;
  /// What the last moves gain, in the worth of one layer per move.
  double price = 0;
};

} // namespace

/// The points such that the sum of what they are worth is largest with at most `budget` moves beyond the first ones:
/// exact, by dynamic programming over layers and moves.
static Allotment allotMoves(const std::vector<std::vector<FrontierPoint>> &frontiers,
                            const std::vector<std::vector<double>> &worth, int budget) {
  const size_t layers = frontiers.size(), width = static_cast<size_t>(budget) + 1;
  std::vector<double> best(width, 0.0), next(width);
  std::vector<uint16_t> choice(layers * width, 0);
  for (size_t layer = 0; layer < layers; ++layer) {
    const std::vector<FrontierPoint> &points = frontiers[layer];
    for (size_t used = 0; used < width; ++used) {
      next[used] = -1;
      for (size_t at = 0; at < points.size(); ++at) {
        const auto moves = static_cast<size_t>(points[at].moves - points.front().moves);
        if (moves > used) {
          break;
        }
        if (const double sum = best[used - moves] + worth[layer][at]; sum > next[used]) {
          next[used] = sum;
          choice[layer * width + used] = static_cast<uint16_t>(at);
        }
      }
    }
    std::swap(best, next);
  }
  Allotment result;
  const size_t fewer = (width - 1) * 4 / 5;
  result.price = (best[width - 1] - best[fewer]) / static_cast<double>(std::max<size_t>(1, width - 1 - fewer));
  result.chosen.resize(layers);
  size_t used = width - 1;
  for (size_t layer = layers; layer-- > 0;) {
    result.chosen[layer] = choice[layer * width + used];
    used -= static_cast<size_t>(frontiers[layer][result.chosen[layer]].moves - frontiers[layer].front().moves);
  }
  return result;
}

void Planner::replanAll(Plan &plan) {
  const size_t layers = statistics.model.layerIds.size();
  const int budget = static_cast<int>(options.maxMoves * static_cast<double>(layers) * cluster.slots);
  // A layer may take several times its part of the budget.
  const int perLayer = std::min<int>(cluster.slots, static_cast<int>(options.maxMoves * cluster.slots * 2.5) + 2);
  std::vector<std::vector<FrontierPoint>> frontiers(layers);
  /// [layer][point]: balancedness and, where it counts, locality.
  std::vector<std::vector<double>> worth(layers);
  int left = budget;
  // Without prices: polishes.
  auto improve = [&](size_t layer, const LayerProblem &problem, size_t start, const std::vector<double> &prices,
                     int round) {
    const int most = std::max(perLayer, frontiers[layer].back().moves);
    SearchLimits walk = limits(layer, kReplanProposals, 0);
    walk.seed += prices.empty() ? static_cast<uint64_t>(round) : static_cast<uint64_t>(prices.front() * 1e9);
    frontiers[layer] = prices.empty() ? polish(problem, frontiers[layer], start, walk)
                                      : replan(problem, frontiers[layer], start, most, prices, walk);
    worth[layer].clear();
    for (const FrontierPoint &point : frontiers[layer]) {
      double mean = 0;
      for (int k = 0; k < problem.profiles(); ++k) {
        mean += problem.importance[k] * balancedness(point.map, problem.loads[k], cluster);
      }
      if (problem.localityWeight != 0) {
        mean += problem.localityWeight * evaluate(problem, point.map).locality;
      }
      worth[layer].push_back(mean);
    }
  };
  for (size_t layer = 0; layer < layers; ++layer) {
    const LayerProblem problem = makePlannedProblem(layer);
    LayerMap start = removeDuplicates(problem.previous, meanLoads(problem), cluster);
    const LayerScore score = evaluate(problem, start);
    left -= score.moves;
    frontiers[layer] = {{score.moves, score.total, std::move(start)}};
    improve(layer, problem, 0, kFirstPrices, 0);
    done(layer);
  }
  // Then at the price that the last moves are worth over all layers, twice, for it changes with what is found, and
  // twice with the moves that the layer has then.
  Allotment allotment;
  for (int round = 0; round < 4; ++round) {
    allotment = allotMoves(frontiers, worth, std::max(left, 0));
    const std::vector<double> prices(round < 2, std::max(allotment.price, 1e-5));
    for (size_t layer = 0; layer < layers; ++layer) {
      improve(layer, makePlannedProblem(layer), allotment.chosen[layer], prices, round + 1);
    }
  }
  allotment = allotMoves(frontiers, worth, std::max(left, 0));
  for (size_t layer = 0; layer < layers; ++layer) {
    plan.map.layers[layer] = std::move(frontiers[layer][allotment.chosen[layer]].map);
  }
}

void Planner::report(Plan &plan, size_t layer, const LayerProblem &problem) const {
  LayerReport &report = plan.layers[layer];
  auto balance = [&](const LayerMap &map) { return meanBalancedness(map, statistics, layer, cluster, importance); };
  report.before = balance(plan.before.layers[layer]);
  report.eplb = balance(plan.eplb.layers[layer]);
  report.after = balance(plan.map.layers[layer]);
  const LayerMap &map = plan.map.layers[layer];
  const std::vector<int> shares = sharesOf(map, meanLoads(problem), cluster);
  report.bound = 0;
  report.anySplitBound = 0;
  for (int k = 0; k < problem.profiles(); ++k) {
    report.afterSplit += importance[k] * balancednessOfShares(map, shares, problem.loads[k], cluster);
    Bounds bounds = computeBounds(problem.loads[k], cluster);
    if (problem.isPlain() && cluster.slotsPerRank() == 2 && cluster.slots > problem.experts) {
      bounds.pairs = boundPairs(problem.loads[k], cluster, 1 / report.after);
    }
    report.bound += importance[k] / bounds.best();
    report.anySplitBound += importance[k] / bounds.ofAnySplit();
  }
  report.moves = cluster.slots;
  if (options.previous) {
    report.moves = countMoves(plan.map.layers[layer], problem.previous, cluster);
  }
  if (cluster.nodes > 1) {
    const RoutingModel &routing = options.routing;
    const int perToken = std::min(routing.expertsPerToken, problem.experts);
    const std::vector<double> pairs = hasPairs(statistics) ? makePairs(layer) : std::vector<double>();
    std::vector<int> tokens = pairs.empty() ? sampleTokens(meanLoads(problem), routing, kSampledTokens, 7)
                                            : samplePairTokens(pairs, problem.experts, perToken, kSampledTokens, 7);
    auto remote = [&](const LayerMap &of) {
      return countRemoteNodes(tokens, perToken, of, problem.experts, cluster, 3);
    };
    report.remoteBefore = remote(plan.before.layers[layer]);
    report.remoteEplb = remote(plan.eplb.layers[layer]);
    report.remoteAfter = remote(plan.map.layers[layer]);
  }
}

Plan Planner::run() {
  const size_t layers = statistics.model.layerIds.size();
  Plan plan;
  plan.map.model = statistics.model;
  plan.map.ranks = cluster.ranks;
  plan.map.layers.resize(layers);
  plan.before = plan.eplb = plan.map;
  plan.layers.resize(layers);
  const int groups = options.routing.groups;
  for (size_t layer = 0; layer < layers; ++layer) {
    const Loads mean = meanLoads(makeProblem(layer));
    plan.eplb.layers[layer] =
        usesLocality(statistics, options) ? runEplb(mean, cluster, groups) : runGlobalEplb(mean, cluster);
    plan.before.layers[layer] =
        options.previous ? options.previous->layers[layer] : trivialMap(cluster, statistics.model.experts);
  }
  if (options.previous) {
    plan.before.shares = options.previous->shares;
  }
  if (hasFewMoves()) {
    replanAll(plan);
  }
  for (size_t layer = 0; layer < layers; ++layer) {
    if (!hasFewMoves()) {
      const LayerProblem problem = makePlannedProblem(layer);
      double bound = 0;
      for (int k = 0; k < problem.profiles(); ++k) {
        bound += problem.importance[k] * computeBounds(problem.loads[k], cluster).best();
      }
      plan.map.layers[layer] = search(problem, layer, plan.eplb.layers[layer], bound);
      if (options.previous) {
        plan.map.layers[layer] = relabel(plan.map.layers[layer], problem.previous, cluster, problem.experts);
      }
    }
    report(plan, layer, makeProblem(layer));
    done(layer + 1);
  }
  plan.endedByTime = std::chrono::steady_clock::now() >= deadline;
  return plan;
}

Result<Plan> moe::placement::planPlacement(const Statistics &statistics, const PlanOptions &options) {
  MOERT_TRY(checkStatistics(statistics));
  MOERT_TRY(checkCluster(options.cluster, statistics.model.experts));
  const int groups = options.routing.groups;
  if (groups < 1 || statistics.model.experts % groups != 0) {
    return error(Code::InvalidArgument, "experts (", statistics.model.experts, ") must be a multiple of the groups (",
                 groups, ")");
  }
  if (options.wholeGroups) {
    const int size = statistics.model.experts / groups, perRank = options.cluster.slotsPerRank();
    if (options.cluster.slots != statistics.model.experts || (size % perRank != 0 && perRank % size != 0)) {
      return error(Code::InvalidArgument,
                   "whole groups need as many slots as experts and whole groups on a rank or whole "
                   "ranks in a group, but there are ",
                   options.cluster.slots, " slots for ", statistics.model.experts, " experts in groups of ", size,
                   " and ", perRank, " slots on a rank");
    }
  }
  if (options.resamples > 0 && std::none_of(statistics.profiles.begin(), statistics.profiles.end(),
                                            [](const Profile &profile) { return profile.windows.size() > 1; })) {
    return error(Code::InvalidArgument,
                 "resampling needs a recording with two windows or more, but no profile has them; record "
                 "more steps, or plan for the sums");
  }
  if (!options.importance.empty()) {
    if (options.importance.size() != statistics.profiles.size()) {
      return error(Code::InvalidArgument, "there are ", options.importance.size(), " profile weights, but ",
                   statistics.profiles.size(), " profiles");
    }
    const double sum = std::accumulate(options.importance.begin(), options.importance.end(), 0.0);
    const double least = *std::min_element(options.importance.begin(), options.importance.end());
    if (!(sum > 0) || !std::isfinite(sum) || !(least >= 0)) {
      return error(Code::InvalidArgument, "profile weights have the sum ", sum, " and the least is ", least,
                   ", but weights are finite, not negative, and not all 0");
    }
  }
  if (options.previous) {
    const Map &previous = *options.previous;
    if (previous.ranks != options.cluster.ranks || previous.slots() != options.cluster.slots ||
        !(previous.model == statistics.model)) {
      return error(Code::InvalidArgument, "the previous map is for ", previous.ranks, " ranks, ", previous.slots(),
                   " slots, ", previous.model.layerIds.size(), " MoE layers of ", previous.model.experts,
                   " experts, but the plan is for ", options.cluster.ranks, " ranks, ", options.cluster.slots,
                   " slots, ", statistics.model.layerIds.size(), " MoE layers of ", statistics.model.experts,
                   " experts");
    }
    MOERT_TRY(checkMap(previous, /*allowDuplicates=*/true));
  }
  return Planner(statistics, options).run();
}
