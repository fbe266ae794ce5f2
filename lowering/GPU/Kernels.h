//===- Kernels.h - The kernels as GPU code --------------------------------===//
//
// What a kernel computes, what it is configured by and its operands are said in
// lowering/Kernels/KernelConfigs.h; each has an emitter here and a number of
// threads of a workgroup. Where that comment says one workgroup per token or
// row, it is so here too. Products and attention are cut as follows.
//
// Matmul: a workgroup makes a tile of outputs (matmulTile) of every row, or of so
// many rows of the `many` form. Of experts in that form it finds its tiles in the
// list that the sort made (expertTileRows), a tile of rows for every tile of
// outputs, and the grid shares them out, whatever it is. Where it uses warpgroups,
// weights are tensor maps (arrays of them for experts) instead of pointers.
// Attention: a workgroup serves one (token, query head), or what TiledAttention.h
// says.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_GPU_KERNELS_H
#define MOE_LOWERING_GPU_KERNELS_H

#include "lowering/GPU/KernelBuilder.h"
#include "lowering/Kernels/KernelCatalogue.h"

namespace mlir::moe::gpu {

/// Threads of a workgroup of products, and of what has no reason for another number.
constexpr int64_t matmulThreads = 128;
/// Without `many` each warp makes four outputs of every row.
constexpr int64_t matmulOutputs = 4;
kernels::MatmulTile matmulTile(const GpuTarget &target, const kernels::Matmul &kernel);
/// Whether a product runs on tensor cores.
bool isTiled(const kernels::Matmul &kernel);
/// Whether it does so by TMA and wgmma; then its tile, threads and dynamic shared memory.
bool usesWarpgroups(const GpuTarget &target, const kernels::Matmul &kernel);
kernels::MatmulTile warpgroupTile();
int64_t warpgroupThreads();
int64_t warpgroupSharedBytes(const kernels::Matmul &kernel);
/// Rows of a tile of experts' rows.
constexpr int64_t expertTileRows(const GpuTarget &target) { return target.hasWarpgroups ? 128 : 64; }
/// Of a tensor map, one of which follows the other in an array.
constexpr int64_t tensorMapBytes = 128;
/// Elements of K that a lane loads at a time.
constexpr int64_t matmulVector = 8;
/// Experts whose scores, or counts, have room in shared memory.
constexpr int64_t maxExperts = 1024;
/// Threads of the sort: at least one per expert.
constexpr int64_t sortThreads = 1024;

/// Threads of the choice of the largest logit: a row of 128,000 is read by one multiprocessor.
constexpr int64_t pickThreads = 1024;

/// Threads and dynamic shared memory of a workgroup.
int64_t getThreads(const GpuTarget &target, const kernels::Kernel &kernel);
int64_t getSharedBytes(const GpuTarget &target, const kernels::Kernel &kernel);

void emit(const kernels::Matmul &kernel, KernelBuilder &b);
void emit(const kernels::Embedding &kernel, KernelBuilder &b);
void emit(const kernels::GatherRows &kernel, KernelBuilder &b);
void emit(const kernels::Pick &kernel, KernelBuilder &b);
void emit(const kernels::Add &kernel, KernelBuilder &b);
void emit(const kernels::RMSNorm &kernel, KernelBuilder &b);
void emit(const kernels::RopeAngles &kernel, KernelBuilder &b);
void emit(const kernels::Rope &kernel, KernelBuilder &b);
void emit(const kernels::CacheWrite &kernel, KernelBuilder &b);
void emit(const kernels::Attention &kernel, KernelBuilder &b);
void emit(const kernels::JoinSplits &kernel, KernelBuilder &b);
void emit(const kernels::Route &kernel, KernelBuilder &b);
void emit(const kernels::SortByExpert &kernel, KernelBuilder &b);
void emit(const kernels::RoutingStatistics &kernel, KernelBuilder &b);
void emit(const kernels::MaskPadding &kernel, KernelBuilder &b);
void emit(const kernels::Localize &kernel, KernelBuilder &b);
void emit(const kernels::Dispatch &kernel, KernelBuilder &b);
void emit(const kernels::CopyListedRows &kernel, KernelBuilder &b);
void emit(const kernels::Combine &kernel, KernelBuilder &b);
void emit(const kernels::CopyRows &kernel, KernelBuilder &b);
void emit(const kernels::CopyPart &kernel, KernelBuilder &b);
void emit(const kernels::ScaleRows &kernel, KernelBuilder &b);
void emit(const kernels::SumRows &kernel, KernelBuilder &b);
void emit(const kernels::FloorRows &kernel, KernelBuilder &b);
void emit(const kernels::Product &kernel, KernelBuilder &b);

} // namespace mlir::moe::gpu

#endif // MOE_LOWERING_GPU_KERNELS_H
