//===- StageChoiceTest.cpp - Stages that help, and those that only seem to -===//
#include "tools/moe-run/calibrate/StageChoice.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace moerun;

namespace {

WindowScore scoreOf(std::vector<double> kl) {
  WindowScore score;
  score.kl = std::move(kl);
  return score;
}

/// Eight sequences, of which stages are judged on the first and the fifth.
StageChoice begun() {
  StageChoice choice;
  choice.begin(scoreOf({8, 1, 1, 1, 2, 1, 1, 1}), {10, 10, 10, 10, 40, 10, 10, 10});
  return choice;
}

} // namespace

TEST(StageChoice, JudgesOnAQuarterOfMany) {
  EXPECT_EQ(stageEvery(7), 1u);
  EXPECT_EQ(stageEvery(8), 4u);
  // The mean over tokens: 10 of 50, whatever the others do.
  StageChoice choice = begun();
  choice.offer(kAttentionMaps, scoreOf({4, 90, 0, 0, 5, 90, 0, 0}));
  ASSERT_EQ(choice.tried.size(), 1u);
  EXPECT_EQ(choice.tried[0].first, kAttentionMaps);
  EXPECT_DOUBLE_EQ(choice.tried[0].second, 9.0 / 50);
  EXPECT_EQ(choice.stages, kAttentionMaps) << "9 is less than 10";
}

TEST(StageChoice, KeepsWhatHelpsMost) {
  StageChoice choice = begun();
  choice.offer(kAttentionMaps, scoreOf({5, 0, 0, 0, 1, 0, 0, 0}));
  choice.offer(kAttentionMaps | kFFNMaps, scoreOf({5, 0, 0, 0, 1, 0, 0, 0})); // helps no more
  EXPECT_EQ(choice.stages, kAttentionMaps);
  choice.offer(kAttentionMaps | kOutputMap, scoreOf({3, 0, 0, 0, 1, 0, 0, 0}));
  choice.offer(kAttentionMaps | kFFNMaps | kOutputMap, scoreOf({4, 0, 0, 0, 1, 0, 0, 0}));
  EXPECT_EQ(choice.stages, kAttentionMaps | kOutputMap);
  choice.settle(scoreOf({3, 0.5, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(choice.stages, kAttentionMaps | kOutputMap);
  EXPECT_EQ(choice.repaired.klSum(), 9.5);
  EXPECT_EQ(choice.plain.klSum(), 16);
  EXPECT_EQ(choice.tried.size(), 4u);
}

TEST(StageChoice, WhatHelpsOnTheQuarterAndHurtsOnAllIsDropped) {
  StageChoice choice = begun();
  choice.offer(kFFNMaps, scoreOf({1, 0, 0, 0, 1, 0, 0, 0}));
  EXPECT_EQ(choice.stages, kFFNMaps);
  choice.settle(scoreOf({1, 3, 3, 3, 1, 3, 3, 3}));
  EXPECT_EQ(choice.stages, 0);
  EXPECT_EQ(choice.repaired.kl, choice.plain.kl);
  // No better on all is not better either, and neither is what is no number.
  for (double last : {8.0, double(NAN)}) {
    StageChoice other = begun();
    other.offer(kFFNMaps, scoreOf({1, 0, 0, 0, 1, 0, 0, 0}));
    other.settle(scoreOf({1, 1, 1, 2, 1, 1, 1, last}));
    EXPECT_EQ(other.stages, 0) << last;
    EXPECT_EQ(other.repaired.kl, other.plain.kl);
  }
}

TEST(StageChoice, WhatIsNoNumberIsNotKept) {
  StageChoice choice = begun();
  choice.offer(kOutputMap, scoreOf({NAN, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(choice.stages, 0);
}
