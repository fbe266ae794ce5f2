//===- Relabel.h - The same placement with fewer moves ----------*- C++ -*-===//
//
// Ranks of a node are interchangeable, and so are nodes: renaming them changes
// no load and no traffic, but decides how many experts have to move from the
// map in use. The best renaming is an assignment problem (Hungarian method).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_RELABEL_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_RELABEL_H

#include "passes/Analysis/Placement/Model.h"

namespace moe::placement {

/// column[row] of a square matrix (row-major, n x n) such that the sum of `cost` over the pairs is least.
std::vector<int> solveAssignment(const std::vector<double> &cost, int n);

/// `map` with ranks and nodes renamed so that the fewest slots differ from `previous`; experts that stay on a rank keep
/// their slot.
LayerMap relabel(const LayerMap &map, const LayerMap &previous, const Cluster &cluster, int experts);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_RELABEL_H
