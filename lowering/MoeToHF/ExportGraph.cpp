//===- ExportGraph.cpp - A module read as the layers of a checkpoint --------===//

#include "lowering/MoeToHF/ExportGraph.h"
#include "passes/Analysis/FusionLegality.h"
#include "passes/Analysis/ResidualStream.h"
#include "passes/Json/JsonFile.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }
static double numberOf(const llvm::APFloat &value) { return value.convertToDouble(); }

int64_t ExportGraph::maxHeads() const {
  return llvm::accumulate(layers, int64_t(0), [](int64_t m, const ExportLayer &l) { return std::max(m, l.heads); });
}
int64_t ExportGraph::maxKVHeads() const {
  return llvm::accumulate(layers, int64_t(0), [](int64_t m, const ExportLayer &l) { return std::max(m, l.kvHeads); });
}
int64_t ExportGraph::maxWidth() const {
  return llvm::accumulate(layers, int64_t(0), [](int64_t m, const ExportLayer &l) { return std::max(m, l.ffn); });
}

namespace {

/// Reads one function; the first obstacle ends it.
class Reader {
public:
  explicit Reader(func::FuncOp step) : step(step) {}

  Expected<ExportGraph> read() {
    ResidualStream stream(step);
    if (stream.getBlocks().empty()) {
      return makeError("the model has no layers that a checkpoint could hold");
    }
    readEnds(stream);
    for (const LayerBlock &block : stream.getBlocks()) {
      readBlock(block);
    }
    if (!problem.empty()) {
      return makeError(problem);
    }
    if (!graph.rope) {
      return makeError(
          "no layer of the model has attention, but the formats of Llama models need one at least; leave a layer "
          "out of the plan's windows of form R and of remove_attention");
    }
    return std::move(graph);
  }

private:
  void fail(const Twine &message) {
    if (problem.empty()) {
      problem = message.str();
    }
  }

  /// Embedding in front of the stream, norm and head behind it.
  void readEnds(const ResidualStream &stream) {
    auto embedding = stream.getSubLayers().front().base.getDefiningOp<EmbeddingOp>();
    if (!embedding) {
      return fail("the residual stream does not begin with an embedding alone");
    }
    graph.embedding = embedding.getTable();
    graph.vocab = typeOf(graph.embedding).getDimSize(0);
    graph.hidden = typeOf(graph.embedding).getDimSize(1);
    auto result = cast<func::ReturnOp>(step.getBody().front().getTerminator());
    auto head = result.getNumOperands() == 1 ? result.getOperand(0).getDefiningOp<LinearOp>() : LinearOp();
    auto norm = head ? head.getX().getDefiningOp<RMSNormOp>() : RMSNormOp();
    auto rows = norm ? norm.getX().getDefiningOp<GatherRowsOp>() : GatherRowsOp();
    if (!rows || rows.getX() != stream.getSubLayers().back().getResult() || head.getBias()) {
      return fail("the logits are not one projection of one norm of the residual stream's end");
    }
    checkNorm(norm, "the last norm");
    graph.finalNorm = norm.getWeight();
    if (!isSameWeight(head.getWeight(), graph.embedding)) {
      graph.head = head.getWeight();
    }
  }

  void checkNorm(RMSNormOp norm, const Twine &where) {
    const double eps = numberOf(norm.getEps());
    if (!hasEps) {
      graph.normEps = eps;
      hasEps = true;
    }
    if (eps != graph.normEps || norm.getRounding() != ScaleRounding::BeforeWeight || norm.getGroups() != 1) {
      fail(where + " has eps " + describe(eps) + ", and another norm " + describe(graph.normEps) +
           "; a config has one eps and one kind of norm");
    }
  }

  void readBlock(const LayerBlock &block) {
    const std::string name = spellLayers(block.firstLayer, block.lastLayer);
    ExportLayer layer;
    layer.first = block.firstLayer;
    layer.last = block.lastLayer;
    for (const std::optional<SubLayer> &part : {block.attention, block.network}) {
      if (!part) {
        continue;
      }
      if (part->kind == BranchKind::Experts) {
        return fail(name +
                    ": routes to experts, which these formats do not hold; as a package it runs (moec compile --plan)");
      }
      if (part->kind == BranchKind::Unknown) {
        return fail(name + ": " + part->problem);
      }
      if (part->input != part->base) {
        return fail(name + ": does not read the residual stream where it is added (blocks in parallel); no checkpoint "
                           "format says that");
      }
      checkNorm(part->norm, name);
    }
    if (block.attention) {
      readAttention(*block.attention, name, layer);
    }
    if (block.network) {
      readNetwork(*block.network, name, layer);
    }
    std::vector<ExportLayer> &layers = graph.layers;
    if (!layer.hasAttention() && !layers.empty() && !layers.back().hasFFN()) {
      const ExportLayer front = layers.back();
      ExportLayer both = front;
      both.last = layer.last;
      both.ffn = layer.ffn;
      both.ffnOp = layer.ffnOp;
      std::tie(both.ffnNorm, both.gate, both.up, both.down) = std::tie(layer.ffnNorm, layer.gate, layer.up, layer.down);
      std::tie(both.gateBias, both.upBias, both.downBias) = std::tie(layer.gateBias, layer.upBias, layer.downBias);
      layers.back() = both;
      return;
    }
    layers.push_back(layer);
  }

  void readAttention(const SubLayer &part, const std::string &name, ExportLayer &layer) {
    AttentionOp attention = part.attention;
    RopeOp qRope = part.qRope, kRope = part.kRope;
    layer.heads = static_cast<int64_t>(attention.getHeads());
    layer.kvHeads = static_cast<int64_t>(attention.getKvHeads());
    const int64_t headDim = typeOf(attention.getQ()).getDimSize(1) / layer.heads;
    if (part.qNorm || part.kNorm) {
      return fail(name + ": norms its queries or keys, which these formats do not say");
    }
    if (!qRope || !kRope || qRope.getRope() != kRope.getRope()) {
      return fail(name + ": does not rotate queries and keys alike");
    }
    if (!graph.rope) {
      graph.rope = qRope.getRope();
      graph.headDim = headDim;
    }
    if (qRope.getRope() != graph.rope) {
      return fail(name + ": rotates otherwise than the layers before it");
    }
    if (headDim != graph.headDim || graph.rope.getDim() != headDim || graph.rope.getOffset() != 0 ||
        graph.rope.getInterleaved() || typeOf(attention.getV()).getDimSize(1) != layer.kvHeads * headDim) {
      return fail(name + ": heads of " + Twine(headDim) + " with " + Twine(graph.rope.getDim()) +
                  " rotated elements; these formats rotate whole heads of one size, the two halves in pairs");
    }
    if (attention.getSinks() || attention.getWindow()) {
      return fail(name + ": attends with " + (attention.getSinks() ? "sinks" : "a sliding window") +
                  ", which these formats do not say");
    }
    if (std::abs(numberOf(attention.getScale()) * std::sqrt(static_cast<double>(headDim)) - 1) > 1e-12) {
      return fail(name + ": scales its scores by " + describe(numberOf(attention.getScale())) +
                  ", but these formats by 1 / sqrt(head dim)");
    }
    layer.attentionNorm = RMSNormOp(part.norm).getWeight();
    auto take = [](LinearOp linear, Value &weight, Value &bias) {
      weight = linear.getWeight();
      bias = linear.getBias();
    };
    take(part.q, layer.q, layer.qBias);
    take(part.k, layer.k, layer.kBias);
    take(part.v, layer.v, layer.vBias);
    take(part.o, layer.o, layer.oBias);
    const Value biases[] = {layer.qBias, layer.kBias, layer.vBias, layer.oBias};
    checkBiases(name, "attention", biases, hasAttentionSeen, graph.hasAttentionBias);
  }

  void readNetwork(const SubLayer &part, const std::string &name, ExportLayer &layer) {
    FFNOp ffn = part.ffn;
    if (!ffn.getGate() || ffn.getActivation() == Activation::OssSwiglu) {
      return fail(name + ": its FFN has " + (ffn.getGate() ? "a limit of its own" : "no gate") +
                  "; these formats hold gated FFNs");
    }
    if (hasNetworkSeen && ffn.getActivation() != graph.activation) {
      return fail(name + ": has another activation than the layers before it");
    }
    graph.activation = ffn.getActivation();
    layer.ffnOp = ffn;
    layer.ffnNorm = RMSNormOp(part.norm).getWeight();
    layer.gate = ffn.getGate();
    layer.up = ffn.getUp();
    layer.down = ffn.getDown();
    layer.gateBias = ffn.getGateBias();
    layer.upBias = ffn.getUpBias();
    layer.downBias = ffn.getDownBias();
    layer.ffn = typeOf(layer.up).getDimSize(0);
    const Value biases[] = {layer.gateBias, layer.upBias, layer.downBias};
    checkBiases(name, "FFN", biases, hasNetworkSeen, graph.hasFFNBias);
  }

  /// A config says of all layers at once whether they have biases.
  void checkBiases(const std::string &name, StringRef part, ArrayRef<Value> biases, bool &seen, bool &hasBiases) {
    const size_t count = llvm::count_if(biases, [](Value bias) { return bias != Value(); });
    if (count != (seen ? (hasBiases ? biases.size() : 0) : count == 0 ? 0 : biases.size())) {
      fail(name + ": its " + part + " has " + Twine(count) + " biases of " + Twine(biases.size()) +
           "; a config says of all projections of all layers at once whether they have biases");
    }
    hasBiases = count != 0;
    seen = true;
  }

  func::FuncOp step;
  ExportGraph graph;
  std::string problem;
  bool hasEps = false, hasAttentionSeen = false, hasNetworkSeen = false;
};

} // namespace

Expected<ExportGraph> moe::readExportGraph(ModuleOp module) {
  auto step = module.lookupSymbol<func::FuncOp>("step");
  if (!step) {
    return makeError("the module has no function @step");
  }
  return Reader(step).read();
}

std::vector<std::pair<size_t, int64_t>> moe::padWidths(ExportGraph &graph, int64_t multiple) {
  std::vector<std::pair<size_t, int64_t>> padded;
  for (size_t index = 0; index < graph.layers.size(); ++index) {
    ExportLayer &layer = graph.layers[index];
    const int64_t width = (layer.ffn + multiple - 1) / multiple * multiple;
    if (width == layer.ffn) {
      continue;
    }
    padded.emplace_back(index, layer.ffn);
    OpBuilder b(layer.ffnOp);
    auto pad = [&](Value &weight, int64_t dim) {
      if (weight) {
        SmallVector<int64_t> shape(typeOf(weight).getShape());
        shape[dim] = width;
        auto type = RankedTensorType::get(shape, typeOf(weight).getElementType());
        weight = PadOp::create(b, layer.ffnOp.getLoc(), type, weight, b.getI64IntegerAttr(dim));
      }
    };
    pad(layer.gate, 0);
    pad(layer.up, 0);
    pad(layer.down, 1);
    pad(layer.gateBias, 0);
    pad(layer.upBias, 0);
    layer.ffn = width;
    auto old = layer.ffnOp;
    layer.ffnOp =
        FFNOp::create(b, old.getLoc(), old.getType(), old.getX(), layer.gate, layer.up, layer.down, layer.gateBias,
                      layer.upBias, layer.downBias, old.getActivationAttr(), old.getAlphaAttr(), old.getLimitAttr());
    old.getResult().replaceAllUsesWith(layer.ffnOp.getResult());
    old.erase();
  }
  return padded;
}
