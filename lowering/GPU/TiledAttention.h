//===- TiledAttention.h - Attention on tensor cores -------------*- C++ -*-===//
//
// For heads and caches of bf16, two ways to share keys among queries (those of
// the heads of a group, for both):
//
//   many tokens  64 rows of (token, head) of one kv head, 16 to a warp; tiles of
//                keys and values come by cp.async, one ahead of its use. With 9 to
//                64 tokens, which may be as many sequences, blocks are few: there
//                the keys are divided among workgroups too
//   few tokens   the heads of a group of one token; the keys are divided among
//                workgroups (splits) and their warps, each with tiles of its own,
//                so that a single sequence fills the card
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_GPU_TILEDATTENTION_H
#define MOE_LOWERING_GPU_TILEDATTENTION_H

#include "lowering/GPU/Kernels.h"

namespace mlir::moe::gpu {

/// Whether attention of these types and heads runs on tensor cores.
bool isTiled(const kernels::Attention &kernel);
/// How it is cut, and the splits of the form for few tokens.
kernels::AttentionCut cutTiled(kernels::Attention &kernel, const kernels::AttentionSizes &sizes);
int64_t tiledAttentionSharedBytes(const kernels::Attention &kernel);
void emitTiled(const kernels::Attention &kernel, KernelBuilder &b);

} // namespace mlir::moe::gpu

#endif // MOE_LOWERING_GPU_TILEDATTENTION_H
