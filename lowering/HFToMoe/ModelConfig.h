//===- ModelConfig.h - What a Hugging Face config.json says about a model ---===//
//
// Turns config.json into numbers: checked, with the defaults of the model's own
// configuration class for absent keys, and one form for what was spelled in
// several ways (`rope_theta` + `rope_scaling` of transformers 4,
// `rope_parameters` of transformers 5). A family is a row of a table: class
// defaults, which keys it knows, how its tensors are called. It does not look
// at tensors; MoeImporter.h does.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_HFTOMOE_MODELCONFIG_H
#define MOE_LOWERING_HFTOMOE_MODELCONFIG_H

#include "dialects/Moe/IR/MoeOps.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"

namespace mlir::moe {

/// One spelling of a family's MoE tensor names, after the prefix `model.layers.<i>.`; `{}` is the expert. Without it,
/// a tensor holds all experts; where gate and up have one name, it holds the rows of gate and then those of up.
struct ExpertNames {
  llvm::StringLiteral router, gate, up, down;
  bool isStacked() const { return gate.contains("{}"); }
  bool isJoined() const { return llvm::StringRef(gate) == up; }
};

/// A family: the defaults of its configuration class, the keys it gives a meaning to, its tensor names.
struct ModelFamily {
  llvm::StringLiteral modelType, className;
  int64_t vocab, hidden, ffn, layers, heads;
  /// 0: as many as query heads.
  int64_t kvHeads;
  int64_t maxPositions;
  double normEps, ropeTheta;
  /// 0: dense.
  int64_t experts, expertsPerToken;
  /// Whether `attention_bias` and `mlp_bias`, and `sliding_window`, mean something to this class.
  bool knowsBiases, knowsWindow;
  Renormalize renormalize;
  /// Spellings of the MoE tensors; the first whose gate exists is taken.
  llvm::ArrayRef<ExpertNames> expertNames;
  /// Whether `block_configs` says for every layer what it has.
  bool hasBlockConfigs = false;
  /// Whether `per_layer_config` says of some layers how they differ.
  bool hasPerLayerConfig = false;
};

/// The family of a `model_type`, or null.
const ModelFamily *findModelFamily(llvm::StringRef modelType);
/// Every known `model_type`, for messages: "llama, mixtral, nemotron-nas".
std::string knownModelTypes();

/// Rotary embedding, with what the config left open resolved.
struct RopeConfig {
  RopeKind kind = RopeKind::Default;
  double theta = 0, factor = 1;
  int64_t originalContext = 0;
  double betaFast = 32, betaSlow = 1, attentionFactor = 1, lowFreqFactor = 1, highFreqFactor = 4;
  bool truncate = true;
  /// Whether the checkpoint's rows of q and k are in the order that turns neighbours: of a head's dims 2i and 2i + 1.
  bool interleaved = false;
  /// Divisors of the frequencies, one per pair; only of kind `longrope`.
  std::vector<double> dimFactors;
};

/// How a checkpoint names its tensors and dims.
enum class Naming {
  HuggingFace, ///< `model.layers.0.mlp.up_proj.weight`, `hidden_size`
  Gguf         ///< `blk.0.ffn_up.weight`, `embedding_length`
};

/// What may differ from layer to layer.
struct LayerConfig {
  int64_t heads = 0, kvHeads = 0; ///< Q, G; 0: no attention
  int64_t ffn = 0;                ///< I; 0: no FFN
};

/// A model's shape. Letters in the comments are those of docs/spec.md.
struct ModelConfig {
  const ModelFamily *family = nullptr;
  Naming naming = Naming::HuggingFace;
  int64_t layers = 0, hidden = 0, vocab = 0;         // L, H, V
  int64_t heads = 0, kvHeads = 0, headDim = 0;       // Q, G, D
  int64_t ffn = 0, experts = 0, expertsPerToken = 0; // I, E, K; E = 0: dense
  /// One per layer. Where layers differ, `heads`, `kvHeads` and `ffn` above are the largest.
  std::vector<LayerConfig> perLayer;
  /// The context that the model was made for; it computes beyond it, at a quality of its own.
  int64_t maxPositions = 0;
  /// The context beyond which the model as imported would compute something else; 0: none.
  int64_t contextLimit = 0;
  double normEps = 0;
  bool tiedHead = false, attentionBias = false, mlpBias = false;
  /// Attend to the last `window` positions only.
  std::optional<int64_t> window;
  Activation activation = Activation::Silu;
  RopeConfig rope;
  /// What the reader should know: one sentence each.
  std::vector<std::string> notes;
};

/// The width that `ffn_mult` of a block stands for, as every reader of the format computes it: two thirds of the
/// multiple of H, rounded up to a multiple of 256.
int64_t widthOfMultiple(double multiple, int64_t hidden);

/// Reads a parsed config.json. `file` names it in errors; every wrong key is reported, one line each.
llvm::Expected<ModelConfig> parseModelConfig(const llvm::json::Value &config, llvm::StringRef file);

/// Reads `path`, a config.json.
llvm::Expected<ModelConfig> readModelConfig(llvm::StringRef path);

/// Dims above these are no model's; the bounds keep every product of three of them inside 64 bits.
constexpr int64_t kMaxDim = 1 << 24, kMaxLayers = 4096, kMaxExperts = 65536, kMaxContext = int64_t(1) << 31;

} // namespace mlir::moe

#endif // MOE_LOWERING_HFTOMOE_MODELCONFIG_H
