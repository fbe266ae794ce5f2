//===- Values.h - Values with arithmetic, to write kernels with -----------===//
//
// 64-bit integers and floating-point numbers (scalars or vectors) of a kernel
// under construction, as small classes with operators, so that emitters read
// like the arithmetic that they emit. The builders of all targets share them.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_KERNELS_VALUES_H
#define MOE_LOWERING_KERNELS_VALUES_H

#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::moe::kernels {

/// An i64 value with arithmetic.
struct Int {
  ImplicitLocOpBuilder *b = nullptr;
  Value value;
  operator Value() const { return value; }
};
Int operator+(Int a, Int c);
Int operator-(Int a, Int c);
Int operator*(Int a, Int c);
Int operator/(Int a, Int c); ///< unsigned
Int operator%(Int a, Int c); ///< unsigned
Int operator+(Int a, int64_t c);
Int operator-(Int a, int64_t c);
Int operator*(Int a, int64_t c);
Int operator/(Int a, int64_t c);
Int operator%(Int a, int64_t c);
/// Comparisons give an i1.
Value operator<(Int a, Int c);
Value operator==(Int a, Int c);

/// A floating-point scalar or vector with arithmetic.
struct Num {
  ImplicitLocOpBuilder *b = nullptr;
  Value value;
  operator Value() const { return value; }
};
Num operator+(Num a, Num c);
Num operator-(Num a, Num c);
Num operator*(Num a, Num c);
Num operator/(Num a, Num c);

} // namespace mlir::moe::kernels

#endif // MOE_LOWERING_KERNELS_VALUES_H
