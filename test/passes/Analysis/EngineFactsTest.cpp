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
