//===- GpuTarget.h - The GPU kinds that kernels are generated for ---------===//
//
// A value from a table, as a CPU target is. PTX of a target runs on its
// architecture and every later one, but for those whose name ends with a letter:
// their instructions are of one architecture alone.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_GPU_GPUTARGET_H
#define MOE_LOWERING_GPU_GPUTARGET_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"

namespace mlir::moe::gpu {

struct GpuTarget {
  llvm::StringRef name;         ///< as in `--target cuda:sm_80` and in the package
  llvm::StringRef llvmCpu;      ///< -mcpu
  llvm::StringRef llvmFeatures; ///< -mattr: the lowest version of PTX that has all that is emitted,
  llvm::StringRef mapFeatures;  ///< and if a kernel takes tensor maps
  bool hasWarpgroups;           ///< TMA, wgmma and setmaxnreg
  bool launchesEarly;           ///< griddepcontrol: kernels may start before those ahead of them end
  int64_t multiprocessors;      ///< by which kernels with warpgroups share their work: of H100 and H200
};

llvm::ArrayRef<GpuTarget> allTargets();

/// The target called `name` ("cuda:sm_80"); null if there is none.
const GpuTarget *findTarget(llvm::StringRef name);

/// The targets of which a package for `target` holds kernels, best first: itself, and one that runs on other cards too.
llvm::SmallVector<const GpuTarget *> targetsOfPackage(const GpuTarget &target);

} // namespace mlir::moe::gpu

#endif // MOE_LOWERING_GPU_GPUTARGET_H
