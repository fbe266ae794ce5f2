//===- SearchTest.cpp - Searches, bounds and splits of one layer ------------===//

#include "passes/Analysis/Placement/Search.h"
#include "passes/Analysis/Placement/Bounds.h"
#include "passes/Analysis/Placement/Eplb.h"
#include "passes/Analysis/Placement/LayerState.h"
#include "passes/Analysis/Placement/Random.h"
#include "passes/Analysis/Placement/Relabel.h"
#include "passes/Analysis/Placement/SmoothState.h"
#include "passes/Analysis/Placement/Split.h"
#include "passes/Analysis/Placement/Traffic.h"
#include "test/passes/Analysis/Placement/Synthetic.h"
#include <algorithm>
#include <functional>
#include <gtest/gtest.h>
#include <numeric>

using namespace moe::placement;

static LayerProblem makeProblem(const Cluster &cluster, const std::vector<Loads> &loads) {
  LayerProblem problem;
  problem.cluster = cluster;
  problem.experts = static_cast<int>(loads.front().size());
  for (const Loads &of : loads) {
    problem.loads.push_back(scaleLoads(of, cluster.ranks));
    problem.importance.push_back(1.0 / loads.size());
  }
  return problem;
}

static void expectValid(const LayerMap &map, const Cluster &cluster, int experts) {
  EXPECT_EQ(countDuplicates(map, cluster), 0);
  std::vector<int> counts = countReplicas(map, experts);
  EXPECT_GE(*std::min_element(counts.begin(), counts.end()), 1);
  EXPECT_EQ(static_cast<int>(map.size()), cluster.slots);
}

/// The least peak over all maps, by trying all of them.
static double bruteForce(const Loads &loads, const Cluster &cluster) {
  const int experts = static_cast<int>(loads.size());
  LayerMap map(cluster.slots, 0);
  double best = 1e300;
  std::function<void(int)> place = [&](int slot) {
    if (slot == cluster.slots) {
      std::vector<int> counts = countReplicas(map, experts);
      if (*std::min_element(counts.begin(), counts.end()) > 0) {
        std::vector<double> ranks = rankLoads(map, loads, cluster);
        best = std::min(best, *std::max_element(ranks.begin(), ranks.end()));
      }
      return;
    }
    // Inside a rank in ascending order: no duplicates, no permutations.
    const bool first = slot % cluster.slotsPerRank() == 0;
    for (int expert = first ? 0 : map[slot - 1] + 1; expert < experts; ++expert) {
      map[slot] = expert;
      place(slot + 1);
    }
  };
  place(0);
  return best;
}

TEST(Bounds, NeverAboveTheOptimum) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    for (const Cluster &cluster : {Cluster{2, 4, 1}, Cluster{2, 6, 1}, Cluster{3, 6, 1}, Cluster{4, 4, 1}}) {
      const Loads loads = scaleLoads(makeStatistics(1, 4, 1, 1.0, 0.2, seed).profiles[0].layers[0], cluster.ranks);
      const double optimum = bruteForce(loads, cluster);
      Bounds bounds = computeBounds(loads, cluster);
      EXPECT_LE(bounds.best(), optimum * (1 + 1e-9)) << seed;
      if (cluster.slotsPerRank() == 2) {
        EXPECT_LE(boundPairs(loads, cluster, optimum), optimum * (1 + 1e-9)) << seed;
      }
    }
  }
}

/// Two heavy experts: neither alone shows that a rank must carry more than the mean; both together do.
TEST(Bounds, FullRanksWithSeveralHeavyExperts) {
  const Cluster cluster{4, 8, 1};
  // The two heaviest with the two lightest: (2.6 + 0.5) / 2. Then one heavy expert with the lightest: 1.3 + 0.1.
  EXPECT_GE(computeBounds({1.3, 1.3, 0.1, 0.4, 0.5, 0.5, 0.5, 0.4}, cluster).full, 1.55 - 1e-9);
  EXPECT_DOUBLE_EQ(computeBounds({1.3, 0.3, 0.1, 0.4, 0.5, 0.5, 0.5, 0.4}, cluster).full, 1.4);
}

TEST(Bounds, SlotCounting) {
  // One expert has 3 of the 4 ranks' load and may have two replicas: 1.5 each.
  EXPECT_NEAR(computeBounds({3, 0.5, 0.3, 0.2}, {4, 5 + 3, 1}).slots, 1.0, 1e-9);
  EXPECT_NEAR(computeBounds({3, 0.25, 0.25, 0.25, 0.25, 0, 0}, {4, 8, 1}).slots, 1.5, 1e-9);
}

TEST(Search, FindsTheOptimumOfSmallLayers) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    for (const Cluster &cluster : {Cluster{2, 4, 1}, Cluster{2, 6, 1}, Cluster{3, 6, 1}}) {
      const Loads loads = makeStatistics(1, 4, 1, 1.0, 0.2, seed).profiles[0].layers[0];
      const LayerProblem problem = makeProblem(cluster, {loads});
      SearchLimits limits;
      limits.steps = 2000;
      LayerMap map = cluster.slotsPerRank() == 2
                         ? searchPairs(problem, limits)
                         : descend(problem, removeDuplicates(runGlobalEplb(loads, cluster), loads, cluster), limits);
      expectValid(map, cluster, 4);
      EXPECT_NEAR(evaluate(problem, map).peak, bruteForce(problem.loads[0], cluster), 1e-9) << seed;
    }
  }
}

struct Shape {
  int ranks, slots;
  double least;
};

/// The shapes of DeepSeek deployments, on loads of its shape.
TEST(Search, BalancesDeepSeekShapes) {
  const Statistics statistics = makeStatistics(4, 256, 1);
  for (const Shape &shape : {Shape{32, 288, 0.9995}, Shape{36, 288, 0.9995}, Shape{64, 320, 0.9995},
                             Shape{72, 288, 0.999}, Shape{96, 288, 0.985}}) {
    const Cluster cluster{shape.ranks, shape.slots, 1};
    for (const Loads &loads : statistics.profiles[0].layers) {
      const LayerProblem problem = makeProblem(cluster, {loads});
      SearchLimits limits;
      limits.goal = 1.0001;
      limits.steps = 400;
      LayerMap map = descend(problem, removeDuplicates(runGlobalEplb(loads, cluster), loads, cluster), limits);
      expectValid(map, cluster, 256);
      EXPECT_GE(balancedness(map, loads, cluster), shape.least) << shape.ranks;
    }
  }
}

TEST(Search, PairsComeCloseToTheirBound) {
  const Cluster cluster{144, 288, 1};
  const Statistics statistics = makeStatistics(2, 256, 1);
  for (const Loads &loads : statistics.profiles[0].layers) {
    const LayerProblem problem = makeProblem(cluster, {loads});
    SearchLimits limits;
    limits.steps = 8000;
    LayerMap map = searchPairs(problem, limits);
    expectValid(map, cluster, 256);
    const double peak = evaluate(problem, map).peak;
    const double bound =
        std::max(boundPairs(problem.loads[0], cluster, peak), computeBounds(problem.loads[0], cluster).best());
    EXPECT_LE(bound, peak);
    EXPECT_LT(peak / bound, 1.04);
    EXPECT_GT(balancedness(map, loads, cluster), balancedness(runGlobalEplb(loads, cluster), loads, cluster));
  }
}

TEST(Search, RemovesDuplicates) {
  // Every expert twice on its rank; and a case that only a changed replica count can solve.
  const Loads loads = {4, 3, 2, 1};
  expectValid(removeDuplicates({0, 0, 1, 1, 2, 2, 3, 3}, loads, {4, 8, 1}), {4, 8, 1}, 4);
  expectValid(removeDuplicates({0, 0, 0, 1, 2, 3}, loads, {2, 6, 1}), {2, 6, 1}, 4);
}

/// The incremental bookkeeping against a computation from nothing, after many random moves, with all terms.
TEST(Search, IncrementalTermsAreExact) {
  const Cluster cluster{8, 40, 4};
  const Statistics statistics = makeStatistics(1, 32, 2);
  LayerProblem problem = makeProblem(cluster, {statistics.profiles[0].layers[0], statistics.profiles[1].layers[0]});
  const LayerMap start = removeDuplicates(trivialMap(cluster, 32), problem.loads[0], cluster);
  problem.previous = start;
  problem.localityWeight = 0.5;
  problem.homes = homeRewards(problem.loads[0], cluster, 8);
  Random random(5);
  problem.pairs.assign(32 * 32, 0.0);
  double sum = 0;
  for (int a = 0; a < 32; ++a) {
    for (int b = 0; b < a; ++b) {
      problem.pairs[a * 32 + b] = problem.pairs[b * 32 + a] = random.uniform();
      sum += 2 * problem.pairs[a * 32 + b];
    }
  }
  for (double &pair : problem.pairs) {
    pair /= sum;
  }
  SmoothState state(problem, start, 7);
  // What is not in the value of a fresh state: locality, moves.
  auto others = [&](const LayerMap &map) {
    const LayerScore score = evaluate(problem, map);
    return score.total - score.peak;
  };
  int swaps = 0, replacements = 0;
  for (int i = 0; i < 4000; ++i) {
    Proposal proposal;
    if (random.below(2) == 0) {
      proposal = {random.below(40), random.below(40), -1};
      if (!state.layer().canSwap(proposal.p, proposal.q)) {
        continue;
      }
      ++swaps;
    } else {
      proposal = {random.below(40), -1, random.below(32)};
      if (!state.layer().canReplace(proposal.p, proposal.expert)) {
        continue;
      }
      ++replacements;
    }
    state.consider(proposal);
    const double expected = state.valueAfter();
    ASSERT_TRUE(state.isAtMost(expected + 1e-9) && !state.isAtMost(expected - 1e-9));
    state.accept(proposal);
    ASSERT_NEAR(state.value(), expected, 1e-9);
  }
  EXPECT_GT(swaps, 100);
  EXPECT_GT(replacements, 50);
  const LayerMap map = state.layer().map();
  expectValid(map, cluster, 32);
  EXPECT_EQ(state.layer().moves(), countMoves(map, start, cluster));
  for (int k = 0; k < 2; ++k) {
    std::vector<double> ranks = rankLoads(map, problem.loads[k], cluster);
    for (int rank = 0; rank < 8; ++rank) {
      EXPECT_NEAR(state.layer().loads()[rank * 2 + k], ranks[rank], 1e-9);
    }
  }
  const double changed = state.value() - SmoothState(problem, map, 7).value();
  EXPECT_NEAR(changed, others(map) - others(start), 1e-7);
}

TEST(Search, SameSeedSameMap) {
  const Cluster cluster{16, 80, 1};
  const Statistics statistics = makeStatistics(1, 64, 2);
  LayerProblem problem = makeProblem(cluster, {statistics.profiles[0].layers[0], statistics.profiles[1].layers[0]});
  const LayerMap start = removeDuplicates(trivialMap(cluster, 64), problem.loads[0], cluster);
  SearchLimits limits;
  limits.steps = 20000;
  const LayerMap first = anneal(problem, start, limits);
  EXPECT_EQ(first, anneal(problem, start, limits));
  limits.seed = 2;
  EXPECT_NE(first, anneal(problem, start, limits));
}

/// What a seed gives is a promise to users (docs/placement.md): a change of the walks has to say so here.
TEST(Search, WalksGiveTheRecordedMaps) {
  const Cluster cluster{16, 80, 4};
  const Statistics statistics = makeStatistics(1, 64, 2);
  const std::vector<Loads> loads = {statistics.profiles[0].layers[0], statistics.profiles[1].layers[0]};
  LayerProblem problem = makeProblem(cluster, loads);
  const LayerMap start = removeDuplicates(trivialMap(cluster, 64), problem.loads[0], cluster);
  SearchLimits limits;
  limits.steps = 20000;
  EXPECT_EQ(fingerprint({anneal(problem, start, limits)}), 13218914720836880048ull);
  problem.homes = homeRewards(problem.loads[0], cluster, 8);
  problem.localityWeight = 0.5;
  EXPECT_EQ(fingerprint({anneal(problem, start, limits)}), 8867278209614590812ull);
  LayerProblem drifted = makeProblem(cluster, {loads[1]});
  drifted.previous = descend(makeProblem(cluster, {loads[0]}), start, limits);
  const std::vector<FrontierPoint> known = {{0, evaluate(drifted, drifted.previous).total, drifted.previous}};
  std::vector<LayerMap> maps;
  for (const FrontierPoint &point : replan(drifted, known, 0, 12, {0.01, 0.003}, limits)) {
    maps.push_back(point.map);
  }
  EXPECT_GT(maps.size(), 6u);
  EXPECT_EQ(fingerprint(maps), 10672850081962924996ull);
}

TEST(Split, MatchesTheBoundOverSubsets) {
  // max over sets A of ranks of (load of experts that live in A only) / |A| is the optimum.
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Cluster cluster{6, 18, 1};
    const Loads loads = makeStatistics(1, 12, 1, 1.2, 0.2, seed).profiles[0].layers[0];
    const LayerMap map = removeDuplicates(trivialMap(cluster, 12), loads, cluster);
    double optimum = 0;
    for (int set = 1; set < 64; ++set) {
      double inside = 0;
      for (int expert = 0; expert < 12; ++expert) {
        bool all = true;
        for (int slot = 0; slot < 18; ++slot) {
          all &= map[slot] != expert || (set >> cluster.rankOf(slot) & 1) != 0;
        }
        inside += all ? loads[expert] : 0;
      }
      optimum = std::max(optimum, inside / __builtin_popcount(set));
    }
    const Split split = splitLoads(map, loads, cluster);
    EXPECT_NEAR(split.peak / optimum, 1.0, 1e-6) << seed;
    Loads sums(12, 0.0);
    for (int slot = 0; slot < 18; ++slot) {
      EXPECT_GE(split.slots[slot], -1e-6);
      sums[map[slot]] += split.slots[slot];
    }
    for (int expert = 0; expert < 12; ++expert) {
      EXPECT_NEAR(sums[expert], loads[expert], 1e-6 * loads[expert]);
    }
  }
}

TEST(Split, SharesAreTheSplitInWholeNumbers) {
  const Cluster cluster{2, 4, 1};
  // Expert 0 takes half of all: 4 of its 10 beside expert 1, 6 beside expert 2.
  EXPECT_EQ(sharesOf({0, 1, 0, 2}, {10, 6, 4}, cluster), (std::vector<int>{400, 1000, 600, 1000}));
  // No load: replicas are alike, and no expert is left without.
  EXPECT_EQ(sharesOf({0, 1, 0, 2}, {0, 6, 4}, cluster), (std::vector<int>{1, 1000, 1, 1000}));
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Cluster wide{6, 18, 1};
    const Loads loads = makeStatistics(1, 12, 1, 1.2, 0.2, seed).profiles[0].layers[0];
    const LayerMap map = removeDuplicates(trivialMap(wide, 12), loads, wide);
    const std::vector<int> shares = sharesOf(map, loads, wide);
    const Split split = splitLoads(map, loads, wide);
    for (size_t slot = 0; slot < map.size(); ++slot) {
      EXPECT_NEAR(shares[slot] * loads[map[slot]] / 1000, split.slots[slot], loads[map[slot]] / 1000) << seed;
    }
    const double best = std::accumulate(loads.begin(), loads.end(), 0.0) / wide.ranks / split.peak;
    EXPECT_NEAR(balancednessOfShares(map, shares, loads, wide), best, 0.01) << seed;
    // Shares that are alike are no shares.
    EXPECT_NEAR(balancednessOfShares(map, std::vector<int>(map.size(), 7), loads, wide), balancedness(map, loads, wide),
                1e-12);
    EXPECT_LE(balancedness(map, loads, wide), best + 1e-9);
  }
}

TEST(Relabel, FindsAPermutationOfNodesAndRanks) {
  const Cluster cluster{8, 40, 4};
  const Loads loads = makeStatistics(1, 32, 1).profiles[0].layers[0];
  const LayerMap map = removeDuplicates(runGlobalEplb(loads, cluster), loads, cluster);
  // Nodes in another order, and the ranks of a node swapped.
  LayerMap shuffled(map.size());
  for (int rank = 0; rank < 8; ++rank) {
    const int node = (rank / 2 + 1) % 4, to = node * 2 + (1 - rank % 2);
    for (int i = 0; i < 5; ++i) {
      shuffled[to * 5 + (i + 2) % 5] = map[rank * 5 + i];
    }
  }
  EXPECT_GT(countMoves(map, shuffled, cluster), 20);
  EXPECT_EQ(relabel(map, shuffled, cluster, 32), shuffled);
}

/// Two groups per node at home: without noise from drawing, tokens of 4 of 8 groups visit few nodes.
TEST(Traffic, GroupsAtHomeAreNearer) {
  const Cluster cluster{8, 64, 4};
  const Loads loads = makeStatistics(1, 64, 1).profiles[0].layers[0];
  const RoutingModel routing{8, 8, 4};
  std::vector<int> tokens = sampleTokens(loads, routing, 2000, 1);
  ASSERT_EQ(tokens.size(), 16000u);
  const double home = countRemoteNodes(tokens, 8, runEplb(loads, cluster, 8), 64, cluster, 1);
  const double global = countRemoteNodes(tokens, 8, runGlobalEplb(loads, cluster), 64, cluster, 1);
  EXPECT_LT(home, global - 0.2);
  // One node: nothing is remote.
  EXPECT_EQ(countRemoteNodes(tokens, 8, runGlobalEplb(loads, cluster), 64, {8, 64, 1}, 1), 0);
}
