//===- Passes.h - Constructors and registration of the moe level's passes ---===//
//
// Generated from Passes.td: `create<Name>()`, `<Name>Options` and
// `registerMoePasses()`.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_H
#define MOE_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace mlir::moe {

#define GEN_PASS_DECL
#include "passes/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "passes/Passes.h.inc"

/// The check of moe-verify-moe-level, for lowerings: they rely on the contract and must not crash without it.
LogicalResult verifyMoeLevel(ModuleOp module);

} // namespace mlir::moe

#endif // MOE_PASSES_H
