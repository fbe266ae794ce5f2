//===- Repetition.cpp - Whether generated text repeats itself -------------===//
#include "tools/moe-run/calibrate/Repetition.h"

#include <algorithm>
#include <array>
#include <set>

double moerun::repeatedShare(const std::vector<int32_t> &tokens) {
  constexpr size_t kRun = 4;
  if (tokens.size() <= kRun) {
    return 0;
  }
  std::set<std::array<int32_t, kRun>> seen;
  const size_t runs = tokens.size() - kRun + 1;
  size_t again = 0;
  for (size_t i = 0; i < runs; ++i) {
    again += !seen.insert({tokens[i], tokens[i + 1], tokens[i + 2], tokens[i + 3]}).second;
  }
  return double(again) / double(runs);
}

bool moerun::isCollapse(const std::vector<double> &base, const std::vector<double> &other) {
  auto loops = [](const std::vector<double> &shares) {
    return std::count_if(shares.begin(), shares.end(), [](double share) { return share >= 0.5; });
  };
  const auto least = std::max<int64_t>(1, (int64_t(base.size()) + 3) / 4);
  return loops(other) - loops(base) >= least;
}
