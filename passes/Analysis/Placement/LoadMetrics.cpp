//===- LoadMetrics.cpp - How uneven routing is, and what it drops -----------===//

#include "passes/Analysis/Placement/LoadMetrics.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace moe::placement;

double moe::placement::squaredErrorOfCounts(const Loads &counts) {
  const double mean = std::accumulate(counts.begin(), counts.end(), 0.0) / static_cast<double>(counts.size());
  double sum = 0;
  for (double count : counts) {
    sum += (count - mean) * (count - mean);
  }
  return sum / static_cast<double>(counts.size());
}

double moe::placement::coefficientOfVariation(const Loads &counts) {
  const double mean = std::accumulate(counts.begin(), counts.end(), 0.0) / static_cast<double>(counts.size());
  return mean > 0 ? std::sqrt(squaredErrorOfCounts(counts)) / mean : 0;
}

double moe::placement::squaredErrorOfFractions(const Loads &counts) {
  const double sum = std::accumulate(counts.begin(), counts.end(), 0.0);
  return sum > 0 ? squaredErrorOfCounts(counts) / (sum * sum) : 0;
}

/// sum_e n_e p_e / T.
static double meanProduct(const Loads &counts, const Loads &probabilities, double tokens) {
  return tokens > 0 ? std::inner_product(counts.begin(), counts.end(), probabilities.begin(), 0.0) / tokens : 0;
}

double moe::placement::switchLoss(const Loads &firstCounts, const Loads &probabilities, double tokens) {
  return static_cast<double>(firstCounts.size()) * meanProduct(firstCounts, probabilities, tokens);
}

double moe::placement::gshardLoss(const Loads &firstCounts, const Loads &meanGates, double tokens) {
  return meanProduct(firstCounts, meanGates, tokens) / static_cast<double>(firstCounts.size());
}

double moe::placement::huggingFaceLoss(const Loads &counts, const Loads &probabilities, double tokens) {
  return static_cast<double>(counts.size()) * meanProduct(counts, probabilities, tokens);
}

RoutingBalance moe::placement::measureBalance(const Profile &profile, size_t layer, int expertsPerToken) {
  const Loads &counts = profile.layers[layer];
  RoutingBalance balance;
  balance.variation = coefficientOfVariation(counts);
  balance.errorOfFractions = squaredErrorOfFractions(counts);
  balance.errorOfCounts = squaredErrorOfCounts(counts);
  balance.hasLosses = !profile.firstCounts.empty();
  if (balance.hasLosses) {
    const Loads &first = profile.firstCounts[layer], &probabilities = profile.probabilities[layer];
    balance.tokens = std::accumulate(first.begin(), first.end(), 0.0);
    balance.switchLoss = switchLoss(first, probabilities, balance.tokens);
    balance.gshardLoss = gshardLoss(first, probabilities, balance.tokens);
    balance.huggingFaceLoss = huggingFaceLoss(counts, probabilities, balance.tokens);
  } else if (expertsPerToken > 0) {
    balance.tokens = std::accumulate(counts.begin(), counts.end(), 0.0) / expertsPerToken;
  }
  return balance;
}

double moe::placement::huggingFaceLossOfLayers(const Profile &profile) {
  Loads counts(profile.layers.front().size(), 0.0), mass = counts;
  double tokens = 0;
  for (size_t layer = 0; layer < profile.layers.size(); ++layer) {
    const Loads &first = profile.firstCounts[layer];
    const double here = std::accumulate(first.begin(), first.end(), 0.0);
    tokens += here;
    for (size_t expert = 0; expert < counts.size(); ++expert) {
      counts[expert] += profile.layers[layer][expert];
      mass[expert] += profile.probabilities[layer][expert] * here;
    }
  }
  for (double &value : mass) {
    value = tokens > 0 ? value / tokens : 0;
  }
  return huggingFaceLoss(counts, mass, tokens);
}

double moe::placement::droppedFraction(const Loads &counts, int64_t capacity) {
  double all = 0, dropped = 0;
  for (double count : counts) {
    all += count;
    dropped += std::max(0.0, count - static_cast<double>(capacity));
  }
  return all > 0 ? dropped / all : 0;
}

int64_t moe::placement::megatronCapacity(int64_t tokens, int experts, int expertsPerToken, double factor) {
  return static_cast<int64_t>(
      std::ceil(static_cast<double>(expertsPerToken * tokens) / static_cast<double>(experts) * factor));
}

int64_t moe::placement::meshCapacity(int64_t tokens, int experts, double factor) {
  const auto even = static_cast<int64_t>(static_cast<double>(tokens) * factor / static_cast<double>(experts));
  return std::max<int64_t>(4, std::min(tokens, even));
}

std::vector<uint8_t> moe::placement::keepByPosition(const std::vector<int> &choices, int expertsPerToken, int experts,
                                                    int64_t capacity) {
  std::vector<uint8_t> kept(choices.size(), 0);
  std::vector<int64_t> filled(experts, 0);
  const size_t tokens = choices.size() / expertsPerToken;
  for (int k = 0; k < expertsPerToken; ++k) {
    for (size_t token = 0; token < tokens; ++token) {
      const size_t at = token * expertsPerToken + k;
      if (choices[at] >= 0 && filled[choices[at]] < capacity) {
        ++filled[choices[at]];
        kept[at] = 1;
      }
    }
  }
  return kept;
}
