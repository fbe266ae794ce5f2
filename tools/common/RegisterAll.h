//===- RegisterAll.h - What every tool knows: dialects and passes -----------===//
//
// The one place where dialects, interface implementations and passes are
// registered; moe-opt, moec and the plugin call it. Dialects are named one by one,
// not `mlir::registerAllDialects`: what we do not lower through is not accepted.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_REGISTERALL_H
#define MOE_TOOLS_REGISTERALL_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace mlir::moe {

/// Registers the dialects of this project (nothing of MLIR's own).
void registerMoeDialects(DialectRegistry &registry);

/// Registers our dialects and the upstream ones that our lowerings read or write.
void registerAllDialects(DialectRegistry &registry);

/// Registers our passes and pipelines (nothing of MLIR's own).
void registerAllMoePasses();

/// Registers our passes and the upstream ones that a user combines with them (canonicalize, cse, ...).
void registerAllPasses();

} // namespace mlir::moe

#endif // MOE_TOOLS_REGISTERALL_H
