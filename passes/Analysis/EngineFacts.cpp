//===- EngineFacts.cpp - What a serving engine loads of a fused model -------===//

#include "passes/Analysis/EngineFacts.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/ErrorHandling.h"

using namespace mlir::moe;
using llvm::ArrayRef;
using llvm::StringRef;

static constexpr FusionForm kRemovedDeferred[] = {FusionForm::Removed, FusionForm::Deferred};
static constexpr FusionForm kPair[] = {FusionForm::Pair};
static constexpr FusionForm kRemovedPair[] = {FusionForm::Removed, FusionForm::Pair};
static constexpr FusionForm kAll[] = {FusionForm::Removed, FusionForm::Deferred, FusionForm::Pair};

// nemotron-nas stores widths as multiples of hidden / 1.5 and rounds them up to 256; it has one head count for all
// layers; SGLang and TensorRT-LLM read it without biases; vLLM starts the residual in the attention of layer 0.
// GGUF deci: a layer with an FFN width of 0 is skipped as a whole, its attention too; llama.cpp takes sizes of all
// heads from layer 0.
static constexpr FormatFacts kFormats[] = {
    {ExportFormat::NemotronNas, kRemovedDeferred, /*widthMultiple=*/256, /*allowsBiases=*/false,
     /*allowsExperts=*/false,
     /*needsFirstAttention=*/true, /*allowsNoAttention=*/true, /*allowsNoFFN=*/true},
    {ExportFormat::WideLlama, kPair, /*widthMultiple=*/1, /*allowsBiases=*/true, /*allowsExperts=*/false,
     /*needsFirstAttention=*/true, /*allowsNoAttention=*/false, /*allowsNoFFN=*/false},
    {ExportFormat::Gguf, kRemovedPair, /*widthMultiple=*/1, /*allowsBiases=*/false, /*allowsExperts=*/false,
     /*needsFirstAttention=*/true, /*allowsNoAttention=*/true, /*allowsNoFFN=*/false},
    {ExportFormat::Package, kAll, /*widthMultiple=*/1, /*allowsBiases=*/true, /*allowsExperts=*/true,
     /*needsFirstAttention=*/false, /*allowsNoAttention=*/true, /*allowsNoFFN=*/true},
};

static constexpr EngineFormat kVllm[] = {
    {ExportFormat::NemotronNas, "0.8.3", "0.32", "--trust-remote-code"},
    {ExportFormat::WideLlama, "0.32", "0.32", "--trust-remote-code --model-impl transformers"},
};
static constexpr EngineFormat kSglang[] = {{ExportFormat::NemotronNas, "0.5.1", "", "--trust-remote-code"}};
static constexpr EngineFormat kTrtllm[] = {{ExportFormat::NemotronNas, "1.0", "", "--trust_remote_code"}};
static constexpr EngineFormat kLlamaCpp[] = {
    {ExportFormat::Gguf, "as in llama-cpp-python 0.3.9", "llama-cpp-python 0.3.36", ""}};
static constexpr EngineFormat kTransformers[] = {{ExportFormat::WideLlama, "5.0", "5.24", "trust_remote_code=True"}};
static constexpr EngineFormat kPackage[] = {{ExportFormat::Package, "0.1", "0.1", ""}};

static const EngineFacts kEngines[] = {
    {"vllm", "vLLM", kVllm},
    {"sglang", "SGLang", kSglang},
    {"trtllm", "TensorRT-LLM", kTrtllm},
    {"llama.cpp", "llama.cpp", kLlamaCpp},
    {"transformers", "transformers", kTransformers},
    {"package", "moe-run", kPackage},
};

StringRef mlir::moe::spell(ExportFormat format) {
  switch (format) {
  case ExportFormat::NemotronNas:
    return "nemotron-nas directory";
  case ExportFormat::WideLlama:
    return "directory with modeling_wide_llama.py";
  case ExportFormat::Gguf:
    return "GGUF file (deci)";
  case ExportFormat::Package:
    return "package";
  }
  llvm_unreachable("a format without a name");
}

const FormatFacts &mlir::moe::getFormatFacts(ExportFormat format) {
  return *llvm::find_if(kFormats, [&](const FormatFacts &facts) { return facts.format == format; });
}

const EngineFormat *EngineFacts::findFormat(ArrayRef<FusionForm> forms) const {
  for (const EngineFormat &candidate : formats) {
    const FormatFacts &facts = getFormatFacts(candidate.format);
    if (llvm::all_of(forms, [&](FusionForm form) { return facts.expresses(form); })) {
      return &candidate;
    }
  }
  return nullptr;
}

std::string EngineFacts::describeForms() const {
  std::string list;
  for (FusionForm form : kAll) {
    if (loads(form)) {
      list += (list.empty() ? "" : ", ") + spell(form).str();
    }
  }
  return list;
}

ArrayRef<EngineFacts> mlir::moe::allEngines() { return kEngines; }

const EngineFacts *mlir::moe::findEngine(StringRef name) {
  const auto *found = llvm::find_if(kEngines, [&](const EngineFacts &engine) { return engine.name == name; });
  return found == std::end(kEngines) ? nullptr : found;
}

std::string mlir::moe::knownEngines() {
  std::string names;
  for (const EngineFacts &engine : kEngines) {
    names += (names.empty() ? "" : ", ") + engine.name.str();
  }
  return names;
}
