//===- MoeToLinalg.h - The reference lowering of moe to linalg --------------===//
//
// The oracle that the kernel path is compared with, and the text that other
// compilers (IREE) take. Contract and examples: docs/linalg.md.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TO_LINALG_H
#define MOE_TO_LINALG_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassManager.h"

namespace mlir::moe {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "lowering/MoeToLinalg/Passes.h.inc"

/// moe IR to linalg text: moe-lower-to-linalg, clean-up, moe-verify-linalg (`moec compile --emit linalg`).
void buildLinalgPipeline(OpPassManager &pm);

/// Registers the passes and the pipeline `moe-to-linalg`.
void registerMoeToLinalg();

} // namespace mlir::moe

#endif // MOE_TO_LINALG_H
