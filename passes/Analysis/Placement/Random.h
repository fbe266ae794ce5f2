//===- Random.h - Random numbers that are the same everywhere ---*- C++ -*-===//
//
// The distributions of the standard library differ between implementations; a
// plan must not. SplitMix64 is small and good enough to pick moves.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_RANDOM_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_RANDOM_H

#include <cmath>
#include <cstdint>

namespace moe::placement {

class Random {
public:
  explicit Random(uint64_t seed) : state(seed) {}

  uint64_t next() {
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  /// In [0, n).
  int below(int n) { return static_cast<int>(((next() >> 32) * static_cast<uint64_t>(n)) >> 32); }
  /// In [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  /// Gumbel(0, 1): the k largest of log(w) + gumbel() are k draws without replacement by weight w.
  double gumbel() { return -std::log(-std::log(uniform() + 1e-300) + 1e-300); }

private:
  uint64_t state;
};

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_RANDOM_H
