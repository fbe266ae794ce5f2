//===- EngineFacts.h - What a serving engine loads of a fused model ---------===//
//
// One table for the planner, which proposes only what the wanted engine can load,
// and for the export, which writes it: forms, container, widths, biases, versions.
// Facts, not policy: nothing here looks at a model.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_ENGINEFACTS_H
#define MOE_PASSES_ANALYSIS_ENGINEFACTS_H

#include "passes/Analysis/FusionPlan.h"
#include "llvm/ADT/ArrayRef.h"
#include <optional>

namespace mlir::moe {

/// How a model lies on disk.
enum class ExportFormat {
  NemotronNas, ///< Hugging Face directory, model_type nemotron-nas: layers may lack a part, FFN widths differ
  WideLlama,   ///< Hugging Face directory with a model class of ours: heads and widths differ from layer to layer
  Gguf,        ///< one file, architecture deci: heads and widths differ, an attention may be missing
  Package,     ///< a package of moec: everything
};

/// "nemotron-nas directory", "directory with modeling_wide_llama.py", "GGUF file (deci)", "package".
llvm::StringRef spell(ExportFormat format);

/// What a format can say, whoever loads it.
struct FormatFacts {
  ExportFormat format;
  /// The forms whose result it can express.
  llvm::ArrayRef<FusionForm> forms;
  /// FFN widths must be a multiple of this; zeros make them so.
  int64_t widthMultiple;
  /// Whether every reader of it adds the biases of attention and FFN.
  bool allowsBiases;
  /// Whether a layer may route to experts. No engine has layers of which several routers choose side by side, each of
  /// its own experts: groups of experts as DeepSeek has them are chosen among, by one router.
  bool allowsExperts;
  /// Whether layer 0 must have its attention.
  bool needsFirstAttention;
  /// Whether a layer may lack its attention, and its FFN.
  bool allowsNoAttention, allowsNoFFN;
  bool expresses(FusionForm form) const { return llvm::is_contained(forms, form); }
};

const FormatFacts &getFormatFacts(ExportFormat format);

/// One engine and one format that it loads.
struct EngineFormat {
  ExportFormat format;
  /// The first release that is believed to load it, and the one it was tried with here; "": not tried.
  llvm::StringLiteral minimumVersion, triedVersion;
  /// How to load it: options of the engine.
  llvm::StringLiteral how;
};

struct EngineFacts {
  /// As `--for` spells it, and as people do.
  llvm::StringLiteral name, product;
  /// What it loads, the preferred format first.
  llvm::ArrayRef<EngineFormat> formats;

  /// What it loads that expresses all of `forms` at once, or null. `forms` empty: the first.
  const EngineFormat *findFormat(llvm::ArrayRef<FusionForm> forms) const;
  /// Whether any of its formats expresses `form`.
  bool loads(FusionForm form) const { return findFormat(form) != nullptr; }
  /// "R, D": what `loads`.
  std::string describeForms() const;
};

/// Every engine, in the order of the documentation.
llvm::ArrayRef<EngineFacts> allEngines();
/// The engine of that name, or null.
const EngineFacts *findEngine(llvm::StringRef name);
/// "vllm, sglang, ..." for messages.
std::string knownEngines();

} // namespace mlir::moe

#endif // MOE_PASSES_ANALYSIS_ENGINEFACTS_H
