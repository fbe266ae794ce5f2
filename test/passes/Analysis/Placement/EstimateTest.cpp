//===- EstimateTest.cpp - Noise, times, facts and load metrics --------------===//

#include "passes/Analysis/Placement/Estimate.h"
#include "passes/Analysis/Placement/LoadMetrics.h"
#include "test/runtime/readers/TempFolder.h"
#include <cstdlib>
#include <gtest/gtest.h>

using namespace moe::placement;

/// k_36 = 2.12, k_72 = 2.38, k_144 = 2.63: 1024 assignments per rank leave 0.938, 0.931 and 0.924.
TEST(Estimate, NoiseFloor) {
  EXPECT_NEAR(noiseFloor(1024, 36), 0.938, 1e-3);
  EXPECT_NEAR(noiseFloor(1024, 72), 0.931, 1e-3);
  EXPECT_NEAR(noiseFloor(1024, 144), 0.924, 1e-3);
  EXPECT_NEAR(noiseFloor(1024, 1), 1.0, 1e-9);
  // E[max of two standard normal numbers] = 1 / sqrt(pi).
  EXPECT_NEAR(1 / noiseFloor(1, 2) - 1, 0.5641896, 1e-5);
}

/// One rank of two has all load: its two experts are read, and every assignment is computed there.
TEST(Estimate, LayerSeconds) {
  ModelFacts model;
  model.hidden = 100;
  model.expertWidth = 10;
  model.bytesPerWeight = 2;
  model.routing.expertsPerToken = 2;
  Topology topology;
  topology.memoryRate = 6000;   // An expert has 6000 bytes: a second.
  topology.operationRate = 6e6; // A token in an expert is 6000 operations: a millisecond.
  topology.networkRate = 1000;
  const Cluster cluster{2, 4, 1};
  const double seconds = layerSeconds({0, 1, 2, 3}, {}, {5, 5, 0, 0}, cluster, 1000, 0, model, topology);
  EXPECT_NEAR(seconds, 2 * 1 + 2000 * 1e-3, 1e-6);
  const double balanced = layerSeconds({0, 2, 1, 3}, {}, {5, 5, 0, 0}, cluster, 1000, 0, model, topology);
  EXPECT_NEAR(balanced, 1 + 1000 * 1e-3, 1e-6);
  // 500 tokens of a rank visit one other node each, 303.125 bytes per token.
  EXPECT_NEAR(layerSeconds({0, 2, 1, 3}, {}, {5, 5, 0, 0}, cluster, 1000, 1, model, topology) - balanced,
              500 * 303.125 / 1000, 1e-6);
  // Two ranks with replicas of both experts: alike, or three quarters of each on one of them.
  const Cluster both{2, 4, 1};
  EXPECT_NEAR(layerSeconds({0, 1, 0, 1}, {}, {5, 5}, both, 1000, 0, model, topology), 2 + 1000 * 1e-3, 1e-6);
  EXPECT_NEAR(layerSeconds({0, 1, 0, 1}, {3, 3, 1, 1}, {5, 5}, both, 1000, 0, model, topology), 2 + 1500 * 1e-3, 1e-6);
}

TEST(Estimate, MigrationIsThatOfTheBusiestRank) {
  Map before, after;
  before.ranks = after.ranks = 2;
  before.layers = {{0, 1, 2, 3}, {0, 1, 2, 3}};
  after.layers = {{1, 0, 2, 3}, {0, 2, 1, 3}};
  // Slots within a rank do not matter; in the second layer each rank loads one expert.
  EXPECT_DOUBLE_EQ(migrationSeconds(after, before, 100, 50), 2.0);
  EXPECT_DOUBLE_EQ(migrationSeconds(before, before, 100, 50), 0.0);
}

TEST(Facts, DeepSeekQwenAndMixtral) {
  TempFolder folder;
  auto read = [&](const std::string &config) {
    folder.write("config.json", config);
    return readModelFacts(folder.path());
  };
  Result<ModelFacts> deepseek =
      read(R"({"num_hidden_layers": 61, "n_routed_experts": 256, "first_k_dense_replace": 3, "moe_layer_freq": 1,
               "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "hidden_size": 7168,
               "moe_intermediate_size": 2048, "quantization_config": {"quant_method": "fp8"}})");
  ASSERT_TRUE(deepseek.ok()) << deepseek.status().message();
  EXPECT_EQ(deepseek->layers.moeLayers.size(), 58u);
  EXPECT_EQ(deepseek->layers.moeLayers.front(), 3);
  EXPECT_EQ(deepseek->routing.topGroups, 4);
  EXPECT_DOUBLE_EQ(deepseek->expertBytes(), 44040192);
  Result<ModelFacts> qwen =
      read(R"({"num_hidden_layers": 4, "num_experts": 128, "decoder_sparse_step": 2, "mlp_only_layers": [3],
               "num_experts_per_tok": 8, "hidden_size": 4096, "moe_intermediate_size": 1536, "intermediate_size": 9})");
  ASSERT_TRUE(qwen.ok()) << qwen.status().message();
  EXPECT_EQ(qwen->layers.moeLayers, (std::vector<int>{1}));
  EXPECT_EQ(qwen->expertWidth, 1536);
  Result<ModelFacts> dense = read(R"({"num_hidden_layers": 4, "hidden_size": 8})");
  ASSERT_FALSE(dense.ok());
  EXPECT_NE(dense.status().message().find("the model has no experts to place"), std::string::npos);
}

TEST(Facts, EveryTopologyOfTheProject) {
  for (const char *name : {"dgx-h100", "hgx-h200", "gb200-nvl72", "custom"}) {
    Result<Topology> topology =
        readTopology(std::string(std::getenv("MOE_SOURCE_ROOT")) + "/targets/" + name + ".json");
    ASSERT_TRUE(topology.ok()) << topology.status().message();
    EXPECT_GE(topology->ranksPerNode, 4);
    EXPECT_GE(topology->memoryRate, topology->nodeRate);
    EXPECT_GT(topology->nodeRate, topology->networkRate);
  }
}

TEST(LoadMetrics, UnevenCounts) {
  const Loads even = {5, 5, 5, 5}, counts = {1, 2, 3, 6};
  EXPECT_EQ(coefficientOfVariation(even), 0);
  EXPECT_EQ(squaredErrorOfFractions(even), 0);
  // Mean 3: squared deviations 4, 1, 0, 9.
  EXPECT_DOUBLE_EQ(squaredErrorOfCounts(counts), 3.5);
  EXPECT_DOUBLE_EQ(squaredErrorOfFractions(counts), 3.5 / 144);
  const double cv = coefficientOfVariation(counts);
  EXPECT_DOUBLE_EQ(squaredErrorOfFractions(counts), cv * cv / 16);
}

/// The values at perfect balance: 1, 1/E^2 and K.
TEST(LoadMetrics, LossesAtPerfectBalance) {
  const int experts = 8;
  const double tokens = 64, perToken = 2;
  const Loads first(experts, tokens / experts), all(experts, perToken * tokens / experts),
      uniform(experts, 1.0 / experts);
  EXPECT_DOUBLE_EQ(switchLoss(first, uniform, tokens), 1);
  EXPECT_DOUBLE_EQ(gshardLoss(first, uniform, tokens), 1.0 / (experts * experts));
  EXPECT_DOUBLE_EQ(huggingFaceLoss(all, uniform, tokens), perToken);
  // All to one expert that is certain: E.
  Loads one(experts, 0.0), certain(experts, 0.0);
  one[3] = tokens;
  certain[3] = 1;
  EXPECT_DOUBLE_EQ(switchLoss(one, certain, tokens), experts);
}

/// The formulas by hand; Hugging Face's loss takes the tokens of all layers together.
TEST(LoadMetrics, ProfileOfTwoLayers) {
  // 4 tokens, 2 of 3 experts. Choices of layer 0: (0,1) (0,2) (1,0) (0,1); of layer 1: (2,0) (2,0) (2,1) (2,0).
  Profile profile;
  profile.layers = {{4, 3, 1}, {3, 1, 4}};
  profile.firstCounts = {{3, 1, 0}, {0, 0, 4}};
  profile.probabilities = {{0.5, 0.3, 0.2}, {0.25, 0.15, 0.6}};
  const RoutingBalance balance = measureBalance(profile, 0, 2);
  EXPECT_EQ(balance.tokens, 4);
  EXPECT_DOUBLE_EQ(balance.switchLoss, 3 * (3 * 0.5 + 1 * 0.3) / 4);
  EXPECT_DOUBLE_EQ(balance.gshardLoss, (3 * 0.5 + 1 * 0.3) / 4 / 3);
  EXPECT_DOUBLE_EQ(balance.huggingFaceLoss, 3 * (4 * 0.5 + 3 * 0.3 + 1 * 0.2) / 4);
  EXPECT_DOUBLE_EQ(balance.errorOfCounts, balance.errorOfFractions * 64);
  EXPECT_NEAR(balance.variation * balance.variation / 9, balance.errorOfFractions, 1e-15);
  // f = (7, 4, 5) / 8, P = the mean of both rows.
  EXPECT_DOUBLE_EQ(huggingFaceLossOfLayers(profile), 3 * (7 * 0.375 + 4 * 0.225 + 5 * 0.4) / 8);
  profile.firstCounts.clear();
  profile.probabilities.clear();
  EXPECT_FALSE(measureBalance(profile, 0, 2).hasLosses);
  EXPECT_EQ(measureBalance(profile, 1, 2).tokens, 4);
  EXPECT_EQ(measureBalance(profile, 1, 0).tokens, 0);
}

/// How many are dropped does not depend on the order of the tokens; who is, does.
TEST(LoadMetrics, DroppedFraction) {
  EXPECT_EQ(droppedFraction({4, 3, 1}, megatronCapacity(4, 3, 2, 1)), 1.0 / 8);
  EXPECT_EQ(droppedFraction({4, 3, 1}, 4), 0);
  EXPECT_EQ(droppedFraction({4, 3, 1}, 2), 3.0 / 8);
  const std::vector<uint8_t> kept = keepByPosition({0, 1, 0, 2, 1, 0, 0, 1}, 2, 3, 2);
  EXPECT_EQ(std::count(kept.begin(), kept.end(), 0), 3);
}

TEST(LoadMetrics, CapacityAndDrops) {
  EXPECT_EQ(megatronCapacity(100, 8, 2, 1.25), 32); // 31.25, rounded up.
  EXPECT_EQ(meshCapacity(100, 8, 1.25), 15);        // 15.6, rounded down, no factor for K.
  EXPECT_EQ(meshCapacity(8, 8, 1.25), 4);
  // Tokens 0, 1, 2 choose (0, 1), (1, 0), (0, nobody); one place each: first choices of 0 and 1 fill everything.
  EXPECT_EQ(keepByPosition({0, 1, 1, 0, 0, -1}, 2, 2, 1), (std::vector<uint8_t>{1, 0, 1, 0, 0, 0}));
  EXPECT_EQ(keepByPosition({0, 1, 1, 0, 0, -1}, 2, 2, 3), (std::vector<uint8_t>{1, 1, 1, 1, 1, 0}));
}
