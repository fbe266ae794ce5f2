//===- ExportGraph.h - A module read as the layers of a checkpoint ----------===//
//
// What a checkpoint can say of a decoder of the Llama kind, layers of different
// widths and heads, without attention or without FFN included: the values of its
// weights and the numbers of its config. Whatever the module computes beyond that
// is an error that names the place; nothing is dropped silently.
//
// Layers are counted anew: fused layers are one, empty slots are none, and an
// attention alone that is followed by an FFN alone is one layer again.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOHF_EXPORTGRAPH_H
#define MOE_LOWERING_MOETOHF_EXPORTGRAPH_H

#include "dialects/Moe/IR/MoeOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"

namespace mlir::moe {

/// A layer of the result. Weights that are not there are null.
struct ExportLayer {
  /// The layers of the model that it stands for.
  int64_t first = 0, last = 0;
  int64_t heads = 0, kvHeads = 0; ///< Q, G; 0: no attention
  int64_t ffn = 0;                ///< I; 0: no FFN
  Value attentionNorm, q, k, v, o, qBias, kBias, vBias, oBias;
  Value ffnNorm, gate, up, down, gateBias, upBias, downBias;
  FFNOp ffnOp;

  bool hasAttention() const { return heads != 0; }
  bool hasFFN() const { return ffn != 0; }
};

struct ExportGraph {
  std::vector<ExportLayer> layers;
  Value embedding, finalNorm, head; ///< `head` null: the embedding
  int64_t hidden = 0, vocab = 0, headDim = 0;
  double normEps = 0;
  RopeAttr rope;
  Activation activation = Activation::Silu;
  bool hasAttentionBias = false, hasFFNBias = false;

  /// The widest of all layers.
  int64_t maxHeads() const, maxKVHeads() const, maxWidth() const;
};

/// Reads @step of `module`. An error says where the module is more than a checkpoint can say.
llvm::Expected<ExportGraph> readExportGraph(ModuleOp module);

/// Pads the FFNs of `graph` with zeros to widths that are multiples of `multiple`, in the module too. Returns for each
/// layer that was padded its index and the width that it had.
std::vector<std::pair<size_t, int64_t>> padWidths(ExportGraph &graph, int64_t multiple);

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOHF_EXPORTGRAPH_H
