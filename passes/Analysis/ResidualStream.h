//===- ResidualStream.h - A step as blocks of residual sub-layers ------------===//
//
// Reads the function of a decoder as what people call layers. The residual
// stream is the longest chain of moe.add
//
//   x0 -> x1 = add(x0, f0) -> x2 = add(x1, f1) -> ...
//
// which begins with the operand that was made first. Each add is a sub-layer
// whose branch f was computed from some value of the stream, usually the last. A
// block is an attention followed by a network, or either alone: layers whose
// attention or FFN was removed.
//
//   x ── norm ─ q,k,v ─ attention ─ o ──(+)── norm ─ ffn ──(+)──  one block
//   └───────────────────────────────────┘└──────────────────┘
//
// In place of the ffn there may be experts, with or without a shared FFN beside them:
//
//   norm ─┬─ router ─ route ─┬────────────┐
//         ├───────────────── experts ─ combine ──(+)──
//         └─ ffn ─────────────────────────────────┘
//
// Blocks are numbered as the layers of the model that was imported. Where that is
// not a count from 0 (a fused block stands for several, a slot without any op
// stands for none), the attribute `moe.layers = [first, last]` on the add that
// ends the block says so. An attention that carries it is a block without an FFN.
//
// It matches and explains; it never changes anything.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_RESIDUALSTREAM_H
#define MOE_PASSES_ANALYSIS_RESIDUALSTREAM_H

#include "dialects/Moe/IR/MoeLayers.h"
#include "dialects/Moe/IR/MoeOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace mlir::moe {

/// What a sub-layer computes.
enum class BranchKind {
  Attention, ///< o(attention(rope(q(n)), rope(k(n)), v(n)))
  FFN,       ///< a dense moe.ffn
  Experts,   ///< combine(experts(n, route(router(n)))), perhaps with a dense moe.ffn of n added to it
  Unknown,   ///< see `problem`
};

/// One residual sub-layer: `add` = `base` + branch(norm(`input`)).
struct SubLayer {
  AddOp add;
  Value base, branch;
  BranchKind kind = BranchKind::Unknown;
  /// Why the kind is unknown, as the end of a sentence: "its FFN is followed by a norm (post-norm)".
  std::string problem;
  /// The norm that the branch reads, and the value of the stream that it norms. Null where unknown.
  RMSNormOp norm;
  Value input;
  /// FFN; of experts the shared one, or null.
  FFNOp ffn;
  /// Experts; `sum` adds the shared FFN, and is null without.
  LinearOp router;
  RouteOp route;
  ExpertsOp experts;
  CombineOp combine;
  AddOp sum;
  /// Attention; the ropes are null without rotation.
  LinearOp q, k, v, o;
  RopeOp qRope, kRope;
  RMSNormOp qNorm, kNorm;
  AttentionOp attention;
  /// The first layer of the block that it belongs to.
  int64_t layer = 0;

  /// The ops of the branch that belong to it alone, and the add. Without those that give weights.
  SmallVector<Operation *> getOps() const;
  Location getLoc() const { return AddOp(add).getLoc(); }
  /// The stream behind it.
  Value getResult() const { return AddOp(add).getResult(); }
};

/// Sub-layers that make a layer.
struct LayerBlock {
  int64_t firstLayer = 0, lastLayer = 0;
  std::optional<SubLayer> attention, network;

  const SubLayer &front() const { return attention ? *attention : *network; }
  const SubLayer &back() const { return network ? *network : *attention; }
};

class ResidualStream {
public:
  explicit ResidualStream(func::FuncOp function);

  ArrayRef<SubLayer> getSubLayers() const { return subLayers; }
  ArrayRef<LayerBlock> getBlocks() const { return blocks; }
  /// Layers of the model: one more than the last number.
  int64_t getNumLayers() const { return blocks.empty() ? 0 : blocks.back().lastLayer + 1; }

  /// The blocks that stand for exactly the layers first .. last; nothing, and why in `problem`, if there are none.
  std::optional<ArrayRef<LayerBlock>> find(int64_t first, int64_t last, std::string &problem) const;

private:
  SmallVector<SubLayer, 0> subLayers;
  SmallVector<LayerBlock, 0> blocks;
};

/// "layer 3" or "layers 3 to 5".
std::string spellLayers(int64_t first, int64_t last);

} // namespace mlir::moe

#endif // MOE_PASSES_ANALYSIS_RESIDUALSTREAM_H
