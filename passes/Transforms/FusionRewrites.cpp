//===- FusionRewrites.cpp - Workers that give sub-layers new inputs and join them

#include "passes/Transforms/FusionRewrites.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "passes/Analysis/FusionLegality.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace mlir::moe;

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

/// A location that names the fused op and keeps those that it replaces.
static Location nameFused(ArrayRef<SubLayer> layers, StringRef part, ArrayRef<Operation *> ops) {
  MLIRContext *context = ops.front()->getContext();
  std::string name = "layers." + std::to_string(layers.front().layer);
  if (layers.size() > 1) {
    name += "-" + std::to_string(layers.back().layer);
  }
  SmallVector<Location> locations{NameLoc::get(StringAttr::get(context, name + "." + part))};
  for (Operation *op : ops) {
    locations.push_back(op->getLoc());
  }
  return FusedLoc::get(context, locations);
}

/// The result of `op` (whose location names the fused op) for each layer.
template <typename Op> static SmallVector<Op> collect(ArrayRef<SubLayer> layers, Op SubLayer::*member) {
  return llvm::map_to_vector(layers, [&](const SubLayer &layer) { return layer.*member; });
}

template <typename Op> static SmallVector<Operation *> asOperations(ArrayRef<Op> ops) {
  return SmallVector<Operation *>(ops.begin(), ops.end());
}

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

static RankedTensorType withDim(RankedTensorType type, int64_t dim, int64_t size) {
  SmallVector<int64_t> shape(type.getShape());
  shape[dim] = size;
  return RankedTensorType::get(shape, type.getElementType());
}

/// `parts` joined along `dim`; null if they are.
static Value join(OpBuilder &b, Location loc, ArrayRef<Value> parts, int64_t dim) {
  if (parts.size() == 1 || !parts.front()) {
    return parts.front();
  }
  int64_t size = 0;
  for (Value part : parts) {
    size += typeOf(part).getDimSize(dim);
  }
  return ConcatOp::create(b, loc, withDim(typeOf(parts.front()), dim, size), parts, b.getI64IntegerAttr(dim));
}

/// The sum of `parts`; null if they are.
static Value addUp(OpBuilder &b, Location loc, ArrayRef<Value> parts) {
  return parts.size() == 1 || !parts.front() ? parts.front() : SumOp::create(b, loc, parts.front().getType(), parts);
}

/// `weight` padded along `dim` to `size`.
static Value pad(OpBuilder &b, Location loc, Value weight, int64_t dim, int64_t size) {
  if (!weight || typeOf(weight).getDimSize(dim) == size) {
    return weight;
  }
  return PadOp::create(b, loc, withDim(typeOf(weight), dim, size), weight, b.getI64IntegerAttr(dim));
}

SharedNorm moe::buildSharedNorm(OpBuilder &b, ArrayRef<RMSNormOp> norms, Value input) {
  RMSNormOp last = norms.back();
  if (llvm::all_equal(norms) && last.getX() == input) {
    return {last.getResult(), Value()};
  }
  Location loc = last.getLoc();
  Value scale = last.getWeight(), kept;
  if (llvm::any_of(norms, [&](RMSNormOp norm) { return !isSameWeight(norm.getWeight(), scale); })) {
    kept = FloorMagnitudeOp::create(b, loc, scale.getType(), scale, b.getF64FloatAttr(kScaleFloor));
    scale = kept;
  }
  Value result =
      RMSNormOp::create(b, loc, last.getType(), input, scale, last.getEps(), last.getGroups(), last.getRounding());
  return {result, kept};
}

/// `lhs` times `rhs`, as a weight of type `type`.
static Value multiply(OpBuilder &b, Type type, Value lhs, Value rhs) {
  return ProductOp::create(b, lhs.getLoc(), type, lhs, rhs);
}

Value moe::foldScale(OpBuilder &b, Value weight, RMSNormOp own, const SharedNorm &shared, Value map) {
  if (weight && map) {
    return multiply(b, weight.getType(), weight, map);
  }
  if (!weight || !shared.kept) {
    return weight;
  }
  return ScaleOp::create(b, weight.getLoc(), weight.getType(), weight, own.getWeight(), shared.kept,
                         b.getI64IntegerAttr(typeOf(weight).getRank() - 1));
}

//===----------------------------------------------------------------------===//
// One sub-layer out of several
//===----------------------------------------------------------------------===//

/// maps[i], null without maps.
static Value mapOf(ArrayRef<Value> maps, size_t i) { return maps.empty() ? Value() : maps[i]; }

/// The sum of the dense FFNs of `layers` behind `norm`.
static Value joinFFNs(OpBuilder &b, ArrayRef<SubLayer> layers, const SharedNorm &norm, int64_t padWidthTo,
                      ArrayRef<Value> maps, Value outputMap) {
  SmallVector<FFNOp> ffns = collect(layers, &SubLayer::ffn);
  Location loc = nameFused(layers, "ffn", asOperations<FFNOp>(ffns));
  // Rows of gate and up, columns of down.
  auto rows = [&](auto get) {
    return join(b, loc, llvm::map_to_vector(ffns, [&](FFNOp ffn) -> Value { return get(ffn); }), 0);
  };
  auto folded = [&](auto get) {
    SmallVector<Value> parts;
    for (auto [i, layer] : llvm::enumerate(layers)) {
      parts.push_back(foldScale(b, get(layer.ffn), layer.norm, norm, mapOf(maps, i)));
    }
    return join(b, loc, parts, 0);
  };
  Value gate = folded([](FFNOp ffn) { return ffn.getGate(); });
  Value up = folded([](FFNOp ffn) { return ffn.getUp(); });
  Value down = join(b, loc,
                    llvm::map_to_vector(ffns,
                                        [&](FFNOp ffn) -> Value {
                                          return outputMap
                                                     ? multiply(b, ffn.getDown().getType(), outputMap, ffn.getDown())
                                                     : ffn.getDown();
                                        }),
                    1);
  Value gateBias = rows([](FFNOp ffn) { return ffn.getGateBias(); });
  Value upBias = rows([](FFNOp ffn) { return ffn.getUpBias(); });
  Value downBias = addUp(b, loc, llvm::map_to_vector(ffns, [](FFNOp ffn) -> Value { return ffn.getDownBias(); }));
  if (layers.size() > 1) {
    const int64_t width = typeOf(up).getDimSize(0), padded = (width + padWidthTo - 1) / padWidthTo * padWidthTo;
    gate = pad(b, loc, gate, 0, padded);
    up = pad(b, loc, up, 0, padded);
    down = pad(b, loc, down, 1, padded);
    gateBias = pad(b, loc, gateBias, 0, padded);
    upBias = pad(b, loc, upBias, 0, padded);
  }
  FFNOp first = ffns.front();
  return FFNOp::create(b, loc, first.getType(), norm.result, gate, up, down, gateBias, upBias, downBias,
                       first.getActivationAttr(), first.getAlphaAttr(), first.getLimitAttr());
}

/// The sum of the experts of `layers` behind `norm`: one router in front of another, and experts side by side.
static Value joinExperts(OpBuilder &b, ArrayRef<SubLayer> layers, const SharedNorm &norm, ArrayRef<Value> maps,
                         Value outputMap) {
  auto locOf = [&](auto member, StringRef part) {
    return nameFused(layers, part,
                     llvm::map_to_vector(layers, [&](SubLayer layer) -> Operation * { return layer.*member; }));
  };
  // Joined along the experts; with the norm's scale in them, or the map of the input, if they read it.
  auto joined = [&](Location loc, auto get, bool reads) {
    SmallVector<Value> parts;
    for (auto [i, layer] : llvm::enumerate(layers)) {
      Value own = get(layer);
      parts.push_back(reads ? foldScale(b, own, layer.norm, norm, mapOf(maps, i)) : own);
    }
    return join(b, loc, parts, 0);
  };
  const SubLayer &first = layers.front();
  RouteOp oldRoute = first.route;
  ExpertsOp oldExperts = first.experts;
  CombineOp oldCombine = first.combine;

  Location loc = locOf(&SubLayer::router, "router");
  Value routerWeight = joined(loc, [](SubLayer layer) -> Value { return layer.router.getWeight(); }, true);
  Value routerBias = joined(loc, [](SubLayer layer) -> Value { return layer.router.getBias(); }, false);
  Value logits = LinearOp::create(b, loc, withDim(typeOf(oldRoute.getLogits()), 1, typeOf(routerWeight).getDimSize(0)),
                                  norm.result, routerWeight, routerBias);

  loc = locOf(&SubLayer::route, "route");
  int64_t k = 0, routers = 0;
  for (SubLayer layer : layers) {
    k += static_cast<int64_t>(layer.route.getK());
    routers += static_cast<int64_t>(layer.route.getRouters());
  }
  Value correction = joined(loc, [](SubLayer layer) -> Value { return layer.route.getBias(); }, false);
  auto route = RouteOp::create(b, loc, withDim(typeOf(oldRoute.getExperts()), 1, k),
                               withDim(typeOf(oldRoute.getWeights()), 1, k), logits, correction, b.getI64IntegerAttr(k),
                               oldRoute.getScoreAttr(), oldRoute.getRenormalizeAttr(), oldRoute.getEpsilonAttr(),
                               oldRoute.getScaleAttr(), oldRoute.getGroupsAttr(), oldRoute.getKeepGroupsAttr(),
                               oldRoute.getGroupScoreAttr(), b.getI64IntegerAttr(routers));

  loc = locOf(&SubLayer::experts, "experts");
  Value gate = joined(loc, [](SubLayer layer) -> Value { return layer.experts.getGate(); }, true);
  Value up = joined(loc, [](SubLayer layer) -> Value { return layer.experts.getUp(); }, true);
  auto mappedDown = [&](SubLayer layer) -> Value {
    Value down = layer.experts.getDown();
    return outputMap ? multiply(b, down.getType(), outputMap, down) : down;
  };
  Value down = joined(loc, mappedDown, false);
  Value gateBias = joined(loc, [](SubLayer layer) -> Value { return layer.experts.getGateBias(); }, false);
  Value upBias = joined(loc, [](SubLayer layer) -> Value { return layer.experts.getUpBias(); }, false);
  Value downBias = joined(loc, [](SubLayer layer) -> Value { return layer.experts.getDownBias(); }, false);
  Value y = ExpertsOp::create(b, loc, withDim(typeOf(oldExperts.getResult()), 1, k), norm.result, route.getExperts(),
                              gate, up, down, gateBias, upBias, downBias, oldExperts.getActivationAttr(),
                              oldExperts.getAlphaAttr(), oldExperts.getLimitAttr(), PlacementAttr());
  return CombineOp::create(b, locOf(&SubLayer::combine, "combine"), oldCombine.getType(), y, route.getWeights());
}

Value moe::buildFusedFFN(OpBuilder &b, ArrayRef<SubLayer> layers, Value input, int64_t padWidthTo, ArrayRef<Value> maps,
                         Value outputMap) {
  SharedNorm norm = buildSharedNorm(b, collect(layers, &SubLayer::norm), input);
  SubLayer first = layers.front();
  if (first.kind == BranchKind::FFN) {
    return joinFFNs(b, layers, norm, padWidthTo, maps, outputMap);
  }
  Value routed = joinExperts(b, layers, norm, maps, outputMap);
  if (!first.ffn) {
    return routed;
  }
  Value shared = joinFFNs(b, layers, norm, padWidthTo, maps, outputMap);
  const bool sharedFirst = first.sum.getLhs() == first.ffn.getResult();
  SmallVector<Operation *> sums = asOperations<AddOp>(collect(layers, &SubLayer::sum));
  return AddOp::create(b, nameFused(layers, "experts_and_shared", sums), first.sum.getType(),
                       sharedFirst ? shared : routed, sharedFirst ? routed : shared);
}

/// One state with `kvHeads` heads, in front of that of `attention`.
static StateOp buildFusedState(ArrayRef<SubLayer> layers, AttentionOp attention, int64_t kvHeads) {
  auto module = attention->getParentOfType<ModuleOp>();
  auto first = module.lookupSymbol<StateOp>(attention.getCacheAttr());
  auto old = cast<KVCacheType>(first.getType());
  auto type = KVCacheType::get(module.getContext(), kvHeads, old.getKeyDim(), old.getValueDim(), old.getElement());
  std::string name =
      "layers." + std::to_string(layers.front().layer) + "-" + std::to_string(layers.back().layer) + ".kv";
  OpBuilder b(first);
  return StateOp::create(b, first.getLoc(), name, type);
}

Value moe::buildFusedAttention(OpBuilder &b, ArrayRef<SubLayer> layers, Value input, ArrayRef<Value> maps) {
  SmallVector<AttentionOp> attentions = collect(layers, &SubLayer::attention);
  SharedNorm norm = buildSharedNorm(b, collect(layers, &SubLayer::norm), input);
  auto tokensBy = [](Value like, int64_t width) { return withDim(typeOf(like), 1, width); };
  auto project = [&](LinearOp SubLayer::*member, StringRef part) -> Value {
    SmallVector<LinearOp> linears = collect(layers, member);
    Location loc = nameFused(layers, part, asOperations<LinearOp>(linears));
    SmallVector<Value> weights, biases;
    for (auto [i, linear] : llvm::enumerate(linears)) {
      weights.push_back(foldScale(b, linear.getWeight(), layers[i].norm, norm, mapOf(maps, i)));
      biases.push_back(linear.getBias());
    }
    Value weight = join(b, loc, weights, 0), bias = join(b, loc, biases, 0);
    return LinearOp::create(b, loc, tokensBy(linears.front(), typeOf(weight).getDimSize(0)), norm.result, weight, bias);
  };
  Value q = project(&SubLayer::q, "attention.q"), k = project(&SubLayer::k, "attention.k"),
        v = project(&SubLayer::v, "attention.v");
  int64_t heads = 0, kvHeads = 0;
  SmallVector<Value> sinks;
  for (AttentionOp attention : attentions) {
    heads += static_cast<int64_t>(attention.getHeads());
    kvHeads += static_cast<int64_t>(attention.getKvHeads());
    sinks.push_back(attention.getSinks());
  }
  const SubLayer &first = layers.front();
  auto perHead = [&](Value x, RMSNormOp headNorm, RopeOp rope, int64_t count) -> Value {
    if (headNorm) {
      x = RMSNormOp::create(b, headNorm.getLoc(), tokensBy(headNorm, typeOf(x).getDimSize(1)), x, headNorm.getWeight(),
                            headNorm.getEps(), count, headNorm.getRounding());
    }
    return rope ? RopeOp::create(b, rope.getLoc(), x.getType(), x, rope.getPos(), count, rope.getRope()) : x;
  };
  q = perHead(q, first.qNorm, first.qRope, heads);
  k = perHead(k, first.kNorm, first.kRope, kvHeads);
  Location loc = nameFused(layers, "attention", asOperations<AttentionOp>(attentions));
  AttentionOp old = attentions.front();
  StateOp state = buildFusedState(layers, old, kvHeads);
  const int64_t valueDim = typeOf(v).getDimSize(1) / kvHeads;
  Value result = AttentionOp::create(b, loc, tokensBy(old, heads * valueDim), q, k, v, old.getSeq(), old.getPos(),
                                     old.getRuns(), join(b, loc, sinks, 0), state.getSymName(), heads, kvHeads,
                                     old.getScale(), old.getWindowAttr());
  // The output projections of all heads side by side: their sum.
  SmallVector<LinearOp> outputs = collect(layers, &SubLayer::o);
  Location outLoc = nameFused(layers, "attention.o", asOperations<LinearOp>(outputs));
  auto weightOf = [](LinearOp linear) -> Value { return linear.getWeight(); };
  auto biasOf = [](LinearOp linear) -> Value { return linear.getBias(); };
  return LinearOp::create(b, outLoc, outputs.front().getType(), result,
                          join(b, outLoc, llvm::map_to_vector(outputs, weightOf), 1),
                          addUp(b, outLoc, llvm::map_to_vector(outputs, biasOf)));
}

//===----------------------------------------------------------------------===//
// The stream
//===----------------------------------------------------------------------===//

static void setLayers(AddOp add, int64_t first, int64_t last) {
  add->setAttr(kLayersAttr, DenseI64ArrayAttr::get(add.getContext(), {first, last}));
}

/// Erases `ops`, users first, and what nobody reads any more with them gone: weights and computations on weights.
static void eraseAll(ArrayRef<Operation *> ops) {
  SmallVector<Operation *> sorted(ops);
  llvm::sort(sorted, [](Operation *a, Operation *b) { return b->isBeforeInBlock(a); });
  llvm::SmallPtrSet<Operation *, 16> listed(sorted.begin(), sorted.end());
  // Sources that lost a reader wait here; one whose other readers still stand comes again with the last of them.
  llvm::SetVector<Operation *> sources;
  auto erase = [&](Operation *op) {
    for (Value operand : op->getOperands()) {
      Operation *source = operand.getDefiningOp();
      if (source && !listed.contains(source)) {
        sources.insert(source);
      }
    }
    op->erase();
  };
  for (Operation *op : sorted) {
    assert(op->use_empty() && "the window has no taps");
    erase(op);
  }
  while (!sources.empty()) {
    if (Operation *source = sources.pop_back_val(); isOpTriviallyDead(source)) {
      erase(source);
    }
  }
}

static AddOp addTo(OpBuilder &b, AddOp like, Location loc, Value base, Value branch) {
  return AddOp::create(b, loc, like.getType(), base, branch);
}

/// What `layer` is added to now; an earlier rewrite may have changed it.
static Value currentBase(const SubLayer &layer) {
  AddOp add = layer.add;
  return add.getLhs() == layer.branch ? add.getRhs() : add.getLhs();
}

/// The value of a map by its name, null for "": an [H, H] weight that is declared on its first use.
static Value readMap(OpBuilder &b, Operation *user, StringRef name, int64_t hidden) {
  if (name.empty()) {
    return {};
  }
  auto module = user->getParentOfType<ModuleOp>();
  auto type = RankedTensorType::get({hidden, hidden}, b.getF32Type());
  if (!module.lookupSymbol(name)) {
    OpBuilder atStart = OpBuilder::atBlockBegin(module.getBody());
    WeightOp::create(atStart, user->getLoc(), name, /*source=*/StringAttr(), /*stacked=*/false, type);
  }
  return GetWeightOp::create(b, user->getLoc(), type, name);
}

/// The maps of the layers of `names`; nothing if there are no names.
static SmallVector<Value> readMaps(OpBuilder &b, ArrayRef<SubLayer> layers, ArrayRef<std::string> names,
                                   int64_t firstLayer, int64_t hidden) {
  SmallVector<Value> maps;
  for (const SubLayer &layer : names.empty() ? ArrayRef<SubLayer>() : layers) {
    maps.push_back(readMap(b, AddOp(layer.add), names[layer.layer - firstLayer], hidden));
  }
  return maps;
}

/// Puts `maps` in front of the projections of attentions that stay where they are.
static void mapInputs(ArrayRef<SubLayer> layers, ArrayRef<Value> maps) {
  for (auto [i, layer] : llvm::enumerate(layers)) {
    Value map = mapOf(maps, i);
    for (LinearOp linear : {layer.q, layer.k, layer.v}) {
      if (!map) {
        continue;
      }
      OpBuilder b(linear);
      Value here = b.clone(*map.getDefiningOp())->getResult(0);
      linear.getWeightMutable().assign(multiply(b, linear.getWeight().getType(), linear.getWeight(), here));
    }
    if (map && map.use_empty()) {
      map.getDefiningOp()->erase();
    }
  }
}

void moe::fuseWindow(ArrayRef<LayerBlock> window, const FusionWindow &planned, int64_t padWidthTo) {
  const FusionForm form = planned.form;
  SmallVector<SubLayer> attentions = attentionsOf(window), networks = networksOf(window);
  AddOp end = window.back().back().add;
  const Value input = window.front().front().base;
  OpBuilder b(end->getContext());
  b.setInsertionPointAfter(end);
  // What leaves the window, before its parts are taken apart.
  SmallVector<OpOperand *> readers;
  for (OpOperand &use : end.getResult().getUses()) {
    readers.push_back(&use);
  }

  SmallVector<Operation *> dead;
  auto retire = [&](ArrayRef<SubLayer> layers) {
    for (const SubLayer &layer : layers) {
      llvm::append_range(dead, layer.getOps());
    }
  };
  Value stream = input;
  const int64_t hidden = typeOf(input).getDimSize(1), firstLayer = planned.first;
  SmallVector<Value> attentionMaps = readMaps(b, attentions, planned.maps.attention, firstLayer, hidden);
  if (form == FusionForm::Deferred) {
    // Attentions keep their ops; only what they read and add to is one FFN behind.
    for (const SubLayer &layer : networks) {
      if (layer.add != end) {
        layer.getResult().replaceAllUsesWith(currentBase(layer));
      }
    }
    for (const LayerBlock &block : window) {
      if (block.attention) {
        setLayers(block.attention->add, block.firstLayer, block.lastLayer);
        stream = block.attention->getResult();
      }
    }
    mapInputs(attentions, attentionMaps);
  } else {
    retire(attentions);
    if (form == FusionForm::Pair && !attentions.empty()) {
      Value branch = buildFusedAttention(b, attentions, input, attentionMaps);
      SmallVector<Operation *> adds = llvm::map_to_vector(attentions, [](SubLayer l) -> Operation * { return l.add; });
      stream = addTo(b, end, nameFused(attentions, "attention_residual", adds), input, branch);
    }
  }
  SmallVector<Value> ffnMaps = readMaps(b, networks, planned.maps.ffn, firstLayer, hidden);
  Value outputMap = readMap(b, end, planned.maps.output, hidden);
  Value branch = buildFusedFFN(b, networks, stream, padWidthTo, ffnMaps, outputMap);
  SmallVector<Operation *> adds = llvm::map_to_vector(networks, [](SubLayer l) -> Operation * { return l.add; });
  AddOp result = addTo(b, end, nameFused(networks, "ffn_residual", adds), stream, branch);
  int64_t first = window.front().firstLayer;
  if (form == FusionForm::Deferred && !attentions.empty()) {
    // The last attention and the FFN make a block, which stands for the layers that the others do not.
    for (const LayerBlock &block : window) {
      first = block.attention ? block.firstLayer : first;
    }
    stream.getDefiningOp()->removeAttr(kLayersAttr);
  }
  setLayers(result, first, window.back().lastLayer);
  for (OpOperand *use : readers) {
    use->set(result.getResult());
  }
  retire(networks);
  eraseAll(dead);
}

void moe::fuseParallelFFNs(ArrayRef<SubLayer> layers, int64_t padWidthTo) {
  AddOp end = layers.back().add;
  OpBuilder b(end->getContext());
  b.setInsertionPointAfter(end);
  Value branch = buildFusedFFN(b, layers, layers.front().input, padWidthTo);
  SmallVector<Operation *> adds = llvm::map_to_vector(layers, [](SubLayer l) -> Operation * { return l.add; });
  AddOp result = addTo(b, end, nameFused(layers, "ffn_residual", adds), layers.front().base, branch);
  setLayers(result, layers.front().layer, layers.back().layer);
  end.getResult().replaceAllUsesWith(result.getResult());
  SmallVector<Operation *> dead;
  for (const SubLayer &layer : layers) {
    llvm::append_range(dead, layer.getOps());
    // The norms may be one, and still be read.
    llvm::erase(dead, RMSNormOp(layer.norm).getOperation());
  }
  eraseAll(dead);
}

void moe::parallelizeWindow(ArrayRef<LayerBlock> window) {
  const Value input = window.front().front().base;
  AddOp end = window.back().back().add;
  SmallVector<OpOperand *> readers;
  for (OpOperand &use : end.getResult().getUses()) {
    readers.push_back(&use);
  }
  OpBuilder b(end->getContext());
  Value stream = input;
  for (const LayerBlock &block : window) {
    // Behind the branch, every block reads what the window reads.
    Value own = input;
    for (const std::optional<SubLayer> &layer : {block.attention, block.network}) {
      if (!layer) {
        continue;
      }
      RMSNormOp norm = layer->norm;
      norm.getXMutable().assign(own);
      b.setInsertionPoint(layer->add);
      AddOp sum = addTo(b, end, layer->getLoc(), stream, layer->branch);
      sum->setDiscardableAttrs(layer->add->getDiscardableAttrDictionary());
      // The FFN reads its own attention's sum, which is the stream's in the first block.
      const bool feedsOwn = layer->kind == BranchKind::Attention && block.network;
      own = stream == input || !feedsOwn ? sum.getResult()
                                         : addTo(b, end, layer->getLoc(), input, layer->branch).getResult();
      stream = sum;
    }
  }
  for (OpOperand *use : readers) {
    use->set(stream);
  }
  SmallVector<Operation *> dead;
  for (const LayerBlock &block : window) {
    for (const std::optional<SubLayer> &layer : {block.attention, block.network}) {
      if (layer) {
        dead.push_back(layer->add);
      }
    }
  }
  eraseAll(dead);
}

void moe::removeAttention(ArrayRef<LayerBlock> blocks, size_t index) {
  const LayerBlock &block = blocks[index];
  block.attention->getResult().replaceAllUsesWith(currentBase(*block.attention));
  if (!block.network && index + 1 < blocks.size()) {
    setLayers(blocks[index + 1].back().add, blocks[index + 1].firstLayer, blocks[index + 1].lastLayer);
  }
  eraseAll(block.attention->getOps());
}

//===----------------------------------------------------------------------===//
// Symbols
//===----------------------------------------------------------------------===//

llvm::DenseSet<StringAttr> UnusedSymbols::collectUsed() {
  llvm::DenseSet<StringAttr> used;
  module.walk([&](Operation *op) {
    if (auto get = dyn_cast<GetWeightOp>(op)) {
      used.insert(get.getWeightAttr().getAttr());
    } else if (auto attention = dyn_cast<AttentionOp>(op)) {
      used.insert(attention.getCacheAttr().getAttr());
    }
  });
  return used;
}

UnusedSymbols::UnusedSymbols(ModuleOp module) : module(module), usedBefore(collectUsed()) {}

void UnusedSymbols::eraseUnused() {
  llvm::DenseSet<StringAttr> used = collectUsed();
  int64_t removed = 0;
  for (Operation &op : llvm::make_early_inc_range(*module.getBody())) {
    if (!isa<WeightOp, StateOp>(op)) {
      continue;
    }
    auto name = op.getAttrOfType<StringAttr>(SymbolTable::getSymbolAttrName());
    if (!usedBefore.contains(name) || used.contains(name)) {
      continue;
    }
    if (auto weight = dyn_cast<WeightOp>(op)) {
      removed += weight.getTensorType().getNumElements();
    }
    op.erase();
  }
  auto facts = module->getAttrOfType<DictionaryAttr>("moe.model");
  auto parameters = facts ? facts.getAs<IntegerAttr>("parameters") : IntegerAttr();
  if (removed != 0 && parameters) {
    NamedAttrList changed(facts);
    changed.set("parameters", IntegerAttr::get(parameters.getType(), parameters.getInt() - removed));
    module->setAttr("moe.model", changed.getDictionary(module.getContext()));
  }
}
