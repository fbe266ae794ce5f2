//===- FusionCalibration.h - What was measured on a model, as plans need it --===//
//
// Reads the file that `moe-run calibrate` (or calibrate_hf.py) wrote:
// docs/calibration.md. Every tensor is checked for its type and shape, every
// number for being one; what a figure means is said there. A file of version 1,
// or one made without windows, has none: it says how layers depend on each other,
// not which of them can be fused.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_FUSIONCALIBRATION_H
#define MOE_PASSES_ANALYSIS_FUSIONCALIBRATION_H

#include "passes/Analysis/FusionPlan.h"

namespace mlir::moe {

/// What fusing a window alone does to the model, on held-out text; repaired: with the maps that help.
struct MeasuredWindow {
  int64_t first = 0, length = 0;
  FusionForm form = FusionForm::Deferred;
  double error = 0, errorRepaired = 0;
  double kl = 0, klRepaired = 0;
  /// Upper 95 % bound of `klRepaired`; no number where one sequence says nothing of it.
  double klBound = 0;
  double sameWinner = 0;
  /// Of `klRepaired`, per domain.
  std::vector<double> klDomains;
  int64_t last() const { return first + length - 1; }
};

struct FusionCalibration {
  std::string fingerprint;
  int64_t layers = 0, hidden = 0;
  std::vector<std::string> domains;
  /// Measured text, and what was kept for judging.
  int64_t sequences = 0, tokens = 0, heldOutSequences = 0, heldOutTokens = 0, heldOutDomains = 0;
  /// Of the text that was kept, what windows and their repair were judged on: the first of all domains by turns.
  int64_t judgedTokens = 0;
  double baseLoss = 0;
  /// [layers, layers]: how much column j depends on row i.
  std::vector<double> dependency;
  /// [layers].
  std::vector<double> blockInfluence, attentionContribution, attentionRemovedKl;
  std::vector<MeasuredWindow> windows;

  /// The window of these layers in that form, or null.
  const MeasuredWindow *find(int64_t first, int64_t length, FusionForm form) const;
};

/// Reads a calibration; an error names the file and the tensor or key.
llvm::Expected<FusionCalibration> readFusionCalibration(llvm::StringRef path);

} // namespace mlir::moe

#endif // MOE_PASSES_ANALYSIS_FUSIONCALIBRATION_H
