//===- GgufConfig.cpp - What the metadata of a GGUF file says about a model -===//

#include "lowering/HFToMoe/GgufConfig.h"
#include "passes/Json/JsonFile.h"
#include "runtime/readers/File.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include <charconv>
#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
using moert::readers::ElementType;
using moert::readers::GgufHeader;
using moert::readers::GgufValue;
using moert::readers::TensorInfo;

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

std::string moe::getGgufTensorName(StringRef name) {
  StringRef rest = name;
  if (!rest.consume_front("model.layers.")) {
    return llvm::StringSwitch<std::string>(name)
        .Case("model.embed_tokens.weight", "token_embd.weight")
        .Case("model.norm.weight", "output_norm.weight")
        .Case("lm_head.weight", "output.weight")
        .Default(name.str());
  }
  auto [layer, part] = rest.split('.');
  auto [module, kind] = part.rsplit('.'); // "mlp.up_proj", "weight"
  StringRef renamed = llvm::StringSwitch<StringRef>(module)
                          .Case("input_layernorm", "attn_norm")
                          .Case("post_attention_layernorm", "ffn_norm")
                          .Case("self_attn.q_proj", "attn_q")
                          .Case("self_attn.k_proj", "attn_k")
                          .Case("self_attn.v_proj", "attn_v")
                          .Case("self_attn.o_proj", "attn_output")
                          .Case("mlp.gate_proj", "ffn_gate")
                          .Case("mlp.up_proj", "ffn_up")
                          .Case("mlp.down_proj", "ffn_down")
                          .Default("");
  return renamed.empty() ? name.str() : ("blk." + layer + "." + renamed + "." + kind).str();
}

//===----------------------------------------------------------------------===//
// Reading keys
//===----------------------------------------------------------------------===//

/// How a value reads in a message.
static std::string describeValue(const GgufValue &value) {
  if (const auto *number = std::get_if<int64_t>(&value)) {
    return std::to_string(*number);
  }
  if (const auto *number = std::get_if<double>(&value)) {
    return describe(llvm::json::Value(*number));
  }
  if (const auto *flag = std::get_if<bool>(&value)) {
    return *flag ? "true" : "false";
  }
  if (const auto *text = std::get_if<std::string>(&value)) {
    return "the string \"" + text->substr(0, 80) + "\"";
  }
  return "an array";
}

namespace {

/// Reads the keys `<architecture>.<name>`. A wrong value is noted and the default returned, so that one run reports
/// all.
class MetadataReader {
public:
  MetadataReader(const GgufHeader &header, StringRef path, StringRef architecture, std::vector<std::string> &errors)
      : header(header), path(path), architecture(architecture), errors(errors) {}

  const GgufValue *find(StringRef name) const {
    auto found = header.metadata.find((architecture + "." + name).str());
    return found == header.metadata.end() ? nullptr : &found->second;
  }
  void fail(const Twine &message) { errors.push_back((path + ": " + message).str()); }
  void failKey(StringRef name, const Twine &expected, const GgufValue *value) {
    fail("'" + architecture + "." + name + "' must be " + expected + ", but " +
         (value ? "is " + describeValue(*value) : "is missing"));
  }

  /// An integer from 1 to `max`; without a default it must be there.
  int64_t integer(StringRef name, std::optional<int64_t> fallback, int64_t max) {
    const GgufValue *value = find(name);
    const auto *number = value ? std::get_if<int64_t>(value) : nullptr;
    if (!value && fallback) {
      return *fallback;
    }
    if (!number || *number < 1 || *number > max) {
      failKey(name, "an integer from 1 to " + Twine(max), value);
      return fallback.value_or(1);
    }
    return *number;
  }

  /// A positive number, kept in the file as f32: the shortest decimal that rounds to it was meant.
  double real(StringRef name, std::optional<double> fallback) {
    const GgufValue *value = find(name);
    const auto *number = value ? std::get_if<double>(value) : nullptr;
    if (!value && fallback) {
      return *fallback;
    }
    if (!number || !(*number > 0) || !std::isfinite(*number)) {
      failKey(name, "a number above 0", value);
      return fallback.value_or(1);
    }
    const auto single = static_cast<float>(*number);
    if (static_cast<double>(single) != *number) {
      return *number;
    }
    char text[32];
    const char *end = std::to_chars(text, text + sizeof(text), single).ptr;
    double meant = *number;
    std::from_chars(text, end, meant);
    return meant;
  }

  std::string string(StringRef name, StringRef fallback) {
    const GgufValue *value = find(name);
    if (!value) {
      return fallback.str();
    }
    const auto *text = std::get_if<std::string>(value);
    if (!text) {
      failKey(name, "a string", value);
    }
    return text ? *text : fallback.str();
  }

  /// One integer from 0 to kMaxDim for every layer: an array, or one number for all.
  std::vector<int64_t> perLayer(StringRef name, int64_t layers, const std::vector<int64_t> *fallback) {
    const GgufValue *value = find(name);
    std::vector<int64_t> result(layers, 1);
    if (!value && fallback) {
      return *fallback;
    }
    const auto *number = value ? std::get_if<int64_t>(value) : nullptr;
    const auto *list = value ? std::get_if<std::vector<int64_t>>(value) : nullptr;
    if (number) {
      result.assign(layers, *number);
    } else if (list && list->size() == static_cast<size_t>(layers)) {
      result = *list;
    } else {
      failKey(name,
              "an integer or an array of one for each of the " + Twine(layers) + " layers ('" + architecture +
                  ".block_count')" + (list ? ", not of " + Twine(list->size()) : Twine()),
              value);
    }
    for (auto [layer, count] : llvm::enumerate(result)) {
      if (count < 0 || count > kMaxDim) {
        fail("'" + architecture + "." + name + "' is " + Twine(count) + " for layer " + Twine(layer) +
             ", but must be from 0 to " + Twine(kMaxDim));
        result[layer] = 1;
      }
    }
    return result;
  }

  /// `name` changes what is computed: it may be absent or say that it does not.
  void refuse(StringRef name, ArrayRef<double> harmless, StringRef why) {
    const GgufValue *value = find(name);
    if (!value) {
      return;
    }
    std::optional<double> number;
    if (const auto *integer = std::get_if<int64_t>(value)) {
      number = static_cast<double>(*integer);
    } else if (const auto *real = std::get_if<double>(value)) {
      number = *real;
    } else if (const auto *flag = std::get_if<bool>(value)) {
      number = *flag ? 1 : 0;
    }
    if (!number || !llvm::is_contained(harmless, *number)) {
      fail("'" + architecture + "." + name + "' is " + describeValue(*value) + ", which is not supported: " + why +
           "; use the model's original directory");
    }
  }

  const GgufHeader &header;

private:
  StringRef path, architecture;
  std::vector<std::string> &errors;
};

} // namespace

//===----------------------------------------------------------------------===//
// RoPE
//===----------------------------------------------------------------------===//

static const TensorInfo *findTensor(const GgufHeader &header, StringRef name) {
  auto at = llvm::find_if(header.tensors, [&](const TensorInfo &tensor) { return tensor.name == name; });
  return at == header.tensors.end() ? nullptr : &*at;
}

/// The divisors of `rope_freqs.weight`: facts of the model that this format keeps in a tensor.
static void readFactors(MetadataReader &keys, StringRef path, const TensorInfo &tensor, int64_t headDim,
                        RopeConfig &rope) {
  if (tensor.type != ElementType::F32 || tensor.shape != std::vector<int64_t>{headDim / 2}) {
    keys.fail("tensor '" + kGgufRopeFactors + "' must be F32 of " + Twine(headDim / 2) + " elements, one per pair of " +
              "a head's dims");
    return;
  }
  if (rope.kind != RopeKind::Default) {
    keys.fail("has 'rope.scaling.type' and a tensor '" + kGgufRopeFactors + "', of which one is to be expected");
    return;
  }
  std::vector<float> values(headDim / 2);
  moert::Result<moert::readers::InputFile> file = moert::readers::InputFile::open(path.str());
  moert::Status status = file.ok() ? file->read(tensor.offset, values.data(), tensor.bytes) : file.status();
  if (!status.ok()) {
    keys.fail(status.message());
    return;
  }
  for (float value : values) {
    if (!(value > 0) || !std::isfinite(value)) {
      keys.fail("tensor '" + kGgufRopeFactors + "' must hold positive finite numbers");
      return;
    }
  }
  rope.kind = RopeKind::LongRope;
  rope.dimFactors.assign(values.begin(), values.end());
}

static RopeConfig readRope(MetadataReader &keys, StringRef path, const ModelConfig &model) {
  RopeConfig rope;
  rope.interleaved = true;
  rope.theta = keys.real("rope.freq_base", 1e4);
  if (rope.theta <= 1) {
    keys.fail("'rope.freq_base' must be above 1, but is " + Twine(std::to_string(rope.theta)));
    rope.theta = 1e4;
  }
  if (int64_t dims = keys.integer("rope.dimension_count", model.headDim, kMaxDim); dims != model.headDim) {
    keys.fail("'rope.dimension_count' (" + Twine(dims) + ") must be the width of a head (" + Twine(model.headDim) +
              "): turning a part of it is not supported");
  }
  keys.refuse("rope.scaling.attn_factor", {1, 0}, "it scales the rotated values");
  std::string type = keys.string("rope.scaling.type", "none");
  if (type == "linear") {
    rope.kind = RopeKind::Linear;
    rope.factor = keys.real("rope.scaling.factor", std::nullopt);
  } else if (type == "yarn") {
    rope.kind = RopeKind::Yarn;
    rope.factor = keys.real("rope.scaling.factor", std::nullopt);
    rope.originalContext = keys.integer("rope.scaling.original_context_length", model.maxPositions, kMaxContext);
    rope.attentionFactor = rope.factor > 1 ? 0.1 * std::log(rope.factor) + 1 : 1;
    keys.refuse("rope.scaling.yarn_log_multiplier", {0}, "it changes YaRN's scale");
  } else if (type != "none") {
    keys.fail("'rope.scaling.type' is '" + type + "'; supported: none, linear, yarn");
  }
  if (const TensorInfo *factors = findTensor(keys.header, kGgufRopeFactors)) {
    readFactors(keys, path, *factors, model.headDim, rope);
  }
  return rope;
}

//===----------------------------------------------------------------------===//
// The config
//===----------------------------------------------------------------------===//

static void readLayers(MetadataReader &keys, ModelConfig &model, bool mayLackParts) {
  const std::vector<int64_t> heads = keys.perLayer("attention.head_count", model.layers, nullptr);
  const std::vector<int64_t> kvHeads = keys.perLayer("attention.head_count_kv", model.layers, &heads);
  const std::vector<int64_t> ffn = keys.perLayer("feed_forward_length", model.layers, nullptr);
  int64_t empty = 0;
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const int64_t q = heads[layer], kv = kvHeads[layer], width = ffn[layer];
    const std::string place = "layer " + std::to_string(layer);
    if (!mayLackParts && (q == 0 || width == 0)) {
      keys.fail(place + " has " + Twine(q) + " heads and an FFN of width " + Twine(width) +
                "; every layer of architecture 'llama' must have both");
    } else if (q != 0 && width == 0) {
      // llama.cpp 0.3.36 passes over such a layer, attention included.
      keys.fail(
          place + " has an attention of " + Twine(q) + " heads and no FFN ('feed_forward_length' 0), which " +
          "llama.cpp takes for a layer that does nothing; the file does not say which of both is meant, use the " +
          "model's original directory");
    } else if (q != 0 && kv == 0) {
      keys.fail(place + " has " + Twine(q) + " heads and no key heads: a linear map in place of attention is not " +
                "supported");
    } else if (q != 0 && q % kv != 0) {
      keys.fail(place + ": 'attention.head_count' (" + Twine(q) +
                ") must be a multiple of 'attention.head_count_kv' (" + Twine(kv) + ")");
    }
    empty += q == 0 && width == 0;
    model.perLayer.push_back({q, q == 0 ? 0 : kv, width});
    model.heads = std::max(model.heads, q);
    model.kvHeads = std::max(model.kvHeads, model.perLayer.back().kvHeads);
    model.ffn = std::max(model.ffn, width);
  }
  if (empty != 0) {
    model.notes.push_back(std::to_string(empty) + " of the " + std::to_string(model.layers) +
                          " layers have neither attention nor FFN and cost nothing; the others keep their numbers");
  }
}

/// The Hugging Face class that can say the same of its layers.
static const ModelFamily *chooseFamily(const ModelConfig &model) {
  auto same = [](const LayerConfig &a, const LayerConfig &b) {
    return a.heads == b.heads && a.kvHeads == b.kvHeads && a.ffn == b.ffn;
  };
  if (llvm::all_of(model.perLayer, [&](const LayerConfig &l) { return same(l, model.perLayer.front()); })) {
    return findModelFamily("llama");
  }
  const bool hasGaps = llvm::any_of(model.perLayer, [](const LayerConfig &l) { return l.heads == 0 || l.ffn == 0; });
  return findModelFamily(hasGaps ? "nemotron-nas" : "wide_llama");
}

Expected<ModelConfig> moe::readGgufConfig(const GgufHeader &header, StringRef path) {
  auto found = header.metadata.find("general.architecture");
  const auto *name = found == header.metadata.end() ? nullptr : std::get_if<std::string>(&found->second);
  if (!name) {
    return makeError(path + ": has no 'general.architecture', a string that names the model's kind");
  }
  if (*name != "llama" && *name != "deci") {
    return makeError(path + ": 'general.architecture' is '" + *name + "'; supported: llama, deci");
  }
  std::vector<std::string> errors;
  MetadataReader keys(header, path, *name, errors);
  ModelConfig model;
  model.naming = Naming::Gguf;
  model.layers = keys.integer("block_count", std::nullopt, kMaxLayers);
  model.hidden = keys.integer("embedding_length", std::nullopt, kMaxDim);
  model.maxPositions = keys.integer("context_length", std::nullopt, kMaxContext);
  model.normEps = keys.real("attention.layer_norm_rms_epsilon", std::nullopt);
  if (errors.empty()) {
    readLayers(keys, model, /*mayLackParts=*/*name == "deci");
  }
  if (model.heads == 0 && errors.empty()) {
    keys.fail("no layer has attention");
  }
  if (!errors.empty()) {
    return makeError(llvm::join(errors, "\n"));
  }
  model.headDim = keys.integer("attention.key_length", std::max<int64_t>(model.hidden / model.heads, 1), kMaxDim);
  if (!keys.find("attention.key_length") &&
      (model.perLayer.front().heads == 0 || model.hidden % model.perLayer.front().heads != 0)) {
    keys.fail("'attention.key_length' is missing, and 'embedding_length' (" + Twine(model.hidden) +
              ") is no multiple of the heads of layer 0 (" + Twine(model.perLayer.front().heads) + ")");
  } else if (!keys.find("attention.key_length")) {
    model.headDim = model.hidden / model.perLayer.front().heads;
  }
  if (int64_t values = keys.integer("attention.value_length", model.headDim, kMaxDim); values != model.headDim) {
    keys.fail("'attention.value_length' (" + Twine(values) + ") must be 'attention.key_length' (" +
              Twine(model.headDim) + ")");
  }
  if (model.headDim % 2 != 0) {
    keys.fail("the width of a head (" + Twine(model.headDim) + ") must be even: RoPE turns pairs");
  }
  model.rope = readRope(keys, path, model);
  keys.refuse("expert_count", {0}, "a mixture of experts in this format is not read yet");
  keys.refuse("attention.sliding_window", {0}, "attention to a window");
  keys.refuse("attention.scale", {0}, "a scale of attention of its own");
  keys.refuse("attention.causal", {1}, "attention to later tokens");
  keys.refuse("attention.clamp_kqv", {0}, "it clamps q, k and v");
  keys.refuse("residual_scale", {0, 1}, "it scales what layers add");
  keys.refuse("embedding_scale", {0, 1}, "it scales the embedding");
  keys.refuse("logit_scale", {0, 1}, "it scales the logits");
  keys.refuse("use_parallel_residual", {0}, "attention and FFN on one input");

  const TensorInfo *table = findTensor(header, "token_embd.weight");
  model.tiedHead = findTensor(header, "output.weight") == nullptr;
  model.attentionBias = findTensor(header, "blk.0.attn_q.bias") != nullptr;
  model.mlpBias = findTensor(header, "blk.0.ffn_up.bias") != nullptr;
  if (!table || table->shape.size() != 2) {
    keys.fail("has no tensor 'token_embd.weight' of two dimensions, the embedding");
  } else {
    model.vocab = keys.integer("vocab_size", table->shape[0], kMaxDim);
  }
  if (!errors.empty()) {
    return makeError(llvm::join(errors, "\n"));
  }
  model.family = chooseFamily(model);
  return model;
}
