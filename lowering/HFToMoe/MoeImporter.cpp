//===- MoeImporter.cpp - From a config and tensor headers to moe IR ---------===//

#include "lowering/HFToMoe/MoeImporter.h"
#include "dialects/Moe/IR/MoeLayers.h"
#include "lowering/HFToMoe/GgufConfig.h"
#include "lowering/HFToMoe/WeightTable.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "passes/Json/JsonFile.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;

namespace {

/// The arguments of `@step` that layers use.
struct StepInputs {
  Value seq, pos, runs;
};

/// The config keys that dims follow from, as a checkpoint's own metadata calls them.
struct DimKeys {
  llvm::StringLiteral hidden, vocab, ffn, query, kv;
};
constexpr DimKeys kUniformKeys = {"hidden_size", "vocab_size", "intermediate_size", "num_attention_heads * head_dim",
                                  "num_key_value_heads * head_dim"};
constexpr DimKeys kBlockKeys = {"hidden_size", "vocab_size", "block_configs' ffn_mult",
                                "num_attention_heads * head_dim", "num_attention_heads / n_heads_in_group * head_dim"};
constexpr DimKeys kPerLayerKeys = {"hidden_size", "vocab_size", "per_layer_config's intermediate_size",
                                   "per_layer_config's num_attention_heads * head_dim",
                                   "per_layer_config's num_key_value_heads * head_dim"};
constexpr DimKeys kGgufKeys = {"embedding_length", "vocab_size", "feed_forward_length",
                               "attention.head_count * attention.key_length",
                               "attention.head_count_kv * attention.key_length"};

/// Builds one module. Weights and states go before the function, in the order of their first use.
class GraphBuilder {
public:
  GraphBuilder(MLIRContext &context, const ModelConfig &config, const TensorHeaders &tensors)
      : config(config), keys(keysOf(config)),
        weights(context, tensors, config.naming == Naming::Gguf ? "the metadata" : "config.json"), b(&context),
        f32(b.getF32Type()) {}

  Expected<ImportedModel> build(const ImportOptions &options);

private:
  // Dims that shapes are made of, with the config keys that give them.
  static const DimKeys &keysOf(const ModelConfig &config) {
    return config.naming == Naming::Gguf      ? kGgufKeys
           : config.family->hasBlockConfigs   ? kBlockKeys
           : config.family->hasPerLayerConfig ? kPerLayerKeys
                                              : kUniformKeys;
  }
  NamedDim hiddenDim() const { return {config.hidden, keys.hidden}; }
  NamedDim vocabDim() const { return {config.vocab, keys.vocab}; }
  // Those of the layer that is being built.
  NamedDim ffnDim() const { return {current.ffn, keys.ffn}; }
  NamedDim queryDim() const { return {current.heads * config.headDim, keys.query}; }
  NamedDim kvDim() const { return {current.kvHeads * config.headDim, keys.kv}; }

  Location at(const Twine &name) { return NameLoc::get(b.getStringAttr(name)); }
  RankedTensorType tokensBy(ArrayRef<int64_t> dims, Type element) {
    SmallVector<int64_t> shape{ShapedType::kDynamic};
    llvm::append_range(shape, dims);
    return RankedTensorType::get(shape, element);
  }

  /// The value of weight `name`, declared on its first use.
  Value weight(const Twine &name, ArrayRef<NamedDim> dims);
  Value stackedWeight(const Twine &pattern, ArrayRef<NamedDim> dims);
  Value declare(StringRef name, RankedTensorType type, bool stacked);
  /// The name of weight `name` in the checkpoint.
  std::string nameInFile(StringRef name) const {
    return config.naming == Naming::Gguf ? getGgufTensorName(name) : name.str();
  }
  bool hasWeight(StringRef name) const { return weights.has(nameInFile(name)); }

  Value norm(Value x, const Twine &name);
  /// `prefix`.weight [out, x's width], and `prefix`.bias [out] if `hasBias`.
  Value linear(Value x, const Twine &prefix, NamedDim out, NamedDim in, bool hasBias, Type element);
  Value add(Value lhs, Value rhs, const Twine &name);
  Value attention(Value n, const std::string &prefix, int64_t layer, const StepInputs &step);
  Value denseFFN(Value n, const std::string &prefix);
  Value moe(Value n, const std::string &prefix, const ExpertNames &names);
  /// The names that this checkpoint uses, found at layer 0.
  const ExpertNames &chooseExpertNames() const;
  RopeAttr ropeAttr();
  Type chooseDtype(StringRef name) const;

  const ModelConfig &config;
  const DimKeys &keys;
  LayerConfig current;
  WeightTable weights;
  OpBuilder b;
  Type f32, dtype;
  ModuleOp module;
  func::FuncOp function;
  llvm::StringSet<> declared;
};

} // namespace

Value GraphBuilder::declare(StringRef name, RankedTensorType type, bool stacked) {
  Location loc = at(name);
  if (declared.insert(name).second) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(function);
    const std::string source = nameInFile(name);
    WeightOp::create(b, loc, name, source == name ? StringAttr() : b.getStringAttr(source), stacked, type);
  }
  return GetWeightOp::create(b, loc, type, name);
}

Value GraphBuilder::weight(const Twine &name, ArrayRef<NamedDim> dims) {
  std::string text = name.str();
  return declare(text, weights.find(nameInFile(text), dims), /*stacked=*/false);
}

Value GraphBuilder::stackedWeight(const Twine &pattern, ArrayRef<NamedDim> dims) {
  std::string text = pattern.str();
  return declare(text, weights.findStacked(text, config.experts, dims), /*stacked=*/true);
}

Value GraphBuilder::norm(Value x, const Twine &name) {
  Value scale = weight(name + ".weight", hiddenDim());
  return RMSNormOp::create(b, at(name), tokensBy(config.hidden, dtype), x, scale, llvm::APFloat(config.normEps));
}

Value GraphBuilder::linear(Value x, const Twine &prefix, NamedDim out, NamedDim in, bool hasBias, Type element) {
  Value matrix = weight(prefix + ".weight", {out, in});
  Value bias = hasBias ? weight(prefix + ".bias", out) : Value();
  return LinearOp::create(b, at(prefix), tokensBy(out.size, element), x, matrix, bias);
}

Value GraphBuilder::add(Value lhs, Value rhs, const Twine &name) {
  return AddOp::create(b, at(name), tokensBy(config.hidden, f32), lhs, rhs);
}

RopeAttr GraphBuilder::ropeAttr() {
  const RopeConfig &rope = config.rope;
  auto number = [&](double value) { return b.getF64FloatAttr(value); };
  return RopeAttr::get(b.getContext(), rope.kind, number(rope.theta), config.headDim, /*offset=*/0, rope.interleaved,
                       number(rope.factor), rope.originalContext, number(rope.betaFast), number(rope.betaSlow),
                       rope.truncate, number(rope.attentionFactor), number(rope.lowFreqFactor),
                       number(rope.highFreqFactor),
                       rope.dimFactors.empty() ? DenseF64ArrayAttr() : b.getDenseF64ArrayAttr(rope.dimFactors));
}

Value GraphBuilder::attention(Value n, const std::string &prefix, int64_t layer, const StepInputs &step) {
  Value q = linear(n, prefix + ".q_proj", queryDim(), hiddenDim(), config.attentionBias, dtype);
  Value k = linear(n, prefix + ".k_proj", kvDim(), hiddenDim(), config.attentionBias, dtype);
  Value v = linear(n, prefix + ".v_proj", kvDim(), hiddenDim(), config.attentionBias, dtype);
  q = RopeOp::create(b, at(prefix + ".q_rope"), q.getType(), q, step.pos, current.heads, ropeAttr());
  k = RopeOp::create(b, at(prefix + ".k_rope"), k.getType(), k, step.pos, current.kvHeads, ropeAttr());

  std::string cache = "layers." + std::to_string(layer) + ".kv";
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(function);
    auto type = KVCacheType::get(b.getContext(), current.kvHeads, config.headDim, config.headDim, dtype);
    StateOp::create(b, at(cache), cache, type);
  }
  double scale = 1.0 / std::sqrt(static_cast<double>(config.headDim));
  IntegerAttr window = config.window ? b.getI64IntegerAttr(*config.window) : IntegerAttr();
  Value a = AttentionOp::create(b, at(prefix), q.getType(), q, k, v, step.seq, step.pos, step.runs, /*sinks=*/Value(),
                                cache, current.heads, current.kvHeads, llvm::APFloat(scale), window);
  return linear(a, prefix + ".o_proj", hiddenDim(), queryDim(), config.attentionBias, f32);
}

Value GraphBuilder::denseFFN(Value n, const std::string &prefix) {
  Value gate = weight(prefix + ".gate_proj.weight", {ffnDim(), hiddenDim()});
  Value up = weight(prefix + ".up_proj.weight", {ffnDim(), hiddenDim()});
  Value down = weight(prefix + ".down_proj.weight", {hiddenDim(), ffnDim()});
  Value gateBias, upBias, downBias;
  if (config.mlpBias) {
    gateBias = weight(prefix + ".gate_proj.bias", ffnDim());
    upBias = weight(prefix + ".up_proj.bias", ffnDim());
    downBias = weight(prefix + ".down_proj.bias", hiddenDim());
  }
  return FFNOp::create(b, at(prefix), tokensBy(config.hidden, f32), n, gate, up, down, gateBias, upBias, downBias,
                       ActivationAttr::get(b.getContext(), config.activation), /*alpha=*/FloatAttr(),
                       /*limit=*/FloatAttr());
}

const ExpertNames &GraphBuilder::chooseExpertNames() const {
  for (const ExpertNames &names : config.family->expertNames) {
    auto [prefix, suffix] = names.gate.split("{}");
    if (weights.has(("model.layers.0." + prefix + (names.isStacked() ? "0" : "") + suffix).str())) {
      return names;
    }
  }
  return config.family->expertNames.front();
}

Value GraphBuilder::moe(Value n, const std::string &prefix, const ExpertNames &names) {
  const int64_t experts = config.experts, chosen = config.expertsPerToken;
  auto part = [&](StringRef name) { return prefix + "." + name.str(); };
  Value router = weight(part(names.router), {{experts, "num_local_experts"}, hiddenDim()});
  Value logits =
      LinearOp::create(b, at(part(names.router.rsplit('.').first)), tokensBy(experts, f32), n, router, Value());
  auto route =
      RouteOp::create(b, at(prefix + ".route"), tokensBy(chosen, b.getI32Type()), tokensBy(chosen, f32), logits,
                      /*bias=*/Value(), b.getI64IntegerAttr(chosen), ScoreAttr::get(b.getContext(), Score::Softmax),
                      RenormalizeAttr::get(b.getContext(), config.family->renormalize),
                      /*epsilon=*/FloatAttr(), /*scale=*/FloatAttr());
  Location loc = at(prefix + ".experts");
  auto expertWeights = [&](StringRef name, NamedDim rows, NamedDim columns) {
    return names.isStacked() ? stackedWeight(part(name), {rows, columns})
                             : weight(part(name), {{experts, "num_local_experts"}, rows, columns});
  };
  Value gate, up;
  if (names.isJoined()) {
    Value both = expertWeights(names.gate, {2 * config.ffn, "2 * intermediate_size"}, hiddenDim());
    auto half = RankedTensorType::get({experts, config.ffn, config.hidden},
                                      cast<RankedTensorType>(both.getType()).getElementType());
    gate = PartOp::create(b, loc, half, both, /*dim=*/1, /*from=*/0);
    up = PartOp::create(b, loc, half, both, /*dim=*/1, /*from=*/config.ffn);
  } else {
    gate = expertWeights(names.gate, ffnDim(), hiddenDim());
    up = expertWeights(names.up, ffnDim(), hiddenDim());
  }
  Value down = expertWeights(names.down, hiddenDim(), ffnDim());
  Value y = ExpertsOp::create(b, loc, tokensBy({chosen, config.hidden}, f32), n, route.getExperts(), gate, up, down,
                              Value(), Value(), Value(), ActivationAttr::get(b.getContext(), config.activation),
                              /*alpha=*/FloatAttr(), /*limit=*/FloatAttr(), PlacementAttr());
  return CombineOp::create(b, loc, tokensBy(config.hidden, f32), y, route.getWeights());
}

Type GraphBuilder::chooseDtype(StringRef name) const {
  OpBuilder types(b.getContext());
  if (name == "f32") {
    return types.getF32Type();
  }
  if (name == "bf16") {
    return types.getBF16Type();
  }
  return Type();
}

Expected<ImportedModel> GraphBuilder::build(const ImportOptions &options) {
  const NamedDim embedDims[] = {vocabDim(), hiddenDim()};
  module = ModuleOp::create(at("model"));
  OwningOpRef<ModuleOp> owner(module);
  b.setInsertionPointToStart(module.getBody());

  Type ids = tokensBy({}, b.getI32Type()), logitsType = tokensBy(config.vocab, f32);
  function = func::FuncOp::create(b, at("step"), "step", b.getFunctionType({ids, ids, ids, ids, ids}, {logitsType}));
  Block *body = function.addEntryBlock();
  b.setInsertionPointToStart(body);
  Value tokens = body->getArgument(0), rows = body->getArgument(4);
  StepInputs step{body->getArgument(1), body->getArgument(2), body->getArgument(3)};

  // Of a tied pair either one may be stored.
  const bool headOnly = config.tiedHead && !hasWeight("model.embed_tokens.weight") && hasWeight("lm_head.weight");
  Value table = weight(headOnly ? "lm_head.weight" : "model.embed_tokens.weight", embedDims);
  Type storage = cast<RankedTensorType>(table.getType()).getElementType();
  dtype = chooseDtype(options.dtype.empty() ? (storage.isBF16() ? "bf16" : "f32") : StringRef(options.dtype));
  if (!dtype) {
    return makeError("dtype '" + options.dtype + "' is not supported for activations; supported: f32, bf16");
  }

  Value h = EmbeddingOp::create(b, at("model.embed_tokens"), tokensBy(config.hidden, f32), tokens, table);
  // A layer that lacks a part says its number, so that later ones can be counted.
  const bool hasGaps = llvm::any_of(config.perLayer, [](const LayerConfig &l) { return l.heads == 0 || l.ffn == 0; });
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    current = config.perLayer[layer];
    std::string prefix = "model.layers." + std::to_string(layer);
    Value before = h;
    if (current.heads != 0) {
      Value n = norm(h, prefix + ".input_layernorm");
      h = add(h, attention(n, prefix + ".self_attn", layer, step), prefix + ".attention_residual");
    }
    if (current.ffn != 0) {
      Value n = norm(h, prefix + ".post_attention_layernorm");
      Value y = config.experts == 0 ? denseFFN(n, prefix + ".mlp") : moe(n, prefix, chooseExpertNames());
      h = add(h, y, prefix + ".ffn_residual");
    }
    if (hasGaps && h != before) {
      h.getDefiningOp()->setAttr(kLayersAttr, b.getDenseI64ArrayAttr({layer, layer}));
    }
  }
  h = GatherRowsOp::create(b, at("rows"), h.getType(), h, rows);
  h = norm(h, "model.norm");

  std::vector<std::string> notes = config.notes;
  Value head = table;
  if (!config.tiedHead) {
    head = weight("lm_head.weight", embedDims);
  } else if (!headOnly && hasWeight("lm_head.weight")) {
    weights.ignore(nameInFile("lm_head.weight"));
    notes.push_back("'lm_head.weight' is in the checkpoint, but tie_word_embeddings is true: the embedding is used");
  }
  Value logits = LinearOp::create(b, at("lm_head"), logitsType, h, head, /*bias=*/Value());
  func::ReturnOp::create(b, at("lm_head"), logits);

  if (config.naming == Naming::Gguf) {
    weights.ignore(kGgufRopeFactors); // which are in the config
  }
  if (llvm::Error error = weights.finish(options.allowUnusedTensors, notes)) {
    return std::move(error);
  }
  auto number = [&](int64_t value) -> Attribute { return b.getI64IntegerAttr(value); };
  SmallVector<NamedAttribute> model{
      {"family", b.getStringAttr(config.family->modelType)},
      {"dtype", b.getStringAttr(dtype.isBF16() ? "bf16" : "f32")},
      {"parameters", number(weights.getParameters())},
      {"trained_context", number(config.maxPositions)},
  };
  if (config.contextLimit != 0) {
    model.emplace_back("max_context", number(config.contextLimit));
  }
  if (!options.checkpoint.empty()) {
    model.emplace_back("checkpoint", b.getStringAttr(options.checkpoint));
  }
  module->setAttr(kModelAttr, b.getDictionaryAttr(model));
  return ImportedModel{std::move(owner), weights.getParameters(), std::move(notes)};
}

Expected<ImportedModel> moe::importModel(MLIRContext &context, const ModelConfig &config, const TensorHeaders &tensors,
                                         const ImportOptions &options) {
  return GraphBuilder(context, config, tensors).build(options);
}
