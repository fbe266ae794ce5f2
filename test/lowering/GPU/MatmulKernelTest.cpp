//===- MatmulKernelTest.cpp - Linear and expert products against plain loops ---===//
//
// Tolerance: sums of K terms of order 1 in f32 (K * 2^-24 each way, relative to
// the sum of absolute values), plus the rounding of the output type.
//
//===----------------------------------------------------------------------===//

#include "test/lowering/GPU/KernelHarness.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;
using namespace mlir::moe::gpu::test;

namespace {

double silu(double x) { return x / (1 + std::exp(-x)); }

class GpuMatmulTest : public KernelTest {
protected:
  using KernelTest::KernelTest;

  kernels::Matmul configure(Type x, Type weight, Type out, bool many, int64_t k, int64_t n) {
    kernels::Matmul kernel;
    kernel.x = x;
    kernel.weight = weight;
    kernel.out = out;
    kernel.many = many;
    kernel.nDivisible = true;
    catalogue.specialise(kernel, k, n);
    return kernel;
  }
  int64_t tiles(const kernels::Matmul &kernel, int64_t n) {
    const int64_t tile = catalogue.matmulTile(kernel).outputs;
    return (n + tile - 1) / tile;
  }
  int64_t chunks(const kernels::Matmul &kernel, int64_t rows) {
    const int64_t chunk = catalogue.matmulTile(kernel).rows;
    return kernel.many ? (rows + chunk - 1) / chunk : 1;
  }
  double relative(Type out) { return out.isBF16() ? 0x1p-8 : 1e-6; }

  void checkLinear(Type x, Type weight, Type type, bool many, int64_t rows, int64_t k, int64_t n, bool bias = false,
                   bool residual = false) {
    SCOPED_TRACE(testing::Message() << "rows " << rows << " k " << k << " n " << n << " many " << many);
    kernels::Matmul kernel = configure(x, weight, type, many, k, n);
    kernel.bias = bias ? weight : Type();
    kernel.residual = residual;
    Tensor xs = random(x, rows * k), ws = random(weight, n * k), bs = random(weight, n), base = random(f32, rows * n);
    Tensor ys(type, rows * n);
    std::vector<Argument> arguments{in(xs), k, rows, matrix(ws, n, k), n, out(ys)};
    if (bias) {
      arguments.push_back(in(bs));
    }
    if (residual) {
      arguments.push_back(in(base));
    }
    run(kernel, tiles(kernel, n) * chunks(kernel, rows), arguments);
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
    expectNear(ys, expected, 1e-6 * k, relative(type));
  }

  void checkExperts(Type type, bool many, bool gated, int64_t tokens, int64_t h, int64_t width);
  void checkGrids(const std::vector<int> &expertOf, llvm::function_ref<std::vector<int64_t>(int64_t)> grids);
};

TEST_F(GpuMatmulTest, FewTokens) {
  checkLinear(f32, f32, f32, false, 1, 64, 48);
  checkLinear(f32, bf16, f32, false, 2, 96, 40, true);
  checkLinear(bf16, bf16, f32, false, 7, 128, 64, false, true);
  checkLinear(bf16, bf16, bf16, false, 1, 520, 17);
  checkLinear(bf16, f16, f32, false, 1, 33, 5, true, true);
  checkLinear(bf16, f16, f32, false, 1, 64, 6);
  checkLinear(bf16, bf16, f32, false, 8, 35, 1);
}

TEST_F(GpuMatmulTest, ManyTokens) {
  checkLinear(f32, f32, f32, true, 7, 64, 64);
  checkLinear(f32, bf16, f32, true, 13, 96, 130, true);
  checkLinear(bf16, bf16, f32, true, 64, 128, 64, false, true);
  checkLinear(bf16, bf16, bf16, true, 65, 72, 17, true);
  checkLinear(bf16, f16, f32, true, 9, 33, 5, true, true);
  checkLinear(bf16, bf16, f32, true, 130, 34, 70);
  checkLinear(bf16, bf16, f32, true, 65, 200, 136);
  checkLinear(bf16, bf16, f32, true, 64, 32, 64); // one step along K
  checkLinear(bf16, bf16, bf16, true, 300, 136, 72);
  checkLinear(bf16, bf16, f32, true, 129, 328, 258, true, true); // more steps than stages, two tiles of outputs
  checkLinear(bf16, bf16, bf16, true, 3, 8, 8, true);
}

TEST_F(GpuMatmulTest, NoTokens) {
  checkLinear(f32, f32, f32, false, 0, 64, 48);
  checkLinear(bf16, bf16, f32, true, 0, 64, 48);
}

/// Small integers: every product and sum is exact, whatever the order.
TEST_F(GpuMatmulTest, ExactOnIntegers) {
  for (bool many : {false, true}) {
    const int64_t rows = many ? 70 : 3, k = 136, n = 72;
    Tensor xs(bf16, rows * k), ws(bf16, n * k), ys(f32, rows * n);
    for (int64_t i = 0; i < rows * k; ++i) {
      xs.set(i, static_cast<float>(i * 7 % 11 - 5));
    }
    for (int64_t i = 0; i < n * k; ++i) {
      ws.set(i, static_cast<float>(i * 5 % 13 - 6));
    }
    kernels::Matmul kernel = configure(bf16, bf16, f32, many, k, n);
    run(kernel, tiles(kernel, n) * chunks(kernel, rows), {in(xs), k, rows, matrix(ws, n, k), n, out(ys)});
    for (int64_t i = 0; i < rows * n; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < k; ++j) {
        sum += double(xs[i / n * k + j]) * ws[i % n * k + j];
      }
      ASSERT_EQ(ys[i], sum) << i;
    }
  }
}

TEST_F(GpuMatmulTest, SegmentsShareX) {
  for (bool many : {false, true}) {
    const int64_t rows = many ? 21 : 5, k = 64, sizes[] = {96, 32, 33};
    kernels::Matmul kernel = configure(bf16, bf16, bf16, many, k, sizes[2]);
    kernel.segments = 3;
    kernel.bias = f32;
    Tensor xs = random(bf16, rows * k);
    std::vector<Tensor> ws, ys, bs;
    std::vector<Argument> arguments{in(xs), k, rows};
    int64_t count = 0;
    for (int64_t n : sizes) {
      ws.push_back(random(bf16, n * k));
      bs.push_back(random(f32, n));
      ys.emplace_back(bf16, rows * n);
      catalogue.specialise(kernel, k, n);
      count += tiles(kernel, n);
    }
    for (int i = 0; i < 3; ++i) {
      arguments.insert(arguments.end(), {matrix(ws[i], sizes[i], k), sizes[i], out(ys[i]), in(bs[i])});
    }
    run(kernel, count * chunks(kernel, rows), arguments);
    for (int s = 0; s < 3; ++s) {
      std::vector<double> expected(rows * sizes[s]);
      for (int64_t i = 0; i < rows * sizes[s]; ++i) {
        expected[i] = bs[s][i % sizes[s]];
        for (int64_t j = 0; j < k; ++j) {
          expected[i] += double(xs[i / sizes[s] * k + j]) * ws[s][i % sizes[s] * k + j];
        }
      }
      expectNear(ys[s], expected, 1e-6 * k, relative(bf16));
    }
  }
}

/// Every activation in the gated form, and without a gate where there is one.
TEST_F(GpuMatmulTest, Activations) {
  const int64_t rows = 2, k = 40, n = 24;
  const float alpha = 1.702f, limit = 1.5f;
  for (Activation activation :
       {Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::OssSwiglu}) {
    for (bool gated : {true, false}) {
      if (!gated && activation == Activation::OssSwiglu) {
        continue;
      }
      kernels::Matmul kernel = configure(f32, bf16, f32, false, k, n);
      kernel.activation = activation;
      kernel.gated = gated;
      kernel.up = gated ? bf16 : Type();
      Tensor xs = random(f32, rows * k), gates = random(bf16, n * k, 0.3f), ups = random(bf16, n * k, 0.3f),
             ys(f32, rows * n);
      std::vector<Argument> arguments{in(xs), k, rows, in(gates)};
      if (gated) {
        arguments.push_back(in(ups));
      }
      arguments.insert(arguments.end(), {n, out(ys)});
      if (activation == Activation::OssSwiglu) {
        arguments.insert(arguments.end(), {alpha, limit});
      }
      run(kernel, tiles(kernel, n), arguments);
      std::vector<double> expected(rows * n);
      for (int64_t i = 0; i < rows * n; ++i) {
        double g = 0, u = 0;
        for (int64_t j = 0; j < k; ++j) {
          g += double(xs[i / n * k + j]) * gates[i % n * k + j];
          u += double(xs[i / n * k + j]) * ups[i % n * k + j];
        }
        double value = 0;
        switch (activation) {
        case Activation::Silu:
          value = silu(g);
          break;
        case Activation::Gelu:
          value = g * (1 + std::erf(g / std::sqrt(2.0))) / 2;
          break;
        case Activation::GeluTanh:
          value = g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))) / 2;
          break;
        case Activation::Relu:
          value = std::max(g, 0.0);
          break;
        case Activation::OssSwiglu: {
          const double a = std::min<double>(g, limit), c = std::max<double>(std::min<double>(u, limit), -limit);
          value = a / (1 + std::exp(-alpha * a)) * (c + 1);
          break;
        }
        }
        expected[i] = gated && activation != Activation::OssSwiglu ? value * u : value;
      }
      expectNear(ys, expected, 1e-5, 1e-5);
    }
  }
}

/// Gate/up then down over routed tokens; expert 1 gets no token, expert 2 nearly all.
void GpuMatmulTest::checkExperts(Type type, bool many, bool gated, int64_t tokens, int64_t h, int64_t width) {
  SCOPED_TRACE(testing::Message() << "tokens " << tokens << " many " << many << " gated " << gated);
  const int64_t topK = 2, e = 4;
  std::vector<int> expertOf(tokens * topK);
  for (int64_t slot = 0; slot < tokens * topK; ++slot) {
    expertOf[slot] = slot % topK == 0 ? 2 : (slot == 1 ? 3 : 0);
  }
  WorkList work(expertOf, e);
  Tensor xs = random(type, tokens * h), hidden(type, tokens * topK * width), ys(f32, tokens * topK * h);
  std::vector<Tensor> gate, up, down, upBias;
  for (int i = 0; i < e; ++i) {
    gate.push_back(random(bf16, width * h, 0.2f));
    up.push_back(random(bf16, width * h, 0.2f));
    down.push_back(random(bf16, h * width, 0.2f));
    upBias.push_back(random(bf16, width));
  }
  kernels::Matmul first = configure(type, bf16, type, many, h, width);
  first.experts = first.tokenRows = true;
  first.gated = gated;
  first.up = gated ? bf16 : Type();
  first.activation = Activation::Silu;
  first.bias = bf16;
  first.upBias = gated ? bf16 : Type();
  Guarded<int32_t> list = work.list(target, first);
  std::vector<Argument> arguments{
      in(xs), h, in(list), in(work.offsets), in(work.slots), topK, matrices(gated ? gate : up, width, h)};
  if (gated) {
    arguments.push_back(matrices(up, width, h));
  }
  arguments.insert(arguments.end(), {width, out(hidden), table(upBias)});
  if (gated) {
    arguments.push_back(table(upBias));
  }
  run(first, e * tiles(first, width), arguments);
  kernels::Matmul second = configure(type, bf16, f32, many, width, h);
  second.experts = true;
  run(second, e * tiles(second, h),
      {in(hidden), width, in(list), in(work.offsets), in(work.slots), topK, matrices(down, h, width), h, out(ys)});
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
  // In bf16 the hidden activation was rounded: 2^-9 of each of 40 terms of about 0.5.
  expectNear(ys, expected, type.isBF16() ? 0.05 : 1e-4, type.isBF16() ? 0.01 : 1e-5);
}

TEST_F(GpuMatmulTest, Experts) {
  checkExperts(bf16, false, true, 1, 48, 40);
  checkExperts(f32, false, true, 7, 48, 40);
  checkExperts(f32, true, false, 11, 35, 24);
  checkExperts(bf16, true, true, 70, 48, 40);
  checkExperts(bf16, true, false, 37, 64, 72);
  checkExperts(bf16, true, true, 1, 40, 24);
  checkExperts(bf16, true, true, 300, 40, 24);
  checkExperts(bf16, true, false, 150, 136, 40); // several tiles of rows and of outputs
}

/// Rows of three experts, exactly, by each number of workgroups.
void GpuMatmulTest::checkGrids(const std::vector<int> &expertOf,
                               llvm::function_ref<std::vector<int64_t>(int64_t)> grids) {
  const int64_t rows = static_cast<int64_t>(expertOf.size()), k = 8, n = 136, e = 3, topK = 1;
  WorkList work(expertOf, e);
  std::vector<Tensor> weights;
  for (int64_t i = 0; i < e; ++i) {
    weights.push_back(integers(bf16, n * k));
  }
  Tensor xs = integers(bf16, rows * k);
  kernels::Matmul kernel = configure(bf16, bf16, f32, true, k, n);
  kernel.experts = kernel.tokenRows = true;
  Guarded<int32_t> list = work.list(target, kernel);
  for (int64_t workgroups : grids(list[0] * tiles(kernel, n))) {
    SCOPED_TRACE(testing::Message() << workgroups << " workgroups");
    Tensor ys(f32, rows * n);
    run(kernel, workgroups,
        {in(xs), k, in(list), in(work.offsets), in(work.slots), topK, matrices(weights, n, k), n, out(ys)});
    for (int64_t i = 0; i < rows * n; ++i) {
      const int32_t slot = work.slots[i / n];
      float expected = 0;
      for (int64_t j = 0; j < k; ++j) {
        expected += xs[slot * k + j] * weights[expertOf[slot]][i % n * k + j];
      }
      ASSERT_EQ(ys[i], expected) << "slot " << slot << ", output " << i % n;
    }
  }
}

/// Nearly all rows on one expert, so many that they are two bands of tiles; fewer workgroups than tiles, and more.
TEST_F(GpuMatmulTest, SkewedExperts) {
  const int64_t rows = 17 * expertTileRows(target) + 5;
  std::vector<int> expertOf(rows, 1);
  expertOf[7] = 2;
  expertOf[rows - 1] = 0;
  checkGrids(expertOf, [](int64_t tiles) { return std::vector<int64_t>{7, tiles + 2}; });
}

/// As if cards had three multiprocessors, so that few workgroups are several rounds.
class GpuMatmulRoundsTest : public GpuMatmulTest {
protected:
  GpuMatmulRoundsTest() : GpuMatmulTest(smallTarget()) {}

  static const GpuTarget &smallTarget() {
    static const GpuTarget target = [] {
      GpuTarget made = emulatedTarget();
      made.name = "small"; // what translate() knows it by
      made.multiprocessors = 3;
      return made;
    }();
    return target;
  }
};

/// One round, several, a last one of one or two workgroups; tiles that come out even or not, and fewer than workgroups.
TEST_F(GpuMatmulRoundsTest, Grids) {
  const int64_t tileRows = expertTileRows(target);
  std::vector<int> expertOf(5 * tileRows, 1);
  expertOf.resize(7 * tileRows - 1, 2);
  expertOf.resize(8 * tileRows, 0);
  checkGrids(expertOf, [](int64_t tiles) { return std::vector<int64_t>{1, 3, 4, 5, 6, 7, 9, tiles - 1, tiles, 20}; });
}

/// What the kernel for decode promises: 16 bytes of weights at a time, nothing in local memory.
TEST_F(GpuMatmulTest, Text) {
  std::string name, text = translate(configure(bf16, bf16, f32, false, 64, 64), name);
  EXPECT_NE(text.find(".visible .entry linear_few_bf16_bf16_f32("), std::string::npos) << text.substr(0, 400);
  EXPECT_NE(text.find("ld.global.nc.v4.b32"), std::string::npos);
  EXPECT_EQ(text.find(".local"), std::string::npos);
  EXPECT_NE(text.find(".reqntid 128"), std::string::npos);
  EXPECT_EQ(text.find("call"), std::string::npos);
}

/// What the kernel for many tokens promises: tensor cores fed by asynchronous copies, within what a block has.
TEST_F(GpuMatmulTest, TextOfTiles) {
  kernels::Matmul kernel = configure(bf16, bf16, bf16, true, 64, 64);
  kernel.gated = true;
  kernel.up = bf16;
  kernel.activation = Activation::Silu;
  const std::vector<const char *> tiles{"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
                                        "ldmatrix.sync.aligned.m8n8.x4", "cp.async.cg.shared.global",
                                        "cp.async.wait_group"},
      warpgroups{".target sm_90a",
                 ".reqntid 384",
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16",
                 "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes",
                 "cp.async.cg.shared.global",
                 "mbarrier.arrive.expect_tx",
                 "setmaxnreg.dec.sync.aligned.u32 72",
                 "setmaxnreg.inc.sync.aligned.u32 216",
                 "st.global.b32"};
  std::string name, text = translate(kernel, name);
  for (const char *promised : target.hasWarpgroups ? warpgroups : tiles) {
    EXPECT_NE(text.find(promised), std::string::npos) << promised;
  }
  EXPECT_EQ(text.find(".local"), std::string::npos);
  text = translate(configure(f32, bf16, f32, true, 64, 64), name);
  EXPECT_EQ(text.find("mma"), std::string::npos);
}

} // namespace
