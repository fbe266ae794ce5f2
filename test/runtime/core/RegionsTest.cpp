// Values told apart in an arena, on steps of a few accesses: which share a region, where it begins, what it must hold.
#include "runtime/core/Regions.h"
#include "test/runtime/core/TestPackage.h"

#include <gtest/gtest.h>

using namespace moert;
using namespace moert::test;
using format::Access;

namespace {

/// One access of one command to bytes [begin, begin + fixed + perToken * T) of the arena.
struct Touch {
  Access access;
  uint64_t begin;
  int64_t fixed, perToken = 0;
};

/// The regions of a step whose commands are `touches`, at up to 8 tokens; one operand per command.
Regions regionsOf(const std::vector<Touch> &touches) {
  ProgramSpec program;
  VariantSpec variant;
  variant.kernels = {"kernel"};
  program.strings = {"none"};
  variant.buffers = {format::Buffer(format::BufferKind::Arena, 0, 64, 0, extent(4096))};
  for (const Touch &touch : touches) {
    addCommand(program, variant, format::CommandKind::Launch, "touch", 0,
               {slice(0, touch.access, extent(touch.fixed, touch.perToken), touch.begin)});
  }
  variant.steps = {format::StepVariant(1, 8, 0, uint32_t(touches.size()))};
  program.variants.push_back(variant);
  const std::string file = program.flatbuffer();
  const format::Variant &read = *format::GetProgram(file.data())->variants()->Get(0);
  return findRegions(read, *read.steps()->Get(0), {8, 8, 1, 1});
}

/// The region of each command, numbered by first use.
std::vector<uint32_t> numbersOf(const Regions &regions) {
  std::vector<uint32_t> numbers, seen;
  for (const std::vector<uint32_t> &operands : regions.ofOperand) {
    const auto known = std::find(seen.begin(), seen.end(), operands[0]);
    numbers.push_back(uint32_t(known - seen.begin()));
    if (known == seen.end()) {
      seen.push_back(operands[0]);
    }
  }
  return numbers;
}

using Numbers = std::vector<uint32_t>;

TEST(RegionsTest, AWriteAfterAReadIsAnotherValue) {
  EXPECT_EQ(numbersOf(regionsOf(
                {{Access::Write, 0, 64}, {Access::Read, 0, 64}, {Access::Write, 0, 64}, {Access::Read, 0, 64}})),
            (Numbers{0, 0, 1, 1}));
}

TEST(RegionsTest, WhatIsReadAndWrittenStaysTheSame) {
  EXPECT_EQ(numbersOf(regionsOf({{Access::Write, 0, 64},
                                 {Access::ReadWrite, 0, 64},
                                 {Access::Read, 0, 64},
                                 {Access::ReadWrite, 0, 64},
                                 {Access::Read, 0, 64}})),
            (Numbers{0, 0, 0, 0, 0}));
}

TEST(RegionsTest, PartsAreJoinedByWhoReadsThem) {
  const Regions regions = regionsOf({{Access::Write, 128, 32}, {Access::Write, 160, 0, 4}, {Access::Read, 128, 64}});
  EXPECT_EQ(numbersOf(regions), (Numbers{0, 0, 0}));
  ASSERT_EQ(regions.all.size(), 1u);
  EXPECT_EQ(regions.all[0].begin, 128u);
  ASSERT_EQ(regions.all[0].parts.size(), 3u);
  EXPECT_EQ(regions.all[0].parts[1].offset, 32u);
  EXPECT_EQ(regions.all[0].parts[1].extent.per_token(), 4);
}

/// Two commands may fill one value with the same slice, each its rows, before anybody reads.
TEST(RegionsTest, WritesInARowAreOneValue) {
  EXPECT_EQ(numbersOf(regionsOf({{Access::Write, 0, 64}, {Access::Write, 0, 64}, {Access::Read, 0, 64}})),
            (Numbers{0, 0, 0}));
}

TEST(RegionsTest, NobodyWroteIt) {
  EXPECT_EQ(numbersOf(regionsOf({{Access::Read, 0, 64}, {Access::Write, 0, 64}, {Access::Read, 0, 64}})),
            (Numbers{0, 1, 1}));
}

/// Sizes at T = 8 decide what overlaps: 4 T reaches into byte 16 only there.
TEST(RegionsTest, ValuesThatOverlapInPart) {
  EXPECT_EQ(numbersOf(regionsOf({{Access::Write, 0, 0, 4},
                                 {Access::Read, 0, 0, 4},
                                 {Access::Write, 16, 64},
                                 {Access::Read, 0, 16},
                                 {Access::Read, 16, 64},
                                 {Access::Write, 32, 16},
                                 {Access::Read, 32, 16},
                                 {Access::Read, 48, 32}})),
            (Numbers{0, 0, 1, 0, 1, 2, 2, 1}));
}

} // namespace
