//===- CpuCatalogue.h - The kernels of one CPU target, as lowerings see them ---===//

#ifndef MOE_LOWERING_CPU_CPUCATALOGUE_H
#define MOE_LOWERING_CPU_CPUCATALOGUE_H

#include "lowering/CPU/KernelLibrary.h"
#include "lowering/Kernels/KernelCatalogue.h"

namespace mlir::moe::cpu {

class CpuCatalogue : public kernels::KernelCatalogue {
public:
  CpuCatalogue(MLIRContext *context, const CpuTarget &target) : library(context, target) {}

  StringRef getTarget() const override { return library.getTarget().name; }
  ArrayRef<StringRef> getFeatures() const override { return library.getTarget().cpuid; }
  kernels::MatmulTile matmulTile(const kernels::Matmul &kernel) const override;
  void specialise(kernels::Matmul &kernel, int64_t k, int64_t n) const override;
  kernels::AttentionCut cut(kernels::Attention &kernel, const kernels::AttentionSizes &sizes) const override;
  std::string whyNot(const kernels::Kernel &kernel, int64_t experts) const override;
  std::string use(const kernels::Kernel &kernel) override;
  std::vector<kernels::KernelSymbol> getSymbols() const override;
  FailureOr<std::string> compile() override { return library.compile(); }

private:
  KernelLibrary library;
};

} // namespace mlir::moe::cpu

#endif // MOE_LOWERING_CPU_CPUCATALOGUE_H
