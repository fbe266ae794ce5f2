// Entries beside the step: run through the C ABI, and refused at load where they are not what they must be.
#include "test/runtime/core/TestPackage.h"
#include "gtest/gtest.h"

using namespace moert::test;
using moert::format::Access;
using moert::format::Buffer;
using moert::format::BufferKind;
using moert::format::CommandKind;
using moert::format::Dim;
using moert::format::Grid;
using moert::format::StepVariant;

namespace {

/// The toy with an entry "triple": y = 3 x per token, through the arena and a kernel of the step.
class EntriesTest : public ::testing::Test {
protected:
  void SetUp() override {
    VariantSpec &v = toy.variant();
    x = addBuffer(BufferKind::Input, "triple.in0", extent(0, 4));
    y = addBuffer(BufferKind::Output, "triple.out0", extent(0, 4));
    first = uint32_t(v.commands.size());
    const auto perToken = extent(0, 4);
    addCommand(toy.program, v, CommandKind::Copy, "take", 0,
               {slice(kArena, Access::Write, perToken), slice(x, Access::Read, perToken)});
    addCommand(toy.program, v, CommandKind::Launch, "triple", 2,
               {table(0), slice(kArena, Access::ReadWrite, perToken), size(Dim::T), constant(1)});
    addCommand(toy.program, v, CommandKind::Copy, "give", 0,
               {slice(y, Access::Write, perToken), slice(kArena, Access::Read, perToken)});
    v.entries = {{"triple", {x}, {y}, {StepVariant(1, kMaxTokens, first, 3)}}};
  }
  uint32_t addBuffer(BufferKind kind, const char *name, const moert::format::Extent &size) {
    toy.variant().buffers.push_back(Buffer(kind, toy.program.string(name), 64, 0, size));
    return uint32_t(toy.variant().buffers.size() - 1);
  }
  EntrySpec &entry() { return toy.variant().entries[0]; }
  void open() {
    toy.write();
    ASSERT_TRUE(loaded.load(toy.package())) << loaded.message;
    ASSERT_TRUE(loaded.open(defaultOptions())) << loaded.message;
  }
  bool run(size_t index, const std::vector<int32_t> &tokens, const void *in, void *out) {
    std::vector<int32_t> seq(tokens.size()), pos;
    for (size_t i = 0; i < tokens.size(); ++i) {
      pos.push_back(int32_t(i));
    }
    const moert_step_input input{int64_t(tokens.size()), tokens.data(), seq.data(), pos.data(), 0, nullptr};
    return loaded.take(moert_session_run(loaded.session, index, &input, &in, &out));
  }
  void expectRefused(const std::string &message) {
    toy.write();
    EXPECT_FALSE(loaded.load(toy.package()));
    EXPECT_EQ(loaded.code, MOERT_CORRUPT);
    EXPECT_NE(loaded.message.find(message), std::string::npos) << loaded.message;
  }

  Toy toy;
  Loaded loaded;
  uint32_t x = 0, y = 0, first = 0;
};

TEST_F(EntriesTest, DescribesItsArguments) {
  open();
  ASSERT_EQ(moert_session_entry_count(loaded.session), 2u);
  moert_entry_info info;
  ASSERT_TRUE(loaded.take(moert_session_get_entry(loaded.session, 0, &info)));
  EXPECT_STREQ(info.name, "step");
  EXPECT_EQ(info.input_count, 0u);
  ASSERT_EQ(info.output_count, 1u);
  EXPECT_STREQ(info.outputs[0].name, "logits");
  EXPECT_EQ(info.outputs[0].per_row, 4 * kVocab);
  ASSERT_TRUE(loaded.take(moert_session_get_entry(loaded.session, 1, &info)));
  EXPECT_STREQ(info.name, "triple");
  ASSERT_EQ(info.input_count, 1u);
  ASSERT_EQ(info.output_count, 1u);
  EXPECT_STREQ(info.inputs[0].name, "triple.in0");
  EXPECT_EQ(info.inputs[0].per_token, 4);
  EXPECT_EQ(info.outputs[0].per_row, 0);
  EXPECT_FALSE(loaded.take(moert_session_get_entry(loaded.session, 2, &info)));
  EXPECT_EQ(loaded.message, "there is no entry 2, the program has 2");
}

TEST_F(EntriesTest, RunsOnTheCallersMemory) {
  open();
  for (size_t tokens : {size_t(1), size_t(7), size_t(kMaxTokens)}) {
    std::vector<float> in(tokens), out(tokens + 1, -1);
    for (size_t i = 0; i < tokens; ++i) {
      in[i] = float(i) - 2;
    }
    ASSERT_TRUE(run(1, std::vector<int32_t>(tokens), in.data(), out.data())) << loaded.message;
    for (size_t i = 0; i < tokens; ++i) {
      EXPECT_EQ(out[i], 3 * in[i]);
    }
    EXPECT_EQ(out[tokens], -1) << "wrote past its rows";
  }
  ASSERT_TRUE(run(1, {}, nullptr, nullptr)) << "a step of no token does nothing";
}

TEST_F(EntriesTest, TheStepStaysWhatItWas) {
  open();
  std::vector<float> in{1}, out{0}, logits;
  ASSERT_TRUE(run(1, {0}, in.data(), out.data()));
  ASSERT_TRUE(loaded.step({3, 1}, {0, 0}, {0, 1}, {1}, logits)) << loaded.message;
  for (int64_t v = 0; v < kVocab; ++v) {
    EXPECT_FLOAT_EQ(logits[size_t(v)], toy.expected({3, 1}, v));
  }
}

TEST_F(EntriesTest, RefusesBadArguments) {
  open();
  std::vector<float> in(3), out(3);
  EXPECT_FALSE(run(2, {0}, in.data(), out.data()));
  EXPECT_EQ(loaded.message, "there is no entry 2, the program has 2");
  EXPECT_FALSE(run(1, {0}, in.data(), nullptr));
  EXPECT_EQ(loaded.message, "entry 'triple': argument 'triple.out0' is NULL");
  EXPECT_FALSE(run(1, {0}, reinterpret_cast<char *>(in.data()) + 1, out.data()));
  EXPECT_EQ(loaded.message, "entry 'triple': argument 'triple.in0' is not aligned to 4 bytes");
  EXPECT_FALSE(run(1, {int32_t(kVocab)}, in.data(), out.data()));
  EXPECT_EQ(loaded.code, MOERT_INVALID_ARGUMENT);
}

TEST_F(EntriesTest, NameTwice) {
  entry().name = "step";
  expectRefused("entry 1 'step' has the name of entry 0");
}

TEST_F(EntriesTest, ArgumentOfTheWrongKind) {
  entry().inputs = {y};
  expectRefused("entry 1 'triple': argument 0 is buffer " + std::to_string(y) + " of " + std::to_string(y + 1) +
                ", which must be an Input");
}

TEST_F(EntriesTest, ArgumentOutOfRange) {
  entry().outputs = {y + 1};
  expectRefused("entry 1 'triple': argument 0 is buffer " + std::to_string(y + 1) + " of " + std::to_string(y + 1) +
                ", which must be an Output");
}

TEST_F(EntriesTest, ArgumentOfAnUnboundSize) {
  toy.variant().buffers[x] = Buffer(BufferKind::Input, toy.program.string("triple.in0"), 64, 0, extent(4, 4));
  expectRefused("entry 1 'triple': argument 0 has size 4 + 4*T, must be a number of bytes per token or per row");
  toy.variant().buffers[x].mutable_size() = extent(0, 4, 0, 4);
  expectRefused("argument 0 has size 0 + 4*T + 4*B, must be a number of bytes per token or per row");
  toy.variant().buffers[x].mutable_size() = extent(0, 4, 4);
  expectRefused("argument 0 has size 0 + 4*T + 4*M, must be a number of bytes per token or per row");
}

TEST_F(EntriesTest, ArgumentOfTwoEntries) {
  toy.variant().entries.push_back({"again", {x}, {}, {StepVariant(1, kMaxTokens, first, 0)}});
  expectRefused("entry 2 'again': argument 0 is one of entry 1 already");
}

TEST_F(EntriesTest, ArgumentTooSmall) {
  toy.variant().buffers[y] = Buffer(BufferKind::Output, toy.program.string("triple.out0"), 64, 0, extent(0, 2));
  expectRefused("of buffer 'triple.out0', which has 0 + 2*T bytes: not inside it for every T in [1, 16]");
}

TEST_F(EntriesTest, ArgumentPerRowForTokens) {
  toy.variant().buffers[y] = Buffer(BufferKind::Output, toy.program.string("triple.out0"), 64, 0, extent(0, 0, 4));
  expectRefused("of buffer 'triple.out0', which has 0 + 4*M bytes: not inside it for every T in [1, 16]");
}

TEST_F(EntriesTest, ArgumentOfAnotherEntry) {
  toy.variant().steps = {StepVariant(1, kMaxTokens, first, 3)};
  expectRefused("is a slice of 'triple.in0', which is no argument of entry 'step'");
}

TEST_F(EntriesTest, LogitsOfAnEntryThatHasNone) {
  addCommand(toy.program, toy.variant(), CommandKind::Fill, "clear", 0,
             {slice(kLogits, Access::Write, extent(0, 0, 4))}, Grid(extent(1), 1, 0, 1));
  entry().steps = {StepVariant(1, kMaxTokens, first, 4)};
  expectRefused("is a slice of 'logits', which is no argument of entry 'triple'");
  entry().outputs.push_back(kLogits);
  toy.write();
  EXPECT_TRUE(loaded.load(toy.package())) << loaded.message;
}

TEST_F(EntriesTest, InputIsWritten) {
  addCommand(toy.program, toy.variant(), CommandKind::Fill, "clear", 0, {slice(x, Access::Write, extent(0, 4))},
             Grid(extent(1), 1, 0, 1));
  entry().steps = {StepVariant(1, kMaxTokens, first, 4)};
  expectRefused("writes buffer 'triple.in0', which is read-only");
}

TEST_F(EntriesTest, StepsThatDoNotCover) {
  entry().steps = {StepVariant(1, kMaxTokens - 1, first, 3)};
  expectRefused("entry 'triple': steps cover T up to 15, must cover 1 to 16");
}

TEST_F(EntriesTest, BufferOfNoEntry) {
  addBuffer(BufferKind::Input, "lost", extent(0, 4));
  expectRefused("input 'lost' is neither tokens, seq, pos, runs or rows nor an argument of an entry");
}

} // namespace
