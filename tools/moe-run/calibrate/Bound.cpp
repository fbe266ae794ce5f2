//===- Bound.cpp - How sure a mean over text is ---------------------------===//
#include "tools/moe-run/calibrate/Bound.h"

#include <cmath>
#include <limits>

double moerun::student95(int64_t freedom) {
  // Tabulated where the expansion around the normal distribution is too coarse.
  constexpr double kFew[] = {6.3138, 2.9200, 2.3534, 2.1318, 2.0150};
  if (freedom < 1) {
    return std::numeric_limits<double>::infinity();
  }
  if (freedom <= 5) {
    return kFew[freedom - 1];
  }
  const double z = 1.6448536, z3 = z * z * z, z5 = z3 * z * z, n = double(freedom);
  return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n) +
         (3 * z5 * z * z + 19 * z5 + 17 * z3 - 15 * z) / (384 * n * n * n);
}

double moerun::upperBound95(const std::vector<double> &sums, const std::vector<int64_t> &tokens) {
  const auto count = double(sums.size());
  double sum = 0, total = 0;
  for (size_t i = 0; i < sums.size(); ++i) {
    sum += sums[i];
    total += double(tokens[i]);
  }
  if (sums.size() < 2) {
    return std::numeric_limits<double>::infinity();
  }
  const double mean = sum / total;
  double spread = 0;
  for (size_t i = 0; i < sums.size(); ++i) {
    const double off = sums[i] - mean * double(tokens[i]);
    spread += off * off;
  }
  return mean + student95(int64_t(sums.size()) - 1) * std::sqrt(spread * count / (count - 1)) / total;
}
