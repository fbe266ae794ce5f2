//===- ResidualStream.cpp - A step as blocks of residual sub-layers ----------===//

#include "passes/Analysis/ResidualStream.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Branches
//===----------------------------------------------------------------------===//

/// Whether `a` exists before `b` is computed; arguments exist before everything.
static bool isBefore(Value a, Value b) {
  Operation *first = a.getDefiningOp(), *second = b.getDefiningOp();
  if (!first || !second) {
    return !first && second;
  }
  return first->getBlock() == second->getBlock() && first->isBeforeInBlock(second);
}

/// Fills in the norm that `x` is the result of.
static void matchNorm(SubLayer &layer, Value x) {
  layer.norm = x.getDefiningOp<RMSNormOp>();
  if (!layer.norm || layer.norm.getGroups() != 1) {
    layer.norm = {};
    layer.kind = BranchKind::Unknown;
    layer.problem = "it does not read a norm of the residual stream";
    return;
  }
  layer.input = layer.norm.getX();
}

/// linear, then perhaps a norm per head, then perhaps a rotation.
static LinearOp matchProjection(Value value, RopeOp *rope, RMSNormOp *norm) {
  if (rope && (*rope = value.getDefiningOp<RopeOp>())) {
    value = rope->getX();
  }
  if (norm && (*norm = value.getDefiningOp<RMSNormOp>())) {
    value = norm->getX();
  }
  return value.getDefiningOp<LinearOp>();
}

static void matchAttention(SubLayer &layer, LinearOp o, AttentionOp attention) {
  layer.o = o;
  layer.attention = attention;
  layer.q = matchProjection(attention.getQ(), &layer.qRope, &layer.qNorm);
  layer.k = matchProjection(attention.getK(), &layer.kRope, &layer.kNorm);
  layer.v = matchProjection(attention.getV(), nullptr, nullptr);
  if (!layer.q || !layer.k || !layer.v) {
    layer.problem = "its q, k and v are not projections of one norm each (MLA, or shared with another layer)";
    return;
  }
  if (layer.q.getX() != layer.k.getX() || layer.q.getX() != layer.v.getX()) {
    layer.problem = "its q, k and v do not read one value";
    return;
  }
  layer.kind = BranchKind::Attention;
  matchNorm(layer, layer.q.getX());
}

/// `producer` ends the branch: a combine, or the sum of one and a shared FFN.
static void matchExperts(SubLayer &layer, Operation *producer) {
  layer.sum = dyn_cast<AddOp>(producer);
  if (layer.sum) {
    for (Value side : {layer.sum.getLhs(), layer.sum.getRhs()}) {
      if (auto ffn = side.getDefiningOp<FFNOp>()) {
        layer.ffn = ffn;
      } else {
        layer.combine = side.getDefiningOp<CombineOp>();
      }
    }
    if (!layer.ffn || !layer.combine) {
      layer.problem = "its branch is a sum, but not of experts and a shared FFN";
      return;
    }
  } else {
    layer.combine = cast<CombineOp>(producer);
  }
  layer.experts = layer.combine.getY().getDefiningOp<ExpertsOp>();
  layer.route = layer.combine.getWeights().getDefiningOp<RouteOp>();
  layer.router = layer.route ? layer.route.getLogits().getDefiningOp<LinearOp>() : LinearOp();
  if (!layer.experts || !layer.router || layer.experts.getExperts() != layer.route.getExperts()) {
    layer.problem = "its experts are not those that one route of one linear chose";
    return;
  }
  Value x = layer.experts.getX();
  if (layer.router.getX() != x || (layer.ffn && layer.ffn.getX() != x)) {
    layer.problem = "its router, experts and shared FFN do not read one value";
    return;
  }
  layer.kind = BranchKind::Experts;
  matchNorm(layer, x);
}

static SubLayer matchSubLayer(AddOp add, Value base, Value branch) {
  SubLayer layer;
  layer.add = add;
  layer.base = base;
  layer.branch = branch;
  Operation *producer = branch.getDefiningOp();
  if (auto ffn = dyn_cast_or_null<FFNOp>(producer)) {
    layer.kind = BranchKind::FFN;
    layer.ffn = ffn;
    matchNorm(layer, ffn.getX());
    return layer;
  }
  if (auto linear = dyn_cast_or_null<LinearOp>(producer)) {
    if (auto attention = linear.getX().getDefiningOp<AttentionOp>()) {
      matchAttention(layer, linear, attention);
      return layer;
    }
  }
  if (auto norm = dyn_cast_or_null<RMSNormOp>(producer)) {
    layer.problem = "its output is normed before it is added (post-norm), which is not linear";
    // Whether it is an attention still decides how blocks are cut.
    if (auto linear = norm.getX().getDefiningOp<LinearOp>()) {
      layer.attention = linear.getX().getDefiningOp<AttentionOp>();
    }
    return layer;
  }
  if (isa_and_nonnull<CombineOp, AddOp>(producer)) {
    matchExperts(layer, producer);
    return layer;
  }
  layer.problem = "its branch ends in " +
                  (producer ? "'" + producer->getName().getStringRef().str() + "'" : "an argument") +
                  ", which is neither an attention's projection nor an FFN";
  return layer;
}

//===----------------------------------------------------------------------===//
// The stream
//===----------------------------------------------------------------------===//

/// The adds of `value` and something else.
static SmallVector<AddOp> addsOn(Value value) {
  SmallVector<AddOp> adds;
  for (Operation *user : value.getUsers()) {
    auto add = dyn_cast<AddOp>(user);
    if (add && add.getLhs() != add.getRhs() && add->getBlock() == value.getParentBlock()) {
      adds.push_back(add);
    }
  }
  return adds;
}

/// The add that the stream goes on with; null if none does. Where blocks run in parallel, one value is the base of
/// several adds, and all but one only feed the FFN of their own block.
static AddOp nextAdd(Value value) {
  SmallVector<AddOp> adds = addsOn(value);
  if (adds.size() > 1) {
    llvm::erase_if(adds, [](AddOp add) { return addsOn(add.getResult()).empty(); });
  }
  return adds.size() == 1 ? adds.front() : AddOp();
}

/// Whether `add` is inside of a branch: the sum of experts and a shared FFN. The stream begins with neither.
static bool isInBranch(AddOp add) {
  return llvm::all_of(add->getOperands(),
                      [](Value value) { return isa_and_nonnull<CombineOp, FFNOp>(value.getDefiningOp()); });
}

static SmallVector<SubLayer, 0> walkFrom(AddOp add) {
  SmallVector<SubLayer, 0> layers;
  bool leftFirst = isBefore(add.getLhs(), add.getRhs());
  Value base = leftFirst ? add.getLhs() : add.getRhs();
  while (add) {
    layers.push_back(matchSubLayer(add, base, add.getLhs() == base ? add.getRhs() : add.getLhs()));
    base = add.getResult();
    add = nextAdd(base);
  }
  return layers;
}

ResidualStream::ResidualStream(func::FuncOp function) {
  // Of several blocks, or inside regions, nothing says which comes first.
  if (function.getBody().hasOneBlock()) {
    llvm::DenseSet<Operation *> seen;
    for (AddOp add : function.getBody().front().getOps<AddOp>()) {
      if (seen.contains(add) || isInBranch(add)) {
        continue;
      }
      SmallVector<SubLayer, 0> chain = walkFrom(add);
      for (const SubLayer &layer : chain) {
        seen.insert(layer.add);
      }
      if (chain.size() > subLayers.size()) {
        subLayers = std::move(chain);
      }
    }
  }
  for (const SubLayer &layer : subLayers) {
    const bool isAttention = layer.attention != nullptr;
    if (blocks.empty() || isAttention || blocks.back().network || blocks.back().back().add->hasAttr(kLayersAttr)) {
      blocks.emplace_back();
    }
    (isAttention ? blocks.back().attention : blocks.back().network) = layer;
  }
  int64_t next = 0;
  for (LayerBlock &block : blocks) {
    auto layers = block.back().add->getAttrOfType<DenseI64ArrayAttr>(kLayersAttr);
    const bool given = layers && layers.size() == 2;
    block.firstLayer = given ? layers[0] : next;
    block.lastLayer = given ? layers[1] : next;
    next = block.lastLayer + 1;
    for (std::optional<SubLayer> *layer : {&block.attention, &block.network}) {
      if (*layer) {
        (*layer)->layer = block.firstLayer;
      }
    }
  }
}

SmallVector<Operation *> SubLayer::getOps() const {
  SmallVector<Operation *> ops;
  for (Operation *op : std::initializer_list<Operation *>{norm, q, k, v, qNorm, kNorm, qRope, kRope, attention, o, ffn,
                                                          router, route, experts, combine, sum, add}) {
    if (op) {
      ops.push_back(op);
    }
  }
  return ops;
}

std::string moe::spellLayers(int64_t first, int64_t last) {
  return first == last ? "layer " + std::to_string(first)
                       : "layers " + std::to_string(first) + " to " + std::to_string(last);
}

std::optional<ArrayRef<LayerBlock>> ResidualStream::find(int64_t first, int64_t last, std::string &problem) const {
  const LayerBlock *begin = llvm::find_if(blocks, [&](const LayerBlock &block) { return block.lastLayer >= first; });
  const LayerBlock *end = begin;
  while (end != blocks.end() && end->firstLayer <= last) {
    ++end;
  }
  if (begin == end) {
    problem =
        "the model has no ops for " + spellLayers(first, last) + " (it has " + spellLayers(0, getNumLayers() - 1) + ")";
    return std::nullopt;
  }
  for (const LayerBlock *edge : {begin, end - 1}) {
    if (edge->firstLayer < first || edge->lastLayer > last) {
      problem = spellLayers(edge->firstLayer, edge->lastLayer) + " are one block already";
      return std::nullopt;
    }
  }
  if (last >= getNumLayers()) {
    problem = "the model has only " + spellLayers(0, getNumLayers() - 1);
    return std::nullopt;
  }
  return ArrayRef<LayerBlock>(begin, end);
}
