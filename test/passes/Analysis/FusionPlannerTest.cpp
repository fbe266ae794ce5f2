//===- FusionPlannerTest.cpp - The planner against every set there is --------===//

#include "passes/Analysis/FusionPlanner.h"
#include "llvm/ADT/STLExtras.h"
#include <gtest/gtest.h>
#include <random>

using namespace mlir::moe;

namespace {

constexpr FusionForm kForms[] = {FusionForm::Removed, FusionForm::Deferred, FusionForm::Pair};

/// Random windows of a model of `layers` layers; some places have none, some two of a form.
std::vector<WindowChoice> randomChoices(std::mt19937 &random, int64_t layers, const FusionGains &gains) {
  std::uniform_real_distribution<double> kl(-0.01, 0.3);
  std::vector<WindowChoice> choices;
  for (int64_t first = 0; first < layers; ++first) {
    for (int64_t length = 1; length <= 4 && first + length <= layers; ++length) {
      for (FusionForm form : kForms) {
        for (unsigned copies = random() % 3; copies != 0 && copies < 3; --copies) {
          choices.push_back({first, length, form, kl(random), gains.of(form, length)});
        }
      }
    }
  }
  llvm::shuffle(choices.begin(), choices.end(), random);
  return choices;
}

/// The most gain within `budget` of all sets of windows that lie apart, by trying them all.
double bestGain(const std::vector<WindowChoice> &choices, int64_t layer, int64_t layers, double budget) {
  if (layer >= layers) {
    return 0;
  }
  double best = bestGain(choices, layer + 1, layers, budget);
  for (const WindowChoice &choice : choices) {
    const double kl = std::max(choice.kl, 0.0);
    if (choice.first == layer && kl <= budget) {
      best = std::max(best, choice.gain + bestGain(choices, choice.last() + 1, layers, budget - kl));
    }
  }
  return best;
}

FusionLimits plainLimits() {
  FusionLimits limits;
  limits.forms.assign(std::begin(kForms), std::end(kForms));
  limits.hidden = 16384;
  return limits;
}

} // namespace

TEST(FusionPlanner, SubLayers) {
  EXPECT_EQ(subLayersSaved(FusionForm::Removed, 1), 1);
  EXPECT_EQ(subLayersSaved(FusionForm::Removed, 4), 7);
  EXPECT_EQ(subLayersSaved(FusionForm::Deferred, 4), 3);
  EXPECT_EQ(subLayersSaved(FusionForm::Pair, 4), 6);
  FusionGains gains{2, 10};
  EXPECT_EQ(gains.of(FusionForm::Removed, 2), 26);
  EXPECT_EQ(gains.of(FusionForm::Pair, 2), 4);
}

TEST(FusionPlanner, NoSetIsBetter) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 60; ++trial) {
    const int64_t layers = 1 + static_cast<int64_t>(random() % 7);
    // Gains of two kinds, so that points between multiples of one are met too.
    FusionGains gains{1, trial % 2 ? 0.4 : 0.0};
    std::vector<WindowChoice> choices = randomChoices(random, layers, gains);
    std::vector<PlanPoint> front = findFusionFront(layers, choices);
    ASSERT_FALSE(front.empty());
    EXPECT_TRUE(front.front().windows.empty() || front.front().kl == 0);
    for (const auto &[index, point] : llvm::enumerate(front)) {
      double kl = 0, gain = 0;
      int64_t end = -1;
      for (size_t window : point.windows) {
        EXPECT_GT(choices[window].first, end) << "windows lie apart";
        end = choices[window].last();
        kl += std::max(choices[window].kl, 0.0);
        gain += choices[window].gain;
      }
      EXPECT_DOUBLE_EQ(kl, point.kl);
      EXPECT_DOUBLE_EQ(gain, point.gain);
      if (index != 0) {
        EXPECT_GT(point.gain, front[index - 1].gain);
        EXPECT_GT(point.kl, front[index - 1].kl);
      }
    }
    for (double budget : {0.0, 0.05, 0.2, 0.5, 1.0, 10.0}) {
      EXPECT_NEAR(pickWithin(front, budget).gain, bestGain(choices, 0, layers, budget + 1e-12), 1e-9)
          << "trial " << trial << ", budget " << budget;
    }
  }
}

TEST(FusionPlanner, EqualSetsGiveTheFirst) {
  std::vector<WindowChoice> choices{{4, 2, FusionForm::Deferred, 0.1, 1},
                                    {2, 2, FusionForm::Pair, 0.1, 1},
                                    {2, 2, FusionForm::Deferred, 0.1, 1},
                                    {0, 2, FusionForm::Deferred, 0.1, 0}};
  std::vector<PlanPoint> front = findFusionFront(6, choices);
  ASSERT_EQ(front.size(), 3u);
  EXPECT_EQ(front[1].windows, std::vector<size_t>{2});
  EXPECT_EQ(front[2].windows, (std::vector<size_t>{2, 0})) << "a window without gain is not taken";
}

TEST(FusionPlanner, AsLargeAsAModelIs) {
  std::mt19937 random(2);
  const int64_t layers = 126;
  std::vector<WindowChoice> choices = randomChoices(random, layers, {1, 0});
  std::vector<PlanPoint> front = findFusionFront(layers, choices);
  EXPECT_GT(front.size(), 50u);
  EXPECT_LE(front.size(), 2 * 126u + 1);
}

TEST(FusionPlanner, Limits) {
  const std::vector<int64_t> widths(126, 53248);
  FusionLimits limits = plainLimits();
  auto reason = [&](int64_t first, int64_t length, FusionForm form) {
    return findLimit(limits, first, length, form, widths);
  };
  EXPECT_EQ(reason(10, 1, FusionForm::Removed), "");
  EXPECT_EQ(reason(10, 2, FusionForm::Deferred),
            "gate and up have 2 x 106496 x 16384 / 1 = 3489660928 elements on a rank, but must have fewer than "
            "2147483648");
  limits.ranks = 8;
  EXPECT_EQ(reason(10, 8, FusionForm::Removed), "");
  // TensorRT-LLM issue 3495: the published width on 4 ranks.
  limits.ranks = 4;
  EXPECT_EQ(findLimit(limits, 0, 2, FusionForm::Deferred, {399360 - 256, 256, 7}),
            "gate and up have 2 x 399360 x 16384 / 4 = 3271557120 elements on a rank, but must have fewer than "
            "2147483648");
  EXPECT_EQ(reason(124, 2, FusionForm::Pair), "the last layer of the model is kept apart (--fuse-last allows it)");
  EXPECT_EQ(reason(124, 2, FusionForm::Removed), "the last layer of the model is kept apart (--fuse-last allows it)");
  EXPECT_EQ(reason(125, 1, FusionForm::Removed), "") << "joins no FFN";
  limits.fuseLast = true;
  EXPECT_EQ(reason(124, 2, FusionForm::Pair), "");
  limits.needsFirstAttention = true;
  EXPECT_EQ(reason(0, 2, FusionForm::Removed), "layer 0 must keep its attention");
  EXPECT_EQ(reason(0, 2, FusionForm::Deferred), "");
  limits.maxTensorBytes = 1000;
  EXPECT_EQ(reason(0, 2, FusionForm::Deferred), "a fused weight has 872415232 bytes on a rank, but there are 1000");
  limits.forms = {FusionForm::Removed, FusionForm::Pair};
  EXPECT_EQ(reason(3, 2, FusionForm::Deferred), "form D is not among the forms asked for and loaded: R, P");
  limits.groups = {{3, 5}};
  EXPECT_EQ(reason(3, 2, FusionForm::Pair), "it is none of the groups given");
}

TEST(FusionPlanner, Groups) {
  auto groups = parseGroups("3-5, 9-12", 16);
  ASSERT_TRUE(static_cast<bool>(groups));
  EXPECT_EQ(*groups, (std::vector<std::pair<int64_t, int64_t>>{{3, 5}, {9, 12}}));
  auto message = [](llvm::StringRef text) {
    auto groups = parseGroups(text, 16);
    return groups ? std::string() : llvm::toString(groups.takeError());
  };
  EXPECT_EQ(message("3"), "--groups: '3' must be FIRST-LAST with 0 <= FIRST < LAST < 16, the layers of the model");
  EXPECT_EQ(message("3-16"),
            "--groups: '3-16' must be FIRST-LAST with 0 <= FIRST < LAST < 16, the layers of the model");
  EXPECT_EQ(message("3-5,5-6"),
            "--groups: '5-6' begins at layer 5, but the group before it ends at 5; groups must ascend and lie apart");
}
