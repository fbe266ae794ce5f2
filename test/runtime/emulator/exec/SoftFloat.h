//===- SoftFloat.h - Floating-point arithmetic in integers ------*- C++ -*-===//
//
// What the instruction tests compare with: every operation is done exactly on
// integers and rounded once, so that it shares neither code nor method with the
// emulator, which uses the host's units. Slow, small and meant to be obviously
// right. Knows formats, not PTX: flushing, saturation and canonical NaNs are the
// caller's.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_TEST_EMULATOR_EXEC_SOFTFLOAT_H
#define MOERT_TEST_EMULATOR_EXEC_SOFTFLOAT_H

#include "runtime/emulator/ptx/Types.h"

#include <cstdint>

namespace moert::emulator::testing {

/// A format of 1 + exponent + mantissa bits.
struct Layout {
  unsigned exponent, mantissa;
  bool infinities = true; ///< false: e4m3, whose only NaN is all ones
  unsigned width() const { return 1 + exponent + mantissa; }
  int bias() const { return (1 << (exponent - 1)) - 1; }
};
constexpr Layout layoutF16{5, 10}, layoutBF16{8, 7}, layoutF32{8, 23}, layoutF64{11, 52}, layoutTF32{8, 10},
    layoutE4M3{4, 3, false}, layoutE5M2{5, 2};

/// Of F16, F16x2 ... F64.
Layout layoutOf(ptx::Type type);

/// (-1)^negative * magnitude * 2^exponent, a little above it when `sticky`.
struct Number {
  enum Kind { NaN, Infinite, Finite } kind = Finite;
  bool negative = false;
  unsigned __int128 magnitude = 0;
  int exponent = 0;
  bool sticky = false; ///< the exact value is larger in magnitude, by less than 2^exponent

  bool zero() const { return kind == Finite && magnitude == 0 && !sticky; }
};

Number decoded(uint64_t bits, const Layout &layout);
/// An integer.
Number integer(bool negative, uint64_t magnitude);
/// A host double, for functions that have no exact result.
Number numberOf(double value);
double hostValue(uint64_t bits, const Layout &layout);

/// Rounded once. Overflow gives infinity or the largest finite value, as the direction says; `saturate`: always the
/// latter. e4m3 has no infinity: its overflow is NaN unless saturated. NaN is all ones without the sign.
uint64_t rounded(const Number &number, const Layout &layout, ptx::Round round, bool saturate = false);

/// a * b + c, exact up to a sticky bit; `round` decides the sign of an exact zero.
Number fused(const Number &a, const Number &b, const Number &c, ptx::Round round);
Number sum(const Number &a, const Number &b, ptx::Round round);
Number product(const Number &a, const Number &b);
Number quotient(const Number &a, const Number &b);
Number squareRoot(const Number &a);
/// To an integer by RNI ... RPI, still as a Number.
Number toInteger(const Number &a, ptx::Round round);

/// -1, 0, 1, or 2 when one is NaN.
int compared(const Number &a, const Number &b);

} // namespace moert::emulator::testing

#endif // MOERT_TEST_EMULATOR_EXEC_SOFTFLOAT_H
