//===- Facts.cpp - What a plan must know of model and machine ---------------===//

#include "passes/Analysis/Placement/Facts.h"
#include "runtime/readers/File.h"
#include "runtime/readers/Json.h"
#include <algorithm>
#include <set>

using namespace moe::placement;
using moert::error;
using moert::readers::JsonView;

static constexpr int64_t kMost = 1 << 24;

/// The first of `keys` that is there, or `otherwise`.
static int64_t integerOf(const JsonView &root, std::initializer_list<const char *> keys, int64_t otherwise) {
  for (const char *key : keys) {
    if (root.has(key)) {
      return root.at(key).integer(0, kMost);
    }
  }
  return otherwise;
}

/// Bytes of a weight: a quantised checkpoint says how it is quantised, others what their type is.
static double weightBytes(const JsonView &root) {
  if (root.has("quantization_config")) {
    const JsonView quantization = root.at("quantization_config");
    const std::string method = quantization.text("quant_method", "");
    if (method == "fp8") {
      return 1;
    }
    if (quantization.has("bits")) {
      return static_cast<double>(quantization.at("bits").integer(1, 16)) / 8;
    }
    return method == "mxfp4" ? 0.5 : 1;
  }
  const std::string type = root.text("torch_dtype", root.text("dtype", "bfloat16"));
  return type == "float32" ? 4 : 2;
}

static Result<ModelFacts> parseFacts(const std::string &path, const JsonView &root) {
  ModelFacts facts;
  ModelHint &layers = facts.layers;
  layers.totalLayers = static_cast<int>(root.at("num_hidden_layers").integer(1, kMost));
  layers.experts = static_cast<int>(integerOf(root, {"n_routed_experts", "num_local_experts", "num_experts"}, 0));
  if (layers.experts == 0) {
    return error(Code::InvalidArgument, path,
                 ": has none of n_routed_experts, num_local_experts, num_experts: the model has no experts to place");
  }
  // DeepSeek: the first layers are dense, then every moe_layer_freq-th routes. Qwen: every decoder_sparse_step-th, but
  // for a list.
  const int64_t firstDense = integerOf(root, {"first_k_dense_replace"}, 0);
  const int64_t every = std::max<int64_t>(1, root.has("moe_layer_freq") && root.at("moe_layer_freq").isArray()
                                                 ? 1
                                                 : integerOf(root, {"moe_layer_freq"}, 1));
  const int64_t step = std::max<int64_t>(1, integerOf(root, {"decoder_sparse_step"}, 1));
  std::set<int64_t> dense;
  if (root.has("mlp_only_layers")) {
    for (const JsonView &layer : root.at("mlp_only_layers").elements()) {
      dense.insert(layer.integer(0, kMost));
    }
  }
  for (int layer = 0; layer < layers.totalLayers; ++layer) {
    if (layer >= firstDense && layer % every == 0 && (layer + 1) % step == 0 && dense.count(layer) == 0) {
      layers.moeLayers.push_back(layer);
    }
  }
  facts.routing.expertsPerToken = static_cast<int>(integerOf(root, {"num_experts_per_tok", "moe_topk"}, 1));
  facts.routing.groups = std::max(1, static_cast<int>(integerOf(root, {"n_group"}, 1)));
  facts.routing.topGroups = std::max(1, static_cast<int>(integerOf(root, {"topk_group"}, facts.routing.groups)));
  if (layers.experts % facts.routing.groups != 0 || facts.routing.topGroups > facts.routing.groups) {
    return error(Code::InvalidArgument, path, ": ", layers.experts, " experts in n_group ", facts.routing.groups,
                 " with topk_group ", facts.routing.topGroups, " is impossible");
  }
  facts.hidden = root.at("hidden_size").integer(1, kMost);
  facts.expertWidth = integerOf(root, {"moe_intermediate_size", "intermediate_size"}, 0);
  facts.bytesPerWeight = weightBytes(root);
  return facts;
}

Result<ModelFacts> moe::placement::readModelFacts(const std::string &directory) {
  const std::string path = moert::readers::joinPath(directory, "config.json");
  MOERT_ASSIGN(text, moert::readers::readWholeFile(path, 16 << 20));
  MOERT_ASSIGN(json, moert::readers::parseJson(path, text));
  return moert::readers::guarded(path, [&]() -> Result<ModelFacts> { return parseFacts(path, JsonView(path, json)); });
}

Result<Topology> moe::placement::readTopology(const std::string &path) {
  MOERT_ASSIGN(text, moert::readers::readWholeFile(path, 1 << 20));
  MOERT_ASSIGN(json, moert::readers::parseJson(path, text));
  return moert::readers::guarded(path, [&]() -> Result<Topology> {
    const JsonView root(path, json);
    Topology topology;
    topology.name = root.at("name").text();
    topology.ranksPerNode = static_cast<int>(root.at("gpus_per_node").integer(1, 1 << 16));
    const std::pair<const char *, double *> rates[] = {{"memory_gb_per_s", &topology.memoryRate},
                                                       {"matmul_gflops", &topology.operationRate},
                                                       {"node_gb_per_s", &topology.nodeRate},
                                                       {"network_gb_per_s", &topology.networkRate}};
    for (const auto &rate : rates) {
      *rate.second = root.at(rate.first).number() * 1e9;
      if (!(*rate.second > 0)) {
        root.at(rate.first).fail(Code::InvalidArgument, "must be positive");
      }
    }
    for (const auto &time :
         {std::pair("round_us", &topology.roundSeconds), std::pair("host_read_us", &topology.readSeconds)}) {
      if (root.has(time.first)) {
        *time.second = root.at(time.first).number() * 1e-6;
        if (!(*time.second >= 0)) {
          root.at(time.first).fail(Code::InvalidArgument, "must not be negative");
        }
      }
    }
    return topology;
  });
}
