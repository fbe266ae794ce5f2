//===- CpuTarget.h - The CPU kinds that kernels are generated for --------===//
//
// A target is a name, what LLVM is told and what the loader must find by CPUID.
// It is a value from a table, never a reading of the machine that compiles:
// packages are the same wherever they are built. Only `host` looks.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_CPU_CPUTARGET_H
#define MOE_LOWERING_CPU_CPUTARGET_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"

namespace mlir::moe::cpu {

struct CpuTarget {
  llvm::StringRef name;                  ///< as in `--target cpu:NAME` and in the package
  llvm::StringRef llvmCpu;               ///< -mcpu
  llvm::StringRef llvmFeatures;          ///< -mattr
  llvm::ArrayRef<llvm::StringRef> cpuid; ///< what the loader checks: all that LLVM may emit beyond x86-64
  int lanes;                             ///< f32 lanes of a vector register
  bool bf16Dot;                          ///< has vdpbf16ps
  /// Tile of the GEMM micro-kernel: tokens x vectors of outputs held in registers.
  int tileTokens, tileVectors;
};

/// Every target, best first; the last is the floor.
llvm::ArrayRef<CpuTarget> allTargets();

/// What of `target.cpuid` this machine lacks; empty: it runs the target.
llvm::SmallVector<llvm::StringRef> missingFeatures(const CpuTarget &target);

/// The target called `name`; `host` is the best that this machine runs; null if there is none.
const CpuTarget *findTarget(llvm::StringRef name);

} // namespace mlir::moe::cpu

#endif // MOE_LOWERING_CPU_CPUTARGET_H
