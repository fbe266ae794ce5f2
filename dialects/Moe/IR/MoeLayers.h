//===- MoeLayers.h - How a module says what its layers and weights come from ===//
//
// The importer and the passes number decoder blocks as the checkpoint does. Where
// that is not a count from 0, the add that ends a block carries
// `moe.layers = array<i64: FIRST, LAST>`: a block without an attention or an FFN, one
// behind slots that have no op at all, one that was fused from several.
//
// Weights are in the checkpoint; where some are not, the module names the
// safetensors files that have them.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LAYERS_H
#define MOE_LAYERS_H

#include "llvm/ADT/StringRef.h"

namespace mlir::moe {

/// The attribute with the first and the last layer that a block stands for.
constexpr llvm::StringLiteral kLayersAttr = "moe.layers";

/// The attribute of a module with the paths of files that hold weights beside the checkpoint: an array of strings.
constexpr llvm::StringLiteral kWeightFilesAttr = "moe.weight_files";

} // namespace mlir::moe

#endif // MOE_LAYERS_H
