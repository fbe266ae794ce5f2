// See Sums.h.
#include "runtime/ranks/Sums.h"

#include <algorithm>
#include <cstring>

namespace moert {
namespace {

/// Elements summed at a time; their accumulators stay in the first cache.
constexpr uint64_t kBlock = 512;

float toFloat(float value) { return value; }
float toFloat(uint16_t value) {
  uint32_t bits = uint32_t(value) << 16;
  float result;
  memcpy(&result, &bits, sizeof(result));
  return result;
}

void fromFloat(float value, float &out) { out = value; }
/// To the nearest bf16, ties to even; a NaN stays one.
void fromFloat(float value, uint16_t &out) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    out = uint16_t(bits >> 16) | 0x40;
    return;
  }
  out = uint16_t((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

template <typename T>
void sum(const void *const *from, int ranks, void *const *to, int targets, uint64_t first, uint64_t count) {
  float total[kBlock];
  for (uint64_t done = 0; done < count; done += kBlock) {
    const uint64_t begin = first + done, block = std::min(kBlock, count - done);
    const T *source = static_cast<const T *>(from[0]) + begin;
    for (uint64_t i = 0; i < block; ++i) {
      total[i] = toFloat(source[i]);
    }
    for (int rank = 1; rank < ranks; ++rank) {
      source = static_cast<const T *>(from[rank]) + begin;
      for (uint64_t i = 0; i < block; ++i) {
        total[i] += toFloat(source[i]);
      }
    }
    for (int k = 0; k < targets; ++k) {
      T *target = static_cast<T *>(to[k]) + begin;
      for (uint64_t i = 0; i < block; ++i) {
        fromFloat(total[i], target[i]);
      }
    }
  }
}

} // namespace

void sumInRankOrder(format::DType element, const void *const *from, int ranks, void *const *to, int targets,
                    uint64_t first, uint64_t count) {
  if (element == format::DType::BF16) {
    sum<uint16_t>(from, ranks, to, targets, first, count);
  } else {
    sum<float>(from, ranks, to, targets, first, count);
  }
}

} // namespace moert
