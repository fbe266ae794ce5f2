//===- Compare.cpp - How far two runs of a model are apart ----------------===//
//
// The loops over the vocabulary are the costly ones: they keep one f32 sum per
// lane and block of 256 and add blocks in f64, so that compilers vectorise them
// and the error stays near 1e-7 of the result.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/calibrate/Compare.h"

#include "tools/moe-run/calibrate/Moments.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace moerun;

namespace {

constexpr int64_t kBlock = 256, kLanes = 8;

/// exp(x) for x <= 0, to 2e-7 of the result; written so that it vectorises (Cephes' expf: 2^n times a polynomial).
inline float fastExp(float x) {
  x = std::max(x, -87.0f);
  const float shifted = x * 1.44269504f + 12582912.0f; // rounds to an integer in the low bits
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  const float p = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r +
                   1.6666665459e-1f) *
                      r +
                  5.0000001201e-1f;
  const float e = p * r * r + r + 1.0f;
  int32_t bits;
  memcpy(&bits, &shifted, sizeof(bits));
  const int32_t power = (bits - 0x4B400000 + 127) << 23;
  float scale;
  memcpy(&scale, &power, sizeof(scale));
  return e * scale;
}

/// Sum over i of f(i), i < count: f32 within blocks, f64 across them.
template <typename Function> double blockSum(int64_t count, Function f) {
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, count), whole = begin + (end - begin) / kLanes * kLanes;
    float lanes[kLanes] = {};
    for (int64_t i = begin; i < whole; i += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        lanes[lane] += f(i + lane);
      }
    }
    for (int64_t i = whole; i < end; ++i) {
      lanes[0] += f(i);
    }
    for (float lane : lanes) {
      total += double(lane);
    }
  }
  return total;
}

int64_t winnerOf(const float *row, int64_t count) { return std::max_element(row, row + count) - row; }

/// log of the sum of exp(row).
double logSumExp(const float *row, int64_t count, float largest) {
  return double(largest) + std::log(blockSum(count, [=](int64_t i) { return fastExp(row[i] - largest); }));
}

} // namespace

double moerun::cosineDistance(const std::vector<float> &a, const std::vector<float> &b, int64_t width) {
  double total = 0;
  for (size_t row = 0; row < a.size(); row += size_t(width)) {
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = row; i < row + size_t(width); ++i) {
      aa += double(a[i]) * a[i];
      bb += double(b[i]) * b[i];
      ab += double(a[i]) * b[i];
    }
    const bool zero = aa == 0 || bb == 0;
    total += zero ? double(aa != bb) : 1 - ab / std::sqrt(aa * bb);
  }
  return total;
}

double moerun::normRatio(const std::vector<float> &a, const std::vector<float> &b, int64_t width) {
  double total = 0;
  for (size_t row = 0; row < a.size(); row += size_t(width)) {
    double aa = 0, bb = 0;
    for (size_t i = row; i < row + size_t(width); ++i) {
      aa += double(a[i]) * a[i];
      bb += double(b[i]) * b[i];
    }
    total += bb == 0 ? 0 : std::sqrt(aa / bb);
  }
  return total;
}

std::vector<float> moerun::sum(const std::vector<float> &a, const std::vector<float> &b) {
  std::vector<float> result(a.size());
  std::transform(a.begin(), a.end(), b.begin(), result.begin(), [](float x, float y) { return x + y; });
  return result;
}

std::vector<float> moerun::difference(const std::vector<float> &a, const std::vector<float> &b) {
  std::vector<float> result(a.size());
  std::transform(a.begin(), a.end(), b.begin(), result.begin(), [](float x, float y) { return x - y; });
  return result;
}

Prediction::Prediction(std::vector<float> values, std::vector<int32_t> ids, int64_t vocabulary, int threads)
    : logits(std::move(values)), tokens(std::move(ids)), vocabulary(vocabulary), threads(threads),
      logSums(logits.size() / size_t(vocabulary)), winners(logSums.size()) {
  inParts(int64_t(logSums.size()), threads, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float *row = logits.data() + t * vocabulary;
      winners[size_t(t)] = winnerOf(row, vocabulary);
      logSums[size_t(t)] = logSumExp(row, vocabulary, row[winners[size_t(t)]]);
    }
  });
  for (size_t t = 0; t < logSums.size() && t + 1 < tokens.size(); ++t) {
    ownLoss += logSums[t] - double(logits[t * size_t(vocabulary) + size_t(tokens[t + 1])]);
  }
}

Prediction::Effect Prediction::compare(const std::vector<float> &other) const {
  std::vector<Effect> effects(logSums.size());
  inParts(int64_t(effects.size()), threads, [&](int64_t begin, int64_t end) {
    for (auto t = size_t(begin); t < size_t(end); ++t) {
      const float *mine = logits.data() + t * size_t(vocabulary), *theirs = other.data() + t * size_t(vocabulary);
      const int64_t winner = winnerOf(theirs, vocabulary);
      const double logSum = logSumExp(theirs, vocabulary, theirs[winner]);
      // KL = sum p (mine - theirs) - (logSum(mine) - logSum(theirs)).
      const auto shift = float(logSums[t]);
      const double mean =
          blockSum(vocabulary, [=](int64_t i) { return fastExp(mine[i] - shift) * (mine[i] - theirs[i]); });
      effects[t].kl = mean - (logSums[t] - logSum);
      effects[t].sameWinner = winner == winners[t];
      effects[t].loss = t + 1 < tokens.size() ? logSum - double(theirs[tokens[t + 1]]) : 0;
    }
  });
  Effect total; // in the order of the tokens
  for (const Effect &effect : effects) {
    total.kl += effect.kl;
    total.sameWinner += effect.sameWinner;
    total.loss += effect.loss;
  }
  return total;
}
