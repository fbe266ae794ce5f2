//===- LoadMetrics.h - How uneven routing is, and what it drops -*- C++ -*-===//
//
// Statistics of expert counts, the auxiliary losses of training frameworks as
// values (nothing here has a gradient), and who is dropped at a capacity. T tokens,
// E experts, K experts per token; n_e counts, P_e the mean over tokens of the
// full softmax probability.
//
// Two normalisations of the squared error exist and differ by (sum n)^2; the
// one of fractions is the project's: it does not grow with the batch.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_LOADMETRICS_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_LOADMETRICS_H

#include "passes/Analysis/Placement/Model.h"

namespace moe::placement {

/// How unequal counts are: standard deviation over mean.
double coefficientOfVariation(const Loads &counts);
/// Mean over experts of (n_e / sum n - 1/E)^2 = (coefficient of variation)^2 / E^2.
double squaredErrorOfFractions(const Loads &counts);
/// Mean over experts of (n_e - mean n)^2.
double squaredErrorOfCounts(const Loads &counts);

/// Switch: E sum_e f_e P_e, f_e = n_e / T of first choices. 1 at perfect balance.
double switchLoss(const Loads &firstCounts, const Loads &probabilities, double tokens);
/// GShard: (1/E) sum_e (c_e / T) m_e of first choices and their mean gates. 1/E^2 at perfect balance.
double gshardLoss(const Loads &firstCounts, const Loads &meanGates, double tokens);
/// Hugging Face (Mixtral, Qwen, OLMoE): E sum_e (n_e / T) P_e over all K choices, not divided by K. K at perfect
/// balance.
double huggingFaceLoss(const Loads &counts, const Loads &probabilities, double tokens);

/// What the counts of one layer say.
struct RoutingBalance {
  double tokens = 0, variation = 0, errorOfFractions = 0, errorOfCounts = 0;
  /// Values of the losses, if the profile knows first choices and probabilities. GShard's mean gate is the mean
  /// probability.
  bool hasLosses = false;
  double switchLoss = 0, gshardLoss = 0, huggingFaceLoss = 0;
};
/// `expertsPerToken` gives the tokens where first choices are not known; 0: unknown, then `tokens` is 0.
RoutingBalance measureBalance(const Profile &profile, size_t layer, int expertsPerToken);
/// Hugging Face's loss as the classes compute it: the tokens of all layers together. Needs first choices.
double huggingFaceLossOfLayers(const Profile &profile);

/// The part of all choices beyond `capacity` per expert, if the counts are of one batch. Who is dropped depends on the
/// order (keepByPosition), how many does not.
double droppedFraction(const Loads &counts, int64_t capacity);

/// Slots per expert at a capacity factor: `ceil(K T / E * factor)` (Megatron).
int64_t megatronCapacity(int64_t tokens, int experts, int expertsPerToken, double factor);
/// max(4, min(T, floor(T * factor / E))) (Mesh TensorFlow; no factor for K).
int64_t meshCapacity(int64_t tokens, int experts, double factor);

/// Which choices stay: [token * K + k], in order of position, all first choices before any second. An expert of -1 is
/// nobody and takes no place.
std::vector<uint8_t> keepByPosition(const std::vector<int> &choices, int expertsPerToken, int experts,
                                    int64_t capacity);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_LOADMETRICS_H
