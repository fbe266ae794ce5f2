// What every backend must do, run on each: the CPU, and the CUDA backend over the emulator's libcuda, with its steps
// launched one by one and as graphs. The emulator must find nothing. (Faults are in CudaTest.cpp.)
#include "test/runtime/backends/GpuToy.h"

#include <algorithm>
#include <cstdlib>
#include <gtest/gtest.h>
#include <random>

using namespace moert;
using namespace moert::test;

namespace {

struct Setup {
  const char *name, *device;
  int graphs;
};

void PrintTo(const Setup &setup, std::ostream *out) { *out << setup.name; }

class ConformanceTest : public testing::TestWithParam<Setup> {
protected:
  void SetUp() override {
    if (onGpu()) {
      makeForGpu(toy);
    }
  }
  void TearDown() override {
    if (onGpu() && loaded.session) {
      EXPECT_TRUE(reportSays("\"emulator_findings\":0,")) << loaded.report();
    }
  }
  static bool onGpu() { return std::string(GetParam().device) != "cpu"; }
  static moert_session_options options() {
    moert_session_options options = defaultOptions();
    options.device = GetParam().device;
    options.graphs = GetParam().graphs;
    return options;
  }
  void open(const moert_session_options &given = options()) {
    toy.write();
    ASSERT_TRUE(loaded.load(toy.package())) << loaded.message;
    ASSERT_TRUE(loaded.open(given)) << loaded.message;
  }

  void expectLogits(size_t row, const std::vector<int32_t> &sequence) {
    for (int64_t v = 0; v < kVocab; ++v) {
      EXPECT_EQ(logits[row * kVocab + size_t(v)], toy.expected(sequence, v)) << "row " << row << ", v " << v;
    }
  }
  bool reportSays(const std::string &part) { return loaded.report().find(part) != std::string::npos; }

  Toy toy;
  Loaded loaded;
  std::vector<float> logits;
};

INSTANTIATE_TEST_SUITE_P(Backends, ConformanceTest,
                         testing::Values(Setup{"Cpu", "cpu", 0}, Setup{"CudaLaunches", "emulator", -1},
                                         Setup{"Cuda", "emulator", 0}, Setup{"CudaGraphs", "emulator", 1}),
                         [](const auto &info) { return info.param.name; });

TEST_P(ConformanceTest, WholeSequenceInOneStep) {
  open();
  ASSERT_TRUE(loaded.step({3, 1, 4}, {0, 0, 0}, {0, 1, 2}, {0, 2}, logits)) << loaded.message;
  expectLogits(0, {3});
  expectLogits(1, {3, 1, 4});
}

TEST_P(ConformanceTest, TokenByToken) {
  open();
  std::vector<int32_t> sequence = {3, 1, 4, 1, 5}, sofar;
  for (int32_t pos = 0; pos < 5; ++pos) {
    sofar.push_back(sequence[pos]);
    ASSERT_TRUE(loaded.step({sequence[pos]}, {0}, {pos}, {0}, logits)) << loaded.message;
    expectLogits(0, sofar);
  }
}

TEST_P(ConformanceTest, SeveralSequencesInOneStep) {
  open();
  ASSERT_TRUE(loaded.step({3, 1, 4, 7, 6, 5}, {0, 0, 1, 2, 2, 2}, {0, 1, 0, 0, 1, 2}, {5, 1, 2}, logits));
  expectLogits(0, {7, 6, 5});
  expectLogits(1, {3, 1});
  expectLogits(2, {4});
}

/// Three sequences, fed in random ragged chunks, with random threads: every logit as if fed alone.
TEST_P(ConformanceTest, RandomRaggedBatches) {
  std::mt19937 random(7);
  for (int threads : {1, 2, 5}) {
    moert_session_options chosen = options();
    chosen.threads = threads;
    open(chosen);
    std::vector<std::vector<int32_t>> sequences(3), fed(3);
    for (auto &sequence : sequences) {
      sequence.resize(8 + random() % 24);
      std::generate(sequence.begin(), sequence.end(), [&] { return int32_t(random() % kVocab); });
    }
    while (fed != sequences) {
      std::vector<int32_t> tokens, seq, pos, rows;
      std::vector<std::vector<int32_t>> expected;
      for (int32_t s = 0; s < 3; ++s) {
        size_t chunk = std::min<size_t>(random() % 6, sequences[s].size() - fed[s].size());
        for (size_t i = 0; i < chunk; ++i) {
          tokens.push_back(sequences[s][fed[s].size()]);
          seq.push_back(s);
          pos.push_back(int32_t(fed[s].size()));
          fed[s].push_back(tokens.back());
          if (random() % 2) {
            rows.push_back(int32_t(tokens.size()) - 1);
            expected.push_back(fed[s]);
          }
        }
      }
      ASSERT_TRUE(loaded.step(tokens, seq, pos, rows, logits)) << loaded.message;
      for (size_t r = 0; r < rows.size(); ++r) {
        expectLogits(r, expected[r]);
      }
    }
  }
}

TEST_P(ConformanceTest, EmptyStepsDoNothing) {
  open();
  EXPECT_TRUE(loaded.step({}, {}, {}, {}, logits)) << loaded.message;
  moert_step_input input = {};
  EXPECT_EQ(moert_session_step(loaded.session, &input, nullptr), nullptr);
  // Tokens without rows: the state advances, no logits are touched.
  int32_t token = 2, zero = 0;
  input = {1, &token, &zero, &zero, 0, nullptr};
  EXPECT_EQ(moert_session_step(loaded.session, &input, nullptr), nullptr);
  ASSERT_TRUE(loaded.step({5}, {0}, {1}, {0}, logits));
  expectLogits(0, {2, 5});
}

TEST_P(ConformanceTest, StatesAreReadAndReset) {
  open();
  ASSERT_TRUE(loaded.step({3, 4}, {0, 1}, {0, 5}, {0}, logits));
  std::vector<float> state(3 * 32);
  size_t size = 0;
  ASSERT_EQ(moert_session_read(loaded.session, "kv", state.data(), state.size() * 4, &size), nullptr);
  EXPECT_EQ(size, state.size() * 4);
  EXPECT_EQ(state[0], 4.0f);
  EXPECT_EQ(state[32 + 5], 5.0f);
  ASSERT_EQ(moert_session_reset(loaded.session), nullptr);
  ASSERT_EQ(moert_session_read(loaded.session, "kv", state.data(), state.size() * 4, nullptr), nullptr);
  EXPECT_EQ(std::count(state.begin(), state.end(), 0.0f), 96);
  moert_status *status = moert_session_read(loaded.session, "nope", nullptr, 0, &size);
  const bool hasOwnMemory = onGpu() && !getenv("MOE_EMU_BUFFERS");
  EXPECT_STREQ(moert_status_message(status),
               hasOwnMemory ? "there is no buffer 'nope', there are: kv"
                            : "there is no buffer 'nope', there are: arena, tokens, seq, pos, runs, rows, kv");
  moert_status_free(status);
}

static format::Command onStream(const format::Command &c, uint8_t stream) {
  return format::Command(c.kind(), stream, c.target(), c.first_operand(), c.operand_count(), c.name(), c.value(),
                         c.grid());
}

TEST_P(ConformanceTest, TwoStreamsOrderedByEvents) {
  // embed on stream 0, record; accumulate on stream 1 after a wait; then scale and logits there.
  VariantSpec &v = toy.variant();
  v.streams = 2;
  v.events = 1;
  std::vector<format::Command> old(v.commands.begin(), v.commands.begin() + 4);
  uint32_t first = uint32_t(v.commands.size());
  v.commands.push_back(old[0]);
  addCommand(toy.program, v, format::CommandKind::Record, "embedded", 0, {});
  addCommand(toy.program, v, format::CommandKind::Wait, "embedded?", 0, {}, format::Grid(extent(1), 1, 0, 1), 0, 1);
  for (int i = 1; i < 4; ++i) {
    v.commands.push_back(onStream(old[size_t(i)], 1));
  }
  v.steps = {format::StepVariant(1, kMaxTokens, first, 6)};
  open();
  // The third is a graph's where there are graphs; the last is traced, one command at a time.
  for (int32_t again = 0; again < 4; ++again) {
    ASSERT_EQ(moert_session_trace(loaded.session, again == 3), nullptr);
    ASSERT_TRUE(loaded.step({3, 1}, {again % 3, again % 3}, {0, 1}, {1}, logits)) << loaded.message;
    expectLogits(0, {3, 1});
  }
}

/// Without an event all streams come behind the step's inputs, and its results behind all of them.
TEST_P(ConformanceTest, StreamsBeginAndEndTogether) {
  VariantSpec &v = toy.variant();
  v.streams = 3;
  for (size_t i = 0; i < 4; ++i) {
    v.commands[i] = onStream(v.commands[i], 2);
  }
  v.steps = {format::StepVariant(1, kMaxTokens, 0, 4)};
  open();
  for (int32_t again = 0; again < 3; ++again) {
    ASSERT_TRUE(loaded.step({3, 1}, {again, again}, {0, 1}, {1}, logits)) << loaded.message;
    expectLogits(0, {3, 1});
  }
}

TEST_P(ConformanceTest, CollectivesOfOneRankAreCopies) {
  VariantSpec &v = toy.variant();
  v.buffers.push_back(format::Buffer(format::BufferKind::State, toy.program.string("gathered"), 64, 0, extent(0, 4)));
  uint32_t first = uint32_t(v.commands.size());
  for (int i = 0; i < 4; ++i) {
    v.commands.push_back(v.commands[size_t(i)]);
  }
  uint32_t gathered = uint32_t(v.buffers.size() - 1);
  addCommand(toy.program, v, format::CommandKind::GroupBegin, "group", 0, {});
  addCommand(toy.program, v, format::CommandKind::Collective, "gather", uint32_t(format::CollectiveKind::AllGather),
             {slice(gathered, format::Access::Write, extent(0, 4)), slice(kArena, format::Access::Read, extent(0, 4))});
  addCommand(toy.program, v, format::CommandKind::Collective, "reduce", uint32_t(format::CollectiveKind::AllReduceSum),
             {slice(gathered, format::Access::ReadWrite, extent(0, 4))});
  addCommand(toy.program, v, format::CommandKind::GroupEnd, "group", 0, {});
  v.steps = {format::StepVariant(1, kMaxTokens, first, 8)};
  open();
  ASSERT_TRUE(loaded.step({3, 1}, {0, 0}, {0, 1}, {1}, logits)) << loaded.message;
  expectLogits(0, {3, 1});
  float values[2];
  ASSERT_EQ(moert_session_read(loaded.session, "gathered", values, sizeof(values), nullptr), nullptr);
  EXPECT_EQ(values[0], 4.0f);
  EXPECT_EQ(values[1], 2.0f);
}

/// Every size operand has the value that the step or the session gives it, in each step anew.
TEST_P(ConformanceTest, SizesReachKernels) {
  VariantSpec &v = toy.variant();
  v.buffers.push_back(format::Buffer(format::BufferKind::State, toy.program.string("kept"), 64, 0, extent(56)));
  using format::Dim;
  addCommand(toy.program, v, format::CommandKind::Launch, "keep", 7,
             {slice(uint32_t(v.buffers.size() - 1), format::Access::Write, extent(56)), size(Dim::T), size(Dim::M),
              size(Dim::B), size(Dim::C), size(Dim::Tmax), size(Dim::Ranks), size(Dim::Rank)});
  v.steps = {format::StepVariant(1, kMaxTokens, uint32_t(v.commands.size()) - 1, 1)};
  moert_session_options chosen = options();
  chosen.max_tokens = 5;
  open(chosen);
  auto kept = [&] {
    std::vector<uint64_t> words(7);
    EXPECT_EQ(moert_session_read(loaded.session, "kept", words.data(), 56, nullptr), nullptr);
    return words;
  };
  ASSERT_TRUE(loaded.step({1, 2, 3}, {0, 0, 0}, {0, 1, 2}, {1, 2}, logits)) << loaded.message;
  EXPECT_EQ(kept(), (std::vector<uint64_t>{3, 2, 3, 32, kMaxTokens, 1, 0}));
  ASSERT_TRUE(loaded.step({1}, {0}, {3}, {}, logits)) << loaded.message;
  EXPECT_EQ(kept(), (std::vector<uint64_t>{1, 0, 3, 32, kMaxTokens, 1, 0}));
}

TEST_P(ConformanceTest, ConstantsAreRead) {
  VariantSpec &v = toy.variant();
  toy.program.constants = std::string(64, '.') + "a constant of the program";
  v.buffers.push_back(format::Buffer(format::BufferKind::Constant, 0, 64, 64, extent(25)));
  v.buffers.push_back(format::Buffer(format::BufferKind::State, toy.program.string("copied"), 64, 0, extent(32)));
  uint32_t constants = uint32_t(v.buffers.size()) - 2, first = uint32_t(v.commands.size());
  addCommand(toy.program, v, format::CommandKind::Fill, "fill", 0,
             {slice(constants + 1, format::Access::Write, extent(32))}, format::Grid(extent(1), 1, 0, 1), '-');
  addCommand(toy.program, v, format::CommandKind::Copy, "copy", 0,
             {slice(constants + 1, format::Access::Write, extent(8), 1),
              slice(constants, format::Access::Read, extent(8), 2)});
  v.steps = {format::StepVariant(1, kMaxTokens, first, 2)};
  open();
  ASSERT_TRUE(loaded.step({1}, {0}, {0}, {}, logits)) << loaded.message;
  char copied[16];
  ASSERT_EQ(moert_session_read(loaded.session, "copied", copied, sizeof(copied), nullptr), nullptr);
  EXPECT_EQ(std::string(copied, 16), "-constant-------");
}

/// Transfers of many megabytes are cut into pieces.
TEST_P(ConformanceTest, LargeTransfers) {
  VariantSpec &v = toy.variant();
  constexpr int64_t bytes = (17 << 20) + 12345;
  for (const char *name : {"first", "second"}) {
    v.buffers.push_back(format::Buffer(format::BufferKind::State, toy.program.string(name), 64, 0, extent(bytes)));
  }
  uint32_t second = uint32_t(v.buffers.size()) - 1, first = uint32_t(v.commands.size());
  addCommand(toy.program, v, format::CommandKind::Fill, "fill", 0,
             {slice(second - 1, format::Access::Write, extent(bytes - 2), 1)}, format::Grid(extent(1), 1, 0, 1), 0x5a);
  addCommand(
      toy.program, v, format::CommandKind::Copy, "copy", 0,
      {slice(second, format::Access::Write, extent(bytes)), slice(second - 1, format::Access::Read, extent(bytes))});
  v.steps = {format::StepVariant(1, kMaxTokens, first, 2)};
  open();
  ASSERT_TRUE(loaded.step({1}, {0}, {0}, {}, logits)) << loaded.message;
  std::string expected(size_t(bytes), 0x5a), copied(size_t(bytes), 0);
  expected.front() = expected.back() = 0;
  ASSERT_EQ(moert_session_read(loaded.session, "second", copied.data(), copied.size(), nullptr), nullptr);
  EXPECT_TRUE(copied == expected);
}

TEST_P(ConformanceTest, SeveralSessionsOfOneProgram) {
  open();
  Loaded other;
  ASSERT_TRUE(other.load(toy.package()));
  ASSERT_TRUE(other.open(options()));
  // The session outlives its program handle.
  moert_program_free(other.program);
  other.program = nullptr;
  ASSERT_TRUE(loaded.step({3}, {0}, {0}, {0}, logits));
  ASSERT_TRUE(other.step({4}, {0}, {0}, {0}, logits));
  expectLogits(0, {4});
  ASSERT_TRUE(loaded.step({1}, {0}, {1}, {0}, logits));
  expectLogits(0, {3, 1});
}

} // namespace
