//===- RopeTest.cpp - Rotary frequencies against recorded values ------------===//
//
// The recorded values are those of transformers 5.23.0, ROPE_INIT_FUNCTIONS of
// modeling_rope_utils, which computes in f32: hence the relative tolerance of 1e-6.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeRope.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/MLIRContext.h"
#include "llvm/ADT/STLExtras.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// The frequencies of the attribute `text`.
llvm::SmallVector<double> frequencies(llvm::StringRef text) {
  MLIRContext context;
  context.loadDialect<MoeDialect>();
  Attribute attr = parseAttribute(text, &context);
  EXPECT_TRUE(attr) << text.str();
  return computeInverseFrequencies(cast<RopeAttr>(attr));
}

TEST(Rope, DefaultIsAPowerOfTheta) {
  llvm::SmallVector<double> f = frequencies("#moe.rope<kind = default, theta = 1.0e4, dim = 4>");
  ASSERT_EQ(f.size(), 2u);
  EXPECT_DOUBLE_EQ(f[0], 1.0);
  EXPECT_DOUBLE_EQ(f[1], 0.01);
}

TEST(Rope, LinearDividesByTheFactor) {
  llvm::SmallVector<double> f = frequencies("#moe.rope<kind = linear, theta = 1.0e4, dim = 4, factor = 8.0>");
  EXPECT_DOUBLE_EQ(f[0], 0.125);
  EXPECT_DOUBLE_EQ(f[1], 0.00125);
}

/// Compares with recorded f32 values.
void expectClose(llvm::ArrayRef<double> actual, std::initializer_list<double> expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (auto [index, pair] : llvm::enumerate(llvm::zip(actual, expected))) {
    auto [a, e] = pair;
    EXPECT_NEAR(a, e, 1e-6 * e) << "pair " << index;
  }
}

TEST(Rope, Llama3KeepsHighAndDividesLowFrequencies) {
  expectClose(frequencies("#moe.rope<kind = llama3, theta = 5.0e5, dim = 16, factor = 8.0, original_context = 8192, "
                          "low_freq_factor = 1.0, high_freq_factor = 4.0>"),
              {1.000000000e+00, 1.939227581e-01, 3.760603070e-02, 7.292665076e-03, 5.248460220e-04, 3.428102355e-05,
               6.647869668e-06, 1.289173156e-06});
}

TEST(Rope, YarnRampsBetweenTheTwoCorrectionDims) {
  expectClose(frequencies("#moe.rope<kind = yarn, theta = 1.0e4, dim = 16, factor = 4.0, original_context = 2048>"),
              {1.000000000e+00, 3.162277639e-01, 1.000000015e-01, 2.569350600e-02, 6.249999627e-03, 1.383496565e-03,
               2.500000119e-04, 7.905694656e-05});
}

TEST(Rope, YarnWithoutTruncationRampsBetweenFractions) {
  expectClose(frequencies("#moe.rope<kind = yarn, theta = 1.0e4, dim = 16, factor = 4.0, original_context = 2048, "
                          "truncate = false>"),
              {1.000000000e+00, 3.162277639e-01, 1.000000015e-01, 2.387019619e-02, 5.056971684e-03, 8.112904616e-04,
               2.500000119e-04, 7.905694656e-05});
}

TEST(Rope, LongRopeDividesEveryDimByItsOwnFactor) {
  expectClose(frequencies("#moe.rope<kind = longrope, theta = 1.0e4, dim = 8, dim_factors = [1.0, 1.25, 1.5, 2.0]>"),
              {1.000000000e+00, 7.999999821e-02, 6.666666828e-03, 5.000000237e-04});
}

} // namespace
