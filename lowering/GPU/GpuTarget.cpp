//===- GpuTarget.cpp - The GPU kinds that kernels are generated for -------===//

#include "lowering/GPU/GpuTarget.h"

using namespace mlir::moe::gpu;

static const GpuTarget targets[] = {{"cuda:sm_80", "sm_80", "+ptx70"}};

llvm::ArrayRef<GpuTarget> mlir::moe::gpu::allTargets() { return targets; }

const GpuTarget *mlir::moe::gpu::findTarget(llvm::StringRef name) {
  for (const GpuTarget &target : targets) {
    if (name == target.name) {
      return &target;
    }
  }
  return nullptr;
}
