//===- LowerOps.cpp - The launches of every moe op --------------------------===//
//
// The order of operands is that of the kernel structs in lowering/Kernels/KernelConfigs.h.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeRanks.h"
#include "dialects/Moe/IR/MoeRope.h"
#include "lowering/MoeToSched/StepLowering.h"

using namespace mlir;
using namespace mlir::moe;
using sched::Access;

static Type elementOf(Value value) { return getElementTypeOrSelf(value.getType()); }
/// The element type of an optional operand; null if it is absent.
static Type elementOrNone(Value value) { return value ? elementOf(value) : Type(); }
static int64_t dim(Value value, int i) { return cast<RankedTensorType>(value.getType()).getDimSize(i); }

//===----------------------------------------------------------------------===//
// Embedding, rows, add, norm
//===----------------------------------------------------------------------===//

LogicalResult StepLowering::lowerEmbedding(EmbeddingOp op) {
  FailureOr<Attribute> table = context.weights.getTensor(op, op.getTable());
  if (failed(table)) {
    return failure();
  }
  kernels::Embedding kernel{elementOf(op.getTable()), elementOf(op.getResult())};
  return launch(
      op, "", kernel, gridPerRow(rowsOf(op.getResult())),
      {read(op.getTokens()), {*table}, write(tensorBuffer(op.getResult())), constant(dim(op.getResult(), 1))});
}

// ANCHOR: docs/adding-an-op.md quotes this.
LogicalResult StepLowering::lowerGatherRows(GatherRowsOp op) {
  if (!elementOf(op.getX()).isF32() || !elementOf(op.getResult()).isF32()) {
    return op.emitOpError("has x of type ") << op.getX().getType() << " and result of type " << op.getResult().getType()
                                            << ", but the kernel gathers rows of the f32 residual stream";
  }
  return launch(
      op, "", kernels::GatherRows{}, gridPerRow(Rows::Logits),
      {read(op.getX()), read(op.getRows()), write(tensorBuffer(op.getResult())), constant(dim(op.getResult(), 1))});
}

LogicalResult StepLowering::lowerAdd(AddOp op) {
  kernels::Add kernel{elementOf(op.getLhs()), elementOf(op.getRhs()), elementOf(op.getResult())};
  return launch(
      op, "", kernel, gridPerRow(rowsOf(op.getResult())),
      {read(op.getLhs()), read(op.getRhs()), write(tensorBuffer(op.getResult())), constant(dim(op.getResult(), 1))});
}

LogicalResult StepLowering::lowerNorm(RMSNormOp op) {
  FailureOr<Attribute> weight = context.weights.getTensor(op, op.getWeight());
  if (failed(weight)) {
    return failure();
  }
  const int64_t groups = static_cast<int64_t>(op.getGroups());
  kernels::RMSNorm kernel{elementOf(op.getX()), elementOf(op.getWeight()), elementOf(op.getResult()), op.getRounding()};
  return launch(op, "", kernel, gridPerRow(rowsOf(op.getResult())),
                {read(op.getX()),
                 {*weight},
                 write(tensorBuffer(op.getResult())),
                 constant(groups),
                 constant(dim(op.getX(), 1) / groups),
                 constant(static_cast<float>(op.getEps().convertToDouble()))});
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

kernels::Matmul StepLowering::matmul(Type x, Value weight, Value up, Type out) {
  auto type = cast<RankedTensorType>(weight.getType());
  const int64_t k = type.getShape().back(), n = type.getDimSize(type.getRank() - 2);
  kernels::Matmul kernel;
  kernel.x = x;
  kernel.weight = type.getElementType();
  kernel.gated = static_cast<bool>(up);
  kernel.up = elementOrNone(up);
  kernel.out = out;
  kernel.many = many;
  kernel.nDivisible = true;
  context.kernels.specialise(kernel, k, n);
  return kernel;
}

int64_t StepLowering::tilesOf(const kernels::Matmul &kernel, int64_t n) {
  return llvm::divideCeil(n, context.kernels.matmulTile(kernel).outputs);
}

sched::GridAttr StepLowering::matmulGrid(const kernels::Matmul &kernel, Rows rows, int64_t tiles) {
  return many ? gridPerRow(rows, context.kernels.matmulTile(kernel).rows, tiles)
              : sched::GridAttr::get(fixedExtent(tiles));
}

FailureOr<Attribute> StepLowering::mapped(const kernels::Matmul &kernel, WeightOperand operandOf, Value weight) {
  FailureOr<Attribute> source = operandOf(weight);
  const int64_t box = context.kernels.weightBox(kernel);
  if (failed(source) || box == 0) {
    return source;
  }
  auto type = cast<RankedTensorType>(weight.getType());
  return Attribute(
      sched::TensorMapAttr::get(*source, type.getDimSize(type.getRank() - 2), type.getShape().back(), box));
}

/// Linears on one x with the same types may share a launch.
static bool canShare(LinearOp a, LinearOp c) {
  return a.getX() == c.getX() && elementOf(a.getWeight()) == elementOf(c.getWeight()) &&
         elementOf(a.getResult()) == elementOf(c.getResult()) && !a.getBias() == !c.getBias() &&
         (!a.getBias() || elementOf(a.getBias()) == elementOf(c.getBias()));
}

LogicalResult StepLowering::lowerLinear(LinearOp op) {
  constexpr size_t maxSegments = 3;
  Fused fused = fuseResidual(op.getResult());
  SmallVector<LinearOp> shared{op};
  if (!fused.residual) {
    for (Operation *next = op->getNextNode(); next && shared.size() < maxSegments; next = next->getNextNode()) {
      auto other = dyn_cast<LinearOp>(next);
      if (!other || done.contains(other) || !canShare(op, other)) {
        continue;
      }
      // One that could take a residual is better off by itself.
      bool feedsAdd = other.getResult().hasOneUse() && isa<AddOp>(*other.getResult().user_begin());
      if (!feedsAdd) {
        shared.push_back(other);
      }
    }
  }
  kernels::Matmul kernel = matmul(elementOf(op.getX()), op.getWeight(), /*up=*/{}, elementOf(op.getResult()));
  kernel.segments = static_cast<int>(shared.size());
  kernel.residual = static_cast<bool>(fused.residual);
  kernel.bias = elementOrNone(op.getBias());
  const Rows rows = rowsOf(op.getResult());
  SmallVector<Operand> operands{read(op.getX()), constant(dim(op.getX(), 1)), rowCount(rows)};
  int64_t tiles = 0;
  std::string part;
  for (LinearOp linear : shared) {
    done.insert(linear);
    const int64_t n = dim(linear.getWeight(), 0);
    context.kernels.specialise(kernel, dim(op.getX(), 1), n);
    tiles += tilesOf(kernel, n);
    auto tensor = [&](Value weight) { return context.weights.getTensor(linear, weight); };
    auto matrix = [&](Value weight) { return mapped(kernel, tensor, weight); };
    if (failed(appendWeights(operands, matrix, {linear.getWeight()}))) {
      return failure();
    }
    operands.append({constant(n), write(tensorBuffer(linear == op ? fused.result : linear.getResult()))});
    if (failed(appendWeights(operands, tensor, {linear.getBias()}))) {
      return failure();
    }
  }
  if (fused.residual) {
    operands.push_back(read(fused.residual));
  }
  return launch(op, shared.size() > 1 ? "x" + std::to_string(shared.size()) : "", kernel,
                matmulGrid(kernel, rows, tiles), operands);
}

LogicalResult StepLowering::appendWeights(SmallVectorImpl<Operand> &operands, WeightOperand operandOf,
                                          ArrayRef<Value> weights) {
  for (Value weight : weights) {
    FailureOr<Attribute> operand = weight ? operandOf(weight) : Attribute();
    if (failed(operand)) {
      return failure();
    }
    if (weight) {
      operands.push_back({*operand});
    }
  }
  return success();
}

template <typename Op>
FailureOr<kernels::Matmul> StepLowering::appendUp(SmallVectorImpl<Operand> &operands, Op op, WeightOperand operandOf,
                                                  int64_t width, int hidden) {
  const Type x = elementOf(op.getX());
  const bool gated = static_cast<bool>(op.getGate());
  kernels::Matmul kernel = gated ? matmul(x, op.getGate(), op.getUp(), x) : matmul(x, op.getUp(), /*up=*/{}, x);
  kernel.activation = op.getActivation();
  kernel.bias = elementOrNone(gated ? op.getGateBias() : op.getUpBias());
  kernel.upBias = gated ? elementOrNone(op.getUpBias()) : Type();
  auto matrix = [&](Value weight) { return mapped(kernel, operandOf, weight); };
  if (failed(appendWeights(operands, matrix, {op.getGate(), op.getUp()}))) {
    return failure();
  }
  operands.append({constant(width), write(hidden)});
  if (failed(appendWeights(operands, operandOf, {op.getGateBias(), op.getUpBias()}))) {
    return failure();
  }
  if (op.getActivation() == Activation::OssSwiglu) {
    operands.append({constant(static_cast<float>(op.getAlpha().convertToDouble())),
                     constant(static_cast<float>(op.getLimit().convertToDouble()))});
  }
  return kernel;
}

template <typename Op>
FailureOr<kernels::Matmul> StepLowering::appendDown(SmallVectorImpl<Operand> &operands, Op op, WeightOperand operandOf,
                                                    int64_t h, int result) {
  kernels::Matmul kernel = matmul(elementOf(op.getX()), op.getDown(), /*up=*/{}, elementOf(op.getResult()));
  kernel.bias = elementOrNone(op.getDownBias());
  auto matrix = [&](Value weight) { return mapped(kernel, operandOf, weight); };
  if (failed(appendWeights(operands, matrix, {op.getDown()}))) {
    return failure();
  }
  operands.append({constant(h), write(result)});
  if (failed(appendWeights(operands, operandOf, {op.getDownBias()}))) {
    return failure();
  }
  return kernel;
}

LogicalResult StepLowering::lowerFFN(FFNOp op) {
  const Rows rows = rowsOf(op.getResult());
  const int64_t width = dim(op.getUp(), 0), h = dim(op.getDown(), 0);
  auto tensor = [&](Value weight) { return context.weights.getTensor(op, weight); };
  int hidden = newBuffer(perRow(rows, width * byteWidth(elementOf(op.getX()))));
  SmallVector<Operand> operands{read(op.getX()), constant(dim(op.getX(), 1)), rowCount(rows)};
  FailureOr<kernels::Matmul> up = appendUp(operands, op, tensor, width, hidden);
  if (failed(up) || failed(launch(op, "up", *up, matmulGrid(*up, rows, tilesOf(*up, width)), operands))) {
    return failure();
  }

  Fused fused = fuseResidual(op.getResult());
  operands = {read(hidden), constant(width), rowCount(rows)};
  FailureOr<kernels::Matmul> down = appendDown(operands, op, tensor, h, tensorBuffer(fused.result));
  if (failed(down)) {
    return failure();
  }
  down->residual = static_cast<bool>(fused.residual);
  if (fused.residual) {
    operands.push_back(read(fused.residual));
  }
  return launch(op, "down", *down, matmulGrid(*down, rows, tilesOf(*down, h)), operands);
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

LogicalResult StepLowering::lowerRope(RopeOp op) {
  RopeAttr rope = op.getRope();
  const int64_t half = rope.getDim() / 2, heads = static_cast<int64_t>(op.getHeads());
  int &table = angles.insert({{rope, op.getPos()}, -1}).first->second;
  if (table < 0) {
    SmallVector<float> frequencies;
    for (double frequency : computeInverseFrequencies(rope)) {
      frequencies.push_back(static_cast<float>(frequency));
    }
    table = newBuffer(perRow(Rows::Tokens, 2 * half * 4));
    const float factor = static_cast<float>(rope.getAttentionFactor().getValueAsDouble());
    if (failed(launch(op, "angles", kernels::RopeAngles{}, gridPerRow(Rows::Tokens),
                      {read(op.getPos()), read(constantBuffer<float>(frequencies)), write(table), constant(half),
                       constant(factor)}))) {
      return failure();
    }
  }
  if (elementOf(op.getX()) != elementOf(op.getResult())) {
    return op.emitOpError("turns ") << op.getX().getType() << " into " << op.getResult().getType()
                                    << ", but the kernel keeps the element type";
  }
  return launch(op, "", kernels::Rope{elementOf(op.getX()), rope.getInterleaved()}, gridPerRow(Rows::Tokens),
                {read(op.getX()), read(table), write(tensorBuffer(op.getResult())), constant(heads),
                 constant(dim(op.getX(), 1) / heads), constant(half), constant(rope.getOffset())});
}

LogicalResult StepLowering::lowerAttention(AttentionOp op) {
  auto state = op->getParentOfType<ModuleOp>().lookupSymbol<StateOp>(op.getCacheAttr());
  auto type = cast<KVCacheType>(state.getType());
  const Type x = elementOf(op.getQ());
  if (elementOf(op.getK()) != x || elementOf(op.getV()) != x || elementOf(op.getResult()) != x) {
    return op.emitOpError("has q, k, v and result of types ")
           << op.getQ().getType() << ", " << op.getK().getType() << ", " << op.getV().getType() << ", "
           << op.getResult().getType() << ", but the kernel needs one element type";
  }
  const int64_t g = type.getHeads(), keyDim = type.getKeyDim(), valueDim = type.getValueDim();
  const int64_t perHead = static_cast<int64_t>(op.getHeads()) / g, width = byteWidth(type.getElement());
  auto cache = [&](StringRef part, int64_t rowBytes) {
    return newBuffer(sched::ExtentAttr::get(mlir, 0, 0, 0, 0, rowBytes), (op.getCache() + "." + part).str());
  };
  int keys = cache("keys", g * keyDim * width), cacheValues = cache("values", g * valueDim * width);
  if (failed(launch(op, "cache", kernels::CacheWrite{x, type.getElement()}, gridPerRow(Rows::Tokens),
                    {read(op.getK()), read(op.getV()), read(op.getSeq()), read(op.getPos()), update(keys),
                     update(cacheValues), constant(g * keyDim), constant(g * valueDim), size(sched::Dim::C)}))) {
    return failure();
  }

  kernels::Attention kernel{x, type.getElement(), Type(), keyDim, valueDim, many};
  auto facts = op->getParentOfType<ModuleOp>()->getAttrOfType<DictionaryAttr>("moe.model");
  auto trained = facts ? facts.getAs<IntegerAttr>("trained_context") : IntegerAttr();
  const kernels::AttentionCut cut =
      context.kernels.cut(kernel, {g, perHead, trained ? trained.getInt() : 0, range.first, range.last});
  const int64_t heads = g * perHead, stateBytes = heads * kernel.splits * (2 + valueDim) * 4;
  const int states = kernel.splits > 0 ? newBuffer(perRow(Rows::Tokens, stateBytes)) : -1;
  SmallVector<Operand> operands{read(op.getQ()),
                                read(op.getSeq()),
                                read(op.getPos()),
                                read(keys),
                                read(cacheValues),
                                write(states >= 0 ? states : tensorBuffer(op.getResult())),
                                rowCount(Rows::Tokens),
                                constant(g),
                                constant(perHead),
                                size(sched::Dim::C),
                                constant(static_cast<float>(op.getScale().convertToDouble())),
                                constant(static_cast<int64_t>(op.getWindow().value_or(0)))};
  SmallVector<Operand> sinks;
  if (op.getSinks()) {
    FailureOr<Attribute> tensor = context.weights.getTensor(op, op.getSinks());
    if (failed(tensor)) {
      return failure();
    }
    kernel.sinks = elementOf(op.getSinks());
    sinks.push_back({*tensor});
  }
  sched::GridAttr grid = gridPerRow(Rows::Tokens, cut.tokens, g * cut.parts);
  if (states < 0) {
    operands.append(sinks);
    return launch(op, "", kernel, grid, operands);
  }
  if (failed(launch(op, "splits", kernel, grid, operands))) {
    return failure();
  }
  SmallVector<Operand> joined{read(states), read(op.getPos()), write(tensorBuffer(op.getResult())), constant(heads),
                              constant(static_cast<int64_t>(op.getWindow().value_or(0)))};
  joined.append(sinks);
  return launch(op, "join", kernels::JoinSplits{x, kernel.sinks, valueDim, kernel.splits},
                gridPerRow(Rows::Tokens, 1, heads), joined);
}

//===----------------------------------------------------------------------===//
// Mixture of experts
//===----------------------------------------------------------------------===//

LogicalResult StepLowering::lowerRoute(RouteOp op) {
  const auto routers = static_cast<int64_t>(op.getRouters());
  const int64_t experts = dim(op.getLogits(), 1) / routers; // of each
  kernels::Route kernel;
  if (std::string reason = context.kernels.whyNot(kernel, experts); !reason.empty()) {
    return op.emitOpError("chooses of E = ")
           << experts << " experts, " << reason << "; use the linalg path (--emit linalg)";
  }
  kernel.score = op.getScore();
  kernel.renormalize = op.getRenormalize();
  kernel.grouped = op.getGroups() > 1;
  kernel.groupScore = op.getGroupScore();
  kernel.severalRouters = routers > 1;
  SmallVector<Operand> operands{read(op.getLogits())};
  if (op.getBias()) {
    FailureOr<Attribute> bias = context.weights.getTensor(op, op.getBias());
    if (failed(bias)) {
      return failure();
    }
    kernel.bias = elementOf(op.getBias());
    operands.push_back({*bias});
  }
  operands.append({write(tensorBuffer(op.getExperts())), write(tensorBuffer(op.getWeights())), constant(experts),
                   constant(static_cast<int64_t>(op.getK()) / routers),
                   constant(static_cast<float>(op.getEpsilon().convertToDouble())),
                   constant(static_cast<float>(op.getScale().convertToDouble())),
                   constant(static_cast<int64_t>(op.getGroups())), constant(static_cast<int64_t>(op.getKeepGroups()))});
  if (routers > 1) {
    operands.push_back(constant(routers));
  }
  return launch(op, "", kernel, gridPerRow(rowsOf(op.getExperts()), 1, routers), operands);
}

FailureOr<StepLowering::Sorted> StepLowering::sortByExpert(ExpertsOp op) {
  Value ids = op.getExperts();
  auto [entry, isNew] = sorted.insert({ids, {}});
  if (!isNew) {
    return entry->second;
  }
  const int64_t e = dim(op.getUp(), 0), k = dim(ids, 1);
  const Rows rows = rowsOf(ids);
  // Tiles: one of each expert may be half empty, of four numbers each behind as many.
  const int64_t tileRows = expertTileRows();
  auto listSize = tileRows ? perRow(rows, llvm::divideCeil(k, tileRows) * 16, (e + 1) * 16) : fixedExtent((e + 1) * 4);
  Sorted result{newBuffer(listSize), newBuffer(fixedExtent((e + 1) * 4)), newBuffer(perRow(rows, k * 4))};
  // Choices are counted by expert; of those that became slots of a rank, the slots are counted beside the experts.
  auto local = localized.find(ids);
  const int layer = local == localized.end() ? expertLayers++ : local->second;
  int counts = counterBuffer((local == localized.end() ? "expert_counts." : "slot_counts.") + std::to_string(layer), e);
  if (failed(launch(op, "sort", kernels::SortByExpert{tileRows}, sched::GridAttr::get(fixedExtent(1)),
                    {read(ids), rowCount(rows), constant(e), constant(k * rowFactor(rows)), write(result.list),
                     write(result.offsets), write(result.slots), update(counts)}))) {
    return failure();
  }
  if (context.recordRouting && isStep && failed(recordRouting(op, layer))) {
    return failure();
  }
  sorted[ids] = result;
  return result;
}

LogicalResult StepLowering::recordRouting(ExpertsOp op, int layer) {
  auto route = op.getExperts().getDefiningOp<RouteOp>();
  if (!route) {
    return success(); // ids from elsewhere have no logits
  }
  const int64_t e = dim(route.getLogits(), 1), k = dim(route.getExperts(), 1);
  auto state = [&](StringRef name, int64_t bytes) {
    std::string symbol = (name + "." + Twine(layer)).str();
    context.counters[symbol] = bytes;
    return update(newBuffer(fixedExtent(bytes), symbol));
  };
  return launch(op, "statistics", kernels::RoutingStatistics{route.getScore() == Score::Sigmoid},
                sched::GridAttr::get(fixedExtent(1)),
                {read(route.getLogits()), read(route.getExperts()), rowCount(rowsOf(route.getExperts())), constant(e),
                 constant(k), constant(static_cast<int64_t>(route.getRouters())), state("expert_first", e * 8),
                 state("expert_probabilities", e * 8), state("expert_pairs", e * e * 8)});
}

LogicalResult StepLowering::lowerExperts(ExpertsOp op) {
  const int64_t e = dim(op.getUp(), 0), width = dim(op.getUp(), 1), h = dim(op.getDown(), 1);
  const int64_t k = dim(op.getExperts(), 1);
  const Rows rows = rowsOf(op.getX());
  if (std::string reason = context.kernels.whyNot(kernels::SortByExpert(), e); !reason.empty()) {
    return op.emitOpError("has weights of E = ") << e << " experts, " << reason;
  }
  FailureOr<Sorted> order = sortByExpert(op);
  if (failed(order)) {
    return failure();
  }
  auto begin = [&](Operand input, int64_t inner) {
    return SmallVector<Operand>{
        input, constant(inner), read(order->list), read(order->offsets), read(order->slots), constant(k)};
  };
  auto table = [&](Value weight) { return context.weights.getTable(op, weight); };
  // At most K*T experts have work, and never more than E. Tiles are as many as there are full ones and one of each
  // expert; a workgroup takes several if there are fewer workgroups.
  const int64_t tileRows = expertTileRows();
  auto gridOf = [&](const kernels::Matmul &kernel, int64_t n) {
    const int64_t tiles = tilesOf(kernel, n);
    return tileRows
               ? sched::GridAttr::get(perRow(rows, k * tiles, kernels::SortByExpert::tiledRows(0, e, tileRows) * tiles),
                                      tileRows, context.kernels.mostWorkgroups(kernel))
               : sched::GridAttr::get(perRow(rows, k), 1, e, tiles);
  };

  int hidden = newBuffer(perRow(rows, k * width * byteWidth(elementOf(op.getX()))));
  SmallVector<Operand> operands = begin(read(op.getX()), dim(op.getX(), 1));
  FailureOr<kernels::Matmul> up = appendUp(operands, op, table, width, hidden);
  if (failed(up)) {
    return failure();
  }
  up->experts = up->tokenRows = true;
  if (failed(launch(op, "up", *up, gridOf(*up, width), operands))) {
    return failure();
  }

  int result = tensorBuffer(op.getResult());
  if (!op.getExperts().getDefiningOp<RouteOp>() && !dispatched.contains(op.getExperts())) {
    // Ids from elsewhere may hold -1: those rows are zero and no expert writes them. (Of a dispatch nobody reads them.)
    commands.push_back({"", {}, {write(result)}, "experts.zero"});
  }
  operands = begin(read(hidden), width);
  FailureOr<kernels::Matmul> down = appendDown(operands, op, table, h, result);
  if (failed(down)) {
    return failure();
  }
  down->experts = true;
  if (failed(launch(op, "down", *down, gridOf(*down, h), operands))) {
    return failure();
  }
  commands.back().endsExperts = true;
  return success();
}

LogicalResult StepLowering::lowerCombine(CombineOp op) {
  Fused fused = fuseResidual(op.getResult());
  kernels::Combine kernel{elementOf(op.getY()), elementOf(op.getResult()), static_cast<bool>(fused.residual)};
  SmallVector<Operand> operands{read(op.getY()), read(op.getWeights()), write(tensorBuffer(fused.result)),
                                constant(dim(op.getY(), 2)), constant(dim(op.getY(), 1))};
  if (fused.residual) {
    operands.push_back(read(fused.residual));
  }
  return launch(op, "", kernel, gridPerRow(rowsOf(op.getResult())), operands);
}

//===----------------------------------------------------------------------===//
// Several ranks
//===----------------------------------------------------------------------===//

LogicalResult StepLowering::lowerMaskPadding(MaskPaddingOp op) {
  return launch(op, "padding", kernels::MaskPadding{}, gridPerRow(rowsOf(op.getExperts())),
                {read(op.getExperts()), read(op.getSeq()), write(tensorBuffer(op.getResult())),
                 constant(dim(op.getExperts(), 1)), size(sched::Dim::B)});
}

SmallVector<StepLowering::Operand> StepLowering::placementOperands(PlacementAttr placement, int layer) {
  ArrayRef<int64_t> experts = placement.getSlots().asArrayRef();
  const int64_t e = placement.getNumExperts(), s = placement.getNumSlots();
  // Replicas by expert, each as slot and share, and where those of an expert begin.
  SmallVector<int32_t> begins{0}, slots, shares, totals;
  for (int64_t expert = 0; expert < e; ++expert) {
    int32_t total = 0;
    for (int64_t slot = 0; slot < s; ++slot) {
      if (experts[slot] == expert) {
        slots.push_back(static_cast<int32_t>(slot));
        shares.push_back(placement.getShares() ? static_cast<int32_t>(placement.getShares().asArrayRef()[slot]) : 1);
        total += shares.back();
      }
    }
    begins.push_back(static_cast<int32_t>(slots.size()));
    totals.push_back(total);
  }
  int taken = newBuffer(fixedExtent((e + s) * 8)), counts = counterBuffer("expert_counts." + std::to_string(layer), e);
  return {read(constantBuffer<int32_t>(begins)),
          read(constantBuffer<int32_t>(slots)),
          read(constantBuffer<int32_t>(shares)),
          read(constantBuffer<int32_t>(totals)),
          write(taken),
          update(counts),
          constant(e),
          constant(s),
          constant(placement.getSlotsPerRank()),
          size(sched::Dim::Rank)};
}

LogicalResult StepLowering::lowerLocalize(LocalizeOp op) {
  const Rows rows = rowsOf(op.getExperts());
  const int layer = expertLayers++;
  localized[op.getResult()] = layer;
  // Where ranks have tokens of their own, moe-run adds up their counts; else it takes those of rank 0.
  const bool countOwn = op->getParentOfType<ModuleOp>()->hasAttr(kDistributedAttr);
  SmallVector<Operand> operands{read(op.getExperts()), rowCount(rows),
                                constant(dim(op.getExperts(), 1) * rowFactor(rows)),
                                write(tensorBuffer(op.getResult()))};
  operands.append(placementOperands(op.getPlacement(), layer));
  return launch(op, "replicas", kernels::Localize{countOwn}, sched::GridAttr::get(fixedExtent(1)), operands);
}

void StepLowering::exchangeRows(Operation *op, StringRef part, int to, int from, int counts, int64_t bytes) {
  // The other ranks' counts are known from their choices; that they come along is the transport's check.
  int received = newBuffer(fixedExtent(4 * ranks));
  commands.push_back({"",
                      {},
                      {write(to), read(from), write(received), read(counts)},
                      labelOf(op, part),
                      sched::CollectiveKind::Exchange,
                      {},
                      bytes});
}

LogicalResult StepLowering::lowerDispatch(DispatchOp op) {
  PlacementAttr placement = op.getPlacement();
  const int64_t k = dim(op.getExperts(), 1), rowBytes = dim(op.getX(), 1) * byteWidth(elementOf(op.getX()));
  // A token goes to a rank once, and to at most K of them; on one rank it has at most as many choices as there are
  // slots.
  const int64_t sendRoom = std::min(k, ranks), backRoom = std::min(k, placement.getSlotsPerRank()) * ranks;
  const int layer = expertLayers++;
  localized[op.getSlots()] = layer;
  int sendRows = newBuffer(perRow(Rows::Tokens, sendRoom * 4)), sendCounts = newBuffer(fixedExtent(4 * ranks));
  Dispatched &back = dispatched[op.getSlots()];
  back = {newBuffer(perRow(Rows::Tokens, backRoom * 4)), newBuffer(fixedExtent(4 * ranks)),
          newBuffer(perRow(Rows::Tokens, k * 4)), backRoom};
  SmallVector<Operand> operands{read(op.getExperts()),
                                rowCount(Rows::Tokens),
                                constant(k),
                                constant(ranks),
                                write(sendRows),
                                write(sendCounts),
                                write(tensorBuffer(op.getSlots())),
                                write(back.backRows),
                                write(back.backCounts),
                                write(back.places),
                                constant(sendRoom),
                                constant(backRoom)};
  operands.append(placementOperands(placement, layer));
  int sent = newBuffer(perRow(Rows::Tokens, sendRoom * rowBytes));
  if (failed(launch(op, "replicas", kernels::Dispatch{}, sched::GridAttr::get(fixedExtent(1)), operands)) ||
      failed(launch(op, "pack", kernels::CopyListedRows{}, gridPerRow(Rows::Tokens, 1, sendRoom),
                    {read(op.getX()), read(sendRows), write(sent), constant(rowBytes)}))) {
    return failure();
  }
  exchangeRows(op, "exchange", tensorBuffer(op.getRows()), sent, sendCounts, rowBytes);
  return success();
}

LogicalResult StepLowering::lowerCollect(CollectOp op) {
  const Dispatched &back = dispatched.at(op.getSlots());
  const int64_t k = dim(op.getY(), 1), rowBytes = dim(op.getY(), 2) * byteWidth(elementOf(op.getY()));
  int sent = newBuffer(perRow(Rows::Tokens, back.backRoom * rowBytes));
  if (failed(launch(op, "pack", kernels::CopyListedRows{}, gridPerRow(Rows::Tokens, 1, back.backRoom),
                    {read(op.getY()), read(back.backRows), write(sent), constant(rowBytes)}))) {
    return failure();
  }
  int came = newBuffer(perRow(Rows::Tokens, k * rowBytes));
  exchangeRows(op, "exchange", came, sent, back.backCounts, rowBytes);
  return launch(op, "unpack", kernels::CopyListedRows{/*zeroMissing=*/true}, gridPerRow(Rows::Tokens, 1, k),
                {read(came), read(back.places), write(tensorBuffer(op.getResult())), constant(rowBytes)});
}

LogicalResult StepLowering::lowerExchange(Operation *op, StringRef part, sched::CollectiveKind kind) {
  Value x = op->getOperand(0), result = op->getResult(0);
  int from = bufferOf(x);
  const bool isSum = kind != sched::CollectiveKind::AllGather;
  commands.push_back(
      {"", {}, {write(tensorBuffer(result)), read(from)}, labelOf(op, part), kind, isSum ? elementOf(result) : Type()});
  return success();
}
