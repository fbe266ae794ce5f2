//===- EngineFactsTest.cpp - Which engine loads which form ------------------===//

#include "passes/Analysis/EngineFacts.h"
#include <gtest/gtest.h>
#include <set>

using namespace mlir::moe;

static std::optional<ExportFormat> formatOf(llvm::StringRef engine, llvm::ArrayRef<FusionForm> forms) {
  const EngineFormat *format = findEngine(engine)->findFormat(forms);
  return format ? std::optional(format->format) : std::nullopt;
}

TEST(EngineFacts, FormsOfEveryEngine) {
  EXPECT_EQ(findEngine("vllm")->describeForms(), "R, D, P");
  EXPECT_EQ(findEngine("sglang")->describeForms(), "R, D");
  EXPECT_EQ(findEngine("trtllm")->describeForms(), "R, D");
  EXPECT_EQ(findEngine("llama.cpp")->describeForms(), "R, P");
  EXPECT_EQ(findEngine("transformers")->describeForms(), "P");
  EXPECT_EQ(findEngine("package")->describeForms(), "R, D, P");
  EXPECT_EQ(findEngine("vLLM"), nullptr);
  EXPECT_EQ(knownEngines(), "vllm, sglang, trtllm, llama.cpp, transformers, package");
}

/// One checkpoint has one format: a plan that mixes forms needs one that expresses all of them.
TEST(EngineFacts, MixedForms) {
  const FusionForm r = FusionForm::Removed, d = FusionForm::Deferred, p = FusionForm::Pair;
  EXPECT_EQ(formatOf("vllm", {r, d}), ExportFormat::NemotronNas);
  EXPECT_EQ(formatOf("vllm", {p}), ExportFormat::WideLlama);
  EXPECT_EQ(formatOf("vllm", {d, p}), std::nullopt);
  EXPECT_EQ(formatOf("llama.cpp", {r, p}), ExportFormat::Gguf);
  EXPECT_EQ(formatOf("llama.cpp", {d}), std::nullopt);
  EXPECT_EQ(formatOf("package", {r, d, p}), ExportFormat::Package);
  EXPECT_EQ(formatOf("sglang", {}), ExportFormat::NemotronNas);
}

/// What every reader of a format was seen to do, in its source or when it was run. A change here is a change of a fact:
/// say where it was seen.
TEST(EngineFacts, Facts) {
  struct Row {
    ExportFormat format;
    int64_t widthMultiple;
    bool allowsBiases, allowsExperts, needsFirstAttention, allowsNoAttention, allowsNoFFN;
    llvm::StringRef forms;
  };
  const Row rows[] = {{ExportFormat::NemotronNas, 256, false, false, true, true, true, "RD"},
                      {ExportFormat::WideLlama, 1, true, false, true, false, false, "P"},
                      {ExportFormat::Gguf, 1, false, false, true, true, false, "RP"},
                      {ExportFormat::Package, 1, true, true, false, true, true, "RDP"}};
  for (const Row &row : rows) {
    SCOPED_TRACE(spell(row.format).str());
    const FormatFacts &facts = getFormatFacts(row.format);
    EXPECT_EQ(facts.widthMultiple, row.widthMultiple);
    EXPECT_EQ(facts.allowsBiases, row.allowsBiases);
    EXPECT_EQ(facts.allowsExperts, row.allowsExperts);
    EXPECT_EQ(facts.needsFirstAttention, row.needsFirstAttention);
    EXPECT_EQ(facts.allowsNoAttention, row.allowsNoAttention);
    EXPECT_EQ(facts.allowsNoFFN, row.allowsNoFFN);
    std::string forms;
    for (FusionForm form : facts.forms) {
      forms += spell(form);
    }
    EXPECT_EQ(forms, row.forms);
  }
}

/// How each engine loads what is written for it, and from which release on; "" was not tried here.
TEST(EngineFacts, Engines) {
  std::string table;
  for (const EngineFacts &engine : allEngines()) {
    for (const EngineFormat &format : engine.formats) {
      table += (llvm::Twine(engine.name) + ": " + spell(format.format) + ", " + format.minimumVersion + ", " +
                format.triedVersion + ", " + format.how + "\n")
                   .str();
    }
  }
  EXPECT_EQ(table,
            "vllm: nemotron-nas directory, 0.8.3, 0.32, --trust-remote-code\n"
            "vllm: directory with modeling_wide_llama.py, 0.32, 0.32, --trust-remote-code --model-impl transformers\n"
            "sglang: nemotron-nas directory, 0.5.1, , --trust-remote-code\n"
            "trtllm: nemotron-nas directory, 1.0, , --trust_remote_code\n"
            "llama.cpp: GGUF file (deci), as in llama-cpp-python 0.3.9, llama-cpp-python 0.3.36, \n"
            "transformers: directory with modeling_wide_llama.py, 5.0, 5.24, trust_remote_code=True\n"
            "package: package, 0.1, 0.1, \n");
}

/// Every format has one row of facts, every engine a format, and no name occurs twice.
TEST(EngineFacts, TableIsWhole) {
  for (ExportFormat format :
       {ExportFormat::NemotronNas, ExportFormat::WideLlama, ExportFormat::Gguf, ExportFormat::Package}) {
    const FormatFacts &facts = getFormatFacts(format);
    EXPECT_EQ(facts.format, format);
    EXPECT_GE(facts.widthMultiple, 1);
    EXPECT_FALSE(spell(format).empty());
    // R leaves layers without attention, D layers without FFN.
    EXPECT_TRUE(!facts.expresses(FusionForm::Removed) || facts.allowsNoAttention);
    EXPECT_TRUE(!facts.expresses(FusionForm::Deferred) || facts.allowsNoFFN);
  }
  std::set<std::string> names;
  for (const EngineFacts &engine : allEngines()) {
    EXPECT_TRUE(names.insert(engine.name.str()).second);
    ASSERT_FALSE(engine.formats.empty());
    EXPECT_EQ(engine.findFormat({}), &engine.formats.front());
    for (const EngineFormat &format : engine.formats) {
      EXPECT_FALSE(format.minimumVersion.empty());
    }
  }
}
