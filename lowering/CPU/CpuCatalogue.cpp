//===- CpuCatalogue.cpp - The kernels of one CPU target, as lowerings see them ---===//

#include "lowering/CPU/CpuCatalogue.h"
#include "lowering/CPU/Kernels.h"
#include "runtime/include/moert/kernel_abi.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::cpu;

kernels::MatmulTile CpuCatalogue::matmulTile(const kernels::Matmul &kernel) const {
  return {MatmulKernel::tile(library.getTarget(), kernel.many), MatmulKernel::chunkRows};
}

void CpuCatalogue::specialise(kernels::Matmul &kernel, int64_t k, int64_t n) const {
  const CpuTarget &target = library.getTarget();
  kernel.kOdd = k % 2 != 0;
  kernel.kDivisible = k % MatmulKernel{kernel}.kStep(target) == 0;
  kernel.nDivisible &= n % target.lanes == 0;
}

kernels::AttentionCut CpuCatalogue::cut(kernels::Attention &kernel, const kernels::AttentionSizes &sizes) const {
  // A block of tokens keeps a state per query head in scratch. Where that has no room (Q/G times value_dim above some
  // 60,000), tokens are served one by one at any T.
  kernel.many &= AttentionKernel{kernel}.scratchBytes(library.getTarget(), sizes.perHead) <= MOERT_KERNEL_SCRATCH;
  return {kernel.many ? AttentionKernel::blockTokens : 1, 1};
}

std::string CpuCatalogue::whyNot(const kernels::Kernel &kernel, int64_t experts) const {
  const int64_t scratch = RouteKernel::scratchBytes(library.getTarget(), experts);
  if (!std::holds_alternative<kernels::Route>(kernel) || scratch <= MOERT_KERNEL_SCRATCH) {
    return "";
  }
  return "for which the CPU kernel needs " + std::to_string(scratch) + " bytes of scratch, but has " +
         std::to_string(MOERT_KERNEL_SCRATCH);
}

namespace {

/// The emitter of a configuration.
struct Implement {
  MatmulKernel operator()(const kernels::Matmul &k) const { return {k}; }
  EmbeddingKernel operator()(const kernels::Embedding &k) const { return {k}; }
  GatherRowsKernel operator()(const kernels::GatherRows &k) const { return {k}; }
  AddKernel operator()(const kernels::Add &k) const { return {k}; }
  RMSNormKernel operator()(const kernels::RMSNorm &k) const { return {k}; }
  RopeAnglesKernel operator()(const kernels::RopeAngles &k) const { return {k}; }
  RopeKernel operator()(const kernels::Rope &k) const { return {k}; }
  CacheWriteKernel operator()(const kernels::CacheWrite &k) const { return {k}; }
  AttentionKernel operator()(const kernels::Attention &k) const { return {k}; }
  RouteKernel operator()(const kernels::Route &k) const { return {k}; }
  SortByExpertKernel operator()(const kernels::SortByExpert &k) const { return {k}; }
  RoutingStatisticsKernel operator()(const kernels::RoutingStatistics &k) const { return {k}; }
  MaskPaddingKernel operator()(const kernels::MaskPadding &k) const { return {k}; }
  LocalizeKernel operator()(const kernels::Localize &k) const { return {k}; }
  DispatchKernel operator()(const kernels::Dispatch &k) const { return {k}; }
  CopyListedRowsKernel operator()(const kernels::CopyListedRows &k) const { return {k}; }
  CombineKernel operator()(const kernels::Combine &k) const { return {k}; }
  CopyRowsKernel operator()(const kernels::CopyRows &k) const { return {k}; }
  CopyPartKernel operator()(const kernels::CopyPart &k) const { return {k}; }
  ScaleRowsKernel operator()(const kernels::ScaleRows &k) const { return {k}; }
  SumRowsKernel operator()(const kernels::SumRows &k) const { return {k}; }
  FloorRowsKernel operator()(const kernels::FloorRows &k) const { return {k}; }
  ProductKernel operator()(const kernels::Product &k) const { return {k}; }
};

} // namespace

std::string CpuCatalogue::use(const kernels::Kernel &kernel) {
  return std::visit(
      [&](const auto &config) -> std::string {
        if constexpr (std::is_same_v<std::decay_t<decltype(config)>, kernels::JoinSplits>) {
          llvm_unreachable("cut splits no keys");
        } else if constexpr (std::is_same_v<std::decay_t<decltype(config)>, kernels::Pick>) {
          llvm_unreachable("the host has the logits");
        } else {
          return library.use(Implement()(config));
        }
      },
      kernel);
}

std::vector<kernels::KernelSymbol> CpuCatalogue::getSymbols() const {
  std::vector<kernels::KernelSymbol> symbols;
  for (const std::string &name : library.getSymbols()) {
    symbols.push_back({name});
  }
  return symbols;
}
