//===- FusionPlanner.h - Which windows to fuse, under a budget ---------------===//
//
// What fusing a window costs in KL was measured for every window alone, and the
// costs of windows that lie apart add up almost exactly. So the best set for every
// budget is found exactly, by going through the layers once: the front up to a
// layer is made of that before it and of those before the windows that end there.
//
// Works on numbers, not on IR: which windows are legal is asked elsewhere
// (FusionLegality), and whether a set is as good as predicted is measured.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_FUSIONPLANNER_H
#define MOE_PASSES_ANALYSIS_FUSIONPLANNER_H

#include "passes/Analysis/FusionPlan.h"
#include "llvm/ADT/ArrayRef.h"
#include <utility>

namespace mlir::moe {

/// Residual sub-layers that a window of `length` whole layers has fewer: R 2n - 1, D n - 1, P 2n - 2.
int64_t subLayersSaved(FusionForm form, int64_t length);

/// What a sub-layer less saves, and what an attention that is gone saves beside, in any one unit.
struct FusionGains {
  double subLayer = 1, attention = 0;
  double of(FusionForm form, int64_t length) const;
};

/// A window that a plan may have: nats that it costs, and what it gains.
struct WindowChoice {
  int64_t first = 0, length = 0;
  FusionForm form = FusionForm::Deferred;
  double kl = 0, gain = 0;
  int64_t last() const { return first + length - 1; }
};

/// A set of windows that lie apart: indices of choices, ascending in place.
struct PlanPoint {
  double kl = 0, gain = 0;
  std::vector<size_t> windows;
};

/// Every set of `choices` that no other one beats in both KL and gain, ascending in both; the first is the empty set.
/// Of equal ones the one with fewer windows, then with earlier ones. Negative KL (noise) counts as none. Choices
/// without gain are never taken. The number of points is at most that of different sums of gains: 2 L when all gains
/// are multiples of one.
std::vector<PlanPoint> findFusionFront(int64_t layers, llvm::ArrayRef<WindowChoice> choices);

/// The point of `front` with most gain whose KL is at most `budget`.
const PlanPoint &pickWithin(llvm::ArrayRef<PlanPoint> front, double budget);

/// What a plan may do, whatever it costs.
struct FusionLimits {
  std::vector<FusionForm> forms;
  /// Layers first to last, as the user grouped them; a window must be one of these. Empty: any.
  std::vector<std::pair<int64_t, int64_t>> groups;
  /// Whether the last layer of the model may be in a window. The published results keep the last FFN of a run apart.
  bool fuseLast = false;
  /// Layer 0 must keep its attention.
  bool needsFirstAttention = false;
  /// FFN widths become multiples of this.
  int64_t widthMultiple = 1;
  int64_t hidden = 0, ranks = 1;
  /// Bytes per element of FFN weights, and the most bytes that one fused weight may have on a rank.
  int64_t elementBytes = 2, maxTensorBytes = INT64_MAX;
};

/// Why `limits` do not allow a window, with both values; empty if they do. `widths` has the FFN width of every layer.
std::string findLimit(const FusionLimits &limits, int64_t first, int64_t length, FusionForm form,
                      llvm::ArrayRef<int64_t> widths);

/// The groups of "a-b,c-d" for a model of `layers` layers: ascending and apart.
llvm::Expected<std::vector<std::pair<int64_t, int64_t>>> parseGroups(llvm::StringRef text, int64_t layers);

} // namespace mlir::moe

#endif // MOE_PASSES_ANALYSIS_FUSIONPLANNER_H
