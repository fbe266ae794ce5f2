//===- Reference.cpp - What a result may be --------------------------------===//
//
// Sets of values, and the way from an exact number to a result with .ftz, .sat
// and .relu. See Reference.h.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Reference.h"

#include <cmath>
#include <cstdio>

namespace moert::emulator::testing {

using ptx::Type;

Allowed Allowed::only(uint64_t bits, uint64_t mask) {
  Allowed out;
  out.kind = Bits;
  out.first = out.second = bits & mask;
  out.mask = mask;
  return out;
}
Allowed Allowed::either(uint64_t bits, uint64_t other) {
  Allowed out = only(bits);
  out.second = other;
  return out;
}
Allowed Allowed::anything() { return {}; }
Allowed Allowed::nan(const Layout &layout) {
  Allowed out;
  out.kind = NaN;
  out.layout = layout;
  return out;
}
Allowed Allowed::near(double value, double error, const Layout &layout) {
  Allowed out;
  out.kind = Near;
  out.value = value;
  out.error = error;
  out.layout = layout;
  return out;
}

bool Allowed::admits(uint64_t bits) const {
  switch (kind) {
  case Bits:
    return (bits & mask) == first || (bits & mask) == second;
  case NaN:
    return decoded(bits, layout).kind == Number::NaN;
  case Near: {
    const double got = hostValue(bits, layout);
    return std::isinf(value) ? got == value : std::fabs(got - value) <= error;
  }
  default:
    return true;
  }
}

std::string Allowed::str() const {
  char text[96];
  switch (kind) {
  case Bits:
    std::snprintf(text, sizeof text, "0x%llx or 0x%llx", static_cast<unsigned long long>(first),
                  static_cast<unsigned long long>(second));
    return text;
  case NaN:
    return "a NaN";
  case Near:
    std::snprintf(text, sizeof text, "%.17g within %g", value, error);
    return text;
  default:
    return "anything";
  }
}

unsigned lanesOf(Type type) {
  return type == Type::F16x2 || type == Type::BF16x2 || type == Type::E4M3x2 || type == Type::E5M2x2 ? 2 : 1;
}
Type elementOf(Type type) {
  switch (type) {
  case Type::F16x2:
    return Type::F16;
  case Type::BF16x2:
    return Type::BF16;
  case Type::E4M3x2:
    return Type::E4M3;
  case Type::E5M2x2:
    return Type::E5M2;
  default:
    return type;
  }
}

Number operandOf(uint64_t bits, Type type, bool ftz) {
  const Layout layout = layoutOf(type);
  if (ftz && (bits >> layout.mantissa & ((uint64_t(1) << layout.exponent) - 1)) == 0) {
    bits = bits >> (layout.width() - 1) << (layout.width() - 1);
  }
  return decoded(low(bits, layout.width()), layout);
}

Allowed finished(const Number &exact, Type type, const ptx::Modifiers &mods) {
  const Layout layout = layoutOf(type);
  const uint64_t sign = uint64_t(1) << (layout.width() - 1);
  const uint64_t one = uint64_t(layout.bias()) << layout.mantissa;
  if (exact.kind == Number::NaN) {
    if (mods.sat) {
      return Allowed::only(0); // "NaN results are flushed to +0.0f"
    }
    // f32 and the narrow formats have a canonical NaN, f64 promises none.
    return type == Type::F64 ? Allowed::nan(layout) : Allowed::only(sign - 1);
  }
  uint64_t r = rounded(exact, layout, mods.round), other = r;
  const uint64_t leastNormal = uint64_t(1) << layout.mantissa;
  if (mods.ftz) {
    // Whether a value that rounds up to the least normal one counts as subnormal is not said.
    const uint64_t down = rounded(exact, layout, ptx::Round::RZ);
    if ((r & ~sign) < leastNormal) {
      r = other = r & sign;
    } else if ((down & ~sign) < leastNormal) {
      other = r & sign;
    }
  }
  for (uint64_t *v : {&r, &other}) {
    if (mods.sat) {
      *v = *v & sign ? 0 : *v > one ? one : *v;
    }
    if (mods.relu) {
      *v = *v & sign ? 0 : *v;
    }
  }
  // Whether -0 is clamped to +0 is not said.
  if ((mods.sat || mods.relu) && r == 0 && other == 0 &&
      (exact.zero() || mods.ftz || rounded(exact, layout, mods.round) == sign)) {
    return exact.negative ? Allowed::either(0, sign) : Allowed::only(0);
  }
  return Allowed::either(r, other);
}

bool reference(const ptx::Instruction &instruction, const Given &given, Wanted &wanted) {
  return integerReference(instruction, given, wanted) || bitReference(instruction, given, wanted) ||
         floatReference(instruction, given, wanted) || convertReference(instruction, given, wanted) ||
         compareReference(instruction, given, wanted);
}

} // namespace moert::emulator::testing
