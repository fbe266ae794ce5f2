//===- SoftFloat.cpp - Floating-point arithmetic in integers ---------------===//
//
// Magnitudes are integers of 128 bits. Where an exact result needs more, what
// cannot decide a rounding any more is folded into one sticky bit. Works for
// formats of up to 53 significant bits.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/SoftFloat.h"

#include <cmath>
#include <cstring>
#include <utility>

namespace moert::emulator::testing {

using ptx::Round;
using ptx::Type;
using Wide = unsigned __int128;

namespace {
int lengthOf(Wide v) {
  auto high = static_cast<uint64_t>(v >> 64), low = static_cast<uint64_t>(v);
  return high ? 128 - __builtin_clzll(high) : low ? 64 - __builtin_clzll(low) : 0;
}

Number zero(bool negative) {
  Number out;
  out.negative = negative;
  return out;
}
Number infinite(bool negative) {
  Number out;
  out.kind = Number::Infinite;
  out.negative = negative;
  return out;
}
Number notANumber() {
  Number out;
  out.kind = Number::NaN;
  return out;
}

/// Magnitude of 256 bits, for the sums below.
struct Long {
  Wide high = 0, low = 0;
};
Long shifted(Wide v, unsigned by) {
  Long out;
  if (by >= 128) {
    out.high = v << (by - 128);
  } else {
    out.low = v << by;
    out.high = by ? v >> (128 - by) : 0;
  }
  return out;
}
bool less(const Long &a, const Long &b) { return a.high != b.high ? a.high < b.high : a.low < b.low; }
Long plus(const Long &a, const Long &b) {
  Long out;
  out.low = a.low + b.low;
  out.high = a.high + b.high + (out.low < a.low);
  return out;
}
Long minus(const Long &a, const Long &b) {
  Long out;
  out.low = a.low - b.low;
  out.high = a.high - b.high - (a.low < b.low);
  return out;
}
} // namespace

Layout layoutOf(Type type) {
  switch (type) {
  case Type::F16:
  case Type::F16x2:
    return layoutF16;
  case Type::BF16:
  case Type::BF16x2:
    return layoutBF16;
  case Type::TF32:
    return layoutTF32;
  case Type::E4M3:
  case Type::E4M3x2:
    return layoutE4M3;
  case Type::E5M2:
  case Type::E5M2x2:
    return layoutE5M2;
  case Type::F64:
    return layoutF64;
  default:
    return layoutF32;
  }
}

Number decoded(uint64_t bits, const Layout &layout) {
  const uint64_t mantissaMask = (uint64_t(1) << layout.mantissa) - 1, largest = (uint64_t(1) << layout.exponent) - 1;
  const uint64_t mantissa = bits & mantissaMask, exponent = bits >> layout.mantissa & largest;
  const bool negative = bits >> (layout.width() - 1) & 1;
  if (exponent == largest && layout.infinities) {
    return mantissa ? notANumber() : infinite(negative);
  }
  if (exponent == largest && mantissa == mantissaMask) {
    return notANumber();
  }
  Number out;
  out.negative = negative;
  out.magnitude = exponent ? mantissa | mantissaMask + 1 : mantissa;
  out.exponent = static_cast<int>(exponent ? exponent : 1) - layout.bias() - static_cast<int>(layout.mantissa);
  return out;
}

Number integer(bool negative, uint64_t magnitude) {
  Number out;
  out.negative = negative;
  out.magnitude = magnitude;
  return out;
}

Number numberOf(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, 8);
  return decoded(bits, layoutF64);
}

double hostValue(uint64_t bits, const Layout &layout) {
  const Number n = decoded(bits, layout);
  if (n.kind == Number::NaN) {
    return std::nan("");
  }
  const double magnitude = n.kind == Number::Infinite
                               ? HUGE_VAL
                               : std::ldexp(static_cast<double>(static_cast<uint64_t>(n.magnitude)), n.exponent);
  return n.negative ? -magnitude : magnitude;
}

uint64_t rounded(const Number &number, const Layout &layout, Round round, bool saturate) {
  const uint64_t sign = uint64_t(number.negative) << (layout.width() - 1);
  const uint64_t allOnes = (uint64_t(1) << (layout.width() - 1)) - 1;
  const uint64_t infinity = ((uint64_t(1) << layout.exponent) - 1) << layout.mantissa;
  const uint64_t largest = layout.infinities ? infinity - 1 : allOnes - 1;
  if (number.kind == Number::NaN) {
    return allOnes;
  }
  const bool up = round == Round::RP, down = round == Round::RM;
  const bool inwards = round == Round::RZ || (up && number.negative) || (down && !number.negative);
  const uint64_t beyond = layout.infinities ? infinity : allOnes;
  if (number.kind == Number::Infinite) {
    return sign | (saturate ? largest : beyond);
  }
  if (number.zero()) {
    return sign;
  }
  // The unit in the last place of the result; then the magnitude in that unit, and what is left over.
  const int least = 1 - layout.bias();
  const int lead = number.exponent + lengthOf(number.magnitude) - 1;
  const int exponent = number.magnitude == 0 || lead < least ? least : lead;
  const int shift = exponent - static_cast<int>(layout.mantissa) - number.exponent;
  Wide units, rest = 0, half = 0;
  bool more = number.sticky;
  if (shift <= 0) {
    units = number.magnitude << -shift;
    half = 1; // of which the sticky part is less
  } else if (shift > 127) {
    units = 0;
    more = more || number.magnitude != 0;
    half = 1;
  } else {
    units = number.magnitude >> shift;
    rest = number.magnitude - (units << shift);
    half = Wide(1) << (shift - 1);
  }
  bool away = false;
  switch (round) {
  case Round::RZ:
    break;
  case Round::RM:
    away = number.negative && (rest != 0 || more);
    break;
  case Round::RP:
    away = !number.negative && (rest != 0 || more);
    break;
  case Round::RNA:
    away = rest >= half;
    break;
  default:
    away = rest > half || (rest == half && (more || (units & 1)));
    break;
  }
  units += away;
  const auto bits =
      (static_cast<uint64_t>(exponent + layout.bias() - 1) << layout.mantissa) + static_cast<uint64_t>(units);
  if (bits > largest) {
    return sign | (saturate || inwards ? largest : beyond);
  }
  return sign | bits;
}

Number product(const Number &a, const Number &b) {
  const bool negative = a.negative != b.negative;
  if (a.kind == Number::NaN || b.kind == Number::NaN) {
    return notANumber();
  }
  if (a.kind == Number::Infinite || b.kind == Number::Infinite) {
    return a.zero() || b.zero() ? notANumber() : infinite(negative);
  }
  Number out;
  out.negative = negative;
  out.magnitude = a.magnitude * b.magnitude;
  out.exponent = a.exponent + b.exponent;
  return out;
}

Number sum(const Number &a, const Number &b, Round round) {
  if (a.kind == Number::NaN || b.kind == Number::NaN) {
    return notANumber();
  }
  if (a.kind == Number::Infinite || b.kind == Number::Infinite) {
    if (a.kind == b.kind && a.negative != b.negative) {
      return notANumber();
    }
    return a.kind == Number::Infinite ? a : b;
  }
  if (a.zero() && b.zero()) {
    return zero(a.negative == b.negative ? a.negative : round == Round::RM);
  }
  if (a.zero() || b.zero()) {
    return a.zero() ? b : a;
  }
  // Bring both to the smaller exponent; where they lie too far apart, the lower one is a little more than nothing.
  const Number *high = &a, *low = &b;
  if (high->exponent < low->exponent) {
    std::swap(high, low);
  }
  const int distance = high->exponent - low->exponent;
  Long x, y;
  int exponent;
  if (distance + lengthOf(high->magnitude) <= 250) {
    x = shifted(high->magnitude, static_cast<unsigned>(distance));
    y.low = low->magnitude;
    exponent = low->exponent;
  } else {
    x = shifted(high->magnitude, 120);
    y.low = 1;
    exponent = high->exponent - 120;
  }
  Number out;
  Long total;
  if (high->negative == low->negative) {
    total = plus(x, y);
    out.negative = high->negative;
  } else if (less(x, y)) {
    total = minus(y, x);
    out.negative = low->negative;
  } else {
    total = minus(x, y);
    out.negative = high->negative;
  }
  if (total.high == 0 && total.low == 0) {
    return zero(round == Round::RM);
  }
  const int excess = total.high ? lengthOf(total.high) : 0;
  out.exponent = exponent + excess;
  if (excess == 0) {
    out.magnitude = total.low;
  } else if (excess == 128) {
    out.magnitude = total.high;
    out.sticky = total.low != 0;
  } else {
    out.magnitude = total.high << (128 - excess) | total.low >> excess;
    out.sticky = (total.low & ((Wide(1) << excess) - 1)) != 0;
  }
  return out;
}

Number fused(const Number &a, const Number &b, const Number &c, Round round) { return sum(product(a, b), c, round); }

Number quotient(const Number &a, const Number &b) {
  const bool negative = a.negative != b.negative;
  if (a.kind == Number::NaN || b.kind == Number::NaN || (a.kind == Number::Infinite && b.kind == Number::Infinite) ||
      (a.zero() && b.zero())) {
    return notANumber();
  }
  if (a.kind == Number::Infinite || b.zero()) {
    return infinite(negative);
  }
  if (b.kind == Number::Infinite || a.zero()) {
    return zero(negative);
  }
  // Magnitudes of up to 64 bits: the quotient bit by bit, 120 places of it from where it begins.
  Number out;
  out.negative = negative;
  Wide rest = a.magnitude, divisor = b.magnitude;
  const int scale = lengthOf(rest) - lengthOf(divisor);
  if (scale > 0) {
    divisor <<= scale;
  } else {
    rest <<= -scale;
  }
  for (unsigned i = 0; i < 64; ++i) {
    out.magnitude <<= 1;
    if (rest >= divisor) {
      rest -= divisor;
      out.magnitude |= 1;
    }
    rest <<= 1;
  }
  out.exponent = a.exponent - b.exponent + scale - 63;
  out.sticky = rest != 0;
  return out;
}

Number squareRoot(const Number &a) {
  if (a.kind == Number::NaN || (a.negative && !a.zero())) {
    return notANumber();
  }
  if (a.kind == Number::Infinite || a.zero()) {
    return a;
  }
  // Radicand of 120 bits or so with an even exponent, root digit by digit.
  Wide radicand = a.magnitude;
  int exponent = a.exponent;
  const int shift = (120 - lengthOf(radicand)) / 2 * 2 + (exponent & 1);
  radicand <<= shift;
  exponent -= shift;
  Wide root = 0;
  for (int bit = 61; bit >= 0; --bit) {
    const Wide next = root | Wide(1) << bit;
    if (next * next <= radicand) {
      root = next;
    }
  }
  Number out;
  out.magnitude = root;
  out.exponent = exponent / 2;
  out.sticky = root * root != radicand;
  return out;
}

Number toInteger(const Number &a, Round round) {
  if (a.kind != Number::Finite || a.exponent >= 0 || a.zero()) {
    return a;
  }
  const int places = -a.exponent;
  Wide whole = places > 127 ? 0 : a.magnitude >> places;
  Wide rest = places > 127 ? 1 : a.magnitude - (whole << places), half = places > 127 ? 2 : Wide(1) << (places - 1);
  bool away = false;
  switch (round) {
  case Round::RZI:
    break;
  case Round::RMI:
    away = a.negative && rest != 0;
    break;
  case Round::RPI:
    away = !a.negative && rest != 0;
    break;
  default:
    away = rest > half || (rest == half && (whole & 1));
    break;
  }
  Number out;
  out.negative = a.negative;
  out.magnitude = whole + away;
  return out;
}

int compared(const Number &a, const Number &b) {
  if (a.kind == Number::NaN || b.kind == Number::NaN) {
    return 2;
  }
  Number minusB = b;
  minusB.negative = !b.negative;
  if (a.kind == Number::Infinite && b.kind == Number::Infinite) {
    return a.negative == b.negative ? 0 : a.negative ? -1 : 1;
  }
  const Number difference = sum(a, minusB, Round::RN);
  return difference.zero() ? 0 : difference.negative ? -1 : 1;
}

} // namespace moert::emulator::testing
