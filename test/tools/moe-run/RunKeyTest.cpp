//===- RunKeyTest.cpp - Nothing is mixed of two calibrations ---------------===//
#include "tools/moe-run/calibrate/RunKey.h"

#include <gtest/gtest.h>
#include <set>

using namespace moerun;

namespace {

struct Case {
  CalibrateCommand command;
  RunFacts facts{"f00d", "beef", "avx2", 512};
  std::string key() const { return runKey(command, facts); }
};

} // namespace

TEST(RunKey, EverythingThatSumsDependOn) {
  const std::vector<void (*)(Case &)> changes{
      [](Case &) {},
      [](Case &run) { run.facts.fingerprint = "f00e"; },
      [](Case &run) { run.facts.text = "bee"; },
      [](Case &run) { run.facts.variant = "avx512"; },
      [](Case &run) { run.facts.length = 51; },
      [](Case &run) { run.command.measureTokens = 2048; },
      [](Case &run) { run.command.windows = 2048; },
      [](Case &run) { run.command.forms = "R,D"; },
      [](Case &run) { run.command.judgeTokens = 0; },
      [](Case &run) { run.command.ridge = 2e-3; },
      // Six digits would not tell it.
      [](Case &run) { run.command.ridge = 1.0000001e-3; },
  };
  std::set<std::string> keys;
  for (size_t i = 0; i < changes.size(); ++i) {
    Case run;
    changes[i](run);
    EXPECT_TRUE(keys.insert(run.key()).second) << "change " << i << ": " << run.key();
  }
}

/// Another run may have more threads, print otherwise and have its weights elsewhere.
TEST(RunKey, NothingElse) {
  Case run, other;
  other.command.threads = 3;
  other.command.json = other.command.quiet = true;
  other.command.weights = "elsewhere";
  other.command.deadlineSeconds = 60;
  EXPECT_EQ(run.key(), other.key());
}
