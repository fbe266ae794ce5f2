//===- Moments.h - Sums over tokens, and the maps they give -----*- C++ -*-===//
//
// What is known of inputs x and targets y_1 .. y_n [T, H] after many tokens:
// x^T x and x^T y_i, in f64. From them the linear maps that take x to each y.
// Sums are added up in the order of the sequences, so the same text gives the
// same maps.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_MOMENTS_H
#define MOE_TOOLS_MOERUN_CALIBRATE_MOMENTS_H

#include <cstdint>
#include <functional>
#include <vector>

namespace moerun {

/// A linear map of rows: y = x m, m [H, H] row-major. Empty: none, y = x.
using Map = std::vector<float>;

/// Calls `part(begin, end)` for parts of [0, count) that `threads` threads share. Parts begin at multiples of kPart and
/// are no longer: what is computed in a part does not depend on how many threads there are.
constexpr int64_t kPart = 64;
void inParts(int64_t count, int threads, const std::function<void(int64_t begin, int64_t end)> &part);

/// y = x m.
void applyMap(const std::vector<float> &x, const Map &m, int64_t width, int threads, std::vector<float> &y);

class Moments {
public:
  Moments() = default;
  Moments(int64_t width, size_t targets, int threads);

  /// Adds rows of the input and of every target; a target may be null: it is left out now, and always.
  void add(const std::vector<float> &input, const std::vector<const std::vector<float> *> &targets);
  /// One map per target; all are empty when the input was zero or no map can be computed. Frees the sums.
  std::vector<Map> solve(double ridge);

private:
  int64_t width = 0;
  int threads = 1;
  std::vector<double> gram;
  std::vector<std::vector<double>> crosses;
};

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_MOMENTS_H
