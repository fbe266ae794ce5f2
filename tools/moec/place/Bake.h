//===- Bake.h - A checkpoint whose experts lie as a map says ----*- C++ -*-===//
//
// For engines that take no map: renumbers the experts of every MoE layer, so
// that the engine's own linear placement (rank r has experts r E/R and on) is
// the planned one. Experts are renamed, rows of the router and its correction
// bias permuted with them; everything else is copied. The model computes the
// same up to the order of sums and exact ties of the router.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_PLACE_BAKE_H
#define MOE_TOOLS_MOEC_PLACE_BAKE_H

#include "passes/Analysis/Placement/Model.h"
#include "tools/moec/OutputFile.h"

namespace moec {

/// Fails unless the map has no redundant replicas.
moe::placement::Status checkBakeable(const moe::placement::Map &map);

/// Writes the checkpoint at `from`, renumbered by `map`, into the empty directory `to`.
moe::placement::Status bakeCheckpoint(const std::string &from, const moe::placement::Map &map, const std::string &to);

} // namespace moec

#endif // MOE_TOOLS_MOEC_PLACE_BAKE_H
