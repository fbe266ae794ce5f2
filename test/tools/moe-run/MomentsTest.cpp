//===- MomentsTest.cpp - Maps from sums over tokens, and bounds of means ---===//
#include "tools/moe-run/calibrate/Moments.h"
#include "tools/moe-run/calibrate/Bound.h"

#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace moerun;

namespace {

std::vector<float> randomRows(int64_t rows, int64_t width, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> result(static_cast<size_t>(rows * width));
  for (float &value : result) {
    value = normal(random);
  }
  return result;
}

double largestDifference(const std::vector<float> &a, const std::vector<float> &b) {
  double largest = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    largest = std::max(largest, double(std::abs(a[i] - b[i])));
  }
  return largest;
}

} // namespace

TEST(Moments, FindsTheMapThatIsThere) {
  // Widths and token counts that no block divides.
  for (int64_t width : {1, 7, 40, 300}) {
    const std::vector<float> map = randomRows(width, width, 1);
    Moments moments(width, 3, 2);
    for (unsigned part = 0; part < 3; ++part) {
      const std::vector<float> x = randomRows(2 * width + 19, width, 10 + part);
      std::vector<float> y;
      applyMap(x, map, width, 2, y);
      moments.add(x, {&y, nullptr, &x});
    }
    const std::vector<Map> found = moments.solve(1e-10);
    ASSERT_EQ(found.size(), 3u);
    // Products of f32, solved in f64: some 1e-5 of values near 1.
    EXPECT_LE(largestDifference(found[0], map), 2e-4) << width;
    EXPECT_TRUE(found[1].empty());
    std::vector<float> identity(static_cast<size_t>(width * width), 0.0f);
    for (int64_t i = 0; i < width; ++i) {
      identity[static_cast<size_t>(i * width + i)] = 1;
    }
    EXPECT_LE(largestDifference(found[2], identity), 1e-6) << width;
  }
}

TEST(Moments, RidgeIsOfTheMeanSquareAndPullsToTheIdentity) {
  // One channel: (sum x y + lambda) / (sum x x + lambda), lambda = ridge * sum x x.
  const std::vector<float> x{1, 2, 3}, y{2, 4, 6};
  Moments moments(1, 1, 1);
  moments.add(x, {&y});
  EXPECT_NEAR(moments.solve(0.5)[0][0], (28.0 + 7) / (14 + 7), 1e-6);
  // A channel that never speaks keeps what it is given.
  const std::vector<float> half{1, 0, -2, 0}, twice{3, 5, -6, 7};
  Moments partly(2, 1, 1);
  partly.add(half, {&twice});
  const Map map = partly.solve(1e-9)[0];
  EXPECT_NEAR(map[0], 3, 1e-6);
  EXPECT_NEAR(map[3], 1, 1e-6);
}

TEST(Moments, SumsStayExactOverManyTokens) {
  // 40,000 rows near 1000: f32 sums of their squares would be off by 1e-3 of them.
  const int64_t rows = 40000;
  std::vector<float> x(static_cast<size_t>(rows)), y(x.size());
  std::mt19937 random(3);
  double xx = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = 1000 + float(random() % 1000) / 999;
    y[i] = 3 + float(random() % 1000) / 999;
    xx += double(x[i]) * x[i];
    xy += double(x[i]) * y[i];
  }
  Moments moments(1, 1, 1);
  moments.add(x, {&y});
  const double expected = (xy + 1e-12 * xx) / (xx + 1e-12 * xx);
  EXPECT_NEAR(moments.solve(1e-12)[0][0] / expected, 1, 3e-7);
}

TEST(Moments, NoMapWithoutInputAndWithValuesThatAreNone) {
  const std::vector<float> zero(8, 0.0f), one(8, 1.0f);
  Moments silent(2, 1, 1);
  silent.add(zero, {&one});
  EXPECT_TRUE(silent.solve(1e-3)[0].empty());
  std::vector<float> broken = one;
  broken[3] = NAN;
  Moments moments(2, 1, 1);
  moments.add(broken, {&one});
  EXPECT_TRUE(moments.solve(1e-3)[0].empty());
  Moments targets(2, 1, 1);
  targets.add(one, {&broken});
  EXPECT_TRUE(targets.solve(1e-3)[0].empty());
}

TEST(Moments, ThreadsGiveTheSameBits) {
  const int64_t width = 150;
  const std::vector<float> x = randomRows(500, width, 5), y = randomRows(500, width, 6);
  std::vector<Map> maps;
  for (int threads : {1, 3, 64}) {
    Moments moments(width, 1, threads);
    moments.add(x, {&y});
    maps.push_back(moments.solve(1e-3)[0]);
  }
  EXPECT_EQ(maps[0], maps[1]);
  EXPECT_EQ(maps[0], maps[2]);
}

TEST(Bound, Student) {
  // From tables of the distribution.
  EXPECT_EQ(student95(0), INFINITY);
  const std::pair<int64_t, double> table[] = {{1, 6.3138},  {2, 2.9200},  {5, 2.0150},   {6, 1.9432},
                                              {10, 1.8125}, {30, 1.6973}, {1000, 1.6464}};
  for (auto [freedom, value] : table) {
    EXPECT_NEAR(student95(freedom), value, 1e-3 * value) << freedom;
  }
}

TEST(Bound, OfAMean) {
  // Means 1, 2, 3 of equal sequences: 2 + t(2) * 1 / sqrt(3).
  EXPECT_NEAR(upperBound95({10, 20, 30}, {10, 10, 10}), 2 + 2.92 / std::sqrt(3), 1e-3);
  // No spread: the mean itself, whatever the lengths.
  EXPECT_NEAR(upperBound95({5, 50}, {10, 100}), 0.5, 1e-12);
  EXPECT_EQ(upperBound95({5}, {10}), INFINITY);
}
