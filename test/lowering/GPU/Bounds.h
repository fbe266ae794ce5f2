//===- Bounds.h - How far a kernel's result may be from f64 ---------------===//
//
// A value in f64 and how far what a kernel computes may be from it, element by
// element. Kernels add and multiply in f32 and round once to the storage type, so
// that the bounds follow from the operands: `unit` is half a unit in the last
// place of f32, relative to the result of an operation.
//
// Not first order only where it matters: products of two errors are counted.
// Library functions are allowed a few units, as docs/gpu.md says of them.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_LOWERING_GPU_BOUNDS_H
#define MOE_TEST_LOWERING_GPU_BOUNDS_H

#include "test/lowering/Tensors.h"
#include <cmath>

namespace mlir::moe::gpu::test {

using moe::test::Tensor;

constexpr double unit = 0x1p-24;

/// What a store to `type` may add, relative to the value.
inline double rounding(Type type) { return type.isBF16() ? 0x1p-8 : type.isF16() ? 0x1p-11 : unit; }

struct Bounded {
  double value = 0, error = 0;
};

/// A sum of products, fused or not, in any order: as many roundings as terms, each relative to a partial sum, none of
/// which is above the sum of magnitudes.
class Sum {
public:
  void add(Bounded a, double factor) {
    value += a.value * factor;
    magnitude += std::abs(a.value * factor);
    inherited += a.error * std::abs(factor);
    ++terms;
  }
  void add(double a, double factor) { add(Bounded{a, 0}, factor); }
  Bounded result() const { return {value, inherited + (terms + 1) * unit * (magnitude + inherited)}; }

private:
  double value = 0, magnitude = 0, inherited = 0;
  int64_t terms = 0;
};

inline Bounded operator*(Bounded a, Bounded b) {
  const double error = std::abs(a.value) * b.error + std::abs(b.value) * a.error + a.error * b.error;
  return {a.value * b.value, error + unit * (std::abs(a.value * b.value) + error)};
}
inline Bounded stored(Bounded a, Type type) {
  return {a.value, a.error + rounding(type) * (std::abs(a.value) + a.error)};
}
/// The slope of silu is never above 1.1; exponential, sum, quotient and product: eight units.
inline Bounded silu(Bounded x) {
  const double value = x.value / (1 + std::exp(-x.value));
  return {value, 1.1 * x.error + 8 * unit * std::abs(value)};
}
inline Bounded relu(Bounded x) { return {std::max(x.value, 0.0), x.error}; }

/// Every element is within its bound; NaN fails. `exact`: the bounds are zero.
inline void expectWithin(const Tensor &actual, const std::vector<Bounded> &expected, bool exact = false) {
  ASSERT_EQ(actual.size(), static_cast<int64_t>(expected.size()));
  for (int64_t i = 0; i < actual.size(); ++i) {
    const double bound = exact ? 0 : expected[i].error;
    if (!(std::abs(actual[i] - expected[i].value) <= bound)) {
      FAIL() << "element " << i << ": got " << actual[i] << ", expected " << expected[i].value << " within " << bound;
    }
  }
}

} // namespace mlir::moe::gpu::test

#endif // MOE_TEST_LOWERING_GPU_BOUNDS_H
