//===- SupportTest.cpp - What of the instruction table is executed ---------===//
//
// Every sample of the table (each form in every type) is translated for execution;
// the forms that are refused are those that docs/ptx-refused.txt lists, with the
// number of their samples. Whether the others compute the right thing is for the
// tests beside.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"
#include "test/runtime/emulator/ptx/Samples.h"

#include <fstream>
#include <iterator>
#include <map>

using namespace moert::emulator;

TEST(Support, RefusedFormsAreTheListedOnes) {
  std::map<std::string, std::pair<unsigned, unsigned>> forms; // by mnemonic: refused samples, all samples
  MemoryOptions options;
  options.checks = false;
  DeviceMemory memory(options);
  for (const Sample &sample : makeSamples()) {
    const std::string target = sample.arch || sample.sm > 80 ? "sm_90a" : "sm_80";
    auto parsed = ptx::parseModule(moduleAround(sample.text, 90, target));
    auto *module = std::get_if<ptx::Module>(&parsed);
    ASSERT_TRUE(module) << sample.text << std::get<ptx::ParseError>(parsed).str();
    auto program = Program::load(*module, memory, 0);
    auto &[bad, all] = forms[ptx::allForms()[sample.form].form->mnemonic];
    ++all;
    bad += !program.ok();
  }
  std::string got;
  for (const auto &[form, count] : forms) {
    if (count.first) {
      got += form + ": " + std::to_string(count.first) + " of " + std::to_string(count.second) + "\n";
    }
  }
  std::ifstream file(MOE_REFUSED_FORMS);
  ASSERT_TRUE(file) << MOE_REFUSED_FORMS;
  const std::string listed((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  EXPECT_EQ(got, listed) << "write what is refused now to docs/ptx-refused.txt";
}
