//===- PlannerTest.cpp - Plans of whole models ------------------------------===//

#include "passes/Analysis/Placement/Planner.h"
#include "passes/Analysis/Placement/LayerProblem.h"
#include "test/passes/Analysis/Placement/Synthetic.h"
#include <cmath>
#include <gtest/gtest.h>

using namespace moe::placement;

static double meanOf(const Plan &plan, double LayerReport::*member) {
  double sum = 0;
  for (const LayerReport &layer : plan.layers) {
    sum += layer.*member;
  }
  return sum / plan.layers.size();
}

static int movesOf(const Plan &plan) {
  int sum = 0;
  for (const LayerReport &layer : plan.layers) {
    sum += layer.moves;
  }
  return sum;
}

TEST(Planner, NeverWorseThanEplbAndWithinTheBound) {
  for (const Cluster &cluster : {Cluster{8, 64, 1}, Cluster{8, 72, 1}, Cluster{16, 80, 1}, Cluster{36, 72, 1},
                                 Cluster{80, 80, 1}, Cluster{1, 64, 1}}) {
    const Statistics statistics = makeStatistics(3, 64, 1);
    PlanOptions options;
    options.cluster = cluster;
    Result<Plan> plan = planPlacement(statistics, options);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_TRUE(checkMap(plan->map).ok());
    for (const LayerReport &layer : plan->layers) {
      EXPECT_GE(layer.after, layer.eplb * (1 - 1e-9)) << cluster.ranks;
      EXPECT_LE(layer.after, layer.bound * (1 + 1e-9)) << cluster.ranks;
      EXPECT_LE(layer.bound, layer.anySplitBound * (1 + 1e-9));
    }
  }
}

/// Two heavy experts with three replicas each, as greedy counts have it, meet on two of four ranks: 40 of 31. With two
/// replicas each, which takes two changes at once to see, they do not.
TEST(Planner, HeavyExpertsDoNotMeet) {
  Statistics statistics;
  statistics.model = {16, 1, {0}};
  Loads loads(16, 0.0);
  loads[10] = 62;
  loads[2] = 59;
  loads[4] = 2;
  loads[6] = 1;
  for (int profiles : {1, 2}) {
    statistics.profiles.push_back({"recorded", {loads}});
    PlanOptions options;
    options.cluster = {4, 20, 1};
    Result<Plan> plan = planPlacement(statistics, options);
    ASSERT_TRUE(plan.ok());
    EXPECT_LT(plan->layers[0].eplb, 0.8);
    EXPECT_GT(plan->layers[0].after, 0.99) << profiles;
    EXPECT_TRUE(checkMap(plan->map).ok());
  }
}

TEST(Planner, OneMapForSeveralProfiles) {
  const Statistics statistics = makeStatistics(2, 256, 4, 0.65, 0.3);
  PlanOptions options;
  options.cluster = {32, 288, 1};
  Result<Plan> plan = planPlacement(statistics, options);
  ASSERT_TRUE(plan.ok());
  EXPECT_LT(meanOf(*plan, &LayerReport::eplb), 0.93);
  EXPECT_GT(meanOf(*plan, &LayerReport::after), 0.98);
}

TEST(Planner, NodesTradeLittleBalanceForLocality) {
  const Statistics statistics = makeStatistics(2, 256, 1);
  PlanOptions options;
  options.cluster = {32, 288, 4};
  options.routing = {8, 8, 4};
  Result<Plan> near = planPlacement(statistics, options);
  options.localityWeight = 0;
  Result<Plan> far = planPlacement(statistics, options);
  ASSERT_TRUE(near.ok() && far.ok());
  EXPECT_GT(meanOf(*near, &LayerReport::after), 0.98);
  EXPECT_LT(meanOf(*near, &LayerReport::remoteAfter), meanOf(*far, &LayerReport::remoteAfter) - 0.2);
  EXPECT_TRUE(checkMap(near->map).ok());
}

/// Experts that are chosen together end on one node, although neither loads nor groups say so.
TEST(Planner, PairCountsBringExpertsTogether) {
  Statistics statistics = makeStatistics(1, 16, 1, 0.1);
  statistics.profiles[0].pairs.resize(1);
  for (int expert = 0; expert < 16; expert += 4) {
    // 0, 4, 8 and 12 are company, 1, 5, 9 and 13 too, and so on.
    for (int a = 0; a < 4; ++a) {
      for (int b = a + 1; b < 4; ++b) {
        statistics.profiles[0].pairs[0].push_back({expert / 4 + 4 * a, expert / 4 + 4 * b, 100});
      }
    }
  }
  PlanOptions options;
  options.cluster = {8, 16, 4};
  Result<Plan> plan = planPlacement(statistics, options);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  for (int node = 0; node < 4; ++node) {
    for (int slot = node * 4; slot < node * 4 + 4; ++slot) {
      EXPECT_EQ(plan->map.layers[0][slot] % 4, plan->map.layers[0][node * 4] % 4);
    }
  }
}

TEST(Planner, ReplansWithinItsMoves) {
  const Statistics both = makeStatistics(4, 256, 2, 0.65, 0.15);
  Statistics before = both, after = both;
  before.profiles.resize(1);
  after.profiles.erase(after.profiles.begin());
  PlanOptions options;
  options.cluster = {32, 288, 1};
  Result<Plan> first = planPlacement(before, options);
  ASSERT_TRUE(first.ok());
  options.previous = &first->map;
  options.maxMoves = 0.04;
  options.effort = 0.2;
  Result<Plan> few = planPlacement(after, options);
  ASSERT_TRUE(few.ok());
  EXPECT_LE(movesOf(*few), 0.04 * 4 * 288);
  EXPECT_GT(meanOf(*few, &LayerReport::after), meanOf(*few, &LayerReport::before) + 0.04);
  EXPECT_TRUE(checkMap(few->map).ok());
  options.maxMoves = 0;
  Result<Plan> none = planPlacement(after, options);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(none->map.layers, first->map.layers);
  // The same loads again: nothing to gain, and renaming finds the old ranks.
  options.maxMoves = 1;
  options.effort = 1;
  Result<Plan> same = planPlacement(before, options);
  ASSERT_TRUE(same.ok());
  EXPECT_EQ(movesOf(*same), 0);
}

/// Workloads that differ as much as a model's decoding and prefill do: the stale map has a balancedness of 0.71.
TEST(Planner, FewMovesRestoreBalance) {
  const Statistics both = makeStatistics(4, 256, 2, 0.65, 0.3);
  Statistics before = both, after = both;
  before.profiles.resize(1);
  after.profiles.erase(after.profiles.begin());
  PlanOptions options;
  options.cluster = {32, 288, 1};
  Result<Plan> first = planPlacement(before, options);
  ASSERT_TRUE(first.ok());
  options.previous = &first->map;
  options.effort = 0.4; // Quick enough for sanitizers.
  for (auto [moves, least] : {std::pair(0.04, 0.95), std::pair(0.09, 0.98)}) {
    options.maxMoves = moves;
    Result<Plan> next = planPlacement(after, options);
    ASSERT_TRUE(next.ok());
    EXPECT_LT(meanOf(*next, &LayerReport::before), 0.75);
    EXPECT_GE(meanOf(*next, &LayerReport::after), least) << moves;
    EXPECT_LE(movesOf(*next), moves * 4 * 288);
  }
}

/// Eight windows of a text, and nine others that a plan has not seen. Experts of one topic rise and fall together.
/// As in SearchTest: a change of what a re-plan gives has to say so here.
TEST(Planner, ReplanGivesTheRecordedMap) {
  const Statistics both = makeStatistics(3, 64, 2, 0.65, 0.3);
  Statistics before = both, after = both;
  before.profiles.resize(1);
  after.profiles.erase(after.profiles.begin());
  PlanOptions options;
  options.cluster = {16, 80, 1};
  Result<Plan> first = planPlacement(before, options);
  ASSERT_TRUE(first.ok());
  options.previous = &first->map;
  options.maxMoves = 0.08;
  options.effort = 0.05;
  Result<Plan> next = planPlacement(after, options);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(fingerprint(next->map.layers), 8434417117236473974ull);
}

/// Few moves are weighed by the whole objective, and groups stay at home where the map in use has them, not where a new
/// map would.
TEST(Planner, FewMovesKeepGroupsAtHome) {
  const Statistics both = makeStatistics(2, 256, 2, 0.65, 0.3);
  Statistics before = both, after = both;
  before.profiles.resize(1);
  after.profiles.erase(after.profiles.begin());
  PlanOptions options;
  options.cluster = {32, 288, 4};
  options.routing = {8, 8, 4};
  Result<Plan> first = planPlacement(before, options);
  ASSERT_TRUE(first.ok());
  options.previous = &first->map;
  options.maxMoves = 0.09;
  options.effort = 0.2;
  Result<Plan> near = planPlacement(after, options);
  options.localityWeight = 0;
  Result<Plan> far = planPlacement(after, options);
  ASSERT_TRUE(near.ok() && far.ok());
  EXPECT_GT(meanOf(*near, &LayerReport::after), 0.96);
  EXPECT_GT(meanOf(*near, &LayerReport::after), meanOf(*far, &LayerReport::after) - 0.03);
  EXPECT_LT(meanOf(*near, &LayerReport::remoteAfter), meanOf(*far, &LayerReport::remoteAfter) - 0.05);
  EXPECT_LE(movesOf(*near), 0.09 * 2 * 288);
}

TEST(Planner, ResampledPlansHoldForOtherWindows) {
  double eplb = 0, plain = 0, resampled = 0;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    Statistics all = makeStatistics(4, 16, 17, 0.65, 0.1, seed);
    const Statistics topics = makeStatistics(4, 4, 17, 0, 0.8, seed + 100);
    for (size_t window = 0; window < 17; ++window) {
      for (size_t layer = 0; layer < 4; ++layer) {
        for (int expert = 0; expert < 16; ++expert) {
          all.profiles[window].layers[layer][expert] *= topics.profiles[window].layers[layer][expert % 4] / 1e4;
        }
      }
    }
    Statistics seen = all, other = all;
    seen.profiles.resize(1);
    other.profiles.resize(1);
    for (size_t layer = 0; layer < 4; ++layer) {
      seen.profiles[0].layers[layer].assign(16, 0.0);
      other.profiles[0].layers[layer].assign(16, 0.0);
    }
    for (size_t window = 0; window < 17; ++window) {
      const std::vector<Loads> &counts = all.profiles[window].layers;
      if (window < 8) {
        seen.profiles[0].windows.push_back(counts);
      }
      for (size_t layer = 0; layer < 4; ++layer) {
        Loads &sum = (window < 8 ? seen : other).profiles[0].layers[layer];
        for (int expert = 0; expert < 16; ++expert) {
          sum[expert] += counts[layer][expert];
        }
      }
    }
    PlanOptions options;
    options.cluster = {4, 24, 1};
    auto judge = [&](const Map &map) {
      double sum = 0;
      for (size_t layer = 0; layer < 4; ++layer) {
        sum += balancedness(map.layers[layer], other.profiles[0].layers[layer], options.cluster) / (4 * 6);
      }
      return sum;
    };
    Result<Plan> plan = planPlacement(seen, options);
    ASSERT_TRUE(plan.ok());
    eplb += judge(plan->eplb);
    plain += judge(plan->map);
    options.resamples = 16;
    plan = planPlacement(seen, options);
    ASSERT_TRUE(plan.ok());
    resampled += judge(plan->map);
    EXPECT_TRUE(checkMap(plan->map).ok());
  }
  EXPECT_GT(resampled, plain + 0.005);
  EXPECT_GT(resampled, eplb + 0.005);
}

/// EPLB maps in use hold experts twice on a rank; re-planning removes that within the budget.
TEST(Planner, AcceptsAPreviousMapWithDuplicates) {
  const Statistics statistics = makeStatistics(1, 8, 1);
  Map previous;
  previous.model = statistics.model;
  previous.ranks = 4;
  previous.layers = {{0, 0, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3}};
  PlanOptions options;
  options.cluster = {4, 12, 1};
  options.previous = &previous;
  options.maxMoves = 0.5;
  Result<Plan> plan = planPlacement(statistics, options);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_TRUE(checkMap(plan->map).ok());
  EXPECT_LE(movesOf(*plan), 6);
}

/// A budget that is over at once: still a valid map, no worse than EPLB, and the plan says so.
TEST(Planner, TimeBudgetEndsTheSearch) {
  const Statistics statistics = makeStatistics(3, 256, 2);
  PlanOptions options;
  options.cluster = {64, 320, 1};
  options.timeBudget = 1e-6;
  int calls = 0;
  options.progress = [&](int done, int total) {
    ++calls;
    EXPECT_LE(done, total);
  };
  Result<Plan> plan = planPlacement(statistics, options);
  ASSERT_TRUE(plan.ok());
  EXPECT_TRUE(plan->endedByTime);
  EXPECT_TRUE(checkMap(plan->map).ok());
  EXPECT_EQ(calls, 3);
  options.timeBudget = 0;
  plan = planPlacement(statistics, options);
  ASSERT_TRUE(plan.ok());
  EXPECT_FALSE(plan->endedByTime);
}

/// Groups of 8 on ranks of 4 slots, of 8 and of 16; and ranks that cut through groups.
TEST(Planner, WholeGroups) {
  const Statistics statistics = makeStatistics(2, 64, 1);
  PlanOptions options;
  options.routing = {4, 8, 4};
  options.wholeGroups = true;
  for (int ranks : {16, 8, 4}) {
    options.cluster = {ranks, 64, 1};
    Result<Plan> plan = planPlacement(statistics, options);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_TRUE(checkMap(plan->map).ok());
    for (const LayerMap &map : plan->map.layers) {
      for (int slot = 0; slot < 64; ++slot) {
        EXPECT_EQ(map[slot] / 8, map[slot / 8 * 8] / 8) << ranks;
      }
    }
  }
  options.routing.groups = 4;
  options.cluster = {64, 64, 1};
  EXPECT_TRUE(planPlacement(statistics, options).ok());
  options.routing.groups = 8;
  options.cluster = {16, 80, 1};
  EXPECT_NE(planPlacement(statistics, options).status().message().find("whole groups need as many slots as experts"),
            std::string::npos);
}

TEST(Planner, SaysWhatDoesNotFit) {
  Statistics statistics = makeStatistics(2, 16, 1);
  PlanOptions options;
  auto message = [&]() { return planPlacement(statistics, options).status().message(); };
  options.cluster = {4, 12, 1};
  EXPECT_NE(message().find("slots (12) must be at least the experts (16)"), std::string::npos) << message();
  options.cluster = {3, 16, 1};
  EXPECT_NE(message().find("slots (16) must be a multiple of the ranks (3)"), std::string::npos) << message();
  options.cluster = {4, 16, 3};
  EXPECT_NE(message().find("ranks (4) must be a multiple of the nodes (3)"), std::string::npos) << message();
  options.cluster = {1, 32, 1};
  EXPECT_NE(message().find("slots of one rank (32) must be at most the experts (16)"), std::string::npos) << message();
  options.cluster = {4, 16, 1};
  options.resamples = 8;
  EXPECT_NE(message().find("a recording with two windows or more, but no profile has them"), std::string::npos);
  options.resamples = 0;
  for (double weight : {0.0, -1.0, double(NAN), double(INFINITY)}) {
    options.importance = {weight};
    EXPECT_NE(message().find("weights are finite, not negative, and not all 0"), std::string::npos) << message();
  }
  options.importance = {1, 1};
  EXPECT_NE(message().find("there are 2 profile weights, but 1 profiles"), std::string::npos) << message();
  options.importance = {};
  const double count = statistics.profiles[0].layers[1][3];
  statistics.profiles[0].layers[1][3] = 1e200;
  EXPECT_NE(message().find("layer 1: the counts add up to more than 1e100"), std::string::npos) << message();
  statistics.profiles[0].layers[1][3] = count;
  EXPECT_EQ(message(), "");
  statistics.profiles[0].layers[1][3] = -1;
  EXPECT_NE(message().find("layer 1: the count of expert 3 is -1"), std::string::npos) << message();
  statistics.profiles[0].layers[1].assign(16, 0.0);
  EXPECT_NE(message().find("layer 1: all counts are zero, but it is an MoE layer"), std::string::npos) << message();
  statistics.profiles[0].layers.pop_back();
  EXPECT_NE(message().find("has 1 MoE layers, but there are 2"), std::string::npos) << message();
}
