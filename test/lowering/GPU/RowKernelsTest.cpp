//===- RowKernelsTest.cpp - Norm, rope, cache, weights against loops ---===//

#include "test/lowering/GPU/KernelHarness.h"
#include <numeric>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;
using namespace mlir::moe::gpu::test;

namespace {

class GpuRowKernelsTest : public KernelTest {};

TEST_F(GpuRowKernelsTest, RMSNorm) {
  for (int64_t n : {1, 72, 500}) {
    for (Type type : {f32, bf16}) {
      const int64_t rows = 3, groups = 2;
      Tensor xs = random(f32, rows * groups * n, 3.0f), ws = random(bf16, n), ys(type, rows * groups * n);
      run(kernels::RMSNorm{f32, bf16, type, ScaleRounding::BeforeWeight}, rows,
          {in(xs), in(ws), out(ys), groups, n, 1e-5f});
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
      expectNear(ys, expected, 1e-6, type.isBF16() ? 0x1p-7 : 2e-6);
    }
  }
}

/// A kernel that does not wait for the one before it is in a race with it: that it does is what `run` shows of all.
TEST_F(GpuRowKernelsTest, MissingWait) {
  if (!target.launchesEarly) {
    return; // they run on another card
  }
  Tensor xs = random(f32, 144), ws = random(bf16, 72), ys(f32, 144);
  const kernels::Kernel kernel = kernels::RMSNorm{f32, bf16, f32, ScaleRounding::BeforeWeight};
  std::string name, text = translate(kernel, name);
  const std::string wait = "griddepcontrol.wait;";
  ASSERT_NE(text.find(wait), std::string::npos);
  text.erase(text.find(wait), wait.size());
  launch(text, name, kernel, 2, {in(xs), in(ws), out(ys), int64_t(1), int64_t(72), 1e-5f}, /*early=*/true);
  expectRace();
}

/// Positions as far as contexts go today: the angles are f32 products, their sine must still be exact.
TEST_F(GpuRowKernelsTest, Rope) {
  for (bool interleaved : {false, true}) {
    const int64_t heads = 2, d = 40, half = 12, offset = 8;
    Guarded<int32_t> pos{0, 1, 17, 1000, 131071, 1048575};
    const int64_t tokens = static_cast<int64_t>(pos.size());
    Guarded<float> frequencies(half), angles(tokens * 2 * half);
    for (int64_t i = 0; i < half; ++i) {
      frequencies[i] = static_cast<float>(std::pow(10000.0, -2.0 * i / (2 * half)));
    }
    run(kernels::RopeAngles{}, tokens, {in(pos), in(frequencies), out(angles), half, 1.25f});
    Tensor xs = random(f32, tokens * heads * d), ys(f32, tokens * heads * d);
    run(kernels::Rope{f32, interleaved}, tokens, {in(xs), in(angles), out(ys), heads, d, half, offset});
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

TEST_F(GpuRowKernelsTest, CacheWrite) {
  const int64_t tokens = 3, keyRow = 10, valueRow = 6, context = 4, sequences = 2;
  Guarded<int32_t> seq{1, 0, 1}, pos{3, 0, 0};
  Tensor ks = random(f32, tokens * keyRow), vs = random(f32, tokens * valueRow);
  Tensor keys = random(bf16, sequences * context * keyRow), values = random(bf16, sequences * context * valueRow);
  Tensor keysBefore = keys;
  run(kernels::CacheWrite{f32, bf16}, tokens,
      {in(ks), in(vs), in(seq), in(pos), update(keys), update(values), keyRow, valueRow, context});
  std::vector<double> expected(keys.size());
  for (int64_t i = 0; i < keys.size(); ++i) {
    expected[i] = keysBefore[i];
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < keyRow; ++i) {
      expected[(seq[t] * context + pos[t]) * keyRow + i] = ks[t * keyRow + i];
    }
    for (int64_t i = 0; i < valueRow; ++i) {
      EXPECT_NEAR(values[(seq[t] * context + pos[t]) * valueRow + i], vs[t * valueRow + i],
                  0x1p-8 * std::abs(vs[t * valueRow + i]));
    }
  }
  expectNear(keys, expected, 0, 0x1p-8);
}

TEST_F(GpuRowKernelsTest, EmbeddingGatherAddCombine) {
  const int64_t h = 201, k = 3;
  Tensor table = random(bf16, 5 * h), rows(f32, 2 * h), gathered(f32, 2 * h), sum(f32, 2 * h), combined(f32, 2 * h);
  Guarded<int32_t> tokens{4, 1}, swapped{1, 0};
  run(kernels::Embedding{bf16, f32}, 2, {in(tokens), in(table), out(rows), h});
  run(kernels::GatherRows{}, 2, {in(rows), in(swapped), out(gathered), h});
  run(kernels::Add{f32, f32, f32}, 2, {in(rows), in(gathered), out(sum), h});
  Tensor ys = random(f32, 2 * k * h), weights = random(f32, 2 * k);
  run(kernels::Combine{f32, f32, true}, 2, {in(ys), in(weights), out(combined), h, k, in(rows)});
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
}

/// Aligned rows go by 16 bytes, others by single ones.
TEST_F(GpuRowKernelsTest, Copies) {
  for (auto [bytes, stride] : {std::pair<int64_t, int64_t>(77, 100), {64, 96}, {4096, 4096}}) {
    Guarded<char> narrow(2 * bytes), wide(2 * stride, 'w');
    std::iota(narrow.begin(), narrow.end(), 0);
    run(kernels::CopyRows{}, 2, {in(narrow), update(wide), bytes, stride});
    EXPECT_TRUE(std::equal(narrow.begin(), narrow.begin() + bytes, wide.begin()));
    EXPECT_TRUE(std::equal(narrow.begin() + bytes, narrow.end(), wide.begin() + stride));
    EXPECT_TRUE(bytes == stride || wide[bytes] == 'w');
  }
  // Rank 3 of 4, two copies each: the second half of every row.
  Guarded<char> whole(2 * 32), part(2 * 16);
  std::iota(whole.begin(), whole.end(), 0);
  run(kernels::CopyPart{}, 2, {in(whole), out(part), int64_t(16), int64_t(32), int64_t(16), int64_t(2), int64_t(3)});
  EXPECT_TRUE(std::equal(part.begin(), part.begin() + 16, whole.begin() + 16));
  EXPECT_TRUE(std::equal(part.begin() + 16, part.end(), whole.begin() + 48));
}

TEST_F(GpuRowKernelsTest, ScaleSumFloor) {
  const int64_t rows = 4, n = 150, stride = 160;
  Tensor xs = random(bf16, rows * n), others = random(f32, rows * n), by = random(f32, n), over = random(f32, n);
  Tensor ys = random(bf16, rows * stride);
  auto check = [&](auto expectedAt) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < n; ++i) {
        double expected = expectedAt(r, i);
        ASSERT_NEAR(ys[r * stride + i], expected, 0x1p-8 * std::abs(expected)) << r << " " << i;
      }
    }
  };
  run(kernels::ScaleRows{bf16, f32, f32, bf16, true}, rows, {in(xs), in(by), in(over), update(ys), n, n, stride});
  check([&](int64_t r, int64_t i) { return double(xs[r * n + i]) * by[i] / over[i]; });
  run(kernels::ScaleRows{bf16, f32, Type(), bf16, false}, rows, {in(xs), in(by), update(ys), n, int64_t(3), stride});
  check([&](int64_t r, int64_t i) { return double(xs[r * n + i]) * by[r % 3]; });
  run(kernels::SumRows{{bf16, f32}, bf16}, rows, {in(xs), in(others), update(ys), n, stride});
  check([&](int64_t r, int64_t i) { return double(xs[r * n + i]) + others[r * n + i]; });
  run(kernels::FloorRows{bf16, bf16}, rows, {in(xs), update(ys), n, stride, 0.5f});
  check([&](int64_t r, int64_t i) { return std::abs(xs[r * n + i]) < 0.5 ? 0.5 : double(xs[r * n + i]); });
}

TEST_F(GpuRowKernelsTest, Product) {
  const int64_t m = 7, k = 37, n = 150, stride = 151;
  Tensor left = random(f32, m * k), right = random(bf16, k * n), ys = random(f32, m * stride);
  Tensor before = ys;
  run(kernels::Product{f32, bf16, f32}, (m + 3) / 4, {in(left), in(right), update(ys), m, k, n, stride});
  std::vector<double> expected(m * stride);
  for (int64_t i = 0; i < m * stride; ++i) {
    expected[i] = i % stride < n ? 0 : before[i];
    for (int64_t j = 0; j < k && i % stride < n; ++j) {
      expected[i] += double(left[i / stride * k + j]) * right[j * n + i % stride];
    }
  }
  expectNear(ys, expected, 1e-6 * k, 1e-6);
}

} // namespace
