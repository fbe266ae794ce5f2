//===- BufferPlanTest.cpp - Values that live together never overlap ---------===//

#include "lowering/MoeToSched/BufferPlan.h"
#include "gtest/gtest.h"
#include <random>

using namespace mlir::moe;

TEST(BufferPlan, ReusesBytesOfTheDead) {
  // The example of the header: a (0-1), b (1-2), c (2-3).
  BufferPlan plan = planBuffers({{128, 0, 1}, {64, 1, 2}, {128, 2, 3}});
  EXPECT_EQ((std::vector<int64_t>{plan.offsets.begin(), plan.offsets.end()}), (std::vector<int64_t>{0, 128, 0}));
  EXPECT_EQ(plan.arenaBytes, 192);
  EXPECT_EQ(plan.totalBytes, 320);
}

TEST(BufferPlan, FillsGaps) {
  // Two long-lived values leave a hole where the third was; the fourth fits it.
  BufferPlan plan = planBuffers({{256, 0, 0}, {128, 0, 9}, {64, 1, 9}, {192, 1, 2}});
  EXPECT_EQ(plan.arenaBytes, 384);
}

TEST(BufferPlan, EmptyAndZeroSized) {
  EXPECT_EQ(planBuffers({}).arenaBytes, 0);
  BufferPlan plan = planBuffers({{0, 0, 5}, {1, 2, 3}});
  EXPECT_EQ(plan.arenaBytes, 64);
}

TEST(BufferPlan, RandomLivesNeverOverlap) {
  std::mt19937 generator(7);
  auto uniform = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator);
  };
  for (int round = 0; round < 50; ++round) {
    std::vector<PlannedValue> values(uniform(1, 60));
    for (PlannedValue &value : values) {
      value.firstCommand = uniform(0, 40);
      value.lastCommand = value.firstCommand + uniform(0, 10);
      value.bytes = uniform(0, 1000);
    }
    BufferPlan plan = planBuffers(values);
    int64_t mostAlive = 0;
    for (int64_t command = 0; command <= 50; ++command) {
      int64_t alive = 0;
      for (const PlannedValue &value : values) {
        if (value.firstCommand <= command && command <= value.lastCommand) {
          alive += (value.bytes + 63) / 64 * 64;
        }
      }
      mostAlive = std::max(mostAlive, alive);
    }
    EXPECT_GE(plan.arenaBytes, mostAlive);
    EXPECT_LE(plan.arenaBytes, plan.totalBytes);
    for (size_t a = 0; a < values.size(); ++a) {
      EXPECT_EQ(plan.offsets[a] % 64, 0);
      EXPECT_LE(plan.offsets[a] + values[a].bytes, plan.arenaBytes);
      for (size_t b = a + 1; b < values.size(); ++b) {
        bool together =
            values[a].firstCommand <= values[b].lastCommand && values[b].firstCommand <= values[a].lastCommand;
        bool overlap =
            plan.offsets[a] < plan.offsets[b] + values[b].bytes && plan.offsets[b] < plan.offsets[a] + values[a].bytes;
        EXPECT_FALSE(together && overlap) << a << " and " << b;
      }
    }
  }
}
