//===- RowShapesTest.cpp - All other kernels for 0, 1, 7, 64, 65, 300 tokens ---===//
//
// Row kernels, routing and computed weights at every number of tokens or rows
// (attention: AttentionKernelTest.cpp). Widths are odd multiples of 8. What only moves or adds is compared bit
// for bit, on whole numbers; the rest within bounds that are derived where they
// stand (Bounds.h says what `unit` is).
//
//===----------------------------------------------------------------------===//

#include "test/lowering/GPU/Bounds.h"
#include "test/lowering/GPU/KernelHarness.h"
#include <numeric>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;
using namespace mlir::moe::gpu::test;

namespace {

class GpuRowShapesTest : public KernelTest, public testing::WithParamInterface<int64_t> {
protected:
  const int64_t rows = GetParam();

  Guarded<int32_t> numbers(int64_t count, int32_t below) {
    Guarded<int32_t> list(count);
    for (int32_t &value : list) {
      value = static_cast<int32_t>(generator() % below);
    }
    return list;
  }

  static constexpr int64_t sequences = 8, context = 168;
  /// Up to 45 tokens a sequence, each of which begins where another would be: at 0, 20, 40, ...
  void place(Guarded<int32_t> &seq, Guarded<int32_t> &pos) {
    for (int64_t t = 0; t < rows; ++t) {
      seq.push_back(static_cast<int32_t>(t / 45));
      pos.push_back(static_cast<int32_t>(t % 45 + 20 * (t / 45)));
    }
    fit(seq);
    fit(pos);
  }

  void checkRoute(Score score, Renormalize renormalize, bool bias, bool grouped) {
    SCOPED_TRACE(testing::Message() << "score " << static_cast<int>(score) << " bias " << bias << " grouped "
                                    << grouped);
    const int64_t e = 40, k = 3, groups = grouped ? 4 : 1, keep = grouped ? 2 : 1, size = e / groups;
    // Multiples of 1/16, no two of a token the same: what is larger is beyond doubt.
    Guarded<float> logits(rows * e), shifts(e);
    for (int64_t t = 0; t < rows; ++t) {
      std::vector<int> order(e);
      std::iota(order.begin(), order.end(), 0);
      std::shuffle(order.begin(), order.end(), generator);
      for (int64_t i = 0; i < e; ++i) {
        logits[t * e + i] = static_cast<float>(order[i]) / 16 - 1;
      }
    }
    for (int64_t i = 0; i < e; ++i) {
      shifts[i] = static_cast<float>(i % 5) / 2;
    }
    Guarded<int32_t> experts(rows * k);
    Tensor weights(f32, rows * k);
    std::vector<Argument> arguments{in(logits)};
    if (bias) {
      arguments.push_back(in(shifts));
    }
    const float epsilon = 1e-20f, scale = 1.5f;
    arguments.insert(arguments.end(), {out(experts), out(weights), e, k, epsilon, scale, groups, keep});
    run(kernels::Route{score, renormalize, bias ? f32 : Type(), grouped, GroupScore::Top2Sum}, rows, arguments);
    std::vector<Bounded> expected;
    for (int64_t t = 0; t < rows; ++t) {
      std::vector<double> scores(e), choices(e);
      double total = 0;
      for (int64_t i = 0; i < e; ++i) {
        const double logit = logits[t * e + i];
        scores[i] = score == Score::Sigmoid ? 1 / (1 + std::exp(-logit)) : std::exp(logit);
        total += scores[i];
      }
      for (int64_t i = 0; i < e; ++i) {
        scores[i] /= score == Score::Softmax ? total : 1;
        choices[i] = scores[i] + (bias ? shifts[i] : 0);
      }
      if (grouped) {
        std::vector<double> best;
        for (int64_t group = 0; group < groups; ++group) {
          std::vector<double> sorted(choices.begin() + group * size, choices.begin() + (group + 1) * size);
          std::sort(sorted.rbegin(), sorted.rend());
          best.push_back(sorted[0] + sorted[1]);
        }
        std::vector<double> sorted = best;
        std::sort(sorted.rbegin(), sorted.rend());
        for (int64_t i = 0; i < e; ++i) {
          choices[i] = best[i / size] >= sorted[keep - 1] ? choices[i] : -1e30;
        }
      }
      std::vector<int32_t> order(e);
      std::iota(order.begin(), order.end(), 0);
      std::sort(order.begin(), order.end(), [&](int32_t a, int32_t c) { return choices[a] > choices[c]; });
      double chosen = 0;
      for (int64_t j = 0; j < k; ++j) {
        ASSERT_EQ(experts[t * k + j], order[j]) << "token " << t << ", choice " << j;
        chosen += scores[order[j]];
      }
      for (int64_t j = 0; j < k; ++j) {
        const double weight = scale * scores[order[j]] / (renormalize == Renormalize::Sum ? chosen : 1);
        // Exponentials, a sum of E and one of K, two divisions and a product.
        expected.push_back({weight, weight * (e + k + 20) * unit});
      }
    }
    expectWithin(weights, expected);
  }

  /// A stable sort of `ids` by expert; -1 is nobody's.
  void checkSort(const Guarded<int32_t> &ids, int64_t k, int64_t e) {
    Guarded<int32_t> choices = ids, active(e + 1, -7), offsets(e + 1), slots(rows * k, -7);
    Guarded<int64_t> counts(e, 3);
    run(kernels::SortByExpert{}, 1,
        {in(choices), rows, e, k, update(active), out(offsets), update(slots), update(counts)});
    WorkList expected(std::vector<int>(ids.begin(), ids.end()), e);
    EXPECT_EQ(offsets, expected.offsets);
    EXPECT_EQ(active[0], expected.active[0]);
    EXPECT_TRUE(std::equal(active.begin() + 1, active.begin() + 1 + active[0], expected.active.begin() + 1));
    EXPECT_TRUE(std::equal(expected.slots.begin(), expected.slots.end(), slots.begin()));
    EXPECT_TRUE(std::all_of(slots.begin() + static_cast<int64_t>(expected.slots.size()), slots.end(),
                            [](int32_t slot) { return slot == -7; }));
    for (int64_t i = 0; i < e; ++i) {
      EXPECT_EQ(counts[i], 3 + offsets[i + 1] - offsets[i]);
    }
  }
};

TEST_P(GpuRowShapesTest, MovesAndSums) {
  const int64_t h = 200, vocabulary = 9, k = 3;
  Guarded<int32_t> tokens = numbers(rows, vocabulary),
                   list = numbers(rows, std::max<int32_t>(1, static_cast<int32_t>(rows)));
  Tensor table = integers(bf16, vocabulary * h, 9), embedded(f32, rows * h), gathered(f32, rows * h),
         sum(f32, rows * h), combined(f32, rows * h), parts = integers(f32, rows * k * h, 9),
         weights = integers(f32, rows * k, 3);
  run(kernels::Embedding{bf16, f32}, rows, {in(tokens), in(table), out(embedded), h});
  run(kernels::GatherRows{}, rows, {in(embedded), in(list), out(gathered), h});
  run(kernels::Add{f32, f32, f32}, rows, {in(embedded), in(gathered), out(sum), h});
  run(kernels::Combine{f32, f32, true}, rows, {in(parts), in(weights), out(combined), h, k, in(sum)});
  for (int64_t i = 0; i < rows * h; ++i) {
    const int64_t row = i / h, column = i % h;
    ASSERT_EQ(embedded[i], table[tokens[row] * h + column]);
    ASSERT_EQ(gathered[i], table[tokens[list[row]] * h + column]);
    ASSERT_EQ(sum[i], embedded[i] + gathered[i]);
    float expected = sum[i];
    for (int64_t j = 0; j < k; ++j) {
      expected += weights[row * k + j] * parts[(row * k + j) * h + column];
    }
    ASSERT_EQ(combined[i], expected);
  }
}

TEST_P(GpuRowShapesTest, Combine) {
  const int64_t h = 40, k = 5;
  Tensor parts = random(bf16, rows * k * h), weights = random(f32, rows * k), ys(bf16, rows * h);
  run(kernels::Combine{bf16, bf16, false}, rows, {in(parts), in(weights), out(ys), h, k});
  std::vector<Bounded> expected;
  for (int64_t i = 0; i < rows * h; ++i) {
    Sum sum;
    for (int64_t j = 0; j < k; ++j) {
      sum.add(weights[i / h * k + j], parts[(i / h * k + j) * h + i % h]);
    }
    expected.push_back(stored(sum.result(), bf16));
  }
  expectWithin(ys, expected);
}

TEST_P(GpuRowShapesTest, RMSNorm) {
  const int64_t n = 72;
  for (Type type : {f32, bf16}) {
    // So small that epsilon counts.
    Tensor xs = random(f32, rows * n, 0.01f), ws = random(bf16, n), ys(type, rows * n);
    run(kernels::RMSNorm{f32, bf16, type, ScaleRounding::BeforeWeight}, rows,
        {in(xs), in(ws), out(ys), int64_t(1), n, 1e-5f});
    std::vector<Bounded> expected;
    for (int64_t i = 0; i < rows * n; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < n; ++j) {
        sum += double(xs[i / n * n + j]) * xs[i / n * n + j];
      }
      // The sum is off by n roundings, of which the root takes half; root, quotients and products are correct to a
      // unit.
      const double scaled = xs[i] / std::sqrt(sum / n + 1e-5);
      const Bounded normed = stored({scaled, std::abs(scaled) * (n / 2.0 + 6) * unit}, type);
      expected.push_back(stored(normed * Bounded{ws[i % n], 0}, type));
    }
    expectWithin(ys, expected);
  }
}

TEST_P(GpuRowShapesTest, RotaryEmbedding) {
  const int64_t heads = 2, d = 40, half = 12, offset = 8;
  Guarded<int32_t> pos = numbers(rows, 100000);
  Tensor frequencies(f32, half), angles(f32, rows * 2 * half), xs = random(f32, rows * heads * d),
                                                               ys(f32, rows * heads * d);
  for (int64_t i = 0; i < half; ++i) {
    frequencies.set(i, static_cast<float>(std::pow(10000.0, -2.0 * i / (2 * half))));
  }
  run(kernels::RopeAngles{}, rows, {in(pos), in(frequencies), out(angles), half, 1.25f});
  std::vector<Bounded> expected;
  for (int64_t i = 0; i < rows * 2 * half; ++i) {
    const int64_t row = i / (2 * half), column = i % (2 * half);
    const double angle = frequencies[column % half] * static_cast<float>(pos[row]);
    const double value = column < half ? std::cos(angle) : std::sin(angle);
    expected.push_back({1.25 * value, 3 * unit}); // exact to f32, then a product
  }
  expectWithin(angles, expected);
  for (bool interleaved : {false, true}) {
    run(kernels::Rope{f32, interleaved}, rows, {in(xs), in(angles), out(ys), heads, d, half, offset});
    expected.clear();
    for (int64_t i = 0; i < rows * heads * d; ++i) {
      const int64_t turned = i % d - offset, row = i / (heads * d);
      if (turned < 0 || turned >= 2 * half) {
        expected.push_back({xs[i], 0});
        continue;
      }
      const bool isFirst = interleaved ? turned % 2 == 0 : turned < half;
      const int64_t pair = interleaved ? turned / 2 : turned % half, distance = interleaved ? 1 : half;
      Sum sum;
      sum.add(xs[i], angles[row * 2 * half + pair]);
      sum.add(xs[isFirst ? i + distance : i - distance],
              isFirst ? -angles[row * 2 * half + half + pair] : angles[row * 2 * half + half + pair]);
      expected.push_back(stored(sum.result(), f32));
    }
    expectWithin(ys, expected);
  }
}

TEST_P(GpuRowShapesTest, CacheWrite) {
  const int64_t keyRow = 40, valueRow = 24;
  Guarded<int32_t> seq, pos;
  place(seq, pos);
  Tensor ks = random(f32, rows * keyRow), vs = random(f32, rows * valueRow),
         keys = random(bf16, sequences * context * keyRow), values = random(bf16, sequences * context * valueRow),
         expectedKeys = keys, expectedValues = values;
  run(kernels::CacheWrite{f32, bf16}, rows,
      {in(ks), in(vs), in(seq), in(pos), update(keys), update(values), keyRow, valueRow, context});
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t i = 0; i < keyRow; ++i) {
      expectedKeys.set((seq[t] * context + pos[t]) * keyRow + i, ks[t * keyRow + i]);
    }
    for (int64_t i = 0; i < valueRow; ++i) {
      expectedValues.set((seq[t] * context + pos[t]) * valueRow + i, vs[t * valueRow + i]);
    }
  }
  EXPECT_TRUE(keys.data == expectedKeys.data && values.data == expectedValues.data);
}

TEST_P(GpuRowShapesTest, Route) {
  checkRoute(Score::Softmax, Renormalize::Sum, false, false);
  checkRoute(Score::Sigmoid, Renormalize::Sum, true, true);
  checkRoute(Score::Softmax, Renormalize::None, false, false);
}

/// Of equal values the lowest index wins, a NaN is told with its place, and rows of -inf have a first.
TEST_P(GpuRowShapesTest, Pick) {
  for (int64_t count : {1, 40, 3000, 17001}) {
    if (count > 3000 && rows > 7) {
      continue;
    }
    Tensor logits = integers(f32, rows * count, 1000);
    std::vector<int32_t> expected;
    for (int64_t t = 0; t < rows; ++t) {
      const int64_t kind = t % 4, at = (t * 37 + 11) % count;
      for (int64_t i = 0; kind == 1 && i < count; ++i) {
        logits.set(t * count + i, -INFINITY);
      }
      if (kind == 2) { // twice the largest
        logits.set(t * count + at, 5000);
        logits.set(t * count + count - 1, 5000);
      }
      if (kind == 3) {
        logits.set(t * count + at, NAN);
        logits.set(t * count + count - 1, NAN);
        logits.set(t * count, INFINITY);
      }
      int64_t best = 0, nan = -1;
      for (int64_t i = count - 1; i >= 0; --i) {
        const float value = logits[t * count + i];
        nan = std::isnan(value) ? i : nan;
      }
      for (int64_t i = 0; i < count; ++i) {
        best = logits[t * count + i] > logits[t * count + best] ? i : best;
      }
      expected.push_back(static_cast<int32_t>(nan >= 0 ? -1 - nan : best));
    }
    Guarded<int32_t> picked(rows);
    run(kernels::Pick{}, rows, {in(logits), out(picked), count});
    EXPECT_TRUE(std::equal(picked.begin(), picked.end(), expected.begin())) << count;
  }
}

TEST_P(GpuRowShapesTest, Sort) {
  const int64_t k = 2, e = 9;
  for (int form = 0; form < 3; ++form) {
    SCOPED_TRACE(form);
    Guarded<int32_t> ids(rows * k);
    for (int64_t i = 0; i < rows * k; ++i) {
      // All to one; most to one, some to nobody, several experts without work; evenly.
      const int32_t skewed = i % 11 == 3 ? -1 : i % 7 == 2 ? 8 : 2;
      ids[i] = form == 0 ? 4 : form == 1 ? skewed : static_cast<int32_t>(i % e);
    }
    checkSort(ids, k, e);
  }
}

TEST_P(GpuRowShapesTest, Statistics) {
  const int64_t e = 11, k = 3, routers = 1;
  Guarded<float> logits(rows * e);
  Guarded<int32_t> ids(rows * k);
  Guarded<int64_t> firsts(e, 1), probabilities(e, 0), pairs(e * e, 2);
  std::vector<int64_t> expectedFirsts(e, 1), expectedPairs(e * e, 2);
  std::vector<double> expected(e);
  for (int64_t t = 0; t < rows; ++t) {
    double total = 0;
    for (int64_t i = 0; i < e; ++i) {
      logits[t * e + i] = static_cast<float>((t * 5 + i * 7) % 23) / 8 - 1;
      total += std::exp(double(logits[t * e + i]));
    }
    const bool isPadding = t % 6 == 4;
    for (int64_t j = 0; j < k; ++j) {
      ids[t * k + j] = isPadding ? -1 : static_cast<int32_t>((t + j * 4) % e);
    }
    if (isPadding) {
      continue;
    }
    ++expectedFirsts[ids[t * k]];
    for (int64_t i = 0; i < e; ++i) {
      expected[i] += std::exp(double(logits[t * e + i])) / total;
    }
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = i + 1; j < k; ++j) {
        ++expectedPairs[std::min(ids[t * k + i], ids[t * k + j]) * e + std::max(ids[t * k + i], ids[t * k + j])];
      }
    }
  }
  run(kernels::RoutingStatistics{false}, 1,
      {in(logits), in(ids), rows, e, k, routers, update(firsts), update(probabilities), update(pairs)});
  EXPECT_TRUE(std::equal(firsts.begin(), firsts.end(), expectedFirsts.begin()));
  EXPECT_TRUE(std::equal(pairs.begin(), pairs.end(), expectedPairs.begin()));
  for (int64_t i = 0; i < e; ++i) {
    // Of each token the softmax's roundings, and the fraction that the integer drops.
    EXPECT_NEAR(double(probabilities[i]) / kernels::RoutingStatistics::probabilityUnit, expected[i],
                expected[i] * (e + 12) * unit + double(rows) / kernels::RoutingStatistics::probabilityUnit);
  }
}

TEST_P(GpuRowShapesTest, PaddingAndPlaces) {
  const int64_t k = 2, e = 5, slotCount = 8, perRank = 4, rank = 1, slotsOfBatch = 4;
  Guarded<int32_t> ids = numbers(rows * k, static_cast<int32_t>(e)), seq = numbers(rows, 4), masked(rows * k);
  run(kernels::MaskPadding{}, rows, {in(ids), in(seq), out(masked), k, slotsOfBatch});
  for (int64_t i = 0; i < rows * k; ++i) {
    ASSERT_EQ(masked[i], seq[i / k] == slotsOfBatch - 1 ? -1 : ids[i]);
  }
  // Expert 1 has three replicas, 3 has two; shares are not equal.
  Guarded<int32_t> begins{0, 1, 4, 5, 7, 8}, slots{0, 4, 1, 6, 5, 2, 7, 3}, shares{1, 2, 1, 3, 1, 1, 2, 1},
      totals{1, 6, 1, 3, 1};
  for (bool countOwn : {false, true}) {
    Guarded<int32_t> local(rows * k);
    Guarded<int64_t> taken(e + slotCount), counts(e, 5);
    run(kernels::Localize{countOwn}, 1,
        {in(masked), rows, k, out(local), in(begins), in(slots), in(shares), in(totals), out(taken), update(counts), e,
         slotCount, perRank, rank});
    std::vector<int64_t> ofExpert(e), ofReplica(slotCount), expectedCounts(e, 5);
    for (int64_t i = 0; i < rows * k; ++i) {
      int32_t expected = -1;
      if (const int32_t expert = masked[i]; expert >= 0) {
        // The replica that is furthest behind its share, the first of equals.
        int32_t best = begins[expert];
        auto behind = [&](int32_t r) { return (ofExpert[expert] + 1) * shares[r] - ofReplica[r] * totals[expert]; };
        for (int32_t r = best + 1; r < begins[expert + 1]; ++r) {
          best = behind(r) > behind(best) ? r : best;
        }
        ++ofExpert[expert];
        ++ofReplica[best];
        const bool isOwn = slots[best] / perRank == rank;
        expected = isOwn ? slots[best] - static_cast<int32_t>(rank * perRank) : -1;
        expectedCounts[expert] += !countOwn || isOwn;
      }
      ASSERT_EQ(local[i], expected) << i;
    }
    EXPECT_TRUE(std::equal(counts.begin(), counts.end(), expectedCounts.begin()));
  }
}

TEST_P(GpuRowShapesTest, Copies) {
  for (auto [bytes, stride] : {std::pair<int64_t, int64_t>(40, 64), {37, 50}}) {
    Guarded<char> narrow(rows * bytes), wide(rows * stride, 'w'), part(rows * 8);
    for (char &byte : narrow) {
      byte = static_cast<char>(generator());
    }
    run(kernels::CopyRows{}, rows, {in(narrow), update(wide), bytes, stride});
    run(kernels::CopyPart{}, rows, {in(narrow), out(part), int64_t(8), bytes, int64_t(8), int64_t(2), int64_t(5)});
    for (int64_t i = 0; i < rows * stride; ++i) {
      ASSERT_EQ(wide[i], i % stride < bytes ? narrow[i / stride * bytes + i % stride] : 'w');
    }
    for (int64_t i = 0; i < rows * 8; ++i) {
      ASSERT_EQ(part[i], narrow[i / 8 * bytes + 16 + i % 8]);
    }
  }
}

TEST_P(GpuRowShapesTest, ComputedWeights) {
  const int64_t n = 40, stride = 48, length = 3;
  Tensor xs = random(bf16, rows * n), others = random(f32, rows * n), by = random(f32, n),
         ys = random(f32, rows * stride);
  const Tensor before = ys;
  auto check = [&](auto expectedAt) {
    for (int64_t i = 0; i < rows * stride; ++i) {
      const bool isWritten = i % stride < n;
      const double expected = isWritten ? expectedAt(i / stride * n + i % stride) : before[i];
      ASSERT_NEAR(ys[i], expected, isWritten ? unit * std::abs(expected) : 0) << i; // one rounding
    }
  };
  run(kernels::ScaleRows{bf16, f32, Type(), f32, false}, rows, {in(xs), in(by), update(ys), n, length, stride});
  check([&](int64_t i) { return double(xs[i]) * by[i / n % length]; });
  run(kernels::ScaleRows{bf16, f32, Type(), f32, true}, rows, {in(xs), in(by), update(ys), n, n, stride});
  check([&](int64_t i) { return double(xs[i]) * by[i % n]; });
  run(kernels::SumRows{{bf16, f32}, f32}, rows, {in(xs), in(others), update(ys), n, stride});
  check([&](int64_t i) { return double(xs[i]) + others[i]; });
  run(kernels::FloorRows{bf16, f32}, rows, {in(xs), update(ys), n, stride, 0.5f});
  check([&](int64_t i) { return std::abs(xs[i]) < 0.5 ? 0.5 : double(xs[i]); });
}

TEST_P(GpuRowShapesTest, Product) {
  const int64_t k = 24, n = 40, stride = 48;
  for (bool exact : {true, false}) {
    Tensor left = exact ? integers(f32, rows * k) : random(f32, rows * k),
           right = exact ? integers(bf16, k * n) : random(bf16, k * n), ys = random(f32, rows * stride);
    const Tensor before = ys;
    const int64_t block = kernels::Product::blockRows;
    run(kernels::Product{f32, bf16, f32}, (rows + block - 1) / block,
        {in(left), in(right), update(ys), rows, k, n, stride});
    std::vector<Bounded> expected;
    for (int64_t i = 0; i < rows * stride; ++i) {
      if (i % stride >= n) {
        expected.push_back({before[i], 0});
        continue;
      }
      Sum sum;
      for (int64_t j = 0; j < k; ++j) {
        sum.add(left[i / stride * k + j], right[j * n + i % stride]);
      }
      expected.push_back(sum.result());
    }
    expectWithin(ys, expected, exact);
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, GpuRowShapesTest, testing::Values(0, 1, 7, 64, 65, 300));

} // namespace
