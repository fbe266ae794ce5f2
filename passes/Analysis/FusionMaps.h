//===- FusionMaps.h - The file with the maps of a fusion plan ----------------===//
//
// A pass only names the maps of a plan; their numbers are read when weights are
// computed, long after a plan was carried out. This looks at them before, so that
// an error names the plan and the place in it.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_FUSIONMAPS_H
#define MOE_PASSES_ANALYSIS_FUSIONMAPS_H

#include "passes/Analysis/FusionPlan.h"

namespace mlir::moe {

/// Every map that `plan`, read from `file`, takes from its `mapsFile` is an F32 [H, H] tensor there, all numbers
/// finite. Nothing to check without a `mapsFile`. Reads the maps, a piece at a time.
llvm::Error checkFusionMaps(const FusionPlan &plan, llvm::StringRef file, int64_t hidden);

} // namespace mlir::moe

#endif // MOE_PASSES_ANALYSIS_FUSIONMAPS_H
