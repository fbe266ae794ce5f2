//===- Compare.h - How far two runs of a model are apart --------*- C++ -*-===//
//
// Sums over tokens, in f64: cosine distances of values of the stream, and what a
// change does to the prediction.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_COMPARE_H
#define MOE_TOOLS_MOERUN_CALIBRATE_COMPARE_H

#include <cstdint>
#include <vector>

namespace moerun {

/// Sum over rows of 1 - cos(a, b); a row of which either is zero counts 1 unless both are.
double cosineDistance(const std::vector<float> &a, const std::vector<float> &b, int64_t width);
/// Sum over rows of |a| / |b|.
double normRatio(const std::vector<float> &a, const std::vector<float> &b, int64_t width);
/// a + b.
std::vector<float> sum(const std::vector<float> &a, const std::vector<float> &b);
/// a - b.
std::vector<float> difference(const std::vector<float> &a, const std::vector<float> &b);

/// What a model predicts for a sequence, made once and compared with many.
class Prediction {
public:
  /// `logits` [T, V] of the sequence `tokens`, which may have one more: what follows; `threads` share the tokens of a
  /// comparison.
  Prediction(std::vector<float> logits, std::vector<int32_t> tokens, int64_t vocabulary, int threads = 1);

  /// Sums over the sequence: KL(this || other) in nats and equal winners over T tokens, loss over those that have a
  /// next.
  struct Effect {
    double kl = 0, loss = 0, sameWinner = 0;
  };
  Effect compare(const std::vector<float> &other) const;
  double loss() const { return ownLoss; }

private:
  std::vector<float> logits;
  std::vector<int32_t> tokens;
  int64_t vocabulary;
  int threads;
  /// Per token.
  std::vector<double> logSums;
  std::vector<int64_t> winners;
  double ownLoss = 0;
};

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_COMPARE_H
