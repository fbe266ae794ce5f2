//===- Sampling.cpp - The next token from logits --------------------------===//
//
// Probabilities in f64. Candidates are sorted only as far as top-k or top-p
// ask for it.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Sampling.h"

#include <algorithm>
#include <cmath>

using namespace moert;
using namespace moert::readers;

namespace {

uint64_t splitMix(uint64_t &state) {
  uint64_t z = (state += 0x9E3779B97F4A7C15ull);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

uint64_t rotateLeft(uint64_t x, int bits) { return (x << bits) | (x >> (64 - bits)); }

/// Larger logits first, lower ids first among equal ones.
bool ranksBefore(const std::pair<float, int32_t> &a, const std::pair<float, int32_t> &b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

} // namespace

Status moert::readers::checkSampling(const SamplingOptions &options) {
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
    return error(Code::InvalidArgument, "temperature ", options.temperature, " must be 0 (greedy) or more");
  }
  if (options.topK < 0) {
    return error(Code::InvalidArgument, "top-k ", options.topK, " must be 0 (all) or more");
  }
  if (!(options.topP > 0) || options.topP > 1) {
    return error(Code::InvalidArgument, "top-p ", options.topP, " must be above 0 and at most 1 (all)");
  }
  return Status();
}

static Status notANumber(int64_t token) {
  return error(Code::Internal, "the logit of token ", token, " is not a number");
}

Result<int32_t> moert::readers::greedyToken(int32_t pick) {
  return pick >= 0 ? Result<int32_t>(pick) : notANumber(-1 - int64_t(pick));
}

Result<int32_t> moert::readers::greedyToken(const float *logits, int64_t vocabulary) {
  int64_t best = 0;
  for (int64_t i = 0; i < vocabulary; ++i) {
    if (std::isnan(logits[i])) {
      return notANumber(i);
    }
    best = logits[i] > logits[best] ? i : best;
  }
  return static_cast<int32_t>(best);
}

Sampler::Sampler(const SamplingOptions &options, uint64_t sequence) : options(options) {
  uint64_t seed = options.seed;
  uint64_t mixed = splitMix(seed) ^ sequence;
  for (uint64_t &word : state) {
    word = splitMix(mixed);
  }
}

uint64_t Sampler::draw() {
  uint64_t result = rotateLeft(state[1] * 5, 7) * 9;
  uint64_t t = state[1] << 17;
  state[2] ^= state[0];
  state[3] ^= state[1];
  state[1] ^= state[2];
  state[0] ^= state[3];
  state[2] ^= t;
  state[3] = rotateLeft(state[3], 45);
  return result;
}

Result<int32_t> Sampler::next(const float *logits, int64_t vocabulary) {
  MOERT_ASSIGN(best, greedyToken(logits, vocabulary));
  // An infinite logit leaves no choice; it would make the others' weights 0/0.
  if (options.temperature == 0 || std::isinf(logits[best])) {
    return best;
  }
  double u = static_cast<double>(draw() >> 11) * 0x1p-53;
  candidates.clear();
  for (int64_t i = 0; i < vocabulary; ++i) {
    candidates.emplace_back(logits[i], static_cast<int32_t>(i));
  }
  if (options.topK > 0 && options.topK < vocabulary) {
    std::nth_element(candidates.begin(), candidates.begin() + options.topK, candidates.end(), ranksBefore);
    candidates.resize(static_cast<size_t>(options.topK));
  }
  if (options.topP < 1) {
    std::sort(candidates.begin(), candidates.end(), ranksBefore);
  } else if (options.topK > 0) {
    // In order of id: nth_element leaves an order that depends on the library.
    std::sort(candidates.begin(), candidates.end(), [](const auto &a, const auto &b) { return a.second < b.second; });
  }
  weights.clear();
  double total = 0;
  for (const auto &[logit, id] : candidates) {
    weights.push_back(std::exp((static_cast<double>(logit) - static_cast<double>(logits[best])) / options.temperature));
    total += weights.back();
  }
  if (options.topP < 1) {
    double reached = 0;
    size_t kept = 0;
    while (kept < weights.size() && reached < options.topP * total) {
      reached += weights[kept++];
    }
    kept = std::max<size_t>(kept, 1);
    weights.resize(kept);
    total = reached;
  }
  double target = u * total, sum = 0;
  size_t chosen = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) {
      continue;
    }
    chosen = i; // Stays the last with any weight when rounding leaves sum just below target.
    sum += weights[i];
    if (target < sum) {
      break;
    }
  }
  return candidates[chosen].second;
}
