//===- PlacementFile.h - The map of experts that a pass is given ------------===//
//
// Reads what `moec place --format json` writes: which expert lies in which slot,
// per MoE layer. What a single layer must fulfil is checked where it becomes a
// #moe.placement; this checks the file. It is not the planner's reader of other
// engines' maps (passes/Analysis/Placement/MapFile.h), which needs no MLIR.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENTFILE_H
#define MOE_PASSES_ANALYSIS_PLACEMENTFILE_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/Error.h"
#include <map>
#include <vector>

namespace mlir::moe {

/// The slots of one layer: the expert in each, and how much of its work the replica there takes (empty: all alike).
struct LayerPlacement {
  std::vector<int64_t> slots, shares;
};

struct PlacementFile {
  int64_t experts = 0, ranks = 0, slots = 0, totalLayers = 0;
  /// By the number of the decoder layer.
  std::map<int64_t, LayerPlacement> layers;
};

/// Whether the JSON file at `path` calls itself a placement of moe-opt. False also for what cannot be read.
bool isPlacementFile(llvm::StringRef path);

llvm::Expected<PlacementFile> readPlacementFile(llvm::StringRef path);

} // namespace mlir::moe

#endif // MOE_PASSES_ANALYSIS_PLACEMENTFILE_H
