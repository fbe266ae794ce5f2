//===- RopeTest.cpp - Rotary frequencies against recorded values ------------===//
//
// Expected values come from transformers.modeling_rope_utils (docs/spec.md, rope,
// names the formulas); the interesting ones are the kinds that scale.
//
//===----------------------------------------------------------------------===//

#include "dialects/Moe/IR/MoeRope.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/MLIRContext.h"
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

TEST(Rope, Llama3KeepsHighAndDividesLowFrequencies) {
  llvm::SmallVector<double> f = frequencies("#moe.rope<kind = llama3, theta = 5.0e5, dim = 128, factor = 8.0, "
                                            "original_context = 8192, low_freq_factor = 1.0, high_freq_factor = 4.0>");
  EXPECT_DOUBLE_EQ(f[0], 1.0);
  EXPECT_DOUBLE_EQ(f[63], std::pow(5.0e5, -126.0 / 128.0) / 8.0);
}

} // namespace
