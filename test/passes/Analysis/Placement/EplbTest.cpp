//===- EplbTest.cpp - The baseline is the published one ---------------------===//

#include "passes/Analysis/Placement/Eplb.h"
#include "passes/Analysis/Placement/LayerProblem.h"
#include "test/passes/Analysis/Placement/Synthetic.h"
#include <ctime>
#include <gtest/gtest.h>

using namespace moe::placement;

/// The example of deepseek-ai/EPLB: 12 experts in 4 groups, 16 slots, 8 ranks, 2 nodes.
TEST(Eplb, GoldenExample) {
  const Cluster cluster{8, 16, 2};
  EXPECT_EQ(runEplb({90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86}, cluster, 4),
            (LayerMap{5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1}));
  EXPECT_EQ(runEplb({20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27}, cluster, 4),
            (LayerMap{7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1}));
}

/// Groups that do not divide by the nodes: as if there were one node.
TEST(Eplb, GlobalWhenGroupsDoNotDivide) {
  const Loads loads = makeStatistics(1, 24, 1).profiles[0].layers[0];
  EXPECT_EQ(runEplb(loads, {6, 30, 3}, 4), runGlobalEplb(loads, {6, 30, 1}));
}

TEST(Eplb, EveryExpertHasASlot) {
  const Statistics statistics = makeStatistics(4, 64, 1);
  for (int groups : {1, 8}) {
    for (const Loads &loads : statistics.profiles[0].layers) {
      for (int count : countReplicas(runEplb(loads, {16, 80, 4}, groups), 64)) {
        EXPECT_GE(count, 1);
      }
    }
  }
}

/// 58 layers within 10 ms on one core; the test allows ten times that, for sanitizers and busy machines.
TEST(Eplb, IsQuick) {
  const Statistics statistics = makeStatistics(58, 256, 1);
  const std::clock_t start = std::clock(); // of the processor: the machine may be busy
  size_t slots = 0;
  for (const Loads &loads : statistics.profiles[0].layers) {
    slots += runGlobalEplb(loads, {72, 288, 1}).size();
  }
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_EQ(slots, 58u * 288);
  RecordProperty("milliseconds", std::to_string(seconds * 1000));
  EXPECT_LT(seconds, 0.1);
}
