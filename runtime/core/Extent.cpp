// Checked arithmetic over affine extents; see Extent.h.
#include "runtime/core/Extent.h"

namespace moert {
namespace {

bool addProduct(int64_t &sum, int64_t factor, int64_t count) {
  int64_t product;
  return !__builtin_mul_overflow(factor, count, &product) && !__builtin_add_overflow(sum, product, &sum);
}

} // namespace

bool evaluate(const format::Extent &extent, const Sizes &sizes, int64_t &out) {
  int64_t cacheRows;
  if (__builtin_mul_overflow(sizes.sequences, sizes.context, &cacheRows)) {
    return false;
  }
  int64_t sum = extent.fixed();
  bool fine = addProduct(sum, extent.per_token(), sizes.tokens) && addProduct(sum, extent.per_row(), sizes.rows) &&
              addProduct(sum, extent.per_sequence(), sizes.sequences) &&
              addProduct(sum, extent.per_cache_row(), cacheRows);
  out = sum;
  return fine;
}

bool isNonNegative(const format::Extent &extent) {
  return extent.fixed() >= 0 && extent.per_token() >= 0 && extent.per_row() >= 0 && extent.per_sequence() >= 0 &&
         extent.per_cache_row() >= 0;
}

bool isFixed(const format::Extent &extent) {
  return extent.per_token() == 0 && extent.per_row() == 0 && !dependsOnSession(extent);
}

bool isZero(const format::Extent &extent) { return isFixed(extent) && extent.fixed() == 0; }

bool equal(const format::Extent &a, const format::Extent &b) {
  return a.fixed() == b.fixed() && a.per_token() == b.per_token() && a.per_row() == b.per_row() &&
         a.per_sequence() == b.per_sequence() && a.per_cache_row() == b.per_cache_row();
}

bool dependsOnSession(const format::Extent &extent) {
  return extent.per_sequence() != 0 || extent.per_cache_row() != 0;
}

bool fits(const format::Extent &inner, uint64_t offset, const format::Extent &outer, TokenRange range,
          int64_t outerAtMax) {
  if (offset > uint64_t(INT64_MAX)) {
    return false;
  }
  int64_t perSequence, perCacheRow;
  if (__builtin_sub_overflow(outer.per_sequence(), inner.per_sequence(), &perSequence) ||
      __builtin_sub_overflow(outer.per_cache_row(), inner.per_cache_row(), &perCacheRow)) {
    return false;
  }
  int64_t sequenceAtOne;
  if (perCacheRow < 0 || __builtin_add_overflow(perSequence, perCacheRow, &sequenceAtOne) || sequenceAtOne < 0) {
    return false;
  }
  for (int64_t tokens : {range.first, range.last}) {
    for (int64_t rows : {int64_t(0), tokens}) {
      Sizes at{tokens, rows, 1, 1};
      Sizes outerSizes = outerAtMax < 0 ? at : Sizes{outerAtMax, outerAtMax, 1, 1};
      int64_t need, have;
      if (!evaluate(inner, at, need) || !evaluate(outer, outerSizes, have) ||
          __builtin_add_overflow(need, int64_t(offset), &need) || need > have) {
        return false;
      }
    }
  }
  return true;
}

} // namespace moert
