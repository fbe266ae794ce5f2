//===- Sums.h - Sums over ranks in rank order ---------------------*- C++ -*-===//
//
// One loop for every collective that sums: in f32, rank 0 first, rounded once at the end, so that the result does not
// depend on who computes it or in what pieces.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_RANKS_SUMS_H
#define MOERT_RANKS_SUMS_H

#include "runtime/format/program_generated.h"

#include <cstdint>

namespace moert {

/// Bytes of an element that can be summed: f32 or bf16.
inline uint64_t bytesOfElement(format::DType element) { return element == format::DType::BF16 ? 2 : 4; }

/// to[k][i] = from[0][i] + from[1][i] + ... for elements [first, first + count) and every k. A `to` may be a `from`.
void sumInRankOrder(format::DType element, const void *const *from, int ranks, void *const *to, int targets,
                    uint64_t first, uint64_t count);

} // namespace moert

#endif // MOERT_RANKS_SUMS_H
