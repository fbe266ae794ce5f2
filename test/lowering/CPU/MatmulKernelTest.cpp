//===- MatmulKernelTest.cpp - Linear and expert products against plain loops ---===//
//
// Tolerance: sums of K terms of order 1 in f32 (K * 2^-24 each way, relative to
// the sum of absolute values), plus the rounding of the output type.
//
//===----------------------------------------------------------------------===//

#include "test/lowering/CPU/KernelHarness.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::cpu;
using namespace mlir::moe::cpu::test;

namespace {

class MatmulTest : public KernelTest {
protected:
  MatmulKernel configure(Type x, Type weight, Type out, bool many, int64_t k, int64_t n) {
    MatmulKernel kernel;
    kernel.x = x;
    kernel.weight = weight;
    kernel.out = out;
    kernel.many = many;
    kernel.kOdd = k % 2 != 0;
    kernel.kDivisible = k % kernel.kStep(target) == 0;
    kernel.nDivisible = n % target.lanes == 0;
    return kernel;
  }
  double relative(Type out) { return out.isBF16() ? 0x1p-8 : 1e-6; }

  static double silu(double x) { return x / (1 + std::exp(-x)); }

  void checkLinear(Type x, Type weight, Type out, bool many, int64_t rows, int64_t k, int64_t n, bool bias,
                   bool residual) {
    SCOPED_TRACE(testing::Message() << "rows " << rows << " k " << k << " n " << n << " many " << many);
    MatmulKernel kernel = configure(x, weight, out, many, k, n);
    kernel.bias = bias ? weight : Type();
    kernel.residual = residual;
    Tensor xs = random(x, rows * k), ws = random(weight, n * k), bs = random(weight, n), base = random(f32, rows * n);
    Tensor ys(out, rows * n);
    std::vector<uint64_t> arguments{word(xs), word(k), word(rows), word(ws), word(n), word(ys)};
    if (bias) {
      arguments.push_back(word(bs));
    }
    if (residual) {
      arguments.push_back(word(base));
    }
    int64_t tiles = (n + kernel.tile(target, many) - 1) / kernel.tile(target, many);
    int64_t chunks = many ? (rows + kernel.chunkRows - 1) / kernel.chunkRows : 1;
    run(kernel, tiles * chunks, arguments);
    std::vector<double> expected(rows * n);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        double sum = bias ? bs[c] : 0;
        for (int64_t i = 0; i < k; ++i) {
          sum += double(xs[r * k + i]) * ws[c * k + i];
        }
        expected[r * n + c] = sum + (residual ? base[r * n + c] : 0);
      }
    }
    expectNear(ys, expected, 1e-6 * k, relative(out));
  }
};

TEST_P(MatmulTest, FewTokens) {
  checkLinear(f32, f32, f32, false, 1, 64, 48, false, false);
  checkLinear(f32, bf16, f32, false, 2, 96, 40, true, false);
  checkLinear(bf16, bf16, f32, false, 3, 128, 64, false, true);
  checkLinear(bf16, bf16, bf16, false, 1, 72, 17, false, false);
  checkLinear(bf16, f16, f32, false, 1, 33, 5, true, true);
  checkLinear(bf16, bf16, f32, false, 1, 35, 1, false, false);
}

TEST_P(MatmulTest, ManyTokens) {
  checkLinear(f32, f32, f32, true, 7, 64, 64, false, false);
  checkLinear(f32, bf16, f32, true, 13, 96, 130, true, false);
  checkLinear(bf16, bf16, f32, true, 31, 128, 64, false, true);
  checkLinear(bf16, bf16, bf16, true, 6, 72, 17, false, false);
  checkLinear(bf16, f16, f32, true, 5, 33, 5, true, true);
  checkLinear(bf16, bf16, f32, true, 300, 34, 70, false, false);
  // Vectors divide N, panels do not.
  checkLinear(f32, f32, f32, true, 9, 64, 16, false, false);
  checkLinear(bf16, bf16, f32, true, 9, 64, 80, false, false);
  // More than one packed panel along K.
  checkLinear(bf16, bf16, f32, true, 9, 4400, 20, false, false);
  checkLinear(f32, f32, f32, true, 9, 4400, 20, false, false);
}

/// Terms of one sign, so that the sum grows and every further addition is rounded at its size. Added up in one chain it
/// is off by 1e-6 relative in the root mean square, in chains of 128 by 1e-7.
TEST_P(MatmulTest, LongSumsAreNotOneChain) {
  for (bool many : {false, true}) {
    SCOPED_TRACE(testing::Message() << "many " << many);
    const int64_t rows = 12, k = 4096, n = 64;
    MatmulKernel kernel = configure(f32, f32, f32, many, k, n);
    Tensor xs = random(f32, rows * k), ws = random(f32, n * k), ys(f32, rows * n);
    for (Tensor *tensor : {&xs, &ws}) {
      for (int64_t i = 0; i < tensor->size(); ++i) {
        tensor->set(i, std::abs((*tensor)[i]));
      }
    }
    run(kernel, (n + kernel.tile(target, many) - 1) / kernel.tile(target, many),
        {word(xs), word(k), word(rows), word(ws), word(n), word(ys)});
    double squares = 0;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i) {
          sum += double(xs[r * k + i]) * ws[c * k + i];
        }
        squares += std::pow(ys[r * n + c] / sum - 1, 2);
      }
    }
    EXPECT_LT(std::sqrt(squares / double(rows * n)), 5e-7);
  }
}

/// x sigmoid(x) for every size of x: what is wrong in exp shows here. Seven roundings of 2^-24 at most; exp(-x) is
/// infinite below -88.7, and the result 0.
TEST_P(MatmulTest, SiluIsExact) {
  const int64_t n = 4096;
  MatmulKernel kernel = configure(f32, f32, f32, false, 1, n);
  kernel.activation = Activation::Silu;
  Tensor one(f32, 1), ws(f32, n), ys(f32, n);
  one.set(0, 1);
  std::vector<double> expected;
  for (int64_t i = 0; i < n; ++i) {
    ws.set(i, static_cast<float>(static_cast<double>(i - n / 2) * 0.0531));
    expected.push_back(silu(ws[i]));
  }
  run(kernel, (n + kernel.tile(target, false) - 1) / kernel.tile(target, false),
      {word(one), word(int64_t(1)), word(int64_t(1)), word(ws), word(n), word(ys)});
  expectNear(ys, expected, 1e-36, 7 * 0x1p-24);
  ws.set(0, std::nanf(""));
  run(kernel, (n + kernel.tile(target, false) - 1) / kernel.tile(target, false),
      {word(one), word(int64_t(1)), word(int64_t(1)), word(ws), word(n), word(ys)});
  EXPECT_TRUE(std::isnan(ys[0]));
}

TEST_P(MatmulTest, NoTokens) {
  checkLinear(f32, f32, f32, false, 0, 64, 48, false, false);
  checkLinear(f32, f32, f32, true, 0, 64, 48, false, false);
}

TEST_P(MatmulTest, SegmentsShareX) {
  for (bool many : {false, true}) {
    const int64_t rows = 5, k = 64, sizes[] = {96, 32, 33};
    MatmulKernel kernel = configure(bf16, bf16, bf16, many, k, sizes[2]);
    kernel.segments = 3;
    Tensor xs = random(bf16, rows * k);
    std::vector<Tensor> ws, ys;
    std::vector<uint64_t> arguments{word(xs), word(k), word(rows)};
    int64_t tiles = 0;
    for (int64_t n : sizes) {
      ws.push_back(random(bf16, n * k));
      ys.emplace_back(bf16, rows * n);
      tiles += (n + kernel.tile(target, many) - 1) / kernel.tile(target, many);
    }
    for (int i = 0; i < 3; ++i) {
      arguments.insert(arguments.end(), {word(ws[i]), word(sizes[i]), word(ys[i])});
    }
    run(kernel, tiles, arguments);
    for (int s = 0; s < 3; ++s) {
      std::vector<double> expected(rows * sizes[s]);
      for (int64_t i = 0; i < rows * sizes[s]; ++i) {
        for (int64_t j = 0; j < k; ++j) {
          expected[i] += double(xs[i / sizes[s] * k + j]) * ws[s][i % sizes[s] * k + j];
        }
      }
      expectNear(ys[s], expected, 1e-6 * k, relative(bf16));
    }
  }
}

/// Gate/up then down over routed tokens; expert 1 gets no token, expert 2
/// nearly all.
TEST_P(MatmulTest, Experts) {
  for (bool many : {false, true}) {
    for (bool gated : {true, false}) {
      const int64_t tokens = 11, topK = 2, e = 4, h = 48, width = 40;
      Guarded<int32_t> slots, offsets{0}, active{0, 0, 0, 0, 0};
      std::vector<int> expertOf(tokens * topK);
      for (int64_t slot = 0; slot < tokens * topK; ++slot) {
        expertOf[slot] = slot % topK == 0 ? 2 : (slot == 1 ? 3 : 0);
      }
      for (int expert = 0; expert < e; ++expert) {
        for (int64_t slot = 0; slot < tokens * topK; ++slot) {
          if (expertOf[slot] == expert) {
            slots.push_back(static_cast<int32_t>(slot));
          }
        }
        if (static_cast<int32_t>(slots.size()) > offsets.back()) {
          active[++active[0]] = expert;
        }
        offsets.push_back(static_cast<int32_t>(slots.size()));
      }
      fit(slots);
      fit(offsets);
      Tensor xs = random(bf16, tokens * h), hidden(bf16, tokens * topK * width), ys(f32, tokens * topK * h);
      std::vector<Tensor> gate, up, down, upBias;
      Guarded<uint64_t> gateTable, upTable, downTable, biasTable;
      for (int i = 0; i < e; ++i) {
        gate.push_back(random(bf16, width * h, 0.2f));
        up.push_back(random(bf16, width * h, 0.2f));
        down.push_back(random(bf16, h * width, 0.2f));
        upBias.push_back(random(bf16, width));
      }
      for (int i = 0; i < e; ++i) {
        gateTable.push_back(word(gate[i]));
        upTable.push_back(word(up[i]));
        downTable.push_back(word(down[i]));
        biasTable.push_back(word(upBias[i]));
      }
      for (Guarded<uint64_t> *table : {&gateTable, &upTable, &downTable, &biasTable}) {
        fit(*table);
      }
      MatmulKernel first = configure(bf16, bf16, bf16, many, h, width);
      first.experts = first.tokenRows = true;
      first.gated = gated;
      first.up = gated ? bf16 : Type();
      first.activation = Activation::Silu;
      first.bias = bf16;
      first.upBias = gated ? bf16 : Type();
      std::vector<uint64_t> arguments{word(xs), word(h), word(active), word(offsets), word(slots), word(topK)};
      arguments.push_back(word(gated ? gateTable : upTable));
      if (gated) {
        arguments.push_back(word(upTable));
      }
      arguments.insert(arguments.end(), {word(width), word(hidden), word(biasTable)});
      if (gated) {
        arguments.push_back(word(biasTable));
      }
      run(first, e * ((width + first.tile(target, many) - 1) / first.tile(target, many)), arguments);
      MatmulKernel second = configure(bf16, bf16, f32, many, width, h);
      second.experts = true;
      run(second, e * ((h + second.tile(target, many) - 1) / second.tile(target, many)),
          {word(hidden), word(width), word(active), word(offsets), word(slots), word(topK), word(downTable), word(h),
           word(ys)});
      std::vector<double> expected(tokens * topK * h);
      for (int64_t slot = 0; slot < tokens * topK; ++slot) {
        int expert = expertOf[slot];
        std::vector<double> mid(width);
        for (int64_t n = 0; n < width; ++n) {
          double g = upBias[expert][n], u = upBias[expert][n];
          for (int64_t i = 0; i < h; ++i) {
            g += double(xs[slot / topK * h + i]) * gate[expert][n * h + i];
            u += double(xs[slot / topK * h + i]) * up[expert][n * h + i];
          }
          mid[n] = gated ? silu(g) * u : silu(u);
        }
        for (int64_t n = 0; n < h; ++n) {
          for (int64_t i = 0; i < width; ++i) {
            expected[slot * h + n] += mid[i] * down[expert][n * width + i];
          }
        }
      }
      // The hidden activation was rounded to bf16: 2^-9 of each of 40 terms of
      // about 0.5.
      expectNear(ys, expected, 0.05, 0.01);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, MatmulTest, ::testing::ValuesIn(runnableTargets()), [](const auto &info) {
  std::string name = info.param->name.str();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

} // namespace
