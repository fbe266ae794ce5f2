//===- CpuTargetTest.cpp - What the loader checks is what LLVM may emit ------===//

#include "lowering/CPU/CpuTarget.h"
#include "runtime/backends/cpu/CpuFeatures.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/X86TargetParser.h"
#include "gtest/gtest.h"

using namespace mlir::moe::cpu;
using llvm::StringRef;

namespace {

/// The features of LLVM's CPU `name`.
llvm::SmallVector<StringRef> featuresOf(StringRef name) {
  llvm::SmallVector<StringRef> features;
  llvm::X86::getFeaturesForCPU(name, features);
  return features;
}

/// -mcpu and -mattr of a target turn on nothing that its CPUID list lacks, but what every x86-64 has.
TEST(CpuTarget, ListsAllThatLLVMMayEmit) {
  const llvm::SmallVector<StringRef> everywhere = featuresOf("x86-64");
  ASSERT_TRUE(llvm::is_contained(everywhere, "sse"));
  for (const CpuTarget &target : allTargets()) {
    llvm::SmallVector<StringRef> used = featuresOf(target.llvmCpu);
    ASSERT_GT(used.size(), everywhere.size()) << target.llvmCpu.str();
    for (StringRef attribute : llvm::split(target.llvmFeatures, ',')) {
      if (attribute.consume_front("+")) {
        used.push_back(attribute);
      }
    }
    for (StringRef feature : used) {
      StringRef bit = feature == "crc32" ? "sse4.2" : feature;
      EXPECT_TRUE(llvm::is_contained(everywhere, feature) || llvm::is_contained(target.cpuid, bit))
          << target.name.str() << " may use " << feature.str() << " without a check";
    }
  }
}

/// The runtime knows every name and sees the same machine as LLVM does.
TEST(CpuTarget, RuntimeAgreesWithLLVM) {
  const llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
  const CpuTarget &best = allTargets().front();
  for (StringRef feature : best.cpuid) {
    EXPECT_EQ(moert::cpu::hasFeature(feature.str()), host.lookup(feature)) << feature.str();
  }
}

TEST(CpuTarget, EachIncludesTheNext) {
  for (auto [better, worse] : llvm::zip(allTargets().drop_back(), allTargets().drop_front())) {
    for (StringRef feature : worse.cpuid) {
      EXPECT_TRUE(llvm::is_contained(better.cpuid, feature)) << feature.str();
    }
  }
}

TEST(CpuTarget, Find) {
  for (const CpuTarget &target : allTargets()) {
    EXPECT_EQ(findTarget(target.name), &target);
  }
  EXPECT_EQ(findTarget("x86-64-v5"), nullptr);
  const CpuTarget *host = findTarget("host");
  EXPECT_TRUE(!host || missingFeatures(*host).empty());
}

} // namespace
