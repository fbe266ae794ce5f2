//===- CpuTarget.cpp - The CPU kinds that kernels are generated for ------===//

#include "lowering/CPU/CpuTarget.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"

using namespace mlir::moe::cpu;

static const llvm::StringRef v3Features[] = {"avx2", "fma", "f16c", "bmi2"};
static const llvm::StringRef v4Features[] = {"avx2",    "fma",      "f16c",     "bmi2",
                                             "avx512f", "avx512bw", "avx512dq", "avx512vl"};
static const llvm::StringRef bf16Features[] = {"avx2",     "fma",      "f16c",     "bmi2",      "avx512f",
                                               "avx512bw", "avx512dq", "avx512vl", "avx512bf16"};

// prefer-256-bit would halve the vectors on the CPUs that -mcpu=x86-64-v4
// stands for.
static const CpuTarget targets[] = {
    {"avx512bf16", "x86-64-v4", "+avx512bf16,-prefer-256-bit", bf16Features, 16, true, 6, 4},
    {"x86-64-v4", "x86-64-v4", "-prefer-256-bit", v4Features, 16, false, 6, 4},
    {"x86-64-v3", "x86-64-v3", "", v3Features, 8, false, 6, 2},
};

llvm::ArrayRef<CpuTarget> mlir::moe::cpu::allTargets() { return targets; }

const CpuTarget *mlir::moe::cpu::findTarget(llvm::StringRef name) {
  if (name == "host") {
    llvm::StringMap<bool> features = llvm::sys::getHostCPUFeatures();
    for (const CpuTarget &target : targets) {
      if (llvm::all_of(target.cpuid, [&](llvm::StringRef feature) { return features.lookup(feature); })) {
        return &target;
      }
    }
    return nullptr;
  }
  for (const CpuTarget &target : targets) {
    if (target.name == name) {
      return &target;
    }
  }
  return nullptr;
}
