//===- MatmulShapesTest.cpp - Products for 0, 1, 7, 64, 65, 300 tokens ----===//
//
// Every form of a product at every number of tokens: one less and one more than
// tiles, none, many. Widths are odd multiples of 8, so that the last vector, tile
// and box of each row is a part only. Once on small whole numbers, where every
// order of sums gives the same and nothing may differ, and once on random ones
// within the bounds of Bounds.h.
//
//===----------------------------------------------------------------------===//

#include "test/lowering/GPU/Bounds.h"
#include "test/lowering/GPU/KernelHarness.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;
using namespace mlir::moe::gpu::test;

namespace {

/// How tokens fall on experts.
enum class Routing { OneForAll, Skewed, Spread };

class GpuMatmulShapesTest : public KernelTest, public testing::WithParamInterface<int64_t> {
protected:
  const int64_t tokens = GetParam();

  kernels::Matmul configure(Type x, Type out, bool many, int64_t k, int64_t n) {
    kernels::Matmul kernel;
    kernel.x = x;
    kernel.weight = bf16;
    kernel.out = out;
    kernel.many = many;
    kernel.nDivisible = true;
    catalogue.specialise(kernel, k, n);
    return kernel;
  }
  int64_t tiles(const kernels::Matmul &kernel, int64_t n) {
    const int64_t outputs = catalogue.matmulTile(kernel).outputs;
    return (n + outputs - 1) / outputs;
  }
  int64_t workgroups(const kernels::Matmul &kernel, int64_t rows, int64_t n) {
    const int64_t chunk = catalogue.matmulTile(kernel).rows;
    return tiles(kernel, n) * (kernel.many ? (rows + chunk - 1) / chunk : 1);
  }
  /// Whole numbers, most of which are zero, so that what two layers make of them is exact in bf16 too.
  Tensor values(Type type, int64_t size, bool exact) {
    if (!exact) {
      return random(type, size, 0.5f);
    }
    Tensor tensor = integers(type, size, 1);
    for (int64_t i = 0; i < size; ++i) {
      tensor.set(i, generator() % 4 ? 0.0f : tensor[i]);
    }
    return tensor;
  }
  static Bounded dot(const std::vector<Bounded> &x, int64_t from, const Tensor &weight, int64_t row, int64_t k) {
    Sum sum;
    for (int64_t i = 0; i < k; ++i) {
      sum.add(x[from + i], weight[row * k + i]);
    }
    return sum.result();
  }
  static std::vector<Bounded> known(const Tensor &tensor) {
    std::vector<Bounded> all(tensor.size());
    for (int64_t i = 0; i < tensor.size(); ++i) {
      all[i].value = tensor[i];
    }
    return all;
  }

  void checkLinear(Type x, bool many, int64_t k, int64_t n, bool exact) {
    const int64_t rows = tokens;
    SCOPED_TRACE(testing::Message() << rows << " rows, K " << k << ", N " << n << ", many " << many << ", exact "
                                    << exact);
    kernels::Matmul kernel = configure(x, f32, many, k, n);
    kernel.bias = bf16;
    kernel.residual = true;
    Tensor xs = values(x, rows * k, exact), ws = values(bf16, n * k, exact), bias = values(bf16, n, exact),
           base = values(f32, rows * n, exact), ys(f32, rows * n);
    // A bias may begin anywhere.
    run(kernel, workgroups(kernel, rows, n),
        {in(xs), k, rows, matrix(ws, n, k), n, out(ys), in(bias).behind(1, bias), in(base)});
    const std::vector<Bounded> inputs = known(xs);
    std::vector<Bounded> expected;
    for (int64_t i = 0; i < rows * n; ++i) {
      Sum sum;
      sum.add(dot(inputs, i / n * k, ws, i % n, k), 1);
      sum.add(bias[i % n], 1);
      sum.add(base[i], 1);
      expected.push_back(stored(sum.result(), f32));
    }
    expectWithin(ys, expected, exact);
  }

  /// act(x G^T) * (x U^T), then down with a residual. Exact: with relu.
  void checkFeedForward(bool many, int64_t h, int64_t width, bool exact) {
    const int64_t rows = tokens;
    SCOPED_TRACE(testing::Message() << rows << " rows, H " << h << ", I " << width << ", many " << many << ", exact "
                                    << exact);
    kernels::Matmul up = configure(bf16, bf16, many, h, width), down = configure(bf16, f32, many, width, h);
    up.gated = true;
    up.up = bf16;
    up.activation = exact ? Activation::Relu : Activation::Silu;
    down.residual = true;
    Tensor xs = values(bf16, rows * h, exact), gates = values(bf16, width * h, exact),
           ups = values(bf16, width * h, exact), downs = values(bf16, h * width, exact),
           base = values(f32, rows * h, exact), hidden(bf16, rows * width), ys(f32, rows * h);
    run(up, workgroups(up, rows, width),
        {in(xs), h, rows, matrix(gates, width, h), matrix(ups, width, h), width, out(hidden)});
    run(down, workgroups(down, rows, h), {in(hidden), width, rows, matrix(downs, h, width), h, out(ys), in(base)});
    const std::vector<Bounded> inputs = known(xs);
    std::vector<Bounded> expected;
    for (int64_t i = 0; i < rows * width; ++i) {
      const Bounded g = dot(inputs, i / width * h, gates, i % width, h),
                    u = dot(inputs, i / width * h, ups, i % width, h);
      expected.push_back(stored((exact ? relu(g) : silu(g)) * u, bf16));
    }
    expectWithin(hidden, expected, exact);
    // The second product by itself: its operand is what the first one stored.
    const std::vector<Bounded> middle = known(hidden);
    expected.clear();
    for (int64_t i = 0; i < rows * h; ++i) {
      Sum sum;
      sum.add(dot(middle, i / h * width, downs, i % h, width), 1);
      sum.add(base[i], 1);
      expected.push_back(stored(sum.result(), f32));
    }
    expectWithin(ys, expected, exact);
  }

  void checkExperts(Type x, bool many, Routing routing, bool exact) {
    SCOPED_TRACE(testing::Message() << tokens << " tokens, routing " << static_cast<int>(routing) << ", many " << many
                                    << ", exact " << exact);
    const int64_t h = 40, width = 24, topK = 2, e = 5, rows = tokens * topK;
    std::vector<int> expertOf(rows);
    for (int64_t slot = 0; slot < rows; ++slot) {
      const int first = routing == Routing::Spread ? static_cast<int>(slot / topK % e) : 3;
      // Skewed: of the second choices all but every ninth fall on one expert too; two experts get nothing.
      const int second = routing == Routing::OneForAll ? -1
                         : routing == Routing::Spread  ? (first + 1 + static_cast<int>(slot / 7 % 3)) % 5
                                                       : (slot % 9 ? 1 : 4);
      expertOf[slot] = slot % topK == 0 ? first : second;
    }
    WorkList work(expertOf, e);
    std::vector<Tensor> gates, ups, downs, biases;
    for (int i = 0; i < e; ++i) {
      gates.push_back(values(bf16, width * h, exact));
      ups.push_back(values(bf16, width * h, exact));
      downs.push_back(values(bf16, h * width, exact));
      biases.push_back(values(bf16, h, exact));
    }
    kernels::Matmul up = configure(x, x, many, h, width), down = configure(x, f32, many, width, h);
    up.experts = up.tokenRows = down.experts = true;
    up.gated = true;
    up.up = bf16;
    up.activation = exact ? Activation::Relu : Activation::Silu;
    down.bias = bf16;
    const auto sorted = static_cast<int64_t>(work.slots.size());
    // Rows of the second product are slots; those of nobody stay as they are.
    Tensor xs = values(x, tokens * h, exact), hidden(x, sorted * width), ys = values(f32, rows * h, exact);
    const std::vector<Bounded> before = known(ys), inputs = known(xs);
    Guarded<int32_t> list = work.list(target, up);
    run(up, e * tiles(up, width),
        {in(xs), h, in(list), in(work.offsets), in(work.slots), topK, matrices(gates, width, h),
         matrices(ups, width, h), width, out(hidden)});
    run(down, e * tiles(down, h),
        {in(hidden), width, in(list), in(work.offsets), in(work.slots), topK, matrices(downs, h, width), h, update(ys),
         table(biases)});
    std::vector<Bounded> expected;
    for (int64_t i = 0; i < sorted * width; ++i) {
      const int32_t slot = work.slots[i / width];
      const Bounded g = dot(inputs, slot / topK * h, gates[expertOf[slot]], i % width, h),
                    u = dot(inputs, slot / topK * h, ups[expertOf[slot]], i % width, h);
      expected.push_back(stored((exact ? relu(g) : silu(g)) * u, x));
    }
    expectWithin(hidden, expected, exact);
    const std::vector<Bounded> middle = known(hidden);
    expected = before;
    for (int64_t i = 0; i < sorted * h; ++i) {
      const int32_t slot = work.slots[i / h];
      Sum sum;
      sum.add(dot(middle, i / h * width, downs[expertOf[slot]], i % h, width), 1);
      sum.add(biases[expertOf[slot]][i % h], 1);
      expected[slot * h + i % h] = stored(sum.result(), f32);
    }
    expectWithin(ys, expected, exact);
  }
};

TEST_P(GpuMatmulShapesTest, Linear) {
  for (bool exact : {true, false}) {
    for (bool many : {true, false}) {
      checkLinear(bf16, many, 40, 24, exact);
    }
    checkLinear(f32, true, 24, 40, exact);
    checkLinear(bf16, true, 200, 136, exact); // several steps along K, more than a tile of outputs
  }
}

TEST_P(GpuMatmulShapesTest, FeedForward) {
  for (bool many : {true, false}) {
    checkFeedForward(many, 40, 24, true);
    checkFeedForward(many, 24, 72, false);
  }
}

/// Several FFNs side by side: as wide as all of them together.
TEST_P(GpuMatmulShapesTest, FusedFeedForward) {
  for (bool exact : {true, false}) {
    checkFeedForward(tokens > 7, 40, tokens > 65 ? 280 : 4 * 280, exact);
  }
}

TEST_P(GpuMatmulShapesTest, Experts) {
  for (Routing routing : {Routing::OneForAll, Routing::Skewed, Routing::Spread}) {
    checkExperts(bf16, true, routing, true);
  }
  checkExperts(bf16, true, Routing::Skewed, false);
  checkExperts(bf16, false, Routing::Skewed, true);
  checkExperts(f32, true, Routing::Spread, false);
}

INSTANTIATE_TEST_SUITE_P(Tokens, GpuMatmulShapesTest, testing::Values(0, 1, 7, 64, 65, 300));

} // namespace
