//===- GuardedParseTest.cpp - What the guard refuses, and what it lets pass -===//

#include "tools/common/GuardedParse.h"
#include "mlir/IR/MLIRContext.h"
#include "llvm/ADT/StringExtras.h"
#include "gtest/gtest.h"

using namespace mlir::moe;

namespace {

/// The error of checking `text`, or an empty string.
std::string check(const std::string &text, const ParseLimits &limits = {}) {
  llvm::Error error = checkText(text, "in.mlir", limits);
  return error ? llvm::toString(std::move(error)) : "";
}

/// `piece` repeated.
std::string repeat(const std::string &piece, unsigned times) {
  std::string result;
  for (unsigned i = 0; i < times; ++i) {
    result += piece;
  }
  return result;
}

TEST(GuardedParse, EveryKindOfBracketCounts) {
  for (const char *bracket : {"()", "[]", "{}", "<>"}) {
    std::string open(1, bracket[0]), close(1, bracket[1]);
    EXPECT_EQ(check(repeat(open, 1000) + repeat(close, 1000)), "") << bracket;
    EXPECT_EQ(check("\n " + repeat(open, 1001)),
              "in.mlir:2:1002: error: nested 1001 levels deep; at most 1000 are accepted");
  }
  EXPECT_NE(check(repeat("([", 501)), "");
}

TEST(GuardedParse, ClosedBracketsDoNotCount) { EXPECT_EQ(check(repeat("({[<>]})\n", 5000)), ""); }

TEST(GuardedParse, ArrowsAndComparisonsAreNoBrackets) {
  EXPECT_EQ(check(repeat("() -> i32 <= >= ", 5000)), "");
  EXPECT_NE(check(repeat("< -> ", 1001)), "") << "an arrow must not close what is open";
}

TEST(GuardedParse, StringsAndCommentsAreSkipped) {
  EXPECT_EQ(check("\"" + repeat("(", 2000) + "\""), "");
  EXPECT_EQ(check("\"\\\"" + repeat("(", 2000) + "\""), "");
  EXPECT_EQ(check("// " + repeat("(", 2000) + "\n"), "");
  EXPECT_NE(check("// \n" + repeat("(", 2000)), "");
  EXPECT_NE(check("\"" + repeat(")", 10) + "\"" + repeat("(", 2000)), "");
}

TEST(GuardedParse, SignsOfAnAffineExpressionNest) {
  EXPECT_NE(check("#m = affine_map<(d0) -> (" + repeat("-", 2000) + "d0)>"), "");
  EXPECT_NE(check("#m = affine_map<(d0) -> (d0" + repeat(" mod 3", 2000) + ")>"), "");
  EXPECT_EQ(check(repeat("#m = affine_map<(d0, d1) -> (d0 + d1 floordiv 8)>\n", 2000)), "") << "every map counts anew";
  EXPECT_EQ(check("// " + repeat("-", 2000) + "\n" + repeat("%0 = arith.constant -1 : i64\n", 2000)), "");
}

TEST(GuardedParse, ChainedAliasesNest) {
  std::string chain = "#a0 = []\n";
  for (unsigned i = 1; i <= 600; ++i) {
    chain += "#a" + std::to_string(i) + " = [#a" + std::to_string(i - 1) + "]\n";
  }
  EXPECT_EQ(check(chain.substr(0, chain.size() / 3)), "");
  EXPECT_NE(check(chain).find("levels deep"), std::string::npos);
}

TEST(GuardedParse, AliasesThatDoubleAreTooMuchText) {
  std::string chain = "!a0 = tuple<i32, i32>\n";
  for (unsigned i = 1; i <= 40; ++i) {
    std::string last = "!a" + std::to_string(i - 1);
    chain += "!a" + std::to_string(i) + " = tuple<" + last + ", " + last + ">\n";
  }
  EXPECT_NE(check(chain).find("the aliases up to here stand for more than 268435456 bytes of text"), std::string::npos);
}

TEST(GuardedParse, SizeIsLimited) {
  ParseLimits limits;
  limits.bytes = 100;
  EXPECT_EQ(check(std::string(100, ' '), limits), "");
  EXPECT_NE(check(std::string(101, ' '), limits).find("101 bytes of MLIR, but at most 100 are accepted"),
            std::string::npos);
  EXPECT_EQ(ParseLimits().bytes, 64u * 1024 * 1024);
}

TEST(GuardedParse, BytecodeIsRefusedUnlessAsked) {
  std::string bytecode = "ML\xefR....";
  EXPECT_NE(check(bytecode).find("--allow-bytecode"), std::string::npos);
  ParseLimits limits;
  limits.allowBytecode = true;
  EXPECT_EQ(check(bytecode, limits), "");
}

TEST(GuardedParse, AMissingFileIsNamed) {
  llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> buffer = readGuarded("/no/such/file.mlir");
  ASSERT_FALSE(static_cast<bool>(buffer));
  EXPECT_EQ(llvm::toString(buffer.takeError()), "cannot open '/no/such/file.mlir': No such file or directory");
}

} // namespace
