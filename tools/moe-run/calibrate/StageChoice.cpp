//===- StageChoice.cpp - Which stages of repair a window keeps ------------===//
#include "tools/moe-run/calibrate/StageChoice.h"

#include <numeric>

using namespace moerun;

double WindowScore::klSum() const { return std::accumulate(kl.begin(), kl.end(), 0.0); }

double StageChoice::stageKl(const WindowScore &score) const {
  double kl = 0, count = 0;
  for (size_t s = 0; s < tokens.size(); s += stageEvery(tokens.size())) {
    kl += score.kl[s];
    count += double(tokens[s]);
  }
  return kl / count;
}

void StageChoice::begin(WindowScore score, std::vector<int64_t> lengths) {
  tokens = std::move(lengths);
  stages = 0;
  best = stageKl(score);
  plain = repaired = std::move(score);
}

void StageChoice::offer(int32_t mapped, const WindowScore &score) {
  const double kl = stageKl(score);
  tried.emplace_back(mapped, kl);
  if (kl < best) {
    best = kl;
    stages = mapped;
  }
}

void StageChoice::settle(WindowScore score) {
  if (score.klSum() < plain.klSum()) {
    repaired = std::move(score);
  } else {
    stages = 0;
  }
}
