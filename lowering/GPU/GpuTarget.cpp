//===- GpuTarget.cpp - The GPU kinds that kernels are generated for -------===//

#include "lowering/GPU/GpuTarget.h"

using namespace mlir::moe::gpu;

static const GpuTarget targets[] = {{"cuda:sm_80", "sm_80", "+ptx70", "", false, false, 0},
                                    {"cuda:sm_90a", "sm_90a", "+ptx80", "+ptx83", true, true, 132}};

llvm::ArrayRef<GpuTarget> mlir::moe::gpu::allTargets() { return targets; }

llvm::SmallVector<const GpuTarget *> mlir::moe::gpu::targetsOfPackage(const GpuTarget &target) {
  llvm::SmallVector<const GpuTarget *> all{&target};
  if (target.name.ends_with("a")) {
    all.push_back(&targets[0]);
  }
  return all;
}

const GpuTarget *mlir::moe::gpu::findTarget(llvm::StringRef name) {
  for (const GpuTarget &target : targets) {
    if (name == target.name) {
      return &target;
    }
  }
  return nullptr;
}
