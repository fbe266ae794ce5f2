//===- GpuCatalogue.h - The kernels of one GPU target, to PTX -------------===//
//
// Collects the kernels that a schedule uses and translates them, in process, by
// LLVM's NVPTX back end: one module of PTX text, nothing linked to it, math as
// instructions. The driver assembles it where it runs.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_GPU_GPUCATALOGUE_H
#define MOE_LOWERING_GPU_GPUCATALOGUE_H

#include "lowering/GPU/GpuTarget.h"
#include "lowering/Kernels/KernelCatalogue.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/ADT/StringSet.h"

namespace mlir::moe::gpu {

/// The dialects that kernels are written in; a context must have them before a catalogue is made in a pass.
void registerKernelDialects(DialectRegistry &registry);

class GpuCatalogue : public kernels::KernelCatalogue {
public:
  /// Loads the dialects that kernels are written in.
  GpuCatalogue(MLIRContext *context, const GpuTarget &target);

  StringRef getTarget() const override { return target.name; }
  ArrayRef<StringRef> getFeatures() const override { return {}; }
  kernels::MatmulTile matmulTile(const kernels::Matmul &kernel) const override;
  int64_t weightBox(const kernels::Matmul &kernel) const override;
  int64_t expertTileRows() const override;
  int64_t mostWorkgroups(const kernels::Matmul &kernel) const override;
  void specialise(kernels::Matmul &kernel, int64_t k, int64_t n) const override;
  int64_t someTokens() const override { return kernels::Attention::someTokens; }
  int64_t streams() const override { return 2; }
  bool picks() const override { return true; }
  kernels::AttentionCut cut(kernels::Attention &kernel, const kernels::AttentionSizes &sizes) const override;
  std::string whyNot(const kernels::Kernel &kernel, int64_t experts) const override;
  std::string use(const kernels::Kernel &kernel) override;
  std::vector<kernels::KernelSymbol> getSymbols() const override { return symbols; }
  FailureOr<std::string> compile() override;

private:
  const GpuTarget &target;
  OwningOpRef<ModuleOp> module;
  llvm::StringSet<> known;
  bool usesMaps = false; ///< whether a kernel takes tensor maps
  std::vector<kernels::KernelSymbol> symbols;
};

} // namespace mlir::moe::gpu

#endif // MOE_LOWERING_GPU_GPUCATALOGUE_H
