//===- ReferenceFloat.cpp - Floating-point arithmetic, once more -----------===//
//
// PTX ISA 9.7.3 to 9.7.5: exact in SoftFloat.h where the ISA asks for IEEE
// results, within the error that it states for the .approx functions, with the
// special values of its tables. See Reference.h.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Reference.h"

#include <cmath>

namespace moert::emulator::testing {

using ptx::Instruction;
using ptx::Mode;
using ptx::Modifiers;
using ptx::Opcode;
using ptx::Round;
using ptx::Type;

namespace {

bool isPlainFloat(Type t) {
  return t == Type::F16 || t == Type::F16x2 || t == Type::BF16 || t == Type::BF16x2 || t == Type::F32 || t == Type::F64;
}

/// min and max: a NaN loses against a number unless .NaN; -0 is less than +0.
Allowed selected(const Instruction &i, Type type, uint64_t a, uint64_t b) {
  const Modifiers &mods = i.mods;
  const Layout layout = layoutOf(type);
  const uint64_t sign = uint64_t(1) << (layout.width() - 1);
  Number x = operandOf(a, type, mods.ftz), y = operandOf(b, type, mods.ftz);
  const bool differ = ((a ^ b) & sign) != 0;
  if (mods.xorsignAbs) {
    x.negative = y.negative = false;
  }
  const bool nx = x.kind == Number::NaN, ny = y.kind == Number::NaN;
  if ((nx && ny) || (mods.nan && (nx || ny))) {
    return type == Type::F64 ? Allowed::nan(layout) : Allowed::only(sign - 1);
  }
  Number r = x;
  if (nx || ny) {
    r = nx ? y : x;
  } else {
    int order = compared(x, y);
    if (order == 0) {
      order = x.negative == y.negative ? 0 : x.negative ? -1 : 1;
    }
    r = (i.op == Opcode::Min ? order <= 0 : order >= 0) ? x : y;
  }
  if (mods.xorsignAbs) {
    r.negative = differ;
  }
  return Allowed::only(rounded(r, layout, Round::RN));
}

/// Results of the .approx functions: `value` within `error`.
Allowed approximated(const Instruction &i, Type type, double x, double y) {
  const Modifiers &mods = i.mods;
  const Layout layout = layoutOf(type);
  const bool half = type == Type::F16, brain = type == Type::BF16;
  double value = 0, relative = 0, absolute = 0;
  switch (i.op) {
  case Opcode::Div:
    // 2 ulp; .approx: 0 beyond 2^126, where inf / y is NaN.
    value = x / y;
    relative = 0x1p-22;
    if (mods.approx && std::fabs(y) > 0x1p126 && std::isfinite(y)) {
      value = std::isinf(x) ? NAN : std::isnan(x) ? x : std::copysign(0.0, value);
    }
    break;
  case Opcode::Rcp:
    value = 1 / x;
    relative = type == Type::F64 ? 0x1p-19 : 0x1p-23;
    break;
  case Opcode::Sqrt:
    value = std::sqrt(x);
    relative = 0x1p-23;
    break;
  case Opcode::Rsqrt:
    value = 1 / std::sqrt(x);
    relative = type == Type::F64 ? (mods.ftz ? 0x1p-19 : 0x1p-22) : 0x1.2p-23;
    break;
  case Opcode::Sin:
  case Opcode::Cos:
    value = i.op == Opcode::Sin ? std::sin(x) : std::cos(x);
    absolute = std::fabs(x) <= 6.2831853 ? 0x1.7p-21 : std::fabs(x) <= 314.159265 ? 0x1.4p-15 : 2;
    break;
  case Opcode::Lg2:
    value = std::log2(x);
    relative = x > 0.5 && x < 2 ? 0 : 0x1p-22;
    absolute = x > 0.5 && x < 2 ? 0x1p-22 : 0;
    break;
  case Opcode::Ex2:
    value = std::exp2(x);
    relative = half ? 0x1.2p-10 : brain ? 0x1p-7 : 0x1.7p-23;
    break;
  case Opcode::Tanh:
    value = std::tanh(x);
    relative = half || brain ? 0 : 0x1p-11;
    absolute = half ? 0x1.03p-11 : brain ? 0x1p-8 : 0;
    break;
  default:
    break;
  }
  if (value != value) {
    return type == Type::F64 ? Allowed::nan(layout) : Allowed::only((uint64_t(1) << (layout.width() - 1)) - 1);
  }
  // Overflow and the range of subnormals: what rounding to the format does, and flushing.
  const double largest = hostValue(rounded(numberOf(HUGE_VAL), layout, Round::RZ, true), layout);
  if (std::fabs(value) > largest) {
    return Allowed::either(rounded(numberOf(value), layout, Round::RN),
                           rounded(numberOf(value), layout, Round::RZ, true));
  }
  const double leastNormal = std::ldexp(1.0, 1 - layout.bias()),
               spacing = std::ldexp(leastNormal, -int(layout.mantissa));
  double error = std::fabs(value) * relative + absolute + (std::fabs(value) < 2 * leastNormal ? spacing : 0);
  if (mods.ftz && std::fabs(value) < leastNormal * 1.001) {
    error += leastNormal;
  }
  // One rounding to the format on top of a stated bound that is tighter than the format.
  error = std::fmax(error, std::fabs(value) * std::ldexp(1.0, -int(layout.mantissa) - 1));
  return Allowed::near(value, error, layout);
}

/// .approx.ftz.f64 of rcp and rsqrt looks at the upper half of its operand only and gives the upper half of a result.
Allowed coarse(const Instruction &i, uint64_t bits) {
  const uint64_t upper = ~uint64_t(0xFFFFFFFF);
  const Number x = operandOf(bits & upper, Type::F64, true);
  const double v = x.zero() ? (x.negative ? -0.0 : 0.0) : hostValue(bits & upper, layoutF64);
  return approximated(i, Type::F64, v, 0);
}

Allowed element(const Instruction &i, Type type, const uint64_t *s) {
  const Modifiers &mods = i.mods;
  const Layout layout = layoutOf(type);
  const uint64_t sign = uint64_t(1) << (layout.width() - 1);
  Number a = operandOf(s[0], type, mods.ftz), b = operandOf(s[1], type, mods.ftz), c = operandOf(s[2], type, mods.ftz);
  const Round round = mods.round;
  switch (i.op) {
  case Opcode::Sub:
    b.negative = !b.negative;
    return finished(sum(a, b, round), type, mods);
  case Opcode::Add:
    return finished(sum(a, b, round), type, mods);
  case Opcode::Mul:
    return finished(product(a, b), type, mods);
  case Opcode::Mad:
  case Opcode::Fma: {
    if (mods.oob) { // an operand that is the out-of-bounds NaN gives 0
      for (unsigned k = 0; k < 3; ++k) {
        if (low(s[k], 16) == (type == Type::F16 ? 0x7EFF : 0x7FEF)) {
          return Allowed::only(0);
        }
      }
    }
    return finished(fused(a, b, c, round), type, mods);
  }
  case Opcode::Abs:
  case Opcode::Neg: {
    if (a.kind == Number::NaN) {
      return Allowed::nan(layout);
    }
    a.negative = i.op == Opcode::Neg && !a.negative;
    return Allowed::only(rounded(a, layout, Round::RN));
  }
  case Opcode::Copysign:
    return Allowed::only((s[0] & sign) | (s[1] & (sign - 1)));
  case Opcode::Min:
  case Opcode::Max:
    return selected(i, type, s[0], s[1]);
  case Opcode::Div:
    if (!mods.approx && !mods.full) {
      return finished(quotient(a, b), type, mods);
    }
    break;
  case Opcode::Rcp:
    if (!mods.approx) {
      return finished(quotient(integer(false, 1), a), type, mods);
    }
    break;
  case Opcode::Sqrt:
    if (!mods.approx) {
      return finished(squareRoot(a), type, mods);
    }
    break;
  default:
    break;
  }
  if (type == Type::F64 && mods.ftz) {
    return coarse(i, s[0]);
  }
  auto host = [&](uint64_t bits, const Number &n) {
    return n.zero() ? (n.negative ? -0.0 : 0.0) : hostValue(bits, layout);
  };
  return approximated(i, type, host(s[0], a), host(s[1], b));
}

bool hasProperty(Mode mode, const Number &n, bool normal) {
  switch (mode) {
  case Mode::Finite:
    return n.kind == Number::Finite;
  case Mode::Infinite:
    return n.kind == Number::Infinite;
  case Mode::Number:
    return n.kind != Number::NaN;
  case Mode::NotANumber:
    return n.kind == Number::NaN;
  case Mode::Normal:
    return normal;
  default: // "zero is considered as a normal number"
    return n.kind == Number::Finite && !normal && !n.zero();
  }
}
} // namespace

bool floatReference(const Instruction &i, const Given &g, Wanted &w) {
  const Type type = i.types[0];
  if (!isPlainFloat(type)) {
    return false;
  }
  switch (i.op) {
  case Opcode::Testp: {
    const Layout layout = layoutOf(type);
    const Number n = decoded(g.s[0], layout);
    const uint64_t exponent = g.s[0] >> layout.mantissa & ((uint64_t(1) << layout.exponent) - 1);
    const bool normal = n.kind == Number::Finite && (exponent != 0 || n.zero());
    w.p = hasProperty(i.mods.mode, n, normal);
    return true;
  }
  case Opcode::Add:
  case Opcode::Sub:
  case Opcode::Mul:
  case Opcode::Mad:
  case Opcode::Fma:
  case Opcode::Div:
  case Opcode::Abs:
  case Opcode::Neg:
  case Opcode::Min:
  case Opcode::Max:
  case Opcode::Copysign:
  case Opcode::Rcp:
  case Opcode::Sqrt:
  case Opcode::Rsqrt:
  case Opcode::Sin:
  case Opcode::Cos:
  case Opcode::Lg2:
  case Opcode::Ex2:
  case Opcode::Tanh:
    break;
  default:
    return false;
  }
  const unsigned lanes = lanesOf(type), width = lanes == 2 ? 16 : ptx::bitsOf(type);
  for (unsigned k = 0; k < lanes; ++k) {
    const uint64_t s[] = {low(g.s[0] >> 16 * k, width), low(g.s[1] >> 16 * k, width), low(g.s[2] >> 16 * k, width)};
    w.d.push_back({16 * k, width, element(i, elementOf(type), s)});
  }
  return true;
}

} // namespace moert::emulator::testing
