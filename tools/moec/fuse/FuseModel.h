//===- FuseModel.h - What moec fuse asks of a module -------------------------===//
//
// Sizes that a plan changes, and the reasons why windows cannot be fused: the
// obstacles in the IR (FusionLegality) and the limits of a plan (FusionPlanner).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_FUSE_FUSEMODEL_H
#define MOE_TOOLS_MOEC_FUSE_FUSEMODEL_H

#include "mlir/IR/BuiltinOps.h"
#include "passes/Analysis/FusionCalibration.h"
#include "passes/Analysis/FusionPlanner.h"

namespace moec {

/// What a step costs beside its arithmetic.
struct ModelShape {
  /// Residual sub-layers: each waits for the one before it.
  int64_t subLayers = 0;
  /// Of the weights as the step reads them, fused ones included.
  int64_t weightBytes = 0;
  int64_t kvBytesPerToken = 0;
};

ModelShape measureShape(mlir::ModuleOp module);

/// What limits of plans depend on.
struct ModelLayers {
  int64_t layers = 0, hidden = 0;
  /// FFN width of every layer, 0 without a dense FFN.
  std::vector<int64_t> widths;
  /// Bytes per element of FFN weights.
  int64_t elementBytes = 2;
  bool hasBiases = false, hasExperts = false;
};

llvm::Expected<ModelLayers> describeLayers(mlir::ModuleOp module);

/// Why the layers cannot be fused in that form; empty if they can.
std::string findObstacleOf(mlir::ModuleOp module, int64_t first, int64_t length, mlir::moe::FusionForm form);

} // namespace moec

#endif // MOE_TOOLS_MOEC_FUSE_FUSEMODEL_H
