//===- Optimize.h - What LLVM does to kernels before code generation ------===//

#ifndef MOE_LOWERING_KERNELS_OPTIMIZE_H
#define MOE_LOWERING_KERNELS_OPTIMIZE_H

#include "llvm/ADT/StringRef.h"

namespace llvm {
class Module;
class TargetMachine;
} // namespace llvm

namespace mlir::moe::kernels {

/// Scalar and loop clean-up. The emitters chose vectors and tiles already, so the vectorisers stay off; no call to a
/// library may appear (a loop turned into memset, say), so the optimiser is told that there is none. `without` names a
/// pass that is left out.
void optimizeKernels(llvm::Module &module, llvm::TargetMachine &machine, llvm::StringRef without = "");

} // namespace mlir::moe::kernels

#endif // MOE_LOWERING_KERNELS_OPTIMIZE_H
