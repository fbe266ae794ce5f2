//===- CpuTarget.cpp - The CPU kinds that kernels are generated for ------===//

#include "lowering/CPU/CpuTarget.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"

using namespace mlir::moe::cpu;

/// Everything that LLVM may emit for x86-64-v3, then what x86-64-v4 adds, then bf16; crc32 comes with sse4.2. A virtual
/// machine may hide any of them. (CpuTargetTest compares with LLVM's own lists.)
static constexpr llvm::StringRef features[] = {"popcnt",  "cx16",     "sahf",     "xsave",    "sse4.2",   "avx2",
                                               "fma",     "f16c",     "bmi",      "bmi2",     "lzcnt",    "movbe",
                                               "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512bf16"};
static llvm::ArrayRef<llvm::StringRef> upTo(llvm::StringRef last) {
  return llvm::ArrayRef(features).take_front(llvm::find(features, last) - std::begin(features) + 1);
}

// prefer-256-bit would halve the vectors on the CPUs that -mcpu=x86-64-v4 stands for.
static const CpuTarget targets[] = {
    {"avx512bf16", "x86-64-v4", "+avx512bf16,-prefer-256-bit", upTo("avx512bf16"), 16, true, 6, 4},
    {"x86-64-v4", "x86-64-v4", "-prefer-256-bit", upTo("avx512vl"), 16, false, 6, 4},
    {"x86-64-v3", "x86-64-v3", "", upTo("movbe"), 8, false, 6, 2},
};

llvm::ArrayRef<CpuTarget> mlir::moe::cpu::allTargets() { return targets; }

llvm::SmallVector<llvm::StringRef> mlir::moe::cpu::missingFeatures(const CpuTarget &target) {
  const llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
  llvm::SmallVector<llvm::StringRef> missing;
  llvm::copy_if(target.cpuid, std::back_inserter(missing), [&](llvm::StringRef name) { return !host.lookup(name); });
  return missing;
}

const CpuTarget *mlir::moe::cpu::findTarget(llvm::StringRef name) {
  for (const CpuTarget &target : targets) {
    if (name == "host" ? missingFeatures(target).empty() : name == target.name) {
      return &target;
    }
  }
  return nullptr;
}
