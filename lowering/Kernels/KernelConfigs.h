//===- KernelConfigs.h - The kernels of all targets and how they are configured ---===//
//
// Every kernel is a small struct of what it specialises on: storage types, the
// form of the computation, divisibility. Sizes are operands of the launch. The
// comment at each struct lists those operands in order. Equal configurations
// have equal names and are emitted once per package. How a kernel is made is
// each target's own affair (lowering/CPU, lowering/GPU), and so is how many
// workgroups share the work where the comment does not say (KernelCatalogue.h).
//
// A `rows` operand is a count (T or M). Types are storage types: f32, bf16,
// f16.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_KERNELS_KERNELCONFIGS_H
#define MOE_LOWERING_KERNELS_KERNELCONFIGS_H

#include "dialects/Moe/IR/MoeOps.h"
#include <string>
#include <variant>

namespace mlir::moe::kernels {

/// y = act(x W^T + b), dense or per expert.
///
/// Dense: x, K, rows, then per segment {weight, [up], N, out, [bias],
/// [up_bias]}, then [residual]. Experts: x, K, active, offsets, slots, top_k,
/// table, [up table], N, out, [bias table], [up_bias table]. Then alpha, limit
/// for OssSwiglu. Instead of active: tiles, of the `many` form where a target
/// has tiles of experts' rows (SortByExpert).
///
/// `many` is the GEMM form; without it every weight row is read once per token
/// (GEMV), best for a few tokens.
struct Matmul {
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
  bool tokenRows = false;                      ///< experts: x rows are tokens (gate/up), else sorted slots (down)
  bool kDivisible = false, nDivisible = false; ///< K, and every N, by what the target's kernel takes at a time
  bool kOdd = false;                           ///< pairs of bf16 would read past the row

  std::string name() const;
};

/// out[t] = table[tokens[t]]: tokens, table, out, H. One workgroup per token.
struct Embedding {
  Type table, out;
  std::string name() const;
};

/// out[m] = x[rows[m]]: x, rows, out, H. f32; one workgroup per row.
struct GatherRows {
  std::string name() const { return "gather_rows"; }
};

/// The index of the largest of every row, the lowest of equal ones: in, out (i32), V. f32; of a row with a NaN it is
/// -1 - the index of the first. One workgroup per row. For GPUs.
struct Pick {
  std::string name() const { return "pick"; }
};

/// out = lhs + rhs: lhs, rhs, out, H. One workgroup per row.
struct Add {
  Type lhs, rhs, out;
  std::string name() const;
};

/// RMSNorm: x, weight, out, groups, n (width of a group), eps. One workgroup
/// per row.
struct RMSNorm {
  Type x, weight, out;
  ScaleRounding rounding;
  std::string name() const;
};

/// cos and sin of every token's angles: pos, inverse frequencies (f32 [half]),
/// out (f32 [T, 2, half]), half, factor. One workgroup per token.
struct RopeAngles {
  std::string name() const { return "rope_angles"; }
};

/// x with its rotary dims turned: x, angles, out, heads, D, half, offset. One
/// workgroup per token.
struct Rope {
  Type x;
  bool interleaved;
  std::string name() const;
};

/// Writes keys and values to the cache: k, v, seq, pos, K cache, V cache, key
/// row (G*key_dim), value row, C. One workgroup per token.
struct CacheWrite {
  Type x, cache;
  std::string name() const;
};

/// Causal attention over the cache: q, seq, pos, K cache, V cache, out, rows,
/// G, queries per kv head, C, scale, window (0: none), [sinks]. key_dim and
/// value_dim are fixed: their vectors live in registers. `many`: a workgroup
/// serves a block of tokens. `splits` above 0: the keys of a token are divided
/// among so many workgroups, and `out` are their states, f32
/// [T, heads, splits, 2 + value_dim]: maximum of the scores times log2(e), sum of
/// the weights, weighted sum of the values. Of a split without a key nothing is
/// written, and the sinks are left to the kernel that joins the states.
struct Attention {
  Type x, cache, sinks; ///< sinks null: none
  int64_t keyDim, valueDim;
  bool many = false;
  int64_t splits = 0;
  std::string name() const;

  /// Fewest keys of a split, and what their number is a multiple of.
  static constexpr int64_t splitKeys = 256, splitStep = 128;
  /// Most tokens of a step whose keys a target may split although it is one of many.
  static constexpr int64_t someTokens = 64;
};

/// The result of attention from the states of its splits: states, pos, out,
/// heads, window (0: none), [sinks]. One workgroup per token and head.
struct JoinSplits {
  Type out, sinks; ///< sinks null: none
  int64_t valueDim, splits;
  std::string name() const;
};

/// Scores, group limit, top-k and weights of moe.route: logits, [bias],
/// experts, weights, E, K, epsilon, scale, groups, keep, [routers]. E and K are
/// those of one router. One workgroup per token, or per token and router.
struct Route {
  Score score;
  Renormalize renormalize;
  Type bias = nullptr; ///< null: none
  bool grouped = false;
  GroupScore groupScore = GroupScore::Max;
  bool severalRouters = false;
  std::string name() const;
};

/// Counting sort of the T*K choices by expert, stable: experts, rows, E, K,
/// active, offsets, slots, counts. active: [0] number of experts with work,
/// [1..] their ids; offsets [E + 1]; slots: t*K + k by expert; counts i64 [E]
/// grow by this step's. Ids of -1 are left out. One workgroup.
///
/// With `tileRows` the work is listed by tiles of so many rows of one expert,
/// all of whose tiles follow each other. Instead of active: tiles, four i32 of
/// each: its expert, its number among the expert's, where the expert's slots
/// begin, how many they are. Before them four with the number of tiles.
struct SortByExpert {
  int64_t tileRows = 0; ///< 0: no tiles
  /// Tiles of `choices` choices of E experts are at most this many times tileRows, divided by it.
  static int64_t tiledRows(int64_t choices, int64_t experts, int64_t tileRows) {
    return choices + experts * (tileRows - 1);
  }
  std::string name() const;
};

/// What --instrument routing adds to the counts of the sort: logits, experts, rows, E, K, routers, first choices of
/// every router (i64 [E]), probabilities (i64 [E], sums of every router's softmax, or normalised sigmoid, in units of
/// 2^-32) and pairs (i64 [E, E]: tokens that chose i and j, at i < j). All grow by this step's; sums of integers, so
/// the same whatever the order of tokens. A token whose first id is -1 is left out. One workgroup.
struct RoutingStatistics {
  bool sigmoid = false;
  static constexpr double probabilityUnit = 4294967296.0;
  std::string name() const { return sigmoid ? "routing_statistics_sigmoid" : "routing_statistics"; }
};

/// -1 for every choice of a token in the last sequence slot (moe.mask_padding): experts, seq, out, K, B. One workgroup
/// per token.
struct MaskPadding {
  std::string name() const { return "mask_padding"; }
};

/// Expert ids to slots of the rank (moe.localize): experts, rows, K, out, begins (i32 [E + 1]: where the replicas of an
/// expert begin), slots, shares (i32 [S]: of every replica), totals (i32 [E]: the sum of an expert's shares), taken
/// (scratch, i64 [E + S]), counts (i64 [E], grow by this step's choices), E, S, slots per rank, rank. One workgroup.
struct Localize {
  bool countOwn = false; ///< count only choices that fall on this rank, so that the counts of all ranks add up
  std::string name() const { return countOwn ? "localize_count_own" : "localize"; }
};

/// Which rows travel (moe.dispatch, moe.collect), from the choices of all ranks: experts ([R * T, K]), T, K, R; of the
/// own tokens: send rows (token numbers by destination rank), send counts ([R] rows to each); of what comes: slots
/// ([R * T, K], rows in the order of arrival), back rows (numbers of choices, row * K + k, in that order), back counts
/// ([R] choices of each); places ([T * K]: where the result of an own choice is among those that come back, or -1);
/// per token the room of send rows and of back rows; then as Localize from begins on, with counts of own choices. All
/// lists are i32; -1 fills them up. One workgroup.
struct Dispatch {
  std::string name() const { return "dispatch"; }
};

/// Row i of out is the row of in that an i32 list names: in, list, out, bytes of a row. A -1 in the list leaves the row
/// as it is, or with `zeroMissing` makes it zero. One workgroup per row of out.
struct CopyListedRows {
  bool zeroMissing = false;
  std::string name() const { return zeroMissing ? "copy_listed_rows_or_zero" : "copy_listed_rows"; }
};

/// out[t] = [residual[t] +] sum_k weights[t, k] y[t, k]: y, weights, out, H, K,
/// [residual]. One workgroup per token.
struct Combine {
  Type y, out;
  bool residual = false;
  std::string name() const;
};

/// Copies rows into a wider matrix (moe.concat along the last dim): in, out,
/// bytes of a row of in, of a row of out. One workgroup per row.
struct CopyRows {
  std::string name() const { return "copy_rows"; }
};

/// Copies a rank's part of every row of a weight (moe.shard): in, out, bytes of a row of out, between rows of in, of
/// out, copies, rank. Row i of out is part rank / copies of row i of in. One workgroup per row.
struct CopyPart {
  std::string name() const { return "copy_part"; }
};

/// A weight times a vector along one of its dims (moe.scale), row by row: in, by, [over], out, n, length, stride. Rows
/// have n elements; those of out begin `stride` elements apart. `alongRow`: element i of a row takes factor i; else row
/// r takes factor r % length. A factor is by, or by / over. One workgroup per row.
struct ScaleRows {
  Type in, by, over, out; ///< over null: none
  bool alongRow;
  std::string name() const;
};

/// out = the sum of `ins`, rounded once (moe.sum): ins, out, n, stride as in ScaleRowsKernel. One workgroup per row.
struct SumRows {
  SmallVector<Type> ins;
  Type out;
  std::string name() const;
};

/// out = in, or floor where |in| < floor (moe.floor_magnitude): in, out, n, stride, floor. One workgroup per row.
struct FloorRows {
  Type in, out;
  std::string name() const;
};

/// out [M, N] = lhs [M, K] rhs [K, N] (moe.product): lhs, rhs, out, M, K, N, stride. One workgroup per blockRows rows.
struct Product {
  Type lhs, rhs, out;
  static constexpr int64_t blockRows = 4;
  std::string name() const;
};

/// Any of them.
using Kernel = std::variant<Matmul, Embedding, GatherRows, Add, RMSNorm, RopeAngles, Rope, CacheWrite, Attention,
                            JoinSplits, Route, SortByExpert, RoutingStatistics, MaskPadding, Localize, Dispatch,
                            CopyListedRows, Pick, Combine, CopyRows, CopyPart, ScaleRows, SumRows, FloorRows, Product>;

/// "f32", "bf16", ... for kernel names.
std::string typeName(Type type);

} // namespace mlir::moe::kernels

#endif // MOE_LOWERING_KERNELS_KERNELCONFIGS_H
