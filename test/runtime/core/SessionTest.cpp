// Sessions of the toy package: results of steps in every batching, input checks, states, reports, traces.
#include "test/runtime/core/TestPackage.h"

#include <gtest/gtest.h>

using namespace moert;
using namespace moert::test;

namespace {

class SessionTest : public testing::Test {
protected:
  void SetUp() override {
    toy.write();
    ASSERT_TRUE(loaded.load(toy.package())) << loaded.message;
    ASSERT_TRUE(loaded.open(defaultOptions())) << loaded.message;
  }

  void expectLogits(const std::vector<float> &logits, size_t row, const std::vector<int32_t> &sequence) {
    for (int64_t v = 0; v < kVocab; ++v) {
      EXPECT_EQ(logits[row * kVocab + v], toy.expected(sequence, v)) << "row " << row << ", v " << v;
    }
  }

  Toy toy;
  Loaded loaded;
  std::vector<float> logits;
};

TEST_F(SessionTest, WholeSequenceInOneStep) {
  ASSERT_TRUE(loaded.step({3, 1, 4}, {0, 0, 0}, {0, 1, 2}, {0, 2}, logits)) << loaded.message;
  expectLogits(logits, 0, {3});
  expectLogits(logits, 1, {3, 1, 4});
}

} // namespace
