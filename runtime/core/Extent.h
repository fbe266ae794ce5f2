//===- Extent.h - Affine sizes, evaluated and compared with checked arithmetic -*- C++ -*-===//
//
// An Extent is fixed + per_token*T + per_row*M + per_sequence*B + per_cache_row*B*C. Here is the only place that
// evaluates one, and the proofs that one extent fits in another for every T, M, B and C of a range.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_EXTENT_H
#define MOERT_CORE_EXTENT_H

#include "runtime/format/program_generated.h"

#include <cstdint>

namespace moert {

/// What a step and a session bind.
struct Sizes {
  int64_t tokens = 0, rows = 0, sequences = 1, context = 1;
};

/// A range of T; M is anything in [0, T].
struct TokenRange {
  int64_t first, last;
};

/// `extent` at `sizes`; false if the result or a step towards it leaves 64 bits.
bool evaluate(const format::Extent &extent, const Sizes &sizes, int64_t &out);

/// Whether no member is negative.
bool isNonNegative(const format::Extent &extent);
/// Whether only `fixed` is set.
bool isFixed(const format::Extent &extent);
bool isZero(const format::Extent &extent);
bool equal(const format::Extent &a, const format::Extent &b);
/// Whether it grows with B or C.
bool dependsOnSession(const format::Extent &extent);

/// Whether offset + inner <= outer for every T in `range`, every M in [0, T], every B >= 1 and C >= 1, `outer` being
/// taken at `outerAtMax` tokens and rows if that is not negative, else at the same T and M.
/// Exact: the difference is affine in (T, M) over a triangle, so its minimum is at a corner; and
/// d0 + dB*B + dBC*B*C >= 0 for all B, C >= 1 iff dBC >= 0, dB + dBC >= 0 and d0 + dB + dBC >= 0.
/// An overflow counts as no.
bool fits(const format::Extent &inner, uint64_t offset, const format::Extent &outer, TokenRange range,
          int64_t outerAtMax);

} // namespace moert

#endif // MOERT_CORE_EXTENT_H
