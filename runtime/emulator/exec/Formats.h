//===- Formats.h - Narrow floating-point formats ----------------*- C++ -*-===//
//
// f16, bf16, tf32 and the fp8 formats to and from double, with every rounding.
// `encode` rounds exactly once from a double; values that are sums or products
// of narrow ones are formed in double with `fmaOdd`, which rounds to odd, so that
// the second rounding gives what one rounding would.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_EXEC_FORMATS_H
#define MOERT_EMULATOR_EXEC_FORMATS_H

#include "runtime/emulator/ptx/Types.h"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace moert::emulator {

inline uint32_t bitsOfFloat(float v) {
  uint32_t b;
  std::memcpy(&b, &v, 4);
  return b;
}
inline float floatOfBits(uint32_t b) {
  float v;
  std::memcpy(&v, &b, 4);
  return v;
}
inline uint64_t bitsOfDouble(double v) {
  uint64_t b;
  std::memcpy(&b, &v, 8);
  return b;
}
inline double doubleOfBits(uint64_t b) {
  double v;
  std::memcpy(&v, &b, 8);
  return v;
}

inline float bf16ToFloat(uint32_t b) { return floatOfBits(b << 16); }
inline float f16ToFloat(uint32_t h) {
  // Shift exponent and mantissa into place and scale: exact for all, subnormals included; infinities and NaNs apart.
  uint32_t sign = (h & 0x8000) << 16, rest = h & 0x7FFF;
  float scaled = floatOfBits(rest << 13) * floatOfBits(0x77800000); // 2^112
  uint32_t bits = rest >= 0x7C00 ? 0x7F800000 | (rest & 0x3FF) << 13 : bitsOfFloat(scaled);
  return floatOfBits(bits | sign);
}

/// a * b + c rounded to odd in double.
inline double fmaOdd(double a, double b, double c) {
  double p = a * b; // exact for products of 24-bit values
  double s = p + c;
  if (!std::isfinite(s)) {
    return s;
  }
  double t = s - p;
  double e = (p - (s - t)) + (c - t);
  if (e != 0 && !(bitsOfDouble(s) & 1)) {
    uint64_t bits = bitsOfDouble(s);
    bool away = (e > 0) == (s > 0);
    bits = away ? bits + 1 : bits - 1;
    return doubleOfBits(bits);
  }
  return s;
}

/// What tensor copies fill with where a map asks for NaN, and `fma.oob` takes for zero. The ISA does not say which NaNs
/// of 16 bits these are; arithmetic never makes them (its NaN is 0x7FFF), so only filled elements count as such.
constexpr uint32_t outOfBoundsF16 = 0x7EFF, outOfBoundsBF16 = 0x7FEF;

/// What a format looks like.
struct Format {
  int mantissa;  ///< stored bits
  int exponent;  ///< bits
  bool infinity; ///< has infinities and many NaNs (false: e4m3, whose only NaN is all ones)
};
constexpr Format formatF16{10, 5, true}, formatBF16{7, 8, true}, formatTF32{10, 8, true}, formatE4M3{3, 4, false},
    formatE5M2{2, 5, true}, formatF32{23, 8, true};

/// `v` in format `f`. `satfinite`: too large becomes the largest finite value. NaN becomes 0x7F.. (all ones but the
/// sign).
inline uint32_t encode(double v, const Format &f, ptx::Round round, bool satfinite) {
  const int bias = (1 << (f.exponent - 1)) - 1;
  const uint32_t sign = uint32_t(bitsOfDouble(v) >> 63) << (f.mantissa + f.exponent);
  const uint32_t allOnes = (1U << (f.mantissa + f.exponent)) - 1;
  const uint32_t infinity = ((1U << f.exponent) - 1) << f.mantissa;
  const uint32_t largest = f.infinity ? infinity - 1 : allOnes - 1;
  if (v != v) {
    return allOnes;
  }
  bool negative = sign != 0;
  double a = std::fabs(v);
  auto overflow = [&]() -> uint32_t {
    bool toward =
        round == ptx::Round::RZ || (round == ptx::Round::RM && !negative) || (round == ptx::Round::RP && negative);
    if (satfinite || (std::isfinite(v) && toward)) {
      return sign | largest;
    }
    return sign | (f.infinity ? infinity : allOnes);
  };
  if (std::isinf(a)) {
    return overflow();
  }
  if (a == 0) {
    return sign;
  }
  int e;
  std::frexp(a, &e); // a = m * 2^e, 0.5 <= m < 1
  int exponent = e - 1 < 1 - bias ? 1 - bias : e - 1;
  double unit = std::ldexp(1.0, exponent - f.mantissa);
  double scaled = a / unit; // exact: a power of two
  double whole = std::floor(scaled);
  double rest = scaled - whole;
  bool up = false;
  switch (round) {
  case ptx::Round::RZ:
    break;
  case ptx::Round::RM:
    up = negative && rest > 0;
    break;
  case ptx::Round::RP:
    up = !negative && rest > 0;
    break;
  case ptx::Round::RNA:
    up = rest >= 0.5;
    break;
  default:
    up = rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2.0) != 0);
    break;
  }
  auto units = uint64_t(whole) + up;
  // Units carry the hidden bit, so that adding the exponent field handles carries and subnormals alike.
  uint64_t bits = (uint64_t(exponent + bias - 1) << f.mantissa) + units;
  if (bits > largest) {
    return overflow();
  }
  return sign | uint32_t(bits);
}

/// The value of `bits` in format `f` (tf32: as an f32 pattern shifted right by 13).
inline double decode(uint32_t bits, const Format &f) {
  const int bias = (1 << (f.exponent - 1)) - 1;
  uint32_t mantissa = bits & ((1U << f.mantissa) - 1);
  uint32_t exponent = bits >> f.mantissa & ((1U << f.exponent) - 1);
  double sign = bits >> (f.mantissa + f.exponent) & 1 ? -1.0 : 1.0;
  if (exponent == (1U << f.exponent) - 1) {
    if (f.infinity) {
      return mantissa ? std::nan("") : sign * HUGE_VAL;
    }
    if (mantissa == (1U << f.mantissa) - 1) {
      return std::nan("");
    }
  }
  if (exponent == 0) {
    return sign * std::ldexp(double(mantissa), 1 - bias - f.mantissa);
  }
  return sign * std::ldexp(double(mantissa | 1U << f.mantissa), int(exponent) - bias - f.mantissa);
}

inline uint32_t floatToBf16(float v) {
  uint32_t b = bitsOfFloat(v);
  if (v != v) {
    return 0x7FFF;
  }
  return (b + 0x7FFF + (b >> 16 & 1)) >> 16;
}
inline uint32_t floatToF16(float v) { return encode(v, formatF16, ptx::Round::RN, false); }

} // namespace moert::emulator

#endif // MOERT_EMULATOR_EXEC_FORMATS_H
