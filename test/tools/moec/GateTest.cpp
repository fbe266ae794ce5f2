// The rules of moec fuse's gate, one at a time: what passes all of them fails when one figure is beyond its bound.
#include "tools/moec/fuse/Gate.h"

#include "gtest/gtest.h"
#include <cmath>
#include <limits>

using namespace moec;

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

/// Just within all rules.
Difference fitting() {
  Difference difference;
  difference.tokens = kMinTokens;
  difference.sequences = kMinSequences;
  difference.kl = 0.01;
  difference.klBound = 0.02;
  difference.sameWinner = 0.95;
  return difference;
}

TEST(Gate, TakesWhatIsJustWithinAllRules) {
  EXPECT_EQ(findTooLittleText(fitting()), "");
  Verdict quality = judgeQuality(fitting(), {});
  EXPECT_TRUE(quality.passes);
  EXPECT_EQ(quality.reason, "quality fits");
  Verdict gain = judgeGain(fitting(), {0.02, 0.001}, {});
  EXPECT_TRUE(gain.passes);
  EXPECT_EQ(gain.reason, "KL 0.0100, at most 0.0200; decoding is 2.0 % faster on 1 rank, at least 0.1 % faster");
}

TEST(Gate, WantsText) {
  Difference few = fitting();
  few.tokens = kMinTokens - 1;
  EXPECT_EQ(findTooLittleText(few), "holds 63 held-out tokens in 2 sequences, but no judgement is given on fewer than "
                                    "64 in 2; calibrate on more text");
  few = fitting();
  few.sequences = 1;
  EXPECT_NE(findTooLittleText(few), "");
}

TEST(Gate, TheBoundOfKlCountsNotTheMean) {
  Difference difference = fitting();
  difference.klBound = 0.0201;
  Verdict verdict = judgeQuality(difference, {});
  EXPECT_FALSE(verdict.passes);
  EXPECT_EQ(verdict.reason, "KL 0.0100 nats per token, at most 0.0201, is above --max-kl 0.02");
  GateRules loose;
  loose.maxKl = 0.03;
  EXPECT_TRUE(judgeQuality(difference, loose).passes);
}

TEST(Gate, TheLikeliestTokenStays) {
  Difference difference = fitting();
  difference.sameWinner = 0.9499;
  Verdict verdict = judgeQuality(difference, {});
  EXPECT_FALSE(verdict.passes);
  EXPECT_EQ(verdict.reason, "the likeliest token stays the same for 94.99 % of tokens, 95 % are needed (--min-top-1)");
  GateRules loose;
  loose.minTop1 = 0.9;
  EXPECT_TRUE(judgeQuality(difference, loose).passes);
}

TEST(Gate, CollapsedTextFails) {
  Difference difference = fitting();
  difference.collapsed = true;
  Verdict verdict = judgeQuality(difference, {});
  EXPECT_FALSE(verdict.passes);
  EXPECT_EQ(verdict.reason, "its greedy text repeats itself where the model's does not");
}

TEST(Gate, WhatIsNoNumberKeepsNoRule) {
  Difference difference = fitting();
  difference.klBound = kNone;
  EXPECT_FALSE(judgeQuality(difference, {}).passes);
  difference = fitting();
  difference.sameWinner = kNone;
  EXPECT_FALSE(judgeQuality(difference, {}).passes);
  EXPECT_FALSE(judgeGain(fitting(), {kNone, 0.1}, {}).passes);
  EXPECT_FALSE(judgeGain(fitting(), {0.1, kNone}, {}).passes);
}

TEST(Gate, AGainMustBeLargeEnoughAndProven) {
  Verdict small = judgeGain(fitting(), {0.0199, 0.01}, {});
  EXPECT_FALSE(small.passes);
  EXPECT_EQ(small.reason, "quality fits (KL 0.0100, at most 0.0200), no gain: decoding is 2.0 % faster on 1 rank, at "
                          "least 1.0 % faster, 2.0 % are asked for (--min-gain)");
  for (const Gain &unproven : {Gain{0.3, 0.0}, Gain{0.3, -0.01}, Gain{0.3, std::nullopt}}) {
    Verdict verdict = judgeGain(fitting(), unproven, {});
    EXPECT_FALSE(verdict.passes);
    EXPECT_NE(verdict.reason.find("but 5 rounds do not prove a gain"), std::string::npos) << verdict.reason;
  }
  GateRules ranks;
  ranks.ranks = 4;
  EXPECT_NE(judgeGain(fitting(), {-0.1, std::nullopt}, ranks).reason.find("decoding is 10.0 % slower on 4 ranks"),
            std::string::npos);
}

TEST(Gate, SpeedIsNotAskedFor) {
  GateRules rules;
  rules.minGain = 0;
  Verdict verdict = judgeGain(fitting(), {-0.5, std::nullopt}, rules);
  EXPECT_TRUE(verdict.passes);
  EXPECT_EQ(verdict.reason, "KL 0.0100, at most 0.0200; a gain is not asked for: decoding is 50.0 % slower on 1 rank");
}

TEST(Gate, AFasterPlanGains) {
  // 10 ms become 8: a quarter more steps in the same time. One round on a busy machine changes neither figure much.
  const Gain gain = gainOf({10, 10, 10, 10, 100}, {8, 8, 8, 8, 8});
  EXPECT_NEAR(gain.median, 0.25, 1e-12);
  ASSERT_TRUE(gain.bound);
  EXPECT_NEAR(*gain.bound, 0.25, 1e-12);
  EXPECT_NEAR(gainOf({8}, {10}).median, -0.2, 1e-12);
  EXPECT_FALSE(gainOf({8, 8, 8, 8}, {4, 4, 4, 4}).bound);
}

TEST(Gate, Medians) {
  EXPECT_EQ(medianOf({}), 0);
  EXPECT_EQ(medianOf({3, 1, 2}), 2);
  EXPECT_EQ(medianOf({4, 1, 2, 3}), 2.5);
}

TEST(Gate, TheBoundOfAMedianIsAnOrderStatistic) {
  // P(all of n are above the median) is 2^-n: 1/32 for five, 1/16 is too much for four.
  EXPECT_EQ(lowerBoundOf({5, 4, 3, 2, 1}), 1);
  EXPECT_EQ(lowerBoundOf({4, 3, 2, 1}), std::nullopt);
  // Of eight, at most one below: 9/256 = 3.5 %; at most two: 37/256.
  EXPECT_EQ(lowerBoundOf({8, 7, 6, 5, 4, 3, 2, 1}), 2);
  // Of twenty, at most five below: 21700/2^20 = 2.1 %; at most six: 5.8 %.
  std::vector<double> twenty;
  for (int i = 20; i > 0; --i) {
    twenty.push_back(i);
  }
  EXPECT_EQ(lowerBoundOf(twenty), 6);
}

} // namespace
