//===- FusionLegality.cpp - Whether sub-layers may become one, and why not ---===//

#include "passes/Analysis/FusionLegality.h"
#include "llvm/Support/Format.h"

using namespace mlir;
using namespace mlir::moe;

SmallVector<SubLayer> moe::attentionsOf(ArrayRef<LayerBlock> window) {
  SmallVector<SubLayer> result;
  for (const LayerBlock &block : window) {
    if (block.attention) {
      result.push_back(*block.attention);
    }
  }
  return result;
}

SmallVector<SubLayer> moe::networksOf(ArrayRef<LayerBlock> window) {
  SmallVector<SubLayer> result;
  for (const LayerBlock &block : window) {
    if (block.network) {
      result.push_back(*block.network);
    }
  }
  return result;
}

bool moe::isSameWeight(Value a, Value b) {
  if (a == b) {
    return true;
  }
  auto left = a.getDefiningOp<GetWeightOp>(), right = b.getDefiningOp<GetWeightOp>();
  return left && right && left.getWeightAttr() == right.getWeightAttr();
}

namespace {

/// Compares one sub-layer with the first, fact by fact, and keeps the first difference.
class Comparison {
public:
  Comparison(const SubLayer &first, const SubLayer &other) : first(first), other(other) {}

  /// `what` must be equal: "the activations".
  template <typename T> void equal(StringRef what, const T &a, const T &b) {
    if (!obstacle && a != b) {
      obstacle =
          Obstacle{other.getLoc(), what.str() + " of layers " + std::to_string(first.layer) + " and " +
                                       std::to_string(other.layer) + " differ: " + spell(a) + " and " + spell(b)};
    }
  }
  /// Both have a weight of that role, with one element type, or neither has.
  void weights(StringRef what, Value a, Value b) {
    auto element = [](Value value) {
      return value ? spell(getElementTypeOrSelf(value.getType())) : std::string("none");
    };
    equal(what, element(a), element(b));
  }

  std::optional<Obstacle> obstacle;

private:
  static std::string spell(const std::string &text) { return text; }
  static std::string spell(StringRef text) { return text.str(); }
  static std::string spell(int64_t number) { return std::to_string(number); }
  static std::string spell(FloatAttr number) {
    std::string text;
    llvm::raw_string_ostream(text) << llvm::format("%g", number.getValueAsDouble());
    return text;
  }
  template <typename T> static std::string spell(const T &value) {
    std::string text;
    llvm::raw_string_ostream(text) << value;
    return text;
  }

  const SubLayer &first, &other;
};

} // namespace

static void compareNorms(Comparison &compare, RMSNormOp a, RMSNormOp b) {
  compare.equal("the eps of the norms", a.getEpsAttr(), b.getEpsAttr());
  compare.equal("the rounding of the norms", stringifyScaleRounding(a.getRounding()),
                stringifyScaleRounding(b.getRounding()));
  compare.equal("the types of the norms", a.getType(), b.getType());
}

static Obstacle obstacleAt(const SubLayer &layer, StringRef kind, const Twine &reason) {
  return {layer.getLoc(), ("the " + kind + " of layer " + Twine(layer.layer) + ": " + reason).str()};
}

/// What moe.ffn and moe.experts have alike.
template <typename Op> static void compareNetworks(Comparison &compare, Op a, Op b) {
  compare.equal("the activations", stringifyActivation(a.getActivation()), stringifyActivation(b.getActivation()));
  if (a.getActivation() == Activation::OssSwiglu) {
    compare.equal("alpha", a.getAlphaAttr(), b.getAlphaAttr());
    compare.equal("the limits", a.getLimitAttr(), b.getLimitAttr());
  }
  compare.weights("the gates", a.getGate(), b.getGate());
  compare.weights("the up weights", a.getUp(), b.getUp());
  compare.weights("the down weights", a.getDown(), b.getDown());
  compare.weights("the gate biases", a.getGateBias(), b.getGateBias());
  compare.weights("the up biases", a.getUpBias(), b.getUpBias());
  compare.weights("the down biases", a.getDownBias(), b.getDownBias());
  compare.equal("the element types of the FFNs", getElementTypeOrSelf(a.getType()), getElementTypeOrSelf(b.getType()));
}

/// One op routes for all layers, each choosing of its own experts as before; so all that it says must be alike.
static void compareExperts(Comparison &compare, const SubLayer &first, const SubLayer &other) {
  auto width = [](Value value, unsigned dim) { return cast<RankedTensorType>(value.getType()).getDimSize(dim); };
  ExpertsOp x = first.experts, y = other.experts;
  RouteOp a = first.route, b = other.route;
  auto number = [](uint64_t value) { return static_cast<int64_t>(value); };
  auto ofRouter = [&](RouteOp route, int64_t count) { return count / number(route.getRouters()); };
  compareNetworks(compare, x, y);
  compare.equal("the widths of the experts", width(x.getUp(), 1), width(y.getUp(), 1));
  compare.equal("the numbers of experts", ofRouter(a, width(a.getLogits(), 1)), ofRouter(b, width(b.getLogits(), 1)));
  compare.equal("the experts per token", ofRouter(a, number(a.getK())), ofRouter(b, number(b.getK())));
  compare.equal("the scores of the routers", stringifyScore(a.getScore()), stringifyScore(b.getScore()));
  compare.equal("the renormalizations of the routers", stringifyRenormalize(a.getRenormalize()),
                stringifyRenormalize(b.getRenormalize()));
  compare.equal("the epsilons of the routers", a.getEpsilonAttr(), b.getEpsilonAttr());
  compare.equal("the scaling factors of the routers", a.getScaleAttr(), b.getScaleAttr());
  compare.equal("the groups of experts", number(a.getGroups()), number(b.getGroups()));
  compare.equal("the kept groups of experts", number(a.getKeepGroups()), number(b.getKeepGroups()));
  compare.equal("the scores of groups", stringifyGroupScore(a.getGroupScore()), stringifyGroupScore(b.getGroupScore()));
  compare.weights("the correction biases", a.getBias(), b.getBias());
  compare.weights("the router weights", Value(LinearOp(first.router).getWeight()), LinearOp(other.router).getWeight());
  compare.weights("the router biases", LinearOp(first.router).getBias(), LinearOp(other.router).getBias());
  compare.equal("the element types of the logits", getElementTypeOrSelf(a.getLogits().getType()),
                getElementTypeOrSelf(b.getLogits().getType()));
  compare.equal("the types of the experts' sums", CombineOp(first.combine).getType(),
                CombineOp(other.combine).getType());
  compare.equal("the shared FFNs", StringRef(first.ffn ? "there" : "not there"),
                StringRef(other.ffn ? "there" : "not there"));
  if (first.ffn && other.ffn) {
    compareNetworks(compare, FFNOp(first.ffn), FFNOp(other.ffn));
    compare.equal("the types of the shared FFNs", FFNOp(first.ffn).getType(), FFNOp(other.ffn).getType());
  }
}

std::optional<Obstacle> moe::findFFNObstacle(ArrayRef<SubLayer> layers) {
  const SubLayer &first = layers.front();
  for (const SubLayer &layer : layers) {
    if (layer.kind != BranchKind::FFN && layer.kind != BranchKind::Experts) {
      return obstacleAt(layer, "FFN", layer.problem.empty() ? "it is an attention" : layer.problem);
    }
    if (layer.kind != first.kind) {
      const bool routes = layer.kind == BranchKind::Experts;
      return obstacleAt(layer, "FFN",
                        "it " + Twine(routes ? "routes to experts" : "is dense") + ", and that of layer " +
                            Twine(first.layer) + " " + (routes ? "is dense" : "routes to experts"));
    }
    Comparison compare(first, layer);
    compareNorms(compare, first.norm, layer.norm);
    if (layer.kind == BranchKind::Experts) {
      compareExperts(compare, first, layer);
      if (!compare.obstacle && layers.size() > 1 && ExpertsOp(layer.experts).getPlacementAttr()) {
        return obstacleAt(layer, "FFN", "its experts have places on ranks already; place them after the fusion");
      }
    } else {
      compareNetworks(compare, FFNOp(first.ffn), FFNOp(layer.ffn));
      compare.equal("the types of the FFNs", FFNOp(first.ffn).getType(), FFNOp(layer.ffn).getType());
    }
    if (compare.obstacle) {
      return compare.obstacle;
    }
  }
  return std::nullopt;
}

/// The norm of each head has one weight for all heads, which a fused attention has too.
static void compareHeadNorms(Comparison &compare, StringRef what, RMSNormOp a, RMSNormOp b) {
  compare.equal(what, StringRef(a ? "there" : "not there"), StringRef(b ? "there" : "not there"));
  if (!a || !b) {
    return;
  }
  auto weight = [](RMSNormOp norm) -> std::string {
    auto get = norm.getWeight().getDefiningOp<GetWeightOp>();
    return get ? "@" + get.getWeight().str() : "a computed weight";
  };
  if (!isSameWeight(a.getWeight(), b.getWeight())) {
    compare.equal("the scales of " + what.str(), weight(a),
                  weight(b) + " (they do not fold: one weight serves all heads)");
  }
  compareNorms(compare, a, b);
}

std::optional<Obstacle> moe::findAttentionObstacle(ArrayRef<SubLayer> layers) {
  auto width = [](Value value) { return cast<RankedTensorType>(value.getType()).getDimSize(1); };
  for (const SubLayer &layer : layers) {
    if (layer.kind != BranchKind::Attention) {
      return obstacleAt(layer, "attention", layer.problem);
    }
    const SubLayer &front = layers.front();
    AttentionOp a = front.attention, b = layer.attention;
    Comparison compare(front, layer);
    auto heads = [](AttentionOp op) { return static_cast<int64_t>(op.getHeads()); };
    auto kvHeads = [](AttentionOp op) { return static_cast<int64_t>(op.getKvHeads()); };
    compareNorms(compare, front.norm, layer.norm);
    compare.equal("the queries per key head", heads(a) / kvHeads(a), heads(b) / kvHeads(b));
    compare.equal("the key dims", width(a.getK()) / kvHeads(a), width(b.getK()) / kvHeads(b));
    compare.equal("the value dims", width(a.getV()) / kvHeads(a), width(b.getV()) / kvHeads(b));
    compare.equal("the scales", a.getScaleAttr(), b.getScaleAttr());
    compare.equal("the windows", static_cast<int64_t>(a.getWindow().value_or(0)),
                  static_cast<int64_t>(b.getWindow().value_or(0)));
    compare.weights("the sinks", a.getSinks(), b.getSinks());
    auto rope = [](RopeOp op) -> Attribute { return op ? Attribute(op.getRope()) : Attribute(); };
    compare.equal("the rotations of q", rope(front.qRope), rope(layer.qRope));
    compare.equal("the rotations of k", rope(front.kRope), rope(layer.kRope));
    compareHeadNorms(compare, "the q norms", front.qNorm, layer.qNorm);
    compareHeadNorms(compare, "the k norms", front.kNorm, layer.kNorm);
    for (auto [name, left, right] : {std::tuple("q", front.q, layer.q), std::tuple("k", front.k, layer.k),
                                     std::tuple("v", front.v, layer.v), std::tuple("o", front.o, layer.o)}) {
      compare.weights(("the " + Twine(name) + " weights").str(), left.getWeight(), right.getWeight());
      compare.weights(("the " + Twine(name) + " biases").str(), left.getBias(), right.getBias());
      compare.equal(("the element types of " + Twine(name)).str(), getElementTypeOrSelf(left.getType()),
                    getElementTypeOrSelf(right.getType()));
    }
    auto positions = [](RopeOp rope) { return rope ? Value(rope.getPos()) : Value(); };
    const bool sameTokens = a.getSeq() == b.getSeq() && a.getPos() == b.getPos() && a.getRuns() == b.getRuns() &&
                            positions(layer.qRope) == positions(front.qRope) &&
                            positions(layer.kRope) == positions(front.kRope);
    if (!compare.obstacle && !sameTokens) {
      return obstacleAt(layer, "attention",
                        "it has other sequences or positions than that of layer " + Twine(front.layer));
    }
    if (compare.obstacle) {
      return compare.obstacle;
    }
  }
  return std::nullopt;
}

/// Another function that works on the state of `attention`: a piece of the model that is run by itself. Null: none.
static func::FuncOp findSharer(AttentionOp attention) {
  auto own = attention->getParentOfType<func::FuncOp>();
  auto uses = SymbolTable::getSymbolUses(attention.getCacheAttr().getAttr(), own->getParentOp());
  for (SymbolTable::SymbolUse use : uses.value_or(SymbolTable::UseRange({}))) {
    auto other = use.getUser()->getParentOfType<func::FuncOp>();
    if (other && other != own) {
      return other;
    }
  }
  return {};
}

std::optional<Obstacle> moe::findRewiringObstacle(ArrayRef<LayerBlock> window) {
  llvm::DenseSet<Operation *> inside;
  SmallVector<std::pair<const SubLayer *, StringRef>> layers;
  for (const LayerBlock &block : window) {
    if (block.attention) {
      layers.push_back({&*block.attention, "attention"});
    }
    if (block.network) {
      layers.push_back({&*block.network, "FFN"});
    }
  }
  for (auto [layer, kind] : layers) {
    if (layer->kind == BranchKind::Unknown) {
      return obstacleAt(*layer, kind, layer->problem);
    }
    if (layer->input != layer->base) {
      return obstacleAt(*layer, kind,
                        "it does not read the value that it is added to (blocks run in parallel already)");
    }
    if (func::FuncOp sharer = layer->attention ? findSharer(layer->attention) : func::FuncOp()) {
      return obstacleAt(*layer, kind, "its state is shared with @" + sharer.getSymName() + ", which is not fused");
    }
    SmallVector<Operation *> ops = layer->getOps();
    inside.insert(ops.begin(), ops.end());
  }
  Operation *end = window.back().back().add;
  for (auto [layer, kind] : layers) {
    for (Operation *op : layer->getOps()) {
      for (Operation *user : op == end ? SmallVector<Operation *>() : llvm::to_vector(op->getUsers())) {
        if (!inside.contains(user)) {
          return obstacleAt(*layer, kind,
                            "its '" + op->getName().getStringRef() + "' is also read by '" +
                                user->getName().getStringRef() + "' outside of the window (a tap)");
        }
      }
    }
  }
  return std::nullopt;
}

std::optional<Obstacle> moe::findObstacle(ArrayRef<LayerBlock> window, FusionForm form) {
  if (std::optional<Obstacle> obstacle = findRewiringObstacle(window)) {
    return obstacle;
  }
  if (form == FusionForm::Pair) {
    if (std::optional<Obstacle> obstacle = findAttentionObstacle(attentionsOf(window))) {
      return obstacle;
    }
  }
  SmallVector<SubLayer> networks = networksOf(window);
  if (networks.empty()) {
    return Obstacle{window.front().front().getLoc(), "no layer of the window has an FFN"};
  }
  return findFFNObstacle(networks);
}

std::optional<Obstacle> moe::findFoldObstacle(RMSNormOp norm, SmallVectorImpl<Operation *> &readers) {
  SmallVector<Operation *> found;
  for (OpOperand &use : norm.getResult().getUses()) {
    Operation *user = use.getOwner();
    if (use.getOperandNumber() != 0 || !isa<LinearOp, FFNOp, ExpertsOp>(user)) {
      return Obstacle{user->getLoc(), "the norm is read by '" + user->getName().getStringRef().str() +
                                          "', which has no weight that its scale could go into"};
    }
    found.push_back(user);
  }
  readers.append(found);
  return std::nullopt;
}
