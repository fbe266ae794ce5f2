//===- TensorParallel.cpp - Heads and widths on ranks with the same tokens --===//
//
// Every rank computes an R-th part of each branch for all tokens; one all_reduce
// adds the parts up before the residual add:
//
//   n ── q,k,v: rows of the rank's heads ── attention ── o: columns ── all_reduce ──(+)
//   n ── gate,up: rows of the rank's width ── act ─────── down: columns ── all_reduce ──(+)
//
// Where a weight is itself computed from others (a fused FFN), the part is taken
// as far inside as the order of rows and columns allows: a rank then computes
// its own part and no more.
//
// A bias behind the sum must count once: it goes to rank 0, zeros to the others.
//
//===----------------------------------------------------------------------===//

#include "passes/Passes.h"
#include "passes/Transforms/RankRewrites.h"

namespace mlir::moe {
#define GEN_PASS_DEF_TENSORPARALLEL
#include "passes/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

/// The lengths of the parts that a weight is joined from along `dim`.
static SmallVector<int64_t> segmentsOf(Value weight, int64_t dim) {
  if (auto concat = weight.getDefiningOp<ConcatOp>(); concat && static_cast<int64_t>(concat.getDim()) == dim) {
    return llvm::map_to_vector(concat.getInputs(), [&](Value input) { return typeOf(input).getDimSize(dim); });
  }
  return {typeOf(weight).getDimSize(dim)};
}

/// Whether weights that must be cut alike are joined alike, from parts of which each can be cut into `parts`.
static bool canCutSegments(ArrayRef<std::pair<Value, int64_t>> weights, int64_t parts) {
  SmallVector<int64_t> first = segmentsOf(weights.front().first, weights.front().second);
  return llvm::all_of(first, [&](int64_t length) { return length % parts == 0; }) &&
         llvm::all_of(weights, [&](auto entry) { return segmentsOf(entry.first, entry.second) == first; });
}

namespace {

/// Cuts weights among ranks.
struct Cutter {
  OpBuilder &b;
  int64_t ranks, copies = 1;
  /// Whether each part that a weight is joined from along the dim is cut, rather than the whole.
  bool segments = false;

  /// The rank's part of `weight` along `dim`; null for null.
  Value cut(Value weight, int64_t dim) const;
  /// `bias`, which is added after the sum over ranks, for rank 0 and zeros for the others.
  Value once(Value bias) const;
};

} // namespace

Value Cutter::cut(Value weight, int64_t dim) const {
  if (!weight) {
    return {};
  }
  Operation *op = weight.getDefiningOp();
  auto resultType = [&] {
    SmallVector<int64_t> shape(typeOf(weight).getShape());
    shape[dim] /= ranks / copies;
    return typeOf(weight).clone(shape);
  };
  if (auto concat = dyn_cast_or_null<ConcatOp>(op)) {
    if (segments || static_cast<int64_t>(concat.getDim()) != dim) {
      auto inputs = llvm::map_to_vector(concat.getInputs(), [&](Value input) { return cut(input, dim); });
      return ConcatOp::create(b, op->getLoc(), resultType(), inputs, concat.getDimAttr());
    }
  } else if (auto scale = dyn_cast_or_null<ScaleOp>(op)) {
    const bool along = static_cast<int64_t>(scale.getDim()) == dim;
    Value by = along ? cut(scale.getBy(), 0) : Value(scale.getBy());
    Value over = along ? cut(scale.getOver(), 0) : Value(scale.getOver());
    return ScaleOp::create(b, op->getLoc(), resultType(), cut(scale.getWeight(), dim), by, over, scale.getDimAttr());
  } else if (auto product = dyn_cast_or_null<ProductOp>(op)) {
    Value lhs = product.getLhs(), rhs = product.getRhs();
    return ProductOp::create(b, op->getLoc(), resultType(), dim == 0 ? cut(lhs, 0) : lhs, dim == 1 ? cut(rhs, 1) : rhs);
  } else if (auto sum = dyn_cast_or_null<SumOp>(op)) {
    auto inputs = llvm::map_to_vector(sum.getInputs(), [&](Value input) { return cut(input, dim); });
    return SumOp::create(b, op->getLoc(), resultType(), inputs);
  }
  return ShardOp::create(b, weight.getLoc(), weight, dim, ranks, copies);
}

Value Cutter::once(Value bias) const {
  if (!bias) {
    return {};
  }
  const int64_t length = typeOf(bias).getDimSize(0);
  Value padded = PadOp::create(b, bias.getLoc(), typeOf(bias).clone({length * ranks}), bias, /*dim=*/0);
  return ShardOp::create(b, bias.getLoc(), padded, 0, ranks);
}

namespace {

struct TensorParallelPass : moe::impl::TensorParallelBase<TensorParallelPass> {
  using TensorParallelBase::TensorParallelBase;

  void runOnOperation() override {
    if (failed(divide())) {
      signalPassFailure();
    }
  }

  LogicalResult divide() {
    bytesPerToken = 0; // A pass may run on several modules.
    ModuleOp module = getOperation();
    func::FuncOp step = getStepForRanks(module, ranks, "moe-tensor-parallel");
    if (!step) {
      return failure();
    }
    if (!llvm::is_contained({"split", "whole", "auto"}, attention)) {
      return module.emitError() << "attention of moe-tensor-parallel is '" << attention
                                << "', but must be split, whole or auto";
    }
    if (ranks == 1) {
      return success();
    }
    FailureOr<SmallVector<RoutedExperts>> layers = findRoutedExperts(step);
    if (failed(layers)) {
      return failure();
    }
    auto attentions = llvm::to_vector(step.getBody().getOps<AttentionOp>());
    auto networks = llvm::to_vector(step.getBody().getOps<FFNOp>());
    const size_t total = attentions.size();
    if (attention != "split") {
      llvm::erase_if(attentions, [&](AttentionOp op) { return attention == "whole" || !hasDivisibleHeads(op); });
    }
    if (!llvm::all_of(attentions, [&](AttentionOp op) { return succeeded(divideAttention(op)); })) {
      return failure();
    }
    if (!llvm::all_of(networks, [&](FFNOp op) { return succeeded(divideFFN(op)); }) ||
        !llvm::all_of(*layers, [&](RoutedExperts layer) { return succeeded(divideExperts(layer)); })) {
      return failure();
    }
    eraseUnused(step);
    module->setAttr(kRanksAttr, OpBuilder(module).getI64IntegerAttr(ranks));
    const size_t reduces = attentions.size() + networks.size() + layers->size();
    if (attention == "auto" && attentions.size() < total) {
      step.emitRemark() << total - attentions.size() << " of " << total << " attentions have heads that "
                        << ranks.getValue() << " ranks do not divide: every rank computes them whole";
    }
    step.emitRemark() << attentions.size() << " attentions, " << networks.size() << " FFNs and " << layers->size()
                      << " layers of experts on " << ranks.getValue() << " ranks: " << reduces
                      << " all-reduces per step, " << bytesPerToken << " bytes per token";
    return success();
  }

  /// `result` of every rank is a part of the sum that stood there.
  void reduce(OpBuilder &b, Value was, Value part) {
    Value sum = AllReduceOp::create(b, part.getLoc(), part, ranks);
    was.replaceAllUsesWith(sum);
    ++numExchanges;
    bytesPerToken += typeOf(sum).getDimSize(1) * typeOf(sum).getElementTypeBitWidth() / 8;
  }

  /// The rank's heads of a value that a linear makes, through rotations and norms of heads.
  FailureOr<Value> divideHeads(const Cutter &cutter, Value value, int64_t heads) {
    OpBuilder &b = cutter.b;
    const int64_t parts = ranks / cutter.copies, own = heads / parts;
    Operation *op = value.getDefiningOp();
    auto type = [&] { return typeOf(value).clone({ShapedType::kDynamic, typeOf(value).getDimSize(1) / parts}); };
    if (auto rope = dyn_cast_or_null<RopeOp>(op)) {
      FailureOr<Value> x = divideHeads(cutter, rope.getX(), heads);
      if (failed(x)) {
        return failure();
      }
      Operation *copy = b.clone(*op);
      copy->setOperand(0, *x);
      copy->getResult(0).setType(type());
      cast<RopeOp>(copy).setHeads(own);
      return copy->getResult(0);
    }
    if (auto norm = dyn_cast_or_null<RMSNormOp>(op); norm && static_cast<int64_t>(norm.getGroups()) == heads) {
      FailureOr<Value> x = divideHeads(cutter, norm.getX(), heads);
      if (failed(x)) {
        return failure();
      }
      Operation *copy = b.clone(*op);
      copy->setOperand(0, *x);
      copy->getResult(0).setType(type());
      cast<RMSNormOp>(copy).setGroups(own);
      return copy->getResult(0);
    }
    if (auto linear = dyn_cast_or_null<LinearOp>(op)) {
      return Value(LinearOp::create(b, op->getLoc(), type(), linear.getX(), cutter.cut(linear.getWeight(), 0),
                                    cutter.cut(linear.getBias(), 0)));
    }
    return emitError(value.getLoc())
           << "heads of an attention come from "
           << (op ? "'" + op->getName().getStringRef().str() + "'" : std::string("an argument"))
           << ", which moe-tensor-parallel cannot divide: it follows moe.rope, moe.rms_norm per head and moe.linear; "
           << "attention=whole (moec: --attention whole) leaves attentions as they are";
  }

  /// The linear behind `value`'s projection, or null.
  static LinearOp projectionOf(Value value) {
    Operation *op = value.getDefiningOp();
    while (isa_and_nonnull<RopeOp, RMSNormOp>(op)) {
      op = op->getOperand(0).getDefiningOp();
    }
    return dyn_cast_or_null<LinearOp>(op);
  }

  /// How the heads of an attention are divided: on how many ranks a key/value head lies, and whether each of several
  /// attentions that were joined is divided by itself.
  struct HeadPlan {
    int64_t copies = 1;
    bool segments = false;
  };

  /// Ranks per key/value head; 0 if `heads` of them cannot be divided.
  int64_t copiesOf(int64_t heads) const {
    return heads % ranks == 0 ? 1 : ranks > heads && ranks % heads == 0 ? ranks / heads : 0;
  }

  std::optional<HeadPlan> planHeads(AttentionOp op, LinearOp o) const {
    const int64_t q = op.getHeads(), g = op.getKvHeads();
    LinearOp qLinear = projectionOf(op.getQ()), kLinear = projectionOf(op.getK()), vLinear = projectionOf(op.getV());
    if (qLinear && kLinear && vLinear) {
      const int64_t keyDim = typeOf(op.getK()).getDimSize(1) / g, valueDim = typeOf(op.getV()).getDimSize(1) / g;
      auto headsOf = [](Value weight, int64_t dim, int64_t headDim) {
        return llvm::map_to_vector(segmentsOf(weight, dim),
                                   [&](int64_t length) { return length % headDim == 0 ? length / headDim : 0; });
      };
      // The columns of o follow the heads of v in the order of those of q.
      SmallVector<int64_t> queries = headsOf(qLinear.getWeight(), 0, keyDim),
                           keys = headsOf(kLinear.getWeight(), 0, keyDim);
      const bool alike = queries.size() > 1 && queries.size() == keys.size() &&
                         keys == headsOf(vLinear.getWeight(), 0, valueDim) &&
                         queries == headsOf(o.getWeight(), 1, valueDim);
      const int64_t copies = alike && keys.front() > 0 ? copiesOf(keys.front()) : 0;
      auto fits = [&](auto pair) {
        auto [own, ownKeys] = pair;
        return ownKeys > 0 && own % ranks == 0 && copiesOf(ownKeys) == copies && own * g == ownKeys * q;
      };
      if (copies > 0 && llvm::all_of(llvm::zip_equal(queries, keys), fits)) {
        return HeadPlan{copies, true};
      }
    }
    if (q % ranks != 0 || copiesOf(g) == 0) {
      return std::nullopt;
    }
    return HeadPlan{copiesOf(g), false};
  }

  /// The projection behind an attention, if its result goes there and nowhere else.
  static LinearOp outputOf(AttentionOp op) {
    return op.getResult().hasOneUse() ? dyn_cast<LinearOp>(*op.getResult().user_begin()) : LinearOp();
  }

  bool hasDivisibleHeads(AttentionOp op) const {
    LinearOp o = outputOf(op);
    return o && planHeads(op, o);
  }

  LogicalResult divideAttention(AttentionOp op) {
    const int64_t q = op.getHeads(), g = op.getKvHeads();
    LinearOp o = outputOf(op);
    if (!o) {
      return op.emitOpError("cannot be divided among ranks: its result must go to one moe.linear and nowhere else; "
                            "attention=whole (moec: --attention whole) leaves attentions as they are");
    }
    std::optional<HeadPlan> plan = planHeads(op, o);
    if (!plan) {
      return op.emitOpError("has Q = ")
             << q << " query heads and G = " << g << " key/value heads, which R = " << ranks.getValue()
             << " ranks do not divide: R must divide Q, and divide G or be a multiple of it; "
             << "attention=whole (moec: --attention whole) leaves attentions as they are";
    }
    OpBuilder b(o);
    Cutter queryCutter{b, ranks, 1, plan->segments}, keyCutter{b, ranks, plan->copies, plan->segments};
    FailureOr<Value> query = divideHeads(queryCutter, op.getQ(), q), key = divideHeads(keyCutter, op.getK(), g),
                     value = divideHeads(keyCutter, op.getV(), g);
    if (failed(query) || failed(key) || failed(value)) {
      return failure();
    }
    const int64_t ownQ = q / ranks, ownG = g * plan->copies / ranks;
    auto module = getOperation();
    auto state = module.lookupSymbol<StateOp>(op.getCacheAttr());
    auto cache = cast<KVCacheType>(state.getType());
    state.setType(KVCacheType::get(&getContext(), ownG, cache.getKeyDim(), cache.getValueDim(), cache.getElement()));
    Value sinks = queryCutter.cut(op.getSinks(), 0);
    auto divided = cast<AttentionOp>(b.clone(*op));
    divided.getQMutable().assign(*query);
    divided.getKMutable().assign(*key);
    divided.getVMutable().assign(*value);
    if (sinks) {
      divided.getSinksMutable().assign(sinks);
    }
    divided.setHeads(ownQ);
    divided.setKvHeads(ownG);
    divided.getResult().setType(typeOf(op.getResult()).clone({ShapedType::kDynamic, ownQ * cache.getValueDim()}));
    Value sum = LinearOp::create(b, o.getLoc(), o.getType(), divided.getResult(), queryCutter.cut(o.getWeight(), 1),
                                 queryCutter.once(o.getBias()));
    reduce(b, o.getResult(), sum);
    o.erase();
    op.erase();
    ++numAttentions;
    return success();
  }

  LogicalResult divideFFN(FFNOp op) {
    const int64_t width = typeOf(op.getUp()).getDimSize(0);
    if (width % ranks != 0) {
      return op.emitOpError("has the width I = ") << width << ", which R = " << ranks.getValue()
                                                  << " ranks do not divide: pad it first (pad_width_to of a fusion "
                                                     "plan) or use a number of ranks that divides it";
    }
    OpBuilder b(op);
    SmallVector<std::pair<Value, int64_t>> alike{{op.getUp(), 0}, {op.getDown(), 1}};
    for (Value rows : {op.getGate(), op.getGateBias(), op.getUpBias()}) {
      if (rows) {
        alike.push_back({rows, 0});
      }
    }
    Cutter cutter{b, ranks, 1, canCutSegments(alike, ranks)};
    Value part =
        FFNOp::create(b, op.getLoc(), op.getType(), op.getX(), cutter.cut(op.getGate(), 0), cutter.cut(op.getUp(), 0),
                      cutter.cut(op.getDown(), 1), cutter.cut(op.getGateBias(), 0), cutter.cut(op.getUpBias(), 0),
                      cutter.once(op.getDownBias()), op.getActivationAttr(), op.getAlphaAttr(), op.getLimitAttr());
    reduce(b, op.getResult(), part);
    op.erase();
    ++numFFNs;
    return success();
  }

  LogicalResult divideExperts(RoutedExperts layer) {
    FailureOr<PlacementAttr> placement = getPlacement(layer.experts, ranks);
    if (failed(placement)) {
      return failure();
    }
    OpBuilder b(layer.combine);
    Value part = buildPartialSums(b, layer, *placement, layer.experts.getX(), layer.experts.getExperts(),
                                  layer.combine.getWeights());
    reduce(b, layer.combine.getResult(), part);
    layer.combine.erase();
    layer.experts.erase();
    ++numExperts;
    return success();
  }

  /// Projections of whole heads, whose attentions are gone, and the whole weights behind cut ones.
  static void eraseUnused(func::FuncOp step) {
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(step.getBody().front()))) {
      if (isOpTriviallyDead(&op)) {
        op.erase();
      }
    }
  }

  int64_t bytesPerToken = 0;
};

} // namespace
