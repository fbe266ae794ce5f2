//===- ExportModel.cpp - A fused model as a checkpoint that an engine loads -===//

#include "lowering/MoeToHF/ExportModel.h"
#include "lowering/HFToMoe/ModelConfig.h"
#include "lowering/MoeToHF/GgufTokenizer.h"
#include "lowering/MoeToHF/HFConfig.h"
#include "passes/Analysis/ResidualStream.h"
#include "passes/Json/JsonFile.h"
#include "runtime/readers/OutputFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include <map>

using namespace mlir;
using namespace mlir::moe;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;
namespace fs = llvm::sys::fs;

/// Files that belong to a model and say nothing of its layers.
static constexpr llvm::StringLiteral kCarriedFiles[] = {"generation_config.json",
                                                        "tokenizer.json",
                                                        "tokenizer_config.json",
                                                        "tokenizer.model",
                                                        "special_tokens_map.json",
                                                        "added_tokens.json",
                                                        "chat_template.jinja",
                                                        "vocab.json",
                                                        "merges.txt",
                                                        "LICENSE"};

static std::string joinPath(StringRef directory, StringRef name) {
  llvm::SmallString<256> path(directory);
  llvm::sys::path::append(path, name);
  return path.str().str();
}

static Error toError(const moert::Status &status) {
  return status.ok() ? Error::success() : makeError(status.message());
}

//===----------------------------------------------------------------------===//
// Which format
//===----------------------------------------------------------------------===//

/// A form whose result needs what this model needs; the layer that does.
static std::vector<std::pair<FusionForm, const ExportLayer *>> findNeeds(const ExportGraph &graph) {
  std::vector<std::pair<FusionForm, const ExportLayer *>> needs;
  auto find = [&](FusionForm form, auto holds) {
    const auto found = llvm::find_if(graph.layers, holds);
    if (found != graph.layers.end()) {
      needs.emplace_back(form, &*found);
    }
  };
  const ExportLayer *withAttention = nullptr;
  for (const ExportLayer &layer : graph.layers) {
    withAttention = !withAttention && layer.hasAttention() ? &layer : withAttention;
  }
  find(FusionForm::Removed, [](const ExportLayer &layer) { return !layer.hasAttention(); });
  find(FusionForm::Deferred, [](const ExportLayer &layer) { return !layer.hasFFN(); });
  find(FusionForm::Pair,
       [&](const ExportLayer &layer) { return layer.hasAttention() && layer.heads != withAttention->heads; });
  return needs;
}

/// "layer 3 has " or "layers 3 to 5 have ".
static std::string describeLayer(const ExportLayer &layer) {
  return spellLayers(layer.first, layer.last) + (layer.first == layer.last ? " has " : " have ");
}

/// Why nothing that `engine` loads expresses `needs`.
static Error describeNeeds(ArrayRef<std::pair<FusionForm, const ExportLayer *>> needs, const EngineFacts &engine) {
  std::string reasons;
  for (const auto &[form, layer] : needs) {
    const char *what = form == FusionForm::Removed    ? "no attention"
                       : form == FusionForm::Deferred ? "no FFN"
                                                      : "other heads than the first";
    reasons += (reasons.empty() ? "" : ", ") + describeLayer(*layer) + what + " (form " + spell(form).str() + ")";
  }
  std::string formats;
  for (const EngineFormat &format : engine.formats) {
    std::string list;
    for (FusionForm form : getFormatFacts(format.format).forms) {
      list += (list.empty() ? "" : ", ") + spell(form).str();
    }
    formats += (formats.empty() ? "" : "; ") + spell(format.format).str() + ": " + list;
  }
  return makeError(reasons + ", which nothing that " + engine.product + " loads expresses (" + formats +
                   "); make a plan with other forms, or export for another engine");
}

/// The rules of a format beyond the forms.
Error ModelExport::check(const FormatFacts &format) const {
  const std::string what = spell(format.format).str();
  const ExportLayer &front = graph.layers.front();
  if (format.needsFirstAttention && !front.hasAttention()) {
    return makeError(describeLayer(front) + "no attention, but a " + what +
                     " must begin with one; leave layer 0 out of the plan's windows and of remove_attention");
  }
  if (!format.allowsBiases && (graph.hasAttentionBias || graph.hasFFNBias)) {
    return makeError("the model has biases of its " + Twine(graph.hasAttentionBias ? "attention" : "FFNs") + ", but " +
                     (format.format == ExportFormat::NemotronNas
                          ? "SGLang and TensorRT-LLM ignore those of a nemotron-nas directory"
                          : "in GGUF files llama.cpp takes that of the queries to be as long as the embedding") +
                     "; export for transformers or vllm with plans of form P");
  }
  if (format.format != ExportFormat::WideLlama && graph.activation != Activation::Silu) {
    return makeError("the activation of the model's FFNs is " + stringifyActivation(graph.activation) +
                     ", but every reader of a " + what + " computes silu");
  }
  return Error::success();
}

/// The first format of the engine that expresses the model and whose rules it keeps.
Expected<const EngineFormat *> ModelExport::chooseFormat() const {
  const auto needs = findNeeds(graph);
  std::string problem;
  for (const EngineFormat &candidate : options.engine->formats) {
    const FormatFacts &format = getFormatFacts(candidate.format);
    if (!llvm::all_of(needs, [&](const auto &need) { return format.expresses(need.first); })) {
      continue;
    }
    Error error = check(format);
    if (!error) {
      return &candidate;
    }
    std::string text = llvm::toString(std::move(error));
    problem = problem.empty() ? text : problem;
  }
  return problem.empty() ? describeNeeds(needs, *options.engine) : makeError(problem);
}

Expected<ModelExport> ModelExport::plan(ModuleOp module, StringRef directory, const ExportOptions &options) {
  ModelExport result;
  result.directory = directory.str();
  result.options = options;
  Expected<json::Value> config = readJsonFile(joinPath(directory, "config.json"));
  if (!config) {
    return config.takeError();
  }
  Expected<ModelConfig> model = parseModelConfig(*config, joinPath(directory, "config.json"));
  if (!model) {
    return model.takeError();
  }
  result.config = std::move(*config->getAsObject()); // parseModelConfig has found that it is one
  result.contextLength = model->maxPositions;
  result.config["max_position_embeddings"] = model->maxPositions;
  Expected<ExportGraph> graph = readExportGraph(module);
  if (!graph) {
    return makeError(directory + ": " + llvm::toString(graph.takeError()));
  }
  result.graph = std::move(*graph);
  Expected<const EngineFormat *> chosen = result.chooseFormat();
  if (!chosen) {
    return makeError(directory + ": " + llvm::toString(chosen.takeError()));
  }
  const FormatFacts &format = getFormatFacts((*chosen)->format);
  ExportFacts &facts = result.facts;
  facts.format = format.format;
  facts.minimumVersion = (*chosen)->minimumVersion.str();
  facts.triedVersion = (*chosen)->triedVersion.str();
  facts.how = (*chosen)->how.str();
  std::map<std::pair<int64_t, int64_t>, int64_t> padded; // by old and new width: how many layers
  for (auto [index, width] : padWidths(result.graph, format.widthMultiple)) {
    ++padded[{width, result.graph.layers[index].ffn}];
  }
  for (const auto &[widths, count] : padded) {
    facts.notes.push_back(std::to_string(count) + (count == 1 ? " FFN gets" : " FFNs get") + " zeros from width " +
                          std::to_string(widths.first) + " to " + std::to_string(widths.second) + ", a multiple of " +
                          std::to_string(format.widthMultiple));
  }
  result.tensors = format.format == ExportFormat::Gguf ? listGgufTensors(result.graph) : listHFTensors(result.graph);
  if (options.storeInF32) {
    storeInF32(result.tensors);
  }
  if (format.format == ExportFormat::Gguf) {
    addModelKeys(result.metadata, result.graph, result.tensors.front().element,
                 llvm::sys::path::filename(directory.rtrim('/')), result.contextLength);
    if (Error error =
            addTokenizerKeys(result.metadata, directory, result.config, options.preTokenizer, result.graph.vocab)) {
      return error;
    }
  }
  facts.layers = static_cast<int64_t>(result.graph.layers.size());
  facts.tensors = static_cast<int64_t>(result.tensors.size());
  facts.computedTensors = static_cast<int64_t>(result.getComputedWeights().size());
  for (const ExportTensor &tensor : result.tensors) {
    facts.bytes += tensor.bytes();
    facts.parameters += tensor.value ? cast<RankedTensorType>(tensor.value.getType()).getNumElements() : 0;
    if (format.format == ExportFormat::Gguf && tensor.element.isF64()) {
      return makeError(directory + ": tensor '" + tensor.name +
                       "' is stored in F64, which GGUF files do not hold; "
                       "store the checkpoint in F32");
    }
  }
  facts.notes.push_back("LoRA adapters and draft heads of the model do not fit the result");
  return result;
}

std::vector<std::pair<std::string, Value>> ModelExport::getComputedWeights() const {
  std::vector<std::pair<std::string, Value>> computed;
  for (const ExportTensor &tensor : tensors) {
    if (tensor.value && !tensor.value.getDefiningOp<GetWeightOp>()) {
      computed.emplace_back(tensor.name, tensor.value);
    }
  }
  return computed;
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

Error ModelExport::write(StringRef path, WeightBytes &weights, TensorProgress progress) {
  return isOneFile() ? writeFile(path, weights, progress) : writeDirectory(path, weights, progress);
}

Error ModelExport::writeFile(StringRef path, WeightBytes &weights, TensorProgress progress) {
  facts.files = {llvm::sys::path::filename(path).str()};
  return writeGguf(path, metadata, tensors, weights, progress);
}

Error ModelExport::writeDirectory(StringRef path, WeightBytes &weights, TensorProgress progress) {
  if (Error error = writeSafetensors(tensors, options.shardBytes, path, weights, progress, facts.files)) {
    return error;
  }
  auto writeText = [&](StringRef name, StringRef text) {
    facts.files.push_back(name.str());
    return toError(moert::readers::writeWholeFile(joinPath(path, name), text));
  };
  Expected<json::Object> written = makeHFConfig(graph, facts.format, tensors.front().element, config);
  if (!written) {
    return written.takeError();
  }
  if (Error error = writeText("config.json", llvm::formatv("{0:2}\n", json::Value(std::move(*written))).str())) {
    return error;
  }
  auto [pythonName, python] = getPythonFile(facts.format);
  if (Error error = writeText(pythonName, python)) {
    return error;
  }
  for (StringRef name : kCarriedFiles) {
    const std::string from = joinPath(directory, name);
    if (!fs::is_regular_file(from)) {
      continue;
    }
    if (std::error_code code = fs::copy_file(from, joinPath(path, name))) {
      return makeError(from + ": cannot be copied: " + code.message());
    }
    facts.files.push_back(name.str());
  }
  json::Array layers;
  for (const ExportLayer &layer : graph.layers) {
    layers.push_back(json::Object{{"layers", json::Array{layer.first, layer.last}},
                                  {"heads", layer.heads},
                                  {"kv_heads", layer.kvHeads},
                                  {"ffn", layer.ffn}});
  }
  json::Object marker{{"format", "moe-export"},
                      {"version", 1},
                      {"engine", options.engine->name},
                      {"minimum_version", facts.minimumVersion},
                      {"how", facts.how},
                      {"layers", std::move(layers)},
                      {"notes", json::Array(facts.notes)}};
  return writeText(kExportMarker, llvm::formatv("{0:2}\n", json::Value(std::move(marker))).str());
}
