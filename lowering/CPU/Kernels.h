//===- Kernels.h - The kernels as CPU code --------------------------------===//
//
// What a kernel computes and what it is configured by is said in
// lowering/Kernels/KernelConfigs.h; here each gets its emitter, and what only
// CPU kernels have: tiles, scratch, the grid of the products and of attention.
//
// Products without `many`: a workgroup per tile of outputs. With it, weights
// are packed per panel into scratch for a register tile of tokens x outputs.
// Attention: a workgroup per (token, kv head), or per (block of tokens, kv
// head).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_CPU_KERNELS_H
#define MOE_LOWERING_CPU_KERNELS_H

#include "lowering/CPU/KernelBuilder.h"
#include "lowering/Kernels/KernelConfigs.h"

namespace mlir::moe::cpu {

struct MatmulKernel : kernels::Matmul {
  /// Outputs of one workgroup.
  static int64_t tile(const CpuTarget &target, bool many);
  /// Token rows of one workgroup of the dense `many` form.
  static constexpr int64_t chunkRows = 256;
  /// Elements of K that one step of the inner loop takes.
  int64_t kStep(const CpuTarget &target) const;
  /// Whether vdpbf16ps is used.
  bool dots(const CpuTarget &target) const;

  void emit(KernelBuilder &b) const;
};

struct EmbeddingKernel : kernels::Embedding {
  void emit(KernelBuilder &b) const;
};

struct GatherRowsKernel : kernels::GatherRows {
  void emit(KernelBuilder &b) const;
};

struct AddKernel : kernels::Add {
  void emit(KernelBuilder &b) const;
};

struct RMSNormKernel : kernels::RMSNorm {
  void emit(KernelBuilder &b) const;
};

struct RopeAnglesKernel : kernels::RopeAngles {
  void emit(KernelBuilder &b) const;
};

struct RopeKernel : kernels::Rope {
  void emit(KernelBuilder &b) const;
};

struct CacheWriteKernel : kernels::CacheWrite {
  void emit(KernelBuilder &b) const;
};

struct AttentionKernel : kernels::Attention {
  static constexpr int64_t blockTokens = 8;
  /// Bytes of scratch, for `perHead` queries per kv head.
  int64_t scratchBytes(const CpuTarget &target, int64_t perHead) const;
  void emit(KernelBuilder &b) const;
};

struct RouteKernel : kernels::Route {
  /// Bytes of scratch for `experts` experts.
  static int64_t scratchBytes(const CpuTarget &target, int64_t experts);
  void emit(KernelBuilder &b) const;
};

struct SortByExpertKernel : kernels::SortByExpert {
  void emit(KernelBuilder &b) const;
};

struct RoutingStatisticsKernel : kernels::RoutingStatistics {
  void emit(KernelBuilder &b) const;
};

struct MaskPaddingKernel : kernels::MaskPadding {
  void emit(KernelBuilder &b) const;
};

struct LocalizeKernel : kernels::Localize {
  void emit(KernelBuilder &b) const;
};

struct DispatchKernel : kernels::Dispatch {
  void emit(KernelBuilder &b) const;
};

struct CopyListedRowsKernel : kernels::CopyListedRows {
  void emit(KernelBuilder &b) const;
};

struct CombineKernel : kernels::Combine {
  void emit(KernelBuilder &b) const;
};

struct CopyRowsKernel : kernels::CopyRows {
  void emit(KernelBuilder &b) const;
};

struct CopyPartKernel : kernels::CopyPart {
  void emit(KernelBuilder &b) const;
};

struct ScaleRowsKernel : kernels::ScaleRows {
  void emit(KernelBuilder &b) const;
};

struct SumRowsKernel : kernels::SumRows {
  void emit(KernelBuilder &b) const;
};

struct FloorRowsKernel : kernels::FloorRows {
  void emit(KernelBuilder &b) const;
};

struct ProductKernel : kernels::Product {
  void emit(KernelBuilder &b) const;
};

} // namespace mlir::moe::cpu

#endif // MOE_LOWERING_CPU_KERNELS_H
