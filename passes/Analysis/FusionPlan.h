//===- FusionPlan.h - Which layers are to be fused, and how ------------------===//
//
// A plan is a JSON file (docs/ffn-fusion.md) that a search writes and the passes
// carry out: which attentions go, which windows of layers become one, in which
// form. Layers are numbered as in the checkpoint. Reading checks everything that
// can be known without the model.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_FUSIONPLAN_H
#define MOE_PASSES_ANALYSIS_FUSIONPLAN_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <string>
#include <vector>

namespace mlir::moe {

/// The most layers that a model may have, and the most that widths may be padded to a multiple of. No result of adding
/// or rounding up such numbers overflows.
constexpr int64_t kMaxFusionLayers = 65536, kMaxWidthPad = 1 << 20;

/// How a window of n layers becomes fewer sub-layers.
enum class FusionForm {
  Removed,  ///< R: without attentions, the n FFNs read one input
  Deferred, ///< D: attentions as they are, one after the other; the n FFNs read what the last one leaves
  Pair,     ///< P: the n attentions read one input and are one attention, then the n FFNs are one
};

/// "R", "D" or "P".
llvm::StringRef spell(FusionForm form);

/// Linear maps that make up for what a window's branches no longer see: names of [H, H] f32 tensors, empty: none. They
/// are in the plan's `mapsFile`, else in the checkpoint.
/// Stored [out, in] as every weight. An input map gives what a layer's own norm would have given from what the norm in
/// its place gives, scales included: the weights behind it are multiplied by it, from the right. The output map is
/// applied to the sum of the FFNs.
struct FusionMaps {
  std::vector<std::string> attention, ffn; ///< empty, or one per layer of the window
  std::string output;
  bool any() const;
};

/// `length` layers from `first` on.
struct FusionWindow {
  int64_t first = 0, length = 0;
  FusionForm form = FusionForm::Deferred;
  FusionMaps maps;
  int64_t last() const { return first + length - 1; }
};

struct FusionPlan {
  /// Layers of the model that the plan was made for.
  int64_t layers = 0;
  /// Layers that lose their attention, before any window is fused. Ascending.
  std::vector<int64_t> removeAttention;
  /// Ascending, apart from each other.
  std::vector<FusionWindow> windows;
  /// Fused FFN widths are padded with zeros to a multiple of this.
  int64_t padWidthTo = 1;
  /// The safetensors file with the maps; empty: the checkpoint has them. The plan names it relative to itself, here it
  /// is as the plan was named.
  std::string mapsFile;
};

/// Reads a plan. An error names the file and the place in it: "plan.json: windows[1].form must be ...".
llvm::Expected<FusionPlan> readFusionPlan(llvm::StringRef path);

} // namespace mlir::moe

#endif // MOE_PASSES_ANALYSIS_FUSIONPLAN_H
