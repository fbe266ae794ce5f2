//===- RowKernelsTest.cpp - Norm, rope, routing, attention against loops ---===//

#include "test/lowering/CPU/KernelHarness.h"
#include <array>
#include <numeric>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::cpu;
using namespace mlir::moe::cpu::test;

namespace {

class RowKernelsTest : public KernelTest {
protected:
  /// Attention over a cache that the test fills; tokens of three sequences in
  /// one batch. With a window two values are NaN: one that no token sees, one
  /// that some do.
  void checkAttention(Type type, bool many, int64_t d, int64_t g, int64_t perHead, int64_t window, bool sinks) {
    SCOPED_TRACE(testing::Message() << "d " << d << " g " << g << " many " << many << " window " << window);
    const int64_t context = 70, sequences = 3, q = g * perHead;
    Guarded<int32_t> seq, pos;
    for (auto [s, from, to] : {std::tuple(0, 5, 6), std::tuple(1, 0, 19), std::tuple(2, 40, 67)}) {
      for (int p = from; p < to; ++p) {
        seq.push_back(s);
        pos.push_back(p);
      }
    }
    fit(seq);
    fit(pos);
    const int64_t tokens = static_cast<int64_t>(seq.size());
    Tensor qs = random(type, tokens * q * d), keys = random(type, sequences * context * g * d),
           values = random(type, sequences * context * g * d), sink = random(bf16, q), out(type, tokens * q * d);
    for (int64_t p : {33, 45}) {
      for (int64_t i = 0; window > 0 && i < g * d; ++i) {
        values.set((2 * context + p) * g * d + i, NAN);
      }
    }
    AttentionKernel kernel{type, type, sinks ? bf16 : Type(), d, d, many};
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    std::vector<uint64_t> arguments{word(qs),     word(seq), word(pos),     word(keys),    word(values), word(out),
                                    word(tokens), word(g),   word(perHead), word(context), word(scale),  word(window)};
    if (sinks) {
      arguments.push_back(word(sink));
    }
    int64_t blocks = many ? (tokens + kernel.blockTokens - 1) / kernel.blockTokens : tokens;
    run(kernel, blocks * g, arguments);
    std::vector<double> expected(tokens * q * d);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < q; ++h) {
        auto row = [&](int64_t p) { return ((seq[t] * context + p) * g + h / perHead) * d; };
        int64_t first = window ? std::max<int64_t>(0, pos[t] - window + 1) : 0;
        double sum = sinks ? std::exp(double(sink[h])) : 0;
        for (int64_t p = first; p <= pos[t]; ++p) {
          double score = 0;
          for (int64_t i = 0; i < d; ++i) {
            score += double(qs[(t * q + h) * d + i]) * keys[row(p) + i];
          }
          double weight = std::exp(score * scale);
          sum += weight;
          for (int64_t i = 0; i < d; ++i) {
            expected[(t * q + h) * d + i] += weight * values[row(p) + i];
          }
        }
        for (int64_t i = 0; i < d; ++i) {
          double &result = expected[(t * q + h) * d + i];
          result /= sum;
          if (std::isnan(result)) {
            EXPECT_TRUE(std::isnan(out[(t * q + h) * d + i])) << pos[t];
            out.set((t * q + h) * d + i, 0);
            result = 0;
          }
        }
      }
    }
    expectNear(out, expected, 2e-5, type.isBF16() ? 0x1p-8 : 1e-5);
  }

  struct Routing {
    Guarded<int32_t> experts;
    Guarded<float> weights;
  };
  static RouteKernel router(Score score, Renormalize renormalize) {
    RouteKernel kernel;
    kernel.score = score;
    kernel.renormalize = renormalize;
    return kernel;
  }
  Routing route(RouteKernel kernel, const Guarded<float> &logits, const Guarded<float> &bias, int64_t e, int64_t k,
                float epsilon = 0, float scale = 1, int64_t groups = 1, int64_t keep = 1, int64_t routers = 1) {
    int64_t tokens = static_cast<int64_t>(logits.size()) / e; // times routers
    Routing result{Guarded<int32_t>(tokens * k), Guarded<float>(tokens * k)};
    std::vector<uint64_t> arguments{word(logits)};
    if (!bias.empty()) {
      kernel.bias = f32;
      arguments.push_back(word(bias));
    }
    arguments.insert(arguments.end(), {word(result.experts), word(result.weights), word(e), word(k), word(epsilon),
                                       word(scale), word(groups), word(keep)});
    if (routers > 1) {
      kernel.severalRouters = true;
      arguments.push_back(word(routers));
    }
    run(kernel, tokens, arguments);
    return result;
  }
};

TEST_P(RowKernelsTest, RMSNorm) {
  for (int64_t n : {32, 72, 5}) {
    for (Type out : {f32, bf16}) {
      const int64_t rows = 3, groups = 2;
      Tensor xs = random(f32, rows * groups * n, 3.0f), ws = random(bf16, n), ys(out, rows * groups * n);
      run(RMSNormKernel{f32, bf16, out, ScaleRounding::BeforeWeight}, rows,
          {word(xs), word(ws), word(ys), word(groups), word(n), word(1e-5f)});
      std::vector<double> expected;
      for (int64_t g = 0; g < rows * groups; ++g) {
        double sum = 0;
        for (int64_t i = 0; i < n; ++i) {
          sum += double(xs[g * n + i]) * xs[g * n + i];
        }
        for (int64_t i = 0; i < n; ++i) {
          expected.push_back(xs[g * n + i] / std::sqrt(sum / n + 1e-5) * ws[i]);
        }
      }
      // bf16 rounds twice: before and after the weight.
      expectNear(ys, expected, 1e-6, out.isBF16() ? 0x1p-7 : 2e-6);
    }
  }
}

/// Positions as far as contexts go today: the angles are f32 products, their
/// sine must still be exact.
TEST_P(RowKernelsTest, Rope) {
  for (bool interleaved : {false, true}) {
    const int64_t heads = 2, d = 40, half = 12, offset = 8;
    Guarded<int32_t> pos{0, 1, 17, 1000, 131071, 1048575};
    const int64_t tokens = static_cast<int64_t>(pos.size());
    Guarded<float> frequencies(half), angles(tokens * 2 * half);
    for (int64_t i = 0; i < half; ++i) {
      frequencies[i] = static_cast<float>(std::pow(10000.0, -2.0 * i / (2 * half)));
    }
    run(RopeAnglesKernel{}, tokens, {word(pos), word(frequencies), word(angles), word(half), word(1.25f)});
    Tensor xs = random(f32, tokens * heads * d), ys(f32, tokens * heads * d);
    run(RopeKernel{f32, interleaved}, tokens,
        {word(xs), word(angles), word(ys), word(heads), word(d), word(half), word(offset)});
    std::vector<double> expected(xs.size());
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        int64_t base = (t * heads + h) * d;
        for (int64_t i = 0; i < d; ++i) {
          expected[base + i] = xs[base + i];
        }
        for (int64_t i = 0; i < half; ++i) {
          int64_t at = base + offset + (interleaved ? 2 * i : i), other = interleaved ? at + 1 : at + half;
          double angle = frequencies[i] * static_cast<float>(pos[t]);
          expected[at] = 1.25 * (xs[at] * std::cos(angle) - xs[other] * std::sin(angle));
          expected[other] = 1.25 * (xs[other] * std::cos(angle) + xs[at] * std::sin(angle));
        }
      }
    }
    expectNear(ys, expected, 1e-6, 1e-6);
  }
}

TEST_P(RowKernelsTest, AttentionFew) {
  checkAttention(f32, false, 32, 2, 2, 0, false);
  checkAttention(bf16, false, 64, 1, 3, 0, false);
  checkAttention(f32, false, 20, 3, 1, 7, false);
  checkAttention(f32, false, 24, 2, 2, 0, true);
}

TEST_P(RowKernelsTest, AttentionMany) {
  checkAttention(f32, true, 32, 2, 2, 0, false);
  checkAttention(bf16, true, 64, 1, 3, 0, false);
  checkAttention(f32, true, 20, 3, 1, 7, false);
  checkAttention(f32, true, 24, 2, 2, 1, true);
  checkAttention(f32, true, 15, 1, 8, 0, true);
}

TEST_P(RowKernelsTest, RouteSoftmax) {
  // Ties go to the lowest index; 19 experts leave a partial vector.
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

/// The case of docs/spec.md (route): with negative biases a mask of 0 instead
/// of -inf would choose {2, 3}.
TEST_P(RowKernelsTest, RouteGroups) {
  auto logit = [](float s) { return std::log(s / (1 - s)); };
  Guarded<float> logits{logit(.6f), logit(.5f), logit(.55f), logit(.1f)};
  RouteKernel kernel{Score::Sigmoid, Renormalize::Sum, Type(), true, GroupScore::Top2Sum};
  Routing result = route(kernel, logits, {-1, -1, -1, -1}, 4, 2, 0, 2.5f, 2, 1);
  EXPECT_EQ(result.experts, (Guarded<int32_t>{0, 1}));
  EXPECT_NEAR(result.weights[0], 2.5 * .6 / 1.1, 1e-6);
}

/// Groups that are no whole number of vectors, against plain loops.
TEST_P(RowKernelsTest, RouteManyGroups) {
  for (GroupScore by : {GroupScore::Max, GroupScore::Top2Sum}) {
    for (auto shape : {std::array{8, 32, 4}, {5, 19, 2}, {3, 3, 2}}) {
      const int64_t groups = shape[0], size = shape[1], keep = shape[2];
      SCOPED_TRACE(testing::Message() << groups << " groups of " << size);
      const int64_t e = groups * size, k = 6, tokens = 4;
      Tensor scores = random(f32, tokens * e);
      Guarded<float> logits(tokens * e);
      for (int64_t i = 0; i < tokens * e; ++i) {
        logits[i] = scores[i];
      }
      RouteKernel kernel{Score::Identity, Renormalize::None, Type(), true, by};
      Routing result = route(kernel, logits, {}, e, k, 0, 1, groups, keep);
      for (int64_t t = 0; t < tokens; ++t) {
        std::vector<float> row(logits.begin() + t * e, logits.begin() + (t + 1) * e), best(groups);
        for (int64_t g = 0; g < groups; ++g) {
          std::vector<float> sorted(row.begin() + g * size, row.begin() + (g + 1) * size);
          std::sort(sorted.rbegin(), sorted.rend());
          best[g] = sorted[0] + (by == GroupScore::Top2Sum ? sorted[1] : 0);
        }
        std::vector<float> order = best;
        std::sort(order.rbegin(), order.rend());
        std::vector<int32_t> expected(e);
        std::iota(expected.begin(), expected.end(), 0);
        auto value = [&](int32_t i) { return best[i / size] >= order[keep - 1] ? row[i] : -INFINITY; };
        std::sort(expected.begin(), expected.end(),
                  [&](int32_t a, int32_t c) { return value(a) != value(c) ? value(a) > value(c) : a < c; });
        for (int64_t j = 0; j < k; ++j) {
          EXPECT_EQ(result.experts[t * k + j], expected[j]) << "token " << t << ", choice " << j;
        }
      }
    }
  }
}

/// Three routers side by side choose what each would choose by itself, with its own columns of logits and bias, and
/// number their experts one after the other. 5 experts leave a partial vector.
TEST_P(RowKernelsTest, RouteSeveralRouters) {
  const int64_t e = 5, k = 2, routers = 3, tokens = 4;
  Tensor values = random(f32, tokens * routers * e), biases = random(f32, routers * e);
  Guarded<float> logits(tokens * routers * e), bias(routers * e);
  for (int64_t i = 0; i < tokens * routers * e; ++i) {
    logits[i] = values[i];
  }
  for (int64_t i = 0; i < routers * e; ++i) {
    bias[i] = biases[i];
  }
  for (Renormalize renormalize : {Renormalize::Sum, Renormalize::Softmax}) {
    const RouteKernel kernel = router(Score::Softmax, renormalize);
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
}

/// Whatever the logits hold, K distinct valid ids come out.
TEST_P(RowKernelsTest, RouteSurvivesBadLogits) {
  float nan = std::nanf(""), inf = INFINITY;
  for (const Guarded<float> &logits :
       {Guarded<float>{nan, nan, nan, nan, nan}, {-inf, -inf, -inf, -inf, -inf}, {inf, nan, -inf, inf, 0}}) {
    Routing result = route(router(Score::Identity, Renormalize::None), logits, {}, 5, 5);
    std::sort(result.experts.begin(), result.experts.end());
    EXPECT_EQ(result.experts, (Guarded<int32_t>{0, 1, 2, 3, 4}));
  }
}

TEST_P(RowKernelsTest, SortByExpert) {
  Guarded<int32_t> experts{2, 0, -1, 2, 0, 3}, active(5, -7), offsets(5, -7), slots(6, -7);
  Guarded<int64_t> counts{10, 10, 10, 10};
  run(SortByExpertKernel{}, 1,
      {word(experts), word(int64_t(3)), word(int64_t(4)), word(int64_t(2)), word(active), word(offsets), word(slots),
       word(counts)});
  EXPECT_EQ(active[0], 3);
  EXPECT_EQ((Guarded<int32_t>{active.begin() + 1, active.begin() + 4}), (Guarded<int32_t>{0, 2, 3}));
  EXPECT_EQ(offsets, (Guarded<int32_t>{0, 2, 2, 4, 5}));
  EXPECT_EQ((Guarded<int32_t>{slots.begin(), slots.begin() + 5}), (Guarded<int32_t>{1, 4, 0, 3, 5}));
  EXPECT_EQ(counts, (Guarded<int64_t>{12, 10, 12, 11}));
}

/// Against plain loops; 19 experts leave a partial vector, a row of -1 is nobody's, and NaN counts no probability.
TEST_P(RowKernelsTest, RoutingStatistics) {
  const int64_t e = 19, k = 3, rows = 4;
  for (bool sigmoid : {false, true}) {
    Guarded<float> logits(rows * e);
    for (int64_t i = 0; i < rows * e; ++i) {
      logits[i] = float(i * 7 % 23) / 5 - 2;
    }
    logits[3 * e + 4] = NAN;
    Guarded<int32_t> ids{7, 3, 18, -1, -1, -1, 0, 18, 3, 3, 18, 0};
    Guarded<int64_t> first(e, 100), probabilities(e, 0), pairs(e * e, 5);
    run(RoutingStatisticsKernel{sigmoid}, 1,
        {word(logits), word(ids), word(rows), word(e), word(k), word(int64_t(1)), word(first), word(probabilities),
         word(pairs)});
    std::vector<int64_t> expectedFirst(e, 100), expectedPairs(e * e, 5);
    for (int expert : {7, 0, 3}) {
      ++expectedFirst[expert];
    }
    for (auto [i, j] : {std::pair(3, 7), {7, 18}, {3, 18}, {0, 18}, {0, 3}, {3, 18}, {3, 18}, {0, 3}, {0, 18}}) {
      ++expectedPairs[i * e + j];
    }
    EXPECT_TRUE(std::equal(first.begin(), first.end(), expectedFirst.begin()));
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
      EXPECT_NEAR(double(probabilities[i]) / RoutingStatisticsKernel::probabilityUnit, expected, 1e-6);
    }
  }
}

/// Of two routers each has a first choice and probabilities of its own; pairs are counted across both.
TEST_P(RowKernelsTest, RoutingStatisticsOfSeveralRouters) {
  const int64_t e = 4, k = 2, rows = 2;
  Guarded<float> logits{0, 1, 2, 2, 3, 0, 0, 0};
  Guarded<int32_t> ids{1, 2, 0, 3};
  Guarded<int64_t> first(e, 0), probabilities(e, 0), pairs(e * e, 0);
  run(RoutingStatisticsKernel{false}, 1,
      {word(logits), word(ids), word(rows), word(e), word(k), word(int64_t(2)), word(first), word(probabilities),
       word(pairs)});
  EXPECT_EQ(first, (Guarded<int64_t>{1, 1, 1, 1}));
  EXPECT_EQ(pairs, (Guarded<int64_t>{0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  auto softmax = [](double own, double other) { return 1 / (1 + std::exp(other - own)); };
  const double expected[] = {softmax(0, 1) + softmax(3, 0), softmax(1, 0) + softmax(0, 3), 1, 1};
  for (int64_t i = 0; i < e; ++i) {
    EXPECT_NEAR(double(probabilities[i]) / RoutingStatisticsKernel::probabilityUnit, expected[i], 1e-6);
  }
}

TEST_P(RowKernelsTest, EmbeddingGatherAddCombineCopy) {
  const int64_t h = 21, k = 3;
  Tensor table = random(bf16, 5 * h), rows(f32, 2 * h), gathered(f32, 2 * h), sum(f32, 2 * h), combined(f32, 2 * h);
  Guarded<int32_t> tokens{4, 1}, swapped{1, 0};
  run(EmbeddingKernel{bf16, f32}, 2, {word(tokens), word(table), word(rows), word(h)});
  run(GatherRowsKernel{}, 2, {word(rows), word(swapped), word(gathered), word(h)});
  run(AddKernel{f32, f32, f32}, 2, {word(rows), word(gathered), word(sum), word(h)});
  Tensor ys = random(f32, 2 * k * h), weights = random(f32, 2 * k);
  run(CombineKernel{f32, f32, true}, 2, {word(ys), word(weights), word(combined), word(h), word(k), word(rows)});
  for (int64_t i = 0; i < h; ++i) {
    EXPECT_EQ(rows[i], table[4 * h + i]);
    EXPECT_EQ(gathered[i], table[h + i]);
    EXPECT_EQ(sum[i], rows[i] + gathered[i]);
    double expected = rows[i];
    for (int64_t j = 0; j < k; ++j) {
      expected += double(weights[j]) * ys[j * h + i];
    }
    EXPECT_NEAR(combined[i], expected, 1e-5);
  }
  Guarded<char> narrow(2 * 77), wide(2 * 100, 'w');
  std::iota(narrow.begin(), narrow.end(), 0);
  run(CopyRowsKernel{}, 2, {word(narrow), word(wide), word(int64_t(77)), word(int64_t(100))});
  EXPECT_TRUE(std::equal(narrow.begin(), narrow.begin() + 77, wide.begin()));
  EXPECT_TRUE(std::equal(narrow.begin() + 77, narrow.end(), wide.begin() + 100));
  EXPECT_EQ(wide[77], 'w');
}

INSTANTIATE_TEST_SUITE_P(Targets, RowKernelsTest, ::testing::ValuesIn(runnableTargets()), [](const auto &info) {
  std::string name = info.param->name.str();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

} // namespace
