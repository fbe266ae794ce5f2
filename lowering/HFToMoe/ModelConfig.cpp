//===- ModelConfig.cpp - What a Hugging Face config.json says about a model -===//

#include "lowering/HFToMoe/ModelConfig.h"
#include "passes/Json/JsonFile.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;

//===----------------------------------------------------------------------===//
// Families
//===----------------------------------------------------------------------===//

/// Mixtral as it is saved by transformers 4 and 5, as some converters write it, and as the modules of transformers 5
/// hold it (`save_original_format=False`).
static constexpr ExpertNames kMixtralNames[] = {
    {"block_sparse_moe.gate.weight", "block_sparse_moe.experts.{}.w1.weight", "block_sparse_moe.experts.{}.w3.weight",
     "block_sparse_moe.experts.{}.w2.weight"},
    {"mlp.gate.weight", "mlp.experts.{}.gate_proj.weight", "mlp.experts.{}.up_proj.weight",
     "mlp.experts.{}.down_proj.weight"},
    {"mlp.gate.weight", "mlp.experts.gate_up_proj", "mlp.experts.gate_up_proj", "mlp.experts.down_proj"},
};

static const ModelFamily kFamilies[] = {
    {"llama",
     "LlamaForCausalLM",
     /*vocab=*/32000,
     /*hidden=*/4096,
     /*ffn=*/11008,
     /*layers=*/32,
     /*heads=*/32,
     /*kvHeads=*/0,
     /*maxPositions=*/2048,
     /*normEps=*/1e-6,
     /*ropeTheta=*/1e4,
     /*experts=*/0,
     /*expertsPerToken=*/0,
     /*knowsBiases=*/true,
     /*knowsWindow=*/false,
     Renormalize::None,
     {}},
    {"mixtral", "MixtralForCausalLM", /*vocab=*/32000, /*hidden=*/4096, /*ffn=*/14336, /*layers=*/32, /*heads=*/32,
     /*kvHeads=*/8, /*maxPositions=*/131072, /*normEps=*/1e-5, /*ropeTheta=*/1e6, /*experts=*/8, /*expertsPerToken=*/2,
     /*knowsBiases=*/false, /*knowsWindow=*/true, Renormalize::Sum, kMixtralNames},
    // Layers are Llama's. Its class computes no biases, whatever the config says of them, and has a window unless the
    // config says otherwise.
    {"mistral",
     "MistralForCausalLM",
     /*vocab=*/32000,
     /*hidden=*/4096,
     /*ffn=*/14336,
     /*layers=*/32,
     /*heads=*/32,
     /*kvHeads=*/8,
     /*maxPositions=*/131072,
     /*normEps=*/1e-6,
     /*ropeTheta=*/1e4,
     /*experts=*/0,
     /*expertsPerToken=*/0,
     /*knowsBiases=*/false,
     /*knowsWindow=*/true,
     Renormalize::None,
     {}},
    // Its configuration class extends Llama's and has the defaults of that.
    {"nemotron-nas",
     "DeciLMForCausalLM",
     /*vocab=*/32000,
     /*hidden=*/4096,
     /*ffn=*/11008,
     /*layers=*/32,
     /*heads=*/32,
     /*kvHeads=*/0,
     /*maxPositions=*/2048,
     /*normEps=*/1e-6,
     /*ropeTheta=*/1e4,
     /*experts=*/0,
     /*expertsPerToken=*/0,
     /*knowsBiases=*/true,
     /*knowsWindow=*/false,
     Renormalize::None,
     {},
     /*hasBlockConfigs=*/true},
    // Llama whose layers differ in heads and widths: what 'moec export --for transformers' writes.
    {"wide_llama",
     "WideLlamaForCausalLM",
     /*vocab=*/32000,
     /*hidden=*/4096,
     /*ffn=*/11008,
     /*layers=*/32,
     /*heads=*/32,
     /*kvHeads=*/0,
     /*maxPositions=*/2048,
     /*normEps=*/1e-6,
     /*ropeTheta=*/1e4,
     /*experts=*/0,
     /*expertsPerToken=*/0,
     /*knowsBiases=*/true,
     /*knowsWindow=*/false,
     Renormalize::None,
     {},
     /*hasBlockConfigs=*/false,
     /*hasPerLayerConfig=*/true},
};

const ModelFamily *moe::findModelFamily(StringRef modelType) {
  for (const ModelFamily &family : kFamilies) {
    if (family.modelType == modelType) {
      return &family;
    }
  }
  return nullptr;
}

std::string moe::knownModelTypes() {
  std::string result;
  for (const ModelFamily &family : kFamilies) {
    result += (result.empty() ? "" : ", ") + family.modelType.str();
  }
  return result;
}

/// The window of a config that has no key `sliding_window` (null says that there is none): of the classes here only
/// Mistral's has one.
static std::optional<int64_t> defaultWindow(const ModelFamily &family) {
  return family.modelType == "mistral" ? std::optional<int64_t>(4096) : std::nullopt;
}

//===----------------------------------------------------------------------===//
// Reading keys
//===----------------------------------------------------------------------===//

namespace {

/// Reads typed keys of one object. A wrong value is noted and the default returned, so that one run reports all.
class KeyReader {
public:
  KeyReader(const json::Object &object, StringRef file, StringRef prefix, std::vector<std::string> &errors)
      : object(object), file(file), prefix(prefix), errors(errors) {}

  /// The value of `key`; null when absent or `null` (transformers takes the default for both).
  const json::Value *find(StringRef key) const {
    const json::Value *value = object.get(key);
    return value && value->kind() != json::Value::Null ? value : nullptr;
  }

  void fail(const Twine &message) { errors.push_back((file + ": " + message).str()); }
  void failKey(StringRef key, const Twine &expected, const json::Value &value, StringRef hint = "") {
    fail("'" + prefix + key + "' must be " + expected + ", but is " + describe(value) + (hint.empty() ? "" : "; ") +
         hint);
  }

  int64_t integer(StringRef key, int64_t fallback, int64_t max) {
    const json::Value *value = find(key);
    if (!value) {
      return fallback;
    }
    std::optional<int64_t> number = value->getAsInteger();
    if (!number || *number < 1 || *number > max) {
      failKey(key, "an integer from 1 to " + Twine(max), *value);
      return fallback;
    }
    return *number;
  }

  double positive(StringRef key, double fallback) {
    return number(key, fallback, "a number above 0", [](double value) { return value > 0; });
  }
  double notNegative(StringRef key, double fallback) {
    return number(key, fallback, "a number, 0 or above", [](double value) { return value >= 0; });
  }

  bool boolean(StringRef key, bool fallback) {
    const json::Value *value = find(key);
    if (!value) {
      return fallback;
    }
    std::optional<bool> flag = value->getAsBoolean();
    if (!flag) {
      failKey(key, "true or false", *value);
    }
    return flag.value_or(fallback);
  }

  std::string string(StringRef key, StringRef fallback) {
    const json::Value *value = find(key);
    if (!value) {
      return fallback.str();
    }
    std::optional<StringRef> text = value->getAsString();
    if (!text) {
      failKey(key, "a string", *value);
    }
    return text.value_or(fallback).str();
  }

  /// A required number above 0 of a RoPE kind.
  double require(StringRef key, StringRef why) {
    if (!find(key)) {
      fail("'" + prefix + key + "' is missing; " + why + " needs it, a number above 0");
      return 1;
    }
    return positive(key, 1);
  }

private:
  double number(StringRef key, double fallback, StringRef expected, bool (*holds)(double)) {
    const json::Value *value = find(key);
    if (!value) {
      return fallback;
    }
    std::optional<double> number = value->getAsNumber();
    if (!number || !std::isfinite(*number) || !holds(*number)) {
      failKey(key, expected, *value);
      return fallback;
    }
    return *number;
  }

  const json::Object &object;
  StringRef file, prefix;
  std::vector<std::string> &errors;
};

} // namespace

//===----------------------------------------------------------------------===//
// RoPE
//===----------------------------------------------------------------------===//

/// YaRN's magnitude: 0.1 * scale * ln(factor) + 1.
static double yarnMagnitude(double factor, double scale) {
  return factor <= 1 ? 1 : 0.1 * scale * std::log(factor) + 1;
}

static void readYarn(KeyReader &keys, int64_t maxPositions, RopeConfig &rope) {
  // A given but null factor is the ratio of the two contexts, as in transformers.
  rope.factor = keys.positive("factor", double(maxPositions) / double(rope.originalContext));
  rope.betaFast = keys.positive("beta_fast", 32);
  rope.betaSlow = keys.positive("beta_slow", 1);
  rope.truncate = keys.boolean("truncate", true);
  auto optionalNumber = [&](StringRef key) {
    const json::Value *value = keys.find(key);
    if (value && !value->getAsNumber()) {
      keys.failKey(key, "a number", *value);
    }
    return value ? value->getAsNumber().value_or(0) : 0;
  };
  double scale = optionalNumber("mscale"), scaleAllDim = optionalNumber("mscale_all_dim");
  double implied = scale != 0 && scaleAllDim != 0
                       ? yarnMagnitude(rope.factor, scale) / yarnMagnitude(rope.factor, scaleAllDim)
                       : yarnMagnitude(rope.factor, 1);
  rope.attentionFactor = keys.positive("attention_factor", implied);
  if (!keys.find("attention_factor") && !(implied > 0 && std::isfinite(implied))) {
    keys.fail("'mscale' (" + describe(scale) + ") and 'mscale_all_dim' (" + describe(scaleAllDim) +
              ") make an attention factor of " + describe(implied) + ", which must be above 0");
  }
  if (rope.betaFast < rope.betaSlow) {
    keys.fail("'beta_fast' (" + describe(rope.betaFast) + ") must not be below 'beta_slow' (" +
              describe(rope.betaSlow) + ")");
  }
}

/// Merges the two spellings: `rope_scaling` (transformers 4) and `rope_parameters` (5). Where both speak they must
/// agree.
static json::Object mergeRope(const json::Object &config, KeyReader &keys) {
  json::Object merged;
  for (StringRef name : {"rope_scaling", "rope_parameters"}) {
    const json::Value *value = keys.find(name);
    if (!value) {
      continue;
    }
    const json::Object *object = value->getAsObject();
    if (!object) {
      keys.failKey(name, "an object or null", *value);
      continue;
    }
    for (const auto &member : *object) {
      StringRef key = member.first;
      if (member.second.getAsObject()) {
        keys.fail("'" + name + "." + key + "' is an object: RoPE that differs between layers is not supported");
        continue;
      }
      auto [slot, inserted] = merged.try_emplace(key == "type" ? "rope_type" : key, member.second);
      if (!inserted && slot->second != member.second) {
        keys.fail("'" + name + "." + key + "' is " + describe(member.second) + ", but elsewhere in the RoPE keys " +
                  "it is " + describe(slot->second) + "; keep one of 'rope_scaling' and 'rope_parameters'");
      }
    }
  }
  if (const json::Value *theta = keys.find("rope_theta")) {
    merged.try_emplace("rope_theta", *theta);
  }
  // Phi3 and others keep the trained context outside; transformers gives that key priority.
  if (const json::Value *context = keys.find("original_max_position_embeddings")) {
    merged["original_max_position_embeddings"] = *context;
  }
  if (const json::Value *partial = keys.find("partial_rotary_factor")) {
    merged.try_emplace("partial_rotary_factor", *partial);
  }
  return merged;
}

static RopeConfig readRope(const json::Object &config, StringRef file, const ModelFamily &family, ModelConfig &model,
                           std::vector<std::string> &errors) {
  KeyReader top(config, file, "", errors);
  json::Object merged = mergeRope(config, top);
  KeyReader keys(merged, file, top.find("rope_parameters") ? "rope_parameters." : "rope_scaling.", errors);
  RopeConfig rope;
  KeyReader thetaKeys(merged, file, top.find("rope_theta") ? "" : "rope_parameters.", errors);
  rope.theta = thetaKeys.positive("rope_theta", family.ropeTheta);
  if (rope.theta <= 1) {
    top.fail("'rope_theta' must be above 1, but is " + describe(rope.theta));
    rope.theta = family.ropeTheta;
  }
  if (double partial = keys.positive("partial_rotary_factor", 1); partial != 1) {
    keys.fail("'partial_rotary_factor' is " + describe(partial) + ", but class " + family.className +
              " rotates the whole head (1.0)");
  }
  std::string type = keys.string("rope_type", "default");
  if (type == "default") {
    return rope;
  }
  if (type == "linear") {
    rope.kind = RopeKind::Linear;
    rope.factor = keys.require("factor", "RoPE type 'linear'");
    return rope;
  }
  if (type == "dynamic") {
    // Up to the trained context dynamic NTK is the identity; beyond it the frequencies of tokens already cached would
    // change with every token, which a cache of rotated keys cannot follow.
    keys.require("factor", "RoPE type 'dynamic'");
    model.contextLimit = model.maxPositions;
    model.notes.push_back("RoPE type 'dynamic' is the default up to max_position_embeddings = " +
                          std::to_string(model.maxPositions) + " tokens; longer contexts are not offered");
    return rope;
  }
  if (type == "llama3" || type == "yarn") {
    rope.originalContext = keys.integer("original_max_position_embeddings", model.maxPositions, kMaxContext);
  }
  if (type == "llama3") {
    rope.kind = RopeKind::Llama3;
    rope.factor = keys.require("factor", "RoPE type 'llama3'");
    rope.lowFreqFactor = keys.require("low_freq_factor", "RoPE type 'llama3'");
    rope.highFreqFactor = keys.require("high_freq_factor", "RoPE type 'llama3'");
    if (keys.find("low_freq_factor") && keys.find("high_freq_factor") && rope.lowFreqFactor >= rope.highFreqFactor) {
      keys.fail("'low_freq_factor' (" + describe(rope.lowFreqFactor) + ") must be below 'high_freq_factor' (" +
                describe(rope.highFreqFactor) + ")");
    }
    return rope;
  }
  if (type == "yarn") {
    rope.kind = RopeKind::Yarn;
    readYarn(keys, model.maxPositions, rope);
    return rope;
  }
  if (type == "longrope") {
    keys.fail("RoPE type 'longrope' switches its frequencies with the sequence length, which a cache of rotated keys "
              "cannot follow; not supported (supported: default, linear, dynamic, yarn, llama3)");
    return rope;
  }
  keys.fail("unknown RoPE type '" + type + "'; supported: default, linear, dynamic, yarn, llama3");
  return rope;
}

//===----------------------------------------------------------------------===//
// The config
//===----------------------------------------------------------------------===//

static Activation readActivation(KeyReader &keys) {
  std::string name = keys.string("hidden_act", "silu");
  auto activation = llvm::StringSwitch<std::optional<Activation>>(name)
                        .Cases({"silu", "swish"}, Activation::Silu)
                        .Case("gelu", Activation::Gelu)
                        .Cases({"gelu_new", "gelu_pytorch_tanh"}, Activation::GeluTanh)
                        .Case("relu", Activation::Relu)
                        .Default(std::nullopt);
  if (!activation) {
    keys.fail("'hidden_act' is '" + name + "'; supported: silu, swish, gelu, gelu_new, gelu_pytorch_tanh, relu");
  }
  return activation.value_or(Activation::Silu);
}

/// Keys that say "this is not what the class computes", which must not be passed over in silence.
static void checkForeignKeys(const json::Object &config, KeyReader &keys, const ModelFamily &family) {
  if (const json::Value *quantization = keys.find("quantization_config")) {
    const json::Object *object = quantization->getAsObject();
    std::string method = object ? object->getString("quant_method").value_or("unnamed").str() : "unnamed";
    keys.fail("'quantization_config' says the weights are quantized (method '" + method +
              "'), which is not supported yet; use the checkpoint in bf16, f16 or f32");
  }
  if (const json::Value *architectures = keys.find("architectures")) {
    const json::Array *names = architectures->getAsArray();
    std::optional<StringRef> name = names && names->size() == 1 ? names->front().getAsString() : std::nullopt;
    if (!name) {
      keys.failKey("architectures", "an array of one string", *architectures);
    } else if (*name != family.className) {
      keys.fail("'architectures' is '" + *name + "', but model_type '" + family.modelType + "' is imported as '" +
                family.className + "'; only the causal language model is supported");
    }
  }
}

//===----------------------------------------------------------------------===//
// Blocks
//===----------------------------------------------------------------------===//

int64_t moe::widthOfMultiple(double multiple, int64_t hidden) {
  const auto width = static_cast<int64_t>(2 * multiple * static_cast<double>(hidden) / 3);
  return (width + 255) / 256 * 256;
}

/// Refuses what a sub-block may say and the importer does not compute.
static void checkSubBlock(KeyReader &keys) {
  for (StringRef key : {"replace_with_linear", "unshifted_sink", "use_prefill_window_in_sink_attention"}) {
    if (keys.boolean(key, false)) {
      keys.failKey(key, "false", true, "that variant is not supported");
    }
  }
  for (StringRef key : {"sparsify", "num_sink_tokens", "window_length"}) {
    if (const json::Value *value = keys.find(key)) {
      keys.failKey(key, "null", *value, "that variant is not supported");
    }
  }
}

/// One entry of `block_configs`.
static LayerConfig readBlock(const json::Value &value, StringRef file, const std::string &place,
                             const ModelConfig &model, std::vector<std::string> &errors) {
  LayerConfig layer;
  const json::Object *block = value.getAsObject();
  const json::Object *attention = block ? block->getObject("attention") : nullptr;
  const json::Object *ffn = block ? block->getObject("ffn") : nullptr;
  if (!attention || !ffn) {
    errors.push_back((file + ": '" + place + "' must be an object with the objects 'attention' and 'ffn'").str());
    return layer;
  }
  const std::string attentionPlace = place + ".attention.", ffnPlace = place + ".ffn.", blockPlace = place + ".";
  KeyReader blockKeys(*block, file, blockPlace, errors), attentionKeys(*attention, file, attentionPlace, errors),
      ffnKeys(*ffn, file, ffnPlace, errors);
  if (const json::Value *parallel = blockKeys.find("parallel_blocks")) {
    blockKeys.failKey("parallel_blocks", "null", *parallel, "blocks beside each other are not supported");
  }
  checkSubBlock(attentionKeys);
  checkSubBlock(ffnKeys);
  if (!attentionKeys.boolean("no_op", false)) {
    layer.heads = model.heads;
    // Older files say how many heads share a key, newer ones how many keys there are.
    int64_t group = 1;
    if (attentionKeys.find("n_heads_in_group")) {
      group = attentionKeys.integer("n_heads_in_group", 1, model.heads);
      layer.kvHeads = model.heads / group;
    } else {
      attentionKeys.require("num_key_value_heads", "an attention without 'n_heads_in_group'");
      layer.kvHeads = attentionKeys.integer("num_key_value_heads", model.heads, model.heads);
      group = model.heads / layer.kvHeads;
    }
    if (group * layer.kvHeads != model.heads) {
      attentionKeys.fail("'" + attentionPlace + "' gives " + Twine(layer.kvHeads) + " key heads and " + Twine(group) +
                         " heads for each, which must make 'num_attention_heads' (" + Twine(model.heads) + ")");
    }
  }
  if (!ffnKeys.boolean("no_op", false)) {
    if (ffnKeys.find("ffn_mult")) {
      const double multiple = std::min(ffnKeys.positive("ffn_mult", 1), static_cast<double>(kMaxDim));
      layer.ffn = widthOfMultiple(multiple, model.hidden);
      if (layer.ffn < 1 || layer.ffn > kMaxDim) {
        ffnKeys.fail("'" + ffnPlace + "ffn_mult' makes a width of " + Twine(layer.ffn) + ", which must be from 1 to " +
                     Twine(kMaxDim));
      }
    } else {
      ffnKeys.require("intermediate_size", "an FFN without 'ffn_mult'");
      layer.ffn = ffnKeys.integer("intermediate_size", 1, kMaxDim);
    }
  }
  return layer;
}

static void readBlocks(StringRef file, KeyReader &keys, ModelConfig &model, std::vector<std::string> &errors) {
  const json::Value *value = keys.find("block_configs");
  const json::Array *blocks = value ? value->getAsArray() : nullptr;
  if (!blocks || blocks->size() != static_cast<size_t>(model.layers)) {
    keys.fail("'block_configs' must be an array of one object for each of the " + Twine(model.layers) +
              " layers ('num_hidden_layers'), but " +
              (blocks  ? "has " + Twine(blocks->size()).str()
               : value ? "is " + describe(*value)
                       : "is missing"));
    return;
  }
  size_t empty = 0;
  model.kvHeads = 1;
  model.ffn = 0;
  for (auto [i, block] : llvm::enumerate(*blocks)) {
    LayerConfig layer = readBlock(block, file, "block_configs[" + std::to_string(i) + "]", model, errors);
    model.kvHeads = std::max(model.kvHeads, layer.kvHeads);
    model.ffn = std::max(model.ffn, layer.ffn);
    empty += layer.heads == 0 && layer.ffn == 0;
    model.perLayer.push_back(layer);
  }
  if (empty != 0) {
    model.notes.push_back(std::to_string(empty) + " of the " + std::to_string(blocks->size()) +
                          " layers have neither attention nor FFN and cost nothing; the others keep their numbers");
  }
}

/// The keys of an object in an order of their own: llvm::json keeps them in a hash table.
static std::vector<StringRef> sortedKeys(const json::Object &object) {
  std::vector<StringRef> keys;
  for (const auto &entry : object) {
    keys.push_back(StringRef(entry.first));
  }
  llvm::sort(keys);
  return keys;
}

/// `per_layer_config`: an object from layer numbers to what is not as in the other layers.
static void readPerLayer(StringRef file, KeyReader &keys, ModelConfig &model, std::vector<std::string> &errors) {
  model.perLayer.assign(model.layers, LayerConfig{model.heads, model.kvHeads, model.ffn});
  const json::Value *value = keys.find("per_layer_config");
  if (!value) {
    return;
  }
  const json::Object *layers = value->getAsObject();
  if (!layers) {
    keys.failKey("per_layer_config", "an object from layer numbers to objects", *value);
    return;
  }
  for (StringRef name : sortedKeys(*layers)) {
    const json::Value &entry = *layers->get(name);
    int64_t layer = 0;
    // One spelling per number, so that no layer is described twice.
    if (name.getAsInteger(10, layer) || layer < 0 || layer >= model.layers || name != std::to_string(layer)) {
      keys.fail("'per_layer_config' has the key '" + name + "', which must be the number of a layer, 0 to " +
                Twine(model.layers - 1));
      continue;
    }
    const json::Object *object = entry.getAsObject();
    if (!object) {
      keys.failKey("per_layer_config." + name.str(), "an object", entry);
      continue;
    }
    const std::string place = "per_layer_config." + name.str() + ".";
    KeyReader layerKeys(*object, file, place, errors);
    for (StringRef key : sortedKeys(*object)) {
      if (!llvm::is_contained({"num_attention_heads", "num_key_value_heads", "intermediate_size"}, key)) {
        layerKeys.failKey(key, "absent", *object->get(key),
                          "a layer may differ in 'num_attention_heads', 'num_key_value_heads' and 'intermediate_size'");
      }
    }
    LayerConfig &config = model.perLayer[layer];
    config.heads = layerKeys.integer("num_attention_heads", config.heads, kMaxDim);
    config.kvHeads = layerKeys.integer("num_key_value_heads", config.kvHeads, kMaxDim);
    config.ffn = layerKeys.integer("intermediate_size", config.ffn, kMaxDim);
    if (config.heads % config.kvHeads != 0) {
      layerKeys.fail("'" + place + "num_attention_heads' (" + Twine(config.heads) +
                     ") must be a multiple of 'num_key_value_heads' (" + Twine(config.kvHeads) + ")");
    }
  }
}

static void checkShapes(ModelConfig &model, KeyReader &keys, bool headDimGiven) {
  if (!headDimGiven && model.hidden % model.heads != 0) {
    keys.fail("'hidden_size' (" + Twine(model.hidden) + ") is not a multiple of 'num_attention_heads' (" +
              Twine(model.heads) + ") and 'head_dim' is not given; one of the three is wrong or missing");
  }
  if (model.headDim % 2 != 0) {
    keys.fail("head_dim (" + Twine(model.headDim) + (headDimGiven ? "" : ", = hidden_size / num_attention_heads") +
              ") must be even: RoPE turns pairs");
  }
  if (model.heads % model.kvHeads != 0) {
    keys.fail("'num_attention_heads' (" + Twine(model.heads) + ") must be a multiple of 'num_key_value_heads' (" +
              Twine(model.kvHeads) + ")");
  }
  if (model.expertsPerToken > model.experts) {
    keys.fail("'num_experts_per_tok' (" + Twine(model.expertsPerToken) + ") must not exceed 'num_local_experts' (" +
              Twine(model.experts) + ")");
  }
}

Expected<ModelConfig> moe::parseModelConfig(const json::Value &value, StringRef file) {
  const json::Object *config = value.getAsObject();
  if (!config) {
    return makeError(file + ": must hold a JSON object, but holds " + describe(value));
  }
  std::vector<std::string> errors;
  KeyReader keys(*config, file, "", errors);
  const json::Value *type = keys.find("model_type");
  if (!type) {
    return makeError(file + ": 'model_type' is missing; it names the family (supported: " + knownModelTypes() + ")");
  }
  if (!type->getAsString()) {
    return makeError(file + ": 'model_type' must be a string, but is " + describe(*type));
  }
  const ModelFamily *family = findModelFamily(*type->getAsString());
  if (!family) {
    return makeError(file + ": unknown model_type '" + *type->getAsString() + "'; supported: " + knownModelTypes());
  }

  ModelConfig model;
  model.family = family;
  checkForeignKeys(*config, keys, *family);
  model.vocab = keys.integer("vocab_size", family->vocab, kMaxDim);
  model.hidden = keys.integer("hidden_size", family->hidden, kMaxDim);
  model.ffn = keys.integer("intermediate_size", family->ffn, kMaxDim);
  model.layers = keys.integer("num_hidden_layers", family->layers, kMaxLayers);
  model.heads = keys.integer("num_attention_heads", family->heads, kMaxDim);
  // Only a key that is not there takes the class default; null means one kv head per query head.
  bool kvGiven = config->get("num_key_value_heads") != nullptr;
  int64_t kvDefault = kvGiven || family->kvHeads == 0 ? model.heads : family->kvHeads;
  model.kvHeads = keys.integer("num_key_value_heads", kvDefault, kMaxDim);
  model.headDim = keys.integer("head_dim", std::max<int64_t>(model.hidden / model.heads, 1), kMaxDim);
  model.maxPositions = keys.integer("max_position_embeddings", family->maxPositions, kMaxContext);
  model.normEps = keys.notNegative("rms_norm_eps", family->normEps);
  model.tiedHead = keys.boolean("tie_word_embeddings", false);
  model.activation = readActivation(keys);
  if (family->knowsBiases) {
    model.attentionBias = keys.boolean("attention_bias", false);
    model.mlpBias = keys.boolean("mlp_bias", false);
  }
  if (family->knowsWindow && keys.find("sliding_window")) {
    model.window = keys.integer("sliding_window", 1, kMaxContext);
  } else if (!config->get("sliding_window")) {
    model.window = defaultWindow(*family);
  }
  if (family->experts != 0) {
    // The class answers to both names.
    model.experts = keys.integer(keys.find("num_local_experts") ? "num_local_experts" : "num_experts", family->experts,
                                 kMaxExperts);
    model.expertsPerToken = keys.integer("num_experts_per_tok", family->expertsPerToken, kMaxExperts);
  }
  if (family->hasBlockConfigs) {
    readBlocks(file, keys, model, errors);
  } else if (family->hasPerLayerConfig) {
    readPerLayer(file, keys, model, errors);
  } else {
    model.perLayer.assign(model.layers, LayerConfig{model.heads, model.kvHeads, model.ffn});
  }
  model.rope = readRope(*config, file, *family, model, errors);
  if (errors.empty()) {
    checkShapes(model, keys, keys.find("head_dim") != nullptr);
  }
  for (const LayerConfig &layer : model.perLayer) {
    model.heads = std::max(model.heads, layer.heads);
    model.kvHeads = std::max(model.kvHeads, layer.kvHeads);
    model.ffn = std::max(model.ffn, layer.ffn);
  }
  if (!errors.empty()) {
    return makeError(llvm::join(errors, "\n"));
  }
  return model;
}

Expected<ModelConfig> moe::readModelConfig(StringRef path) {
  Expected<json::Value> value = readJsonFile(path);
  if (!value) {
    return value.takeError();
  }
  return parseModelConfig(*value, path);
}
