//===- Kernels.h - The CPU kernels and how they are configured -----------===//
//
// Every kernel is a small struct of what it specialises on: storage types, the
// form of the computation, divisibility. Sizes are operands of the launch. The
// comment at each struct lists those operands in order; `grid()` says how many
// workgroups there are. Equal configurations have equal names and are emitted
// once per package (KernelLibrary).
//
// A `rows` operand is a count (T or M). Types are storage types: f32, bf16,
// f16.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_CPU_KERNELS_H
#define MOE_LOWERING_CPU_KERNELS_H

#include "dialects/Moe/IR/MoeOps.h"
#include "lowering/CPU/KernelBuilder.h"
#include <string>

namespace mlir::moe::cpu {

/// y = act(x W^T + b), dense or per expert.
///
/// Dense: x, K, rows, then per segment {weight, [up], N, out, [bias],
/// [up_bias]}, then [residual]. Experts: x, K, active, offsets, slots, top_k,
/// table, [up table], N, out, [bias table], [up_bias table]. Then alpha, limit
/// for OssSwiglu.
///
/// `many` is the GEMM form (weights packed per panel into scratch, register
/// tile of tokens x outputs); without it every weight row is read once per
/// token (GEMV), best for a few tokens.
struct MatmulKernel {
  Type x, weight, out;
  bool many = false;
  int segments = 1;   ///< dense: weights that share x in one launch
  bool gated = false; ///< two weights: act(gate) * up
  Type up = nullptr;  ///< gated: storage type of the second weight
  std::optional<Activation> activation;
  Type bias = nullptr;   ///< null: none
  Type upBias = nullptr; ///< gated: of the second weight; null: none
  bool residual = false; ///< out = residual + y, f32
  bool experts = false;
  bool tokenRows = false; ///< experts: x rows are tokens (gate/up), else sorted slots (down)
  bool kDivisible = false,
       nDivisible = false; ///< K by kStep; every N by the vector length
  bool kOdd = false;       ///< pairs of bf16 would read past the row

  /// Outputs of one workgroup.
  static int64_t tile(const CpuTarget &target, bool many);
  /// Token rows of one workgroup of the dense `many` form.
  static constexpr int64_t chunkRows = 256;
  /// Elements of K that one step of the inner loop takes.
  int64_t kStep(const CpuTarget &target) const;
  /// Whether vdpbf16ps is used.
  bool dots(const CpuTarget &target) const;

  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// out[t] = table[tokens[t]]: tokens, table, out, H. One workgroup per token.
struct EmbeddingKernel {
  Type table, out;
  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// out[m] = x[rows[m]]: x, rows, out, H. f32; one workgroup per row.
struct GatherRowsKernel {
  std::string name() const { return "gather_rows"; }
  void emit(KernelBuilder &b) const;
};

/// out = lhs + rhs: lhs, rhs, out, H. One workgroup per row.
struct AddKernel {
  Type lhs, rhs, out;
  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// RMSNorm: x, weight, out, groups, n (width of a group), eps. One workgroup
/// per row.
struct RMSNormKernel {
  Type x, weight, out;
  ScaleRounding rounding;
  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// cos and sin of every token's angles: pos, inverse frequencies (f32 [half]),
/// out (f32 [T, 2, half]), half, factor. One workgroup per token.
struct RopeAnglesKernel {
  std::string name() const { return "rope_angles"; }
  void emit(KernelBuilder &b) const;
};

/// x with its rotary dims turned: x, angles, out, heads, D, half, offset. One
/// workgroup per token.
struct RopeKernel {
  Type x;
  bool interleaved;
  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// Writes keys and values to the cache: k, v, seq, pos, K cache, V cache, key
/// row (G*key_dim), value row, C. One workgroup per token.
struct CacheWriteKernel {
  Type x, cache;
  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// Causal attention over the cache: q, seq, pos, K cache, V cache, out, rows,
/// G, queries per kv head, C, scale, window (0: none), [sinks]. key_dim and
/// value_dim are fixed: their vectors live in registers. Few: one workgroup per
/// (token, kv head). Many: per (block of tokens, kv head).
struct AttentionKernel {
  Type x, cache, sinks; ///< sinks null: none
  int64_t keyDim, valueDim;
  bool many = false;
  static constexpr int64_t blockTokens = 8;
  /// Bytes of scratch, for `perHead` queries per kv head.
  int64_t scratchBytes(const CpuTarget &target, int64_t perHead) const;
  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// Scores, group limit, top-k and weights of moe.route: logits, [bias],
/// experts, weights, E, K, epsilon, scale, groups, keep. One workgroup per
/// token.
struct RouteKernel {
  Score score;
  Renormalize renormalize;
  Type bias = nullptr; ///< null: none
  bool grouped = false;
  GroupScore groupScore = GroupScore::Max;
  /// Bytes of scratch for `experts` experts.
  static int64_t scratchBytes(const CpuTarget &target, int64_t experts);
  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// Counting sort of the T*K choices by expert, stable: experts, rows, E, K,
/// active, offsets, slots, counts. active: [0] number of experts with work,
/// [1..] their ids; offsets [E + 1]; slots: t*K + k by expert; counts i64 [E]
/// grow by this step's. Ids of -1 are left out. One workgroup.
struct SortByExpertKernel {
  std::string name() const { return "sort_by_expert"; }
  void emit(KernelBuilder &b) const;
};

/// What --instrument routing adds to the counts of the sort: logits, experts, rows, E, K, first choices (i64 [E]),
/// probabilities (i64 [E], sums of the softmax, or of the normalised sigmoid, in units of 2^-32) and pairs (i64 [E, E]:
/// tokens that chose i and j, at i < j). All grow by this step's; sums of integers, so the same whatever the order of
/// tokens. A token whose first id is -1 is left out. One workgroup.
struct RoutingStatisticsKernel {
  bool sigmoid = false;
  static constexpr double probabilityUnit = 4294967296.0;
  std::string name() const { return sigmoid ? "routing_statistics_sigmoid" : "routing_statistics"; }
  void emit(KernelBuilder &b) const;
};

/// -1 for every choice of a token in the last sequence slot (moe.mask_padding): experts, seq, out, K, B. One workgroup
/// per token.
struct MaskPaddingKernel {
  std::string name() const { return "mask_padding"; }
  void emit(KernelBuilder &b) const;
};

/// Expert ids to slots of the rank (moe.localize): experts, rows, K, out, begins (i32 [E + 1]: where the replicas of an
/// expert begin), slots, shares (i32 [S]: of every replica), totals (i32 [E]: the sum of an expert's shares), taken
/// (scratch, i64 [E + S]), counts (i64 [E], grow by this step's choices), E, S, slots per rank, rank. One workgroup.
struct LocalizeKernel {
  bool countOwn = false; ///< count only choices that fall on this rank, so that the counts of all ranks add up
  std::string name() const { return countOwn ? "localize_count_own" : "localize"; }
  void emit(KernelBuilder &b) const;
};

/// out[t] = [residual[t] +] sum_k weights[t, k] y[t, k]: y, weights, out, H, K,
/// [residual]. One workgroup per token.
struct CombineKernel {
  Type y, out;
  bool residual = false;
  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// Copies rows into a wider matrix (moe.concat along the last dim): in, out,
/// bytes of a row of in, of a row of out. One workgroup per row.
struct CopyRowsKernel {
  std::string name() const { return "copy_rows"; }
  void emit(KernelBuilder &b) const;
};

/// Copies a rank's part of every row of a weight (moe.shard): in, out, bytes of a row of out, between rows of in, of
/// out, copies, rank. Row i of out is part rank / copies of row i of in. One workgroup per row.
struct CopyPartKernel {
  std::string name() const { return "copy_part"; }
  void emit(KernelBuilder &b) const;
};

/// A weight times a vector along one of its dims (moe.scale), row by row: in, by, [over], out, n, length, stride. Rows
/// have n elements; those of out begin `stride` elements apart. `alongRow`: element i of a row takes factor i; else row
/// r takes factor r % length. A factor is by, or by / over. One workgroup per row.
struct ScaleRowsKernel {
  Type in, by, over, out; ///< over null: none
  bool alongRow;
  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// out = the sum of `ins`, rounded once (moe.sum): ins, out, n, stride as in ScaleRowsKernel. One workgroup per row.
struct SumRowsKernel {
  SmallVector<Type> ins;
  Type out;
  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// out = in, or floor where |in| < floor (moe.floor_magnitude): in, out, n, stride, floor. One workgroup per row.
struct FloorRowsKernel {
  Type in, out;
  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// out [M, N] = lhs [M, K] rhs [K, N] (moe.product): lhs, rhs, out, M, K, N, stride. One workgroup per blockRows rows.
struct ProductKernel {
  Type lhs, rhs, out;
  static constexpr int64_t blockRows = 4;
  std::string name() const;
  void emit(KernelBuilder &b) const;
};

/// "f32", "bf16", ... for kernel names.
std::string typeName(Type type);
/// The activation of an FFN on f32 vectors; `up` only for gated forms.
Num emitActivation(KernelBuilder &b, Activation activation, Num gate, std::optional<Num> up, Num alpha, Num limit);

} // namespace mlir::moe::cpu

#endif // MOE_LOWERING_CPU_KERNELS_H
