//===- Formulas.h - Formulas that the kernels of all targets share --------===//
//
// Written for any builder with numbers, fma, min, max, select, exp, erf and
// sigmoid; a value may be a scalar or a vector.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_KERNELS_FORMULAS_H
#define MOE_LOWERING_KERNELS_FORMULAS_H

#include "dialects/Moe/IR/MoeOps.h"
#include "lowering/Kernels/Values.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

namespace mlir::moe::kernels {

/// sin and cos of f64 angles up to 2^31: reduction by pi/2 in two parts, Taylor
/// series to 1e-13 on [-pi/4, pi/4].
template <typename Builder> std::pair<Num, Num> emitSinCos(Builder &b, Num angle) {
  Type type = angle.value.getType();
  auto c = [&](double v) { return b.number(v, type); };
  Num turns{&b, math::RoundEvenOp::create(b, (angle * c(0.63661977236758134308)).value)};
  Num r = b.fma(c(-1.57079632679489655800), turns, angle);
  r = b.fma(c(-6.12323399573676603587e-17), turns, r);
  Num r2 = r * r;
  Num sine = c(-7.6471637318198164759e-13), cosine = c(-1.1470745597729724714e-11);
  for (double term : {1.6059043836821614599e-10, -2.5052108385441718775e-8, 2.7557319223985890653e-6,
                      -1.9841269841269841270e-4, 8.3333333333333333333e-3, -1.6666666666666666667e-1}) {
    sine = b.fma(sine, r2, c(term));
  }
  sine = b.fma(sine * r2, r, r);
  for (double term : {2.0876756987868098979e-9, -2.7557319223985890653e-7, 2.4801587301587301587e-5,
                      -1.3888888888888888889e-3, 4.1666666666666666667e-2, -0.5, 1.0}) {
    cosine = b.fma(cosine, r2, c(term));
  }
  // Quadrant: odd turns swap sine and cosine, the second bit changes signs.
  auto vector = dyn_cast<VectorType>(type);
  Type ints = vector ? Type(vector.clone(b.getI64Type())) : b.getI64Type();
  Value quadrant = arith::FPToSIOp::create(b, ints, turns.value);
  auto bitSet = [&](Value value, int64_t bit) -> Value {
    Value masked = arith::AndIOp::create(b, value, b.integer(bit, ints));
    return arith::CmpIOp::create(b, arith::CmpIPredicate::ne, masked, b.integer(0, ints));
  };
  Value one = b.integer(1, ints);
  Value odd = bitSet(quadrant, 1), flipSine = bitSet(quadrant, 2);
  Value flipCosine = bitSet(arith::AddIOp::create(b, quadrant, one), 2);
  Num s = b.select(odd, cosine, sine), k = b.select(odd, sine, cosine);
  return {b.select(flipSine, c(0.0) - s, s), b.select(flipCosine, c(0.0) - k, k)};
}

/// The activation of an FFN on f32 values; `up` only for gated forms, `alpha` and `limit` for OssSwiglu.
template <typename Builder>
Num emitActivation(Builder &b, Activation activation, Num gate, std::optional<Num> up, Num alpha, Num limit) {
  Type type = gate.value.getType();
  Num one = b.number(1.0, type);
  Num value = gate;
  switch (activation) {
  case Activation::Silu:
    value = gate * b.sigmoid(gate);
    break;
  case Activation::Gelu: {
    Num erf = b.erf(gate * b.number(0.70710678118654752440, type));
    value = b.number(0.5, type) * gate * (one + erf);
    break;
  }
  case Activation::GeluTanh: {
    // 0.5 (1 + tanh(z)) is sigmoid(2z).
    Num z = b.number(0.79788456080286535588, type) * b.fma(b.number(0.044715, type) * gate * gate, gate, gate);
    value = gate * b.sigmoid(z + z);
    break;
  }
  case Activation::Relu:
    value = b.max(gate, b.number(0.0, type));
    break;
  case Activation::OssSwiglu: {
    Num g = b.min(gate, limit);
    Num u = b.max(b.min(*up, limit), b.number(0.0, type) - limit);
    return g * b.sigmoid(alpha * g) * (u + one);
  }
  }
  return up ? value * *up : value;
}

} // namespace mlir::moe::kernels

#endif // MOE_LOWERING_KERNELS_FORMULAS_H
