//===- RouteKernelsTest.cpp - Routing, sort, slots against plain loops ----===//

#include "test/lowering/GPU/KernelHarness.h"
#include <numeric>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;
using namespace mlir::moe::gpu::test;

namespace {

class GpuRouteKernelsTest : public KernelTest {
protected:
  struct Routing {
    Guarded<int32_t> experts;
    Guarded<float> weights;
  };
  static kernels::Route router(Score score, Renormalize renormalize) {
    kernels::Route kernel;
    kernel.score = score;
    kernel.renormalize = renormalize;
    return kernel;
  }
  Routing route(kernels::Route kernel, Guarded<float> logits, Guarded<float> bias, int64_t e, int64_t k,
                float epsilon = 0, float scale = 1, int64_t groups = 1, int64_t keep = 1, int64_t routers = 1) {
    int64_t tokens = static_cast<int64_t>(logits.size()) / e; // times routers
    Routing result{Guarded<int32_t>(tokens * k), Guarded<float>(tokens * k)};
    std::vector<Argument> arguments{in(logits)};
    if (!bias.empty()) {
      kernel.bias = f32;
      arguments.push_back(in(bias));
    }
    arguments.insert(arguments.end(), {out(result.experts), out(result.weights), e, k, epsilon, scale, groups, keep});
    if (routers > 1) {
      kernel.severalRouters = true;
      arguments.push_back(routers);
    }
    run(kernel, tokens, arguments);
    return result;
  }

  /// What the sort makes of `ids` (rows of k), against a stable sort.
  void checkSort(const std::vector<int32_t> &ids, int64_t rows, int64_t k, int64_t e) {
    SCOPED_TRACE(testing::Message() << rows << " rows of " << k << ", " << e << " experts");
    Guarded<int32_t> experts(ids.begin(), ids.end()), active(e + 1, -7), offsets(e + 1), slots(rows * k, -7);
    Guarded<int64_t> counts(e, 10);
    run(kernels::SortByExpert{}, 1,
        {in(experts), rows, e, k, update(active), out(offsets), update(slots), update(counts)});
    std::vector<int32_t> expectedSlots, expectedActive;
    for (int64_t expert = 0; expert < e; ++expert) {
      EXPECT_EQ(offsets[expert], static_cast<int32_t>(expectedSlots.size()));
      for (int64_t i = 0; i < rows * k; ++i) {
        if (ids[i] == expert) {
          expectedSlots.push_back(static_cast<int32_t>(i));
        }
      }
      const int64_t count = static_cast<int64_t>(expectedSlots.size()) - offsets[expert];
      EXPECT_EQ(counts[expert], 10 + count);
      if (count > 0) {
        expectedActive.push_back(static_cast<int32_t>(expert));
      }
    }
    EXPECT_EQ(offsets[e], static_cast<int32_t>(expectedSlots.size()));
    EXPECT_EQ(active[0], static_cast<int32_t>(expectedActive.size()));
    EXPECT_TRUE(std::equal(expectedActive.begin(), expectedActive.end(), active.begin() + 1));
    EXPECT_TRUE(std::equal(expectedSlots.begin(), expectedSlots.end(), slots.begin()));
    // The same by tiles.
    const WorkList work({ids.begin(), ids.end()}, e);
    for (int64_t tileRows : {3, 64}) {
      Guarded<int32_t> expected = work.tiles(tileRows, -7), listed(expected.size(), -7), again(rows * k, -7);
      run(kernels::SortByExpert{tileRows}, 1,
          {in(experts), rows, e, k, update(listed), out(offsets), update(again), update(counts)});
      EXPECT_EQ(listed, expected);
      EXPECT_EQ(offsets, work.offsets);
      EXPECT_EQ(again, slots);
      for (int64_t i = 0; i < e; ++i) {
        EXPECT_EQ(counts[i], 10 + (tileRows == 3 ? 2 : 3) * (offsets[i + 1] - offsets[i]));
      }
    }
  }
};

TEST_F(GpuRouteKernelsTest, Softmax) {
  // Ties go to the lowest index; 19 experts leave a part of a warp.
  Guarded<float> logits(19, 0.0f);
  logits[7] = logits[3] = 2.0f;
  logits[18] = 1.0f;
  Routing sum = route(router(Score::Softmax, Renormalize::Sum), logits, {}, 19, 3);
  EXPECT_EQ(sum.experts, (Guarded<int32_t>{3, 7, 18}));
  double total = 2 * std::exp(2.0) + std::exp(1.0);
  EXPECT_NEAR(sum.weights[0], std::exp(2.0) / total, 1e-6);
  EXPECT_NEAR(sum.weights[2], std::exp(1.0) / total, 1e-6);
  Routing plain = route(router(Score::Softmax, Renormalize::None), logits, {}, 19, 3, 0, 2.0f);
  EXPECT_NEAR(plain.weights[0], 2 * std::exp(2.0) / (total + 16), 1e-6);
  Routing second = route(router(Score::Softmax, Renormalize::Softmax), logits, {}, 19, 2);
  EXPECT_NEAR(second.weights[0], 0.5, 1e-6);
  Routing all = route(router(Score::Identity, Renormalize::Softmax), {1, 1, 1, 1}, {}, 4, 4);
  EXPECT_EQ(all.experts, (Guarded<int32_t>{0, 1, 2, 3}));
}

/// A bias chooses but does not weigh; more experts than a warp has lanes.
TEST_F(GpuRouteKernelsTest, SigmoidWithBias) {
  const int64_t e = 70, k = 4, tokens = 3;
  Tensor values = random(f32, tokens * e), shifts = random(f32, e);
  Guarded<float> logits(tokens * e), bias(e);
  for (int64_t i = 0; i < tokens * e; ++i) {
    logits[i] = values[i];
  }
  for (int64_t i = 0; i < e; ++i) {
    bias[i] = shifts[i];
  }
  Routing result = route(router(Score::Sigmoid, Renormalize::Sum), logits, bias, e, k, 1e-20f, 2.5f);
  auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<int32_t> order(e);
    std::iota(order.begin(), order.end(), 0);
    auto choice = [&](int32_t i) { return sigmoid(logits[t * e + i]) + bias[i]; };
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t c) { return choice(a) > choice(c); });
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) {
      sum += sigmoid(logits[t * e + order[j]]);
    }
    for (int64_t j = 0; j < k; ++j) {
      EXPECT_EQ(result.experts[t * k + j], order[j]);
      EXPECT_NEAR(result.weights[t * k + j], 2.5 * sigmoid(logits[t * e + order[j]]) / sum, 1e-5);
    }
  }
}

TEST_F(GpuRouteKernelsTest, Groups) {
  for (GroupScore by : {GroupScore::Max, GroupScore::Top2Sum}) {
    for (auto [groups, size, keep] : {std::tuple<int64_t, int64_t, int64_t>(8, 32, 4), {5, 19, 2}, {3, 3, 2}}) {
      SCOPED_TRACE(testing::Message() << groups << " groups of " << size);
      const int64_t e = groups * size, k = 6, tokens = 2, width = size, kept = keep;
      Tensor scores = random(f32, tokens * e);
      Guarded<float> logits(tokens * e);
      for (int64_t i = 0; i < tokens * e; ++i) {
        logits[i] = scores[i];
      }
      kernels::Route kernel{Score::Identity, Renormalize::None, Type(), true, by};
      Routing result = route(kernel, logits, {}, e, k, 0, 1, groups, keep);
      for (int64_t t = 0; t < tokens; ++t) {
        std::vector<float> row(logits.begin() + t * e, logits.begin() + (t + 1) * e), best;
        for (int64_t g = 0; g < groups; ++g) {
          std::vector<float> sorted(row.begin() + g * width, row.begin() + (g + 1) * width);
          std::sort(sorted.rbegin(), sorted.rend());
          best.push_back(sorted[0] + (by == GroupScore::Top2Sum ? sorted[1] : 0));
        }
        std::vector<float> order = best;
        std::sort(order.rbegin(), order.rend());
        std::vector<int32_t> expected(e);
        std::iota(expected.begin(), expected.end(), 0);
        auto value = [&](int32_t i) { return best[i / width] >= order[kept - 1] ? row[i] : -INFINITY; };
        std::sort(expected.begin(), expected.end(),
                  [&](int32_t a, int32_t c) { return value(a) != value(c) ? value(a) > value(c) : a < c; });
        for (int64_t j = 0; j < k; ++j) {
          EXPECT_EQ(result.experts[t * k + j], expected[j]) << "token " << t << ", choice " << j;
        }
      }
    }
  }
}

/// Whatever the logits hold, K distinct valid ids come out.
TEST_F(GpuRouteKernelsTest, SurvivesBadLogits) {
  float nan = std::nanf(""), inf = INFINITY;
  for (const Guarded<float> &logits :
       {Guarded<float>{nan, nan, nan, nan, nan}, {-inf, -inf, -inf, -inf, -inf}, {inf, nan, -inf, inf, 0}}) {
    Routing result = route(router(Score::Identity, Renormalize::None), logits, {}, 5, 5);
    std::sort(result.experts.begin(), result.experts.end());
    EXPECT_EQ(result.experts, (Guarded<int32_t>{0, 1, 2, 3, 4}));
  }
}

TEST_F(GpuRouteKernelsTest, Sort) {
  checkSort({2, 0, -1, 2, 0, 3}, 3, 2, 4);
  checkSort({}, 0, 2, 4);
  checkSort(std::vector<int32_t>(65, 1), 65, 1, 3); // all to one expert
  std::vector<int32_t> many(130 * 3);
  for (int32_t &id : many) {
    id = static_cast<int32_t>(generator() % 41) - 1;
  }
  checkSort(many, 130, 3, 40);
  // Several rounds of each of the sections that the warps have; so many experts that there are fewer sections.
  std::vector<int32_t> more(700 * 3), wide(150 * 4);
  for (int32_t &id : more) {
    id = static_cast<int32_t>(generator() % 41) - 1;
  }
  for (int32_t &id : wide) {
    id = static_cast<int32_t>(generator() % 3 ? generator() % 1024 : 1023);
  }
  checkSort(more, 700, 3, 40);
  checkSort(wide, 150, 4, 1024);
}

/// Against plain loops; a row of -1 is nobody's, and NaN counts no probability.
TEST_F(GpuRouteKernelsTest, Statistics) {
  const int64_t e = 37, k = 3, rows = 4;
  for (bool sigmoid : {false, true}) {
    Guarded<float> logits(rows * e);
    for (int64_t i = 0; i < rows * e; ++i) {
      logits[i] = float(i * 7 % 23) / 5 - 2;
    }
    logits[3 * e + 4] = NAN;
    Guarded<int32_t> ids{7, 3, 18, -1, -1, -1, 0, 18, 3, 3, 18, 0};
    Guarded<int64_t> firsts(e, 100), probabilities(e, 0), pairs(e * e, 5);
    run(kernels::RoutingStatistics{sigmoid}, 1,
        {in(logits), in(ids), rows, e, k, int64_t(1), update(firsts), update(probabilities), update(pairs)});
    std::vector<int64_t> expectedFirst(e, 100), expectedPairs(e * e, 5);
    for (int expert : {7, 0, 3}) {
      ++expectedFirst[expert];
    }
    for (auto [i, j] : {std::pair(3, 7), {7, 18}, {3, 18}, {0, 18}, {0, 3}, {3, 18}, {3, 18}, {0, 3}, {0, 18}}) {
      ++expectedPairs[i * e + j];
    }
    EXPECT_TRUE(std::equal(firsts.begin(), firsts.end(), expectedFirst.begin()));
    EXPECT_TRUE(std::equal(pairs.begin(), pairs.end(), expectedPairs.begin()));
    for (int64_t i = 0; i < e; ++i) {
      double expected = 0;
      for (int64_t row : {0, 2}) {
        auto score = [&](int64_t at) {
          const double logit = logits[row * e + at];
          return sigmoid ? 1 / (1 + std::exp(-logit)) : std::exp(logit);
        };
        double sum = 0;
        for (int64_t at = 0; at < e; ++at) {
          sum += score(at);
        }
        expected += score(i) / sum;
      }
      EXPECT_NEAR(double(probabilities[i]) / kernels::RoutingStatistics::probabilityUnit, expected, 1e-6);
    }
  }
}

/// Of two routers each has a first choice and probabilities of its own; pairs are counted across both.
TEST_F(GpuRouteKernelsTest, StatisticsOfSeveralRouters) {
  const int64_t e = 4, k = 2, rows = 2;
  Guarded<float> logits{0, 1, 2, 2, 3, 0, 0, 0};
  Guarded<int32_t> ids{1, 2, 0, 3};
  Guarded<int64_t> firsts(e, 0), probabilities(e, 0), pairs(e * e, 0);
  run(kernels::RoutingStatistics{false}, 1,
      {in(logits), in(ids), rows, e, k, int64_t(2), update(firsts), update(probabilities), update(pairs)});
  EXPECT_EQ(firsts, (Guarded<int64_t>{1, 1, 1, 1}));
  EXPECT_EQ(pairs, (Guarded<int64_t>{0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  auto softmax = [](double own, double other) { return 1 / (1 + std::exp(other - own)); };
  const double expected[] = {softmax(0, 1) + softmax(3, 0), softmax(1, 0) + softmax(0, 3), 1, 1};
  for (int64_t i = 0; i < e; ++i) {
    EXPECT_NEAR(double(probabilities[i]) / kernels::RoutingStatistics::probabilityUnit, expected[i], 1e-6);
  }
}

/// Routers side by side choose what each would choose by itself, with its own columns of logits and bias.
TEST_F(GpuRouteKernelsTest, SeveralRouters) {
  const int64_t e = 5, k = 2, routers = 3, tokens = 4;
  Guarded<float> logits(tokens * routers * e), bias(routers * e);
  for (int64_t i = 0; i < tokens * routers * e; ++i) {
    logits[i] = float(i * 7 % 23) / 5 - 2;
  }
  for (int64_t i = 0; i < routers * e; ++i) {
    bias[i] = float(i * 5 % 7) / 10;
  }
  const kernels::Route kernel = router(Score::Softmax, Renormalize::Sum);
  Routing together = route(kernel, logits, bias, e, k, 0, 2.5f, 1, 1, routers);
  for (int64_t r = 0; r < routers; ++r) {
    Guarded<float> own(tokens * e), ownBias(bias.begin() + r * e, bias.begin() + (r + 1) * e);
    for (int64_t t = 0; t < tokens; ++t) {
      std::copy_n(logits.begin() + (t * routers + r) * e, e, own.begin() + t * e);
    }
    Routing alone = route(kernel, own, ownBias, e, k, 0, 2.5f);
    for (int64_t i = 0; i < tokens * k; ++i) {
      const int64_t at = (i / k * routers + r) * k + i % k;
      EXPECT_EQ(together.experts[at], r * e + alone.experts[i]) << "router " << r << ", choice " << i;
      EXPECT_EQ(together.weights[at], alone.weights[i]);
    }
  }
}

TEST_F(GpuRouteKernelsTest, PaddingAndSlots) {
  Guarded<int32_t> ids{1, 0, 1, 2, 0, 1}, seq{0, 2, 1}, masked(6);
  run(kernels::MaskPadding{}, 3, {in(ids), in(seq), out(masked), int64_t(2), int64_t(3)});
  EXPECT_EQ(masked, (Guarded<int32_t>{1, 0, -1, -1, 0, 1}));
  // Expert 1 has two replicas, slots 1 and 3, of equal shares: they take turns. Rank 1 of 2 has slots 2 and 3.
  Guarded<int32_t> begins{0, 1, 3, 4}, slots{0, 1, 3, 2}, shares{1, 1, 1, 1}, totals{1, 2, 1}, local(6);
  Guarded<int64_t> taken(3 + 4), counts{5, 5, 5};
  run(kernels::Localize{}, 1,
      {in(ids), int64_t(3), int64_t(2), out(local), in(begins), in(slots), in(shares), in(totals), out(taken),
       update(counts), int64_t(3), int64_t(4), int64_t(2), int64_t(1)});
  EXPECT_EQ(local, (Guarded<int32_t>{-1, -1, 1, 0, -1, -1}));
  EXPECT_EQ(counts, (Guarded<int64_t>{7, 8, 6}));
}

} // namespace
