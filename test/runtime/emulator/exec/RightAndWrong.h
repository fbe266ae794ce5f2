//===- RightAndWrong.h - A kernel in two versions, in every mode -*- C++ -*-===//
//
// `rightAndWrong` runs a right kernel, which must give no finding in any mode, and
// the same with its synchronisation taken away or weakened, which must give the
// finding in every mode. The kernel takes one pointer, to words that count up.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_TEST_EMULATOR_EXEC_RIGHTANDWRONG_H
#define MOERT_TEST_EMULATOR_EXEC_RIGHTANDWRONG_H

#include "test/runtime/emulator/exec/Harness.h"

namespace moert::emulator::testing {

struct Modes {
  Timing timing;
  uint64_t seed;
  bool delay;
};
inline const Modes modes[] = {{Timing::Late, 0, false},
                              {Timing::Early, 0, false},
                              {Timing::Random, 1, false},
                              {Timing::Random, 7, true},
                              {Timing::Late, 3, true}};

/// Runs `text` in every mode with one output of `words` u32 and returns all findings.
inline std::string findingsOf(const std::string &text, Dim3 grid, Dim3 block, unsigned words,
                              FindingKind *kind = nullptr, uint32_t dynamicShared = 0, Dim3 cluster = {1, 1, 1}) {
  std::string all;
  for (const Modes &mode : modes) {
    Device device;
    if (!device.load(text)) {
      return "did not load";
    }
    device.options.timing = mode.timing;
    device.options.seed = mode.seed;
    device.options.delayLanes = mode.delay;
    device.options.stepLimit = 1000000;
    device.options.allProxyFences = true;
    device.config.dynamicShared = dynamicShared;
    device.config.cluster = cluster;
    std::vector<uint32_t> zeros(words);
    for (unsigned i = 0; i < words; ++i) {
      zeros[i] = i;
    }
    uint64_t out = device.upload(zeros);
    device.run(grid, block, out);
    std::string found = device.findings();
    if (kind) {
      EXPECT_TRUE(device.found(*kind)) << "timing " << int(mode.timing) << " delay " << mode.delay << "\n" << found;
    }
    all += found;
  }
  return all;
}

inline void rightAndWrong(const std::string &right, const std::string &remove, FindingKind kind, Dim3 grid, Dim3 block,
                          const std::string &replace = "", uint32_t dynamicShared = 0, Dim3 cluster = {1, 1, 1}) {
  EXPECT_EQ(findingsOf(right, grid, block, 4096, nullptr, dynamicShared, cluster), "");
  std::string wrong = right;
  size_t at = wrong.find(remove);
  ASSERT_NE(at, std::string::npos);
  wrong.replace(at, remove.size(), replace);
  EXPECT_NE(findingsOf(wrong, grid, block, 4096, &kind, dynamicShared, cluster), "");
}

} // namespace moert::emulator::testing

#endif // MOERT_TEST_EMULATOR_EXEC_RIGHTANDWRONG_H
