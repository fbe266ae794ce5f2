//===- HFConfig.cpp - config.json of an export -------------------------------===//

#include "lowering/MoeToHF/HFConfig.h"
#include "lowering/HFToMoe/ModelConfig.h"
#include "lowering/MoeToHF/PythonFiles.h"
#include "passes/Json/JsonFile.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;

std::pair<StringRef, StringRef> moe::getPythonFile(ExportFormat format) {
  if (format == ExportFormat::NemotronNas) {
    return {"configuration_decilm.py", kConfigurationDecilm};
  }
  return {"modeling_wide_llama.py", kModelingWideLlama};
}

/// RoPE in both spellings: `rope_theta` with `rope_scaling`, which some engines read, and `rope_parameters`, which the
/// others do. Parameters are those of the original; the importer has found that its spellings agree.
static void writeRope(json::Object &config, const json::Object &original, double theta) {
  json::Object parameters;
  for (StringRef spelling : {"rope_scaling", "rope_parameters"}) {
    if (const json::Object *object = original.getObject(spelling)) {
      for (const auto &member : *object) {
        parameters[member.first == "type" ? StringRef("rope_type") : StringRef(member.first)] = member.second;
      }
    }
  }
  parameters.try_emplace("rope_type", "default");
  parameters["rope_theta"] = theta;
  json::Object scaling = parameters;
  scaling.erase("rope_theta");
  config["rope_theta"] = theta;
  config["rope_scaling"] = parameters.getString("rope_type") == "default" ? json::Value(nullptr) : std::move(scaling);
  config["rope_parameters"] = std::move(parameters);
}

static StringRef spellActivation(Activation activation) {
  switch (activation) {
  case Activation::Gelu:
    return "gelu";
  case Activation::GeluTanh:
    return "gelu_pytorch_tanh";
  case Activation::Relu:
    return "relu";
  default: // OssSwiglu is no HF activation, and readExportGraph refuses it
    return "silu";
  }
}

/// One entry of `block_configs`.
static Expected<json::Object> makeBlock(const ExportGraph &graph, const ExportLayer &layer) {
  json::Object attention{
      {"no_op", !layer.hasAttention()}, {"replace_with_linear", false}, {"sparsify", nullptr},
      {"num_sink_tokens", nullptr},     {"unshifted_sink", false},      {"use_prefill_window_in_sink_attention", false},
      {"window_length", nullptr},       {"n_heads_in_group", nullptr}};
  if (layer.hasAttention()) {
    attention["n_heads_in_group"] = layer.heads / layer.kvHeads;
  }
  json::Object ffn{
      {"no_op", !layer.hasFFN()}, {"replace_with_linear", false}, {"sparsify", nullptr}, {"ffn_mult", nullptr}};
  if (layer.hasFFN()) {
    const double multiple = 3.0 * static_cast<double>(layer.ffn) / (2.0 * static_cast<double>(graph.hidden));
    if (widthOfMultiple(multiple, graph.hidden) != layer.ffn) {
      return makeError("an FFN of width " + Twine(layer.ffn) + " has the ffn_mult " + describe(multiple) +
                       ", from which engines compute " + Twine(widthOfMultiple(multiple, graph.hidden)) +
                       "; this is a bug, please report it");
    }
    ffn["ffn_mult"] = multiple;
  }
  return json::Object{{"attention", std::move(attention)}, {"ffn", std::move(ffn)}};
}

static llvm::Error writeBlocks(json::Object &config, const ExportGraph &graph) {
  json::Array blocks;
  for (const ExportLayer &layer : graph.layers) {
    Expected<json::Object> block = makeBlock(graph, layer);
    if (!block) {
      return block.takeError();
    }
    blocks.push_back(std::move(*block));
  }
  config["block_configs"] = std::move(blocks);
  config["num_attention_heads"] = graph.maxHeads();
  config["num_key_value_heads"] = nullptr;
  config["intermediate_size"] = nullptr;
  return llvm::Error::success();
}

/// The numbers that most layers have, so that few are named.
static ExportLayer commonLayer(const ExportGraph &graph) {
  const ExportLayer *best = nullptr;
  long bestCount = 0;
  auto same = [](const ExportLayer &a, const ExportLayer &b) {
    return a.heads == b.heads && a.kvHeads == b.kvHeads && a.ffn == b.ffn;
  };
  for (const ExportLayer &layer : graph.layers) {
    const long count = llvm::count_if(graph.layers, [&](const ExportLayer &other) { return same(layer, other); });
    if (count > bestCount) {
      best = &layer;
      bestCount = count;
    }
  }
  return *best;
}

static void writeWidths(json::Object &config, const ExportGraph &graph) {
  const ExportLayer common = commonLayer(graph);
  config["num_attention_heads"] = common.heads;
  config["num_key_value_heads"] = common.kvHeads;
  config["intermediate_size"] = common.ffn;
  json::Object perLayer;
  for (auto [index, layer] : llvm::enumerate(graph.layers)) {
    if (layer.heads != common.heads || layer.kvHeads != common.kvHeads || layer.ffn != common.ffn) {
      perLayer[std::to_string(index)] = json::Object{{"num_attention_heads", layer.heads},
                                                     {"num_key_value_heads", layer.kvHeads},
                                                     {"intermediate_size", layer.ffn}};
    }
  }
  config["per_layer_config"] = std::move(perLayer);
}

Expected<json::Object> moe::makeHFConfig(const ExportGraph &graph, ExportFormat format, Type storage,
                                         const json::Object &original) {
  json::Object config = original;
  // Said of layers that are no more, or by formats that are not this one.
  for (StringRef key : {"layer_types", "block_configs", "per_layer_config", "pretraining_tp", "_name_or_path"}) {
    config.erase(key);
  }
  const StringRef dtype = storage.isF32()   ? "float32"
                          : storage.isF64() ? "float64"
                          : storage.isF16() ? "float16"
                                            : "bfloat16";
  // Engines on transformers 4 read the second.
  config["dtype"] = dtype;
  config["torch_dtype"] = dtype;
  config["num_hidden_layers"] = static_cast<int64_t>(graph.layers.size());
  config["hidden_size"] = graph.hidden;
  config["vocab_size"] = graph.vocab;
  config["head_dim"] = graph.headDim;
  config["rms_norm_eps"] = graph.normEps;
  config["hidden_act"] = spellActivation(graph.activation);
  config["tie_word_embeddings"] = !graph.head;
  config["attention_bias"] = graph.hasAttentionBias;
  config["mlp_bias"] = graph.hasFFNBias;
  writeRope(config, original, graph.rope.getTheta().getValueAsDouble());
  if (format == ExportFormat::NemotronNas) {
    config["architectures"] = json::Array{"DeciLMForCausalLM"};
    config["model_type"] = "nemotron-nas";
    config["auto_map"] = json::Object{{"AutoConfig", "configuration_decilm.DeciLMConfig"}};
    if (llvm::Error error = writeBlocks(config, graph)) {
      return std::move(error);
    }
    return config;
  }
  config["architectures"] = json::Array{"WideLlamaForCausalLM"};
  config["model_type"] = "wide_llama";
  config["auto_map"] = json::Object{{"AutoConfig", "modeling_wide_llama.WideLlamaConfig"},
                                    {"AutoModel", "modeling_wide_llama.WideLlamaModel"},
                                    {"AutoModelForCausalLM", "modeling_wide_llama.WideLlamaForCausalLM"}};
  writeWidths(config, graph);
  return config;
}
