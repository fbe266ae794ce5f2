//===- RepetitionTest.cpp - Whether generated text repeats itself ---------===//
#include "tools/moe-run/calibrate/Repetition.h"

#include <gtest/gtest.h>

using namespace moerun;

TEST(Repetition, ShareOfRunsThatWereThere) {
  EXPECT_EQ(repeatedShare({}), 0);
  EXPECT_EQ(repeatedShare({1, 1, 1, 1}), 0); // one run only
  EXPECT_EQ(repeatedShare({1, 2, 3, 4, 5, 6, 7, 8}), 0);
  EXPECT_EQ(repeatedShare({7, 7, 7, 7, 7}), 0.5);
  // 1 2 3 4 again after four others: 1 of 7 runs.
  EXPECT_DOUBLE_EQ(repeatedShare({1, 2, 3, 4, 9, 8, 1, 2, 3, 4}), 1.0 / 7);
}

TEST(Repetition, CollapseIsMoreThanTheBaseHas) {
  EXPECT_FALSE(isCollapse({}, {}));
  EXPECT_FALSE(isCollapse({0.9, 0.1}, {0.1, 0.9}));
  EXPECT_TRUE(isCollapse({0.1, 0.1}, {0.1, 0.5}));
  // Of eight texts, two more must loop.
  EXPECT_FALSE(isCollapse({0, 0, 0, 0, 0, 0, 0, 0}, {1, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_TRUE(isCollapse({0, 0, 0, 0, 0, 0, 0, 0}, {1, 1, 0, 0, 0, 0, 0, 0}));
}
