//===- Sampling.h - The next token from logits ------------------*- C++ -*-===//
//
// Greedy (temperature 0: the largest logit, the lowest id of equal ones) or
// drawn: logits / temperature, then the k largest (top-k), then the fewest of
// the largest whose probabilities reach p (top-p), then one draw. Equal logits
// rank by id, so that every step has one answer.
//
// Random numbers: xoshiro256** seeded by SplitMix64 from the seed and the number
// of the sequence, one draw per token of 53 bits. The same seed gives the same
// text on every machine whose logits agree, whatever else is in the batch.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_SAMPLING_H
#define MOERT_READERS_SAMPLING_H

#include "runtime/core/Status.h"

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace moert::readers {

/// How to choose a token.
struct SamplingOptions {
  double temperature = 0; ///< 0: greedy.
  int64_t topK = 0;       ///< 0: all.
  double topP = 1;        ///< 1: all.
  uint64_t seed = 0;
};
/// Errors name the option and its range.
Status checkSampling(const SamplingOptions &options);

/// The index of the largest value, the lowest of equal ones; an error when a value is NaN.
Result<int32_t> greedyToken(const float *logits, int64_t vocabulary);

/// The same of what a session has picked (moert_session_pick).
Result<int32_t> greedyToken(int32_t pick);

/// Chooses the tokens of one sequence.
class Sampler {
public:
  Sampler(const SamplingOptions &options, uint64_t sequence);
  Result<int32_t> next(const float *logits, int64_t vocabulary);

private:
  uint64_t draw();

  SamplingOptions options;
  std::array<uint64_t, 4> state;
  std::vector<std::pair<float, int32_t>> candidates;
  std::vector<double> weights;
};

} // namespace moert::readers

#endif // MOERT_READERS_SAMPLING_H
