//===- Gate.cpp - The rules that a fused model must keep --------------------===//

#include "tools/moec/fuse/Gate.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

using namespace moec;
using llvm::formatv;

std::string moec::spellBudget(double value) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%g", value);
  return text;
}

double moec::medianOf(std::vector<double> values) {
  llvm::sort(values);
  const size_t middle = values.size() / 2;
  return values.empty() ? 0 : values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::optional<double> moec::lowerBoundOf(std::vector<double> values) {
  // The median is below values[k] only if at most k of them fell below it, each at even odds. Nothing is assumed about
  // how a busy machine scatters them: its outliers make the bound of a mean useless.
  llvm::sort(values);
  double odds = std::pow(0.5, static_cast<double>(values.size())), below = 0;
  std::optional<double> bound;
  for (size_t k = 0; k < values.size() && (below += odds) <= 0.05; ++k) {
    bound = values[k];
    odds *= static_cast<double>(values.size() - k) / static_cast<double>(k + 1);
  }
  return bound;
}

std::string moec::findTooLittleText(const Difference &difference) {
  if (difference.tokens >= kMinTokens && difference.sequences >= kMinSequences) {
    return "";
  }
  return formatv("holds {0} held-out tokens in {1} sequences, but no judgement is given on fewer than {2} in {3}; "
                 "calibrate on more text",
                 difference.tokens, difference.sequences, kMinTokens, kMinSequences);
}

Verdict moec::judgeQuality(const Difference &difference, const GateRules &rules) {
  if (!(difference.klBound <= rules.maxKl)) {
    return {false, formatv("KL {0:F4} nats per token, at most {1:F4}, is above --max-kl {2}", difference.kl,
                           difference.klBound, spellBudget(rules.maxKl))};
  }
  if (!(difference.sameWinner >= rules.minTop1)) {
    return {false, formatv("the likeliest token stays the same for {0:F2} % of tokens, {1} % are needed (--min-top-1)",
                           difference.sameWinner * 100, spellBudget(rules.minTop1 * 100))};
  }
  if (difference.collapsed) {
    return {false, "its greedy text repeats itself where the model's does not"};
  }
  return {true, "quality fits"};
}

Gain moec::gainOf(const std::vector<double> &base, const std::vector<double> &plan) {
  std::vector<double> ratios;
  for (auto [before, after] : llvm::zip_equal(base, plan)) {
    ratios.push_back(before / after);
  }
  Gain gain{medianOf(ratios) - 1, std::nullopt};
  if (std::optional<double> bound = lowerBoundOf(std::move(ratios))) {
    gain.bound = *bound - 1;
  }
  return gain;
}

Verdict moec::judgeGain(const Difference &difference, const Gain &gain, const GateRules &rules) {
  const std::string quality = formatv("KL {0:F4}, at most {1:F4}", difference.kl, difference.klBound);
  const std::string measured =
      formatv("decoding is {0:F1} % {1} on {2} {3}{4}", std::abs(gain.median) * 100,
              gain.median < 0 ? "slower" : "faster", rules.ranks, rules.ranks == 1 ? "rank" : "ranks",
              gain.bound ? formatv(", at least {0:F1} % faster", *gain.bound * 100).str() : "");
  if (rules.minGain == 0) {
    return {true, quality + "; a gain is not asked for: " + measured};
  }
  if (!(gain.median >= rules.minGain)) {
    return {false, formatv("quality fits ({0}), no gain: {1}, {2:F1} % are asked for (--min-gain)", quality, measured,
                           rules.minGain * 100)};
  }
  if (!gain.bound || !(*gain.bound > 0)) {
    return {false, formatv("quality fits ({0}), but {1} rounds do not prove a gain: {2}; more --rounds or a quieter "
                           "machine may",
                           quality, rules.rounds, measured)};
  }
  return {true, quality + "; " + measured};
}
