// Steps of which only the likeliest tokens are wanted, chosen on the GPU. Over the emulator.
#include "runtime/core/Status.h"
#include "test/runtime/backends/GpuToy.h"

#include <cmath>
#include <cstdlib>
#include <functional>
#include <gtest/gtest.h>

using namespace moert;
using namespace moert::test;
using format::Access;
using format::CommandKind;

namespace {

using Ids = std::vector<int32_t>;

class PicksTest : public testing::Test {
protected:
  void SetUp() override { makeForGpu(toy); }
  void open(int graphs = 0) {
    toy.write();
    ASSERT_TRUE(loaded.load(toy.package())) << loaded.message;
    moert_session_options options = defaultOptions();
    options.device = "emulator";
    options.graphs = graphs;
    ASSERT_TRUE(loaded.open(options)) << loaded.message;
  }
  /// Two tokens of sequence 0 and one of sequence 1; the chosen ones after the first and the last.
  bool pick(Ids &picks) {
    const Ids tokens = {3, 1, 2}, seq = {0, 0, 1}, pos = {0, 1, 0}, rows = {0, 2};
    picks.assign(rows.size(), 99);
    const moert_step_input input = {3, tokens.data(), seq.data(), pos.data(), 2, rows.data()};
    return loaded.take(moert_session_pick(loaded.session, &input, picks.data()));
  }
  bool step() { return loaded.step({3, 1, 2}, {0, 0, 1}, {0, 1, 0}, {0, 2}, logits); }
  Ids state() {
    Ids values(2);
    EXPECT_TRUE(loaded.take(moert_session_read(loaded.session, "picks", values.data(), 8, nullptr))) << loaded.message;
    return values;
  }
  void expectReport(const std::string &part) {
    const std::string report = loaded.report();
    EXPECT_NE(report.find(part), std::string::npos) << report;
  }
  void refuses(const std::function<void(VariantSpec &)> &change,
               const char *why = "touches the state 'picks': it must be a launch that writes 4 bytes per row there") {
    const ProgramSpec before = toy.program;
    change(toy.variant());
    toy.write();
    EXPECT_FALSE(loaded.load(toy.package()));
    EXPECT_NE(loaded.message.find(why), std::string::npos) << loaded.message;
    toy.program = before;
  }

  Toy toy;
  Loaded loaded;
  std::vector<float> logits;
};

/// The largest logits of the toy are of tokens 5 and 7, equal. Four bytes per row come back; where logits are wanted,
/// nothing is chosen.
TEST_F(PicksTest, ComeBackInsteadOfLogits) {
  addPicks(toy);
  for (int graphs : {-1, 0, 1}) {
    open(graphs);
    EXPECT_EQ(moert_session_can_pick(loaded.session), 1);
    Ids picks;
    ASSERT_TRUE(pick(picks)) << loaded.message;
    EXPECT_EQ(picks, Ids({5, 5}));
    EXPECT_EQ(state(), Ids({5, 5}));
    expectReport("\"result_bytes\":8,");
    ASSERT_EQ(moert_session_reset(loaded.session), nullptr);
    ASSERT_TRUE(step()) << loaded.message;
    for (int64_t v = 0; v < kVocab; ++v) {
      EXPECT_EQ(logits[size_t(v)], toy.expected({3}, v));
      EXPECT_EQ(logits[size_t(kVocab + v)], toy.expected({2}, v));
    }
    EXPECT_EQ(state(), Ids({0, 0}));
    expectReport(concat("\"result_bytes\":", 8 + 2 * 4 * kVocab, ","));
    // As graphs, of which each way has its own.
    for (int again = 0; again < 3; ++again) {
      ASSERT_TRUE(pick(picks)) << loaded.message;
      EXPECT_EQ(picks, Ids({5, 5}));
      ASSERT_EQ(moert_session_reset(loaded.session), nullptr);
      ASSERT_TRUE(step()) << loaded.message;
      EXPECT_EQ(state(), Ids({0, 0}));
    }
    expectReport(graphs < 0    ? "\"graphs_captured\":0,\"graphs_run\":0"
                 : graphs == 0 ? "\"graphs_captured\":2,\"graphs_run\":6"
                               : "\"graphs_captured\":2,\"graphs_run\":8");
    expectReport("\"emulator_findings\":0,");
  }
}

/// Command by command, too; and steps without rows.
TEST_F(PicksTest, AreTraced) {
  addPicks(toy);
  open();
  ASSERT_EQ(moert_session_trace(loaded.session, 1), nullptr);
  Ids picks;
  ASSERT_TRUE(step()) << loaded.message;
  EXPECT_EQ(loaded.report().find("\"name\":\"pick\""), std::string::npos) << loaded.report();
  ASSERT_TRUE(pick(picks)) << loaded.message;
  EXPECT_EQ(picks, Ids({5, 5}));
  expectReport("\"name\":\"pick\"");
  const int32_t token = 3, zero = 0;
  moert_step_input input = {1, &token, &zero, &zero, 0, nullptr};
  EXPECT_TRUE(loaded.take(moert_session_pick(loaded.session, &input, nullptr))) << loaded.message;
  input.row_count = 1;
  input.rows = &zero;
  EXPECT_FALSE(loaded.take(moert_session_pick(loaded.session, &input, nullptr)));
  EXPECT_EQ(loaded.message, "a step of 1 rows: tokens is NULL");
}

TEST_F(PicksTest, TellOfWhatIsNoNumber) {
  addPicks(toy);
  toy.writeCheckpoint(std::nanf(""));
  open();
  Ids picks;
  ASSERT_TRUE(pick(picks)) << loaded.message;
  EXPECT_EQ(picks, Ids({-1, -1}));
}

TEST_F(PicksTest, NeedALaunch) {
  open();
  EXPECT_EQ(moert_session_can_pick(loaded.session), 0);
  Ids picks;
  EXPECT_FALSE(pick(picks));
  EXPECT_EQ(loaded.code, MOERT_UNSUPPORTED);
  EXPECT_NE(loaded.message.find("does not choose tokens by this program: take its logits"), std::string::npos)
      << loaded.message;
  ASSERT_TRUE(step()) << loaded.message;
  EXPECT_EQ(moert_session_can_pick(nullptr), 0);
}

/// What may be left out does nothing else, and nothing needs it.
TEST_F(PicksTest, AreAllThatALaunchWrites) {
  addPicks(toy);
  const auto picks = uint32_t(toy.variant().buffers.size() - 1);
  auto addsOperand = [&](const format::Operand &operand) {
    refuses([&](VariantSpec &v) {
      v.operands.push_back(operand);
      format::Command &last = v.commands.back();
      last = format::Command(last.kind(), last.stream(), last.target(), last.first_operand(), last.operand_count() + 1,
                             last.name(), last.value(), last.grid());
    });
  };
  addsOperand(slice(kArena, Access::Write, extent(0, 4)));
  addsOperand(slice(picks, Access::Read, extent(0, 0, 4)));
  refuses([&](VariantSpec &v) {
    const format::Operand &written = v.operands[v.operands.size() - 2];
    v.operands[v.operands.size() - 2] = slice(written.index(), Access::Write, extent(0, 4));
  });
  refuses([&](VariantSpec &v) { // not at the beginning
    v.buffers[picks] =
        format::Buffer(format::BufferKind::State, v.buffers[picks].name(), 64, 0, extent(8 * kMaxTokens));
    v.operands[v.operands.size() - 2] = slice(picks, Access::Write, extent(0, 0, 4), 4);
  });
  refuses([&](VariantSpec &v) {
    const auto begin = uint32_t(v.commands.size());
    addCommand(toy.program, v, CommandKind::Fill, "clear", 0, {slice(picks, Access::Write, extent(0, 0, 4))});
    v.steps = {format::StepVariant(1, kMaxTokens, begin, 1)};
  });
}

/// Else what is there would be of another step.
TEST_F(PicksTest, AreMadeByEveryStep) {
  addPicks(toy);
  for (size_t s : {0, 1}) {
    refuses(
        [&](VariantSpec &v) {
          const format::StepVariant &step = v.steps[s];
          v.steps[s] =
              format::StepVariant(step.min_tokens(), step.max_tokens(), step.first_command(), step.command_count() - 1);
        },
        concat("step ", s, " has 0 launches that write the state 'picks', must have one").c_str());
  }
}

} // namespace

int main(int argc, char **argv) {
  setenv("MOE_EMU_DEVICE", "h100", 1);
  setenv("MOE_EMU_MEMORY", "64", 1);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
