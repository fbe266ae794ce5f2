// Sessions of the toy package: results of steps in every batching, input checks, states, streams, reports, traces.
#include "test/runtime/core/TestPackage.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <gtest/gtest.h>
#include <random>

using namespace moert;
using namespace moert::test;

namespace {

/// Allocations of this process while counting: a step must make none. Sanitizers bring their own operator new.
std::atomic<bool> counting{false};
std::atomic<int> allocations{0};

[[maybe_unused]] void *countedAllocation(size_t size) {
  if (counting) {
    ++allocations;
  }
  return malloc(size ? size : 1);
}

} // namespace

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define COUNTS_NO_ALLOCATIONS
#endif
#endif
#ifndef COUNTS_NO_ALLOCATIONS
void *operator new(size_t size) { return countedAllocation(size); }
void *operator new[](size_t size) { return countedAllocation(size); }
void operator delete(void *memory) noexcept { free(memory); }
void operator delete[](void *memory) noexcept { free(memory); }
void operator delete(void *memory, size_t) noexcept { free(memory); }
void operator delete[](void *memory, size_t) noexcept { free(memory); }
#endif

namespace {

class SessionTest : public testing::Test {
protected:
  void open(const moert_session_options &options = defaultOptions()) {
    toy.write();
    ASSERT_TRUE(loaded.load(toy.package())) << loaded.message;
    ASSERT_TRUE(loaded.open(options)) << loaded.message;
  }

  void expectLogits(size_t row, const std::vector<int32_t> &sequence) {
    for (int64_t v = 0; v < kVocab; ++v) {
      EXPECT_EQ(logits[row * kVocab + size_t(v)], toy.expected(sequence, v)) << "row " << row << ", v " << v;
    }
  }

  /// A step that must be refused with a message that contains `part`.
  void expectRefused(const std::vector<int32_t> &tokens, const std::vector<int32_t> &seq,
                     const std::vector<int32_t> &pos, const std::vector<int32_t> &rows, const std::string &part) {
    EXPECT_FALSE(loaded.step(tokens, seq, pos, rows, logits));
    EXPECT_EQ(loaded.code, MOERT_INVALID_ARGUMENT);
    EXPECT_NE(loaded.message.find(part), std::string::npos) << loaded.message;
  }

  bool reportSays(const std::string &part) { return loaded.report().find(part) != std::string::npos; }

  Toy toy;
  Loaded loaded;
  std::vector<float> logits;
};

TEST_F(SessionTest, APackageForSeveralRanksNeedsAsMany) {
  toy.variant().ranks = 4;
  toy.write();
  Loaded loaded;
  ASSERT_TRUE(loaded.load(toy.package())) << loaded.message;
  EXPECT_FALSE(loaded.open(defaultOptions()));
  EXPECT_EQ(loaded.code, MOERT_INVALID_ARGUMENT);
  EXPECT_NE(loaded.message.find("was compiled for 4 ranks, this session is one of 1: join 4 sessions in a group"),
            std::string::npos)
      << loaded.message;
}

TEST_F(SessionTest, StepsDoNotAllocate) {
#ifdef COUNTS_NO_ALLOCATIONS
  GTEST_SKIP() << "a sanitizer's operator new is not counted";
#endif
  open();
  for (bool traced : {false, true}) {
    ASSERT_EQ(moert_session_trace(loaded.session, traced), nullptr);
    std::vector<int32_t> tokens = {3, 1, 4, 2}, seq = {0, 0, 1, 2}, pos = {0, 1, 0, 0}, rows = {1, 3};
    logits.assign(2 * kVocab, 0);
    moert_step_input whole = {4, tokens.data(), seq.data(), pos.data(), 2, rows.data()};
    moert_step_input part = {1, tokens.data(), seq.data(), pos.data(), 0, nullptr};
    moert_status *failed = nullptr;
    counting = true;
    for (int i = 0; i < 10 && !failed; ++i) {
      failed = moert_session_step(loaded.session, &whole, logits.data());
      failed = failed ? failed : moert_session_step(loaded.session, &part, nullptr);
    }
    counting = false;
    EXPECT_EQ(failed, nullptr);
    EXPECT_EQ(allocations, 0) << "traced: " << traced;
    expectLogits(0, {3, 1});
  }
}

TEST_F(SessionTest, InputIsChecked) {
  moert_session_options options = defaultOptions();
  options.max_tokens = 4;
  open(options);
  expectRefused({8}, {0}, {0}, {0}, "token id 8 at index 0 is outside the vocabulary of 8 (0 to 7)");
  expectRefused({1, -1}, {0, 0}, {0, 1}, {0}, "token id -1 at index 1");
  expectRefused({1}, {3}, {0}, {0}, "sequence 3 at index 0 does not exist, the session has 3 (0 to 2)");
  expectRefused({1}, {-1}, {0}, {0}, "sequence -1");
  expectRefused({1}, {0}, {32}, {0}, "position 32 does not fit the KV cache of 32 tokens: raise --context");
  expectRefused({1}, {0}, {-1}, {0}, "position -1 at index 0 is negative");
  expectRefused({1, 1}, {0, 0}, {1, 0}, {0}, "tokens 0 and 1 are (sequence 0, position 1) and (0, 0)");
  expectRefused({1, 1}, {1, 0}, {0, 0}, {0}, "must be sorted by sequence and position");
  expectRefused({1, 1}, {0, 0}, {2, 2}, {0}, "each pair once");
  expectRefused({1}, {0}, {0}, {1}, "row 0 asks for the logits of token 1 of 1");
  expectRefused({1}, {0}, {0}, {-1}, "row 0 asks for the logits of token -1 of 1");
  expectRefused({1}, {0}, {0}, {0, 0}, "2 rows of logits for 1 tokens");
  expectRefused({1, 1, 1, 1, 1}, {0, 0, 0, 0, 0}, {0, 1, 2, 3, 4}, {0},
                "a step of 5 tokens, the session takes at most 4");
  moert_step_input input = {1, nullptr, nullptr, nullptr, 0, nullptr};
  moert_status *status = moert_session_step(loaded.session, &input, nullptr);
  EXPECT_EQ(moert_status_code(status), MOERT_INVALID_ARGUMENT);
  moert_status_free(status);
  // Nothing of all that has touched the state.
  ASSERT_TRUE(loaded.step({1}, {0}, {0}, {0}, logits));
  expectLogits(0, {1});
}

TEST_F(SessionTest, NullArgumentsAreErrors) {
  moert_program *program = nullptr;
  moert_status *status = moert_program_load(nullptr, &program);
  EXPECT_STREQ(moert_status_message(status), "moert_program_load: package is NULL");
  moert_status_free(status);
  status = moert_session_step(nullptr, nullptr, nullptr);
  EXPECT_EQ(moert_status_code(status), MOERT_INVALID_ARGUMENT);
  moert_status_free(status);
  moert_program_free(nullptr);
  moert_session_free(nullptr);
  moert_status_free(nullptr);
}

TEST_F(SessionTest, OptionsAreChecked) {
  toy.write();
  ASSERT_TRUE(loaded.load(toy.package())) << loaded.message;
  auto refuses = [&](auto change, moert_code code, const std::string &part) {
    moert_session_options options = defaultOptions();
    change(options);
    EXPECT_FALSE(loaded.open(options));
    EXPECT_EQ(loaded.code, code) << loaded.message;
    EXPECT_NE(loaded.message.find(part), std::string::npos) << loaded.message;
  };
  refuses([](auto &o) { o.sequences = 0; }, MOERT_INVALID_ARGUMENT, "0 sequences of 32 tokens");
  refuses([](auto &o) { o.context = 65; }, MOERT_INVALID_ARGUMENT,
          "context of 65 tokens was asked for, the model goes "
          "to 64");
  refuses([](auto &o) { o.max_tokens = 17; }, MOERT_INVALID_ARGUMENT, "compiled for 1 to 16");
  refuses([](auto &o) { o.max_tokens = -1; }, MOERT_INVALID_ARGUMENT, "steps of -1 tokens");
  refuses([](auto &o) { o.threads = -1; }, MOERT_INVALID_ARGUMENT, "-1 threads");
  refuses([](auto &o) { o.deadline_seconds = NAN; }, MOERT_INVALID_ARGUMENT, "deadline");
  refuses([](auto &o) { o.struct_size = 3; }, MOERT_INVALID_ARGUMENT, "struct_size is 3");
  refuses([](auto &o) { o.variant = "z80"; }, MOERT_INVALID_ARGUMENT, "has no CPU variant 'z80', it has: x86-64");
}

TEST_F(SessionTest, MemoryThatIsNotThere) {
  toy.program.maxContext = 0;
  toy.write();
  ASSERT_TRUE(loaded.load(toy.package())) << loaded.message;
  moert_session_options options = defaultOptions();
  options.sequences = 1 << 20;
  options.context = 1 << 30;
  EXPECT_FALSE(loaded.open(options));
  EXPECT_EQ(loaded.code, MOERT_OUT_OF_MEMORY);
  EXPECT_NE(loaded.message.find("need 45035996"), std::string::npos) << loaded.message; // 2^20 * 2^30 * 4 and some
  options.sequences = options.context = 0x7fffffff;
  EXPECT_FALSE(loaded.open(options));
  EXPECT_EQ(loaded.code, MOERT_OUT_OF_MEMORY);
  EXPECT_NE(loaded.message.find("more than 2^63 bytes"), std::string::npos) << loaded.message;
}

TEST_F(SessionTest, VariantsAreChosenByFeatures) {
  VariantSpec lesser = toy.variant(), gpu = toy.variant();
  toy.variant().target = "unobtainium";
  toy.variant().blob = "kernels-unobtainium.so";
  toy.variant().features = {"sse3", "avx1024"};
  lesser.features = {"sse3"};
  gpu.target = "cuda:sm_90a";
  for (KernelSpec &kernel : gpu.kernels) {
    kernel.threads = 32;
  }
  toy.program.variants.insert(toy.program.variants.begin() + 1, lesser);
  toy.program.variants.insert(toy.program.variants.begin(), gpu);
  open();
  EXPECT_TRUE(reportSays("\"variant\":\"x86-64\"")) << loaded.report();
  EXPECT_TRUE(reportSays("{\"target\":\"unobtainium\",\"chosen\":false,\"reason\":\"this CPU lacks avx1024\"}"));
  EXPECT_TRUE(reportSays("{\"target\":\"cuda:sm_90a\",\"chosen\":false,\"reason\":\"is not for CPUs\"}"));
  ASSERT_TRUE(loaded.step({3}, {0}, {0}, {0}, logits));
  expectLogits(0, {3});
  moert_session_options options = defaultOptions();
  options.variant = "x86-64";
  ASSERT_TRUE(loaded.open(options)) << loaded.message;
  EXPECT_TRUE(reportSays("{\"target\":\"x86-64\",\"chosen\":true,\"reason\":\"was asked for\"}"));
  options.variant = "unobtainium";
  EXPECT_FALSE(loaded.open(options));
  EXPECT_EQ(loaded.code, MOERT_UNSUPPORTED);
  EXPECT_NE(loaded.message.find("lacks avx1024"), std::string::npos) << loaded.message;
  toy.program.variants.resize(2);
  toy.write();
  ASSERT_TRUE(loaded.load(toy.package())) << loaded.message;
  EXPECT_FALSE(loaded.open(defaultOptions()));
  EXPECT_EQ(loaded.code, MOERT_UNSUPPORTED);
  EXPECT_NE(loaded.message.find("no variant runs on this machine (cuda:sm_90a: is not for CPUs; unobtainium: this CPU "
                                "lacks avx1024)"),
            std::string::npos)
      << loaded.message;
}

TEST_F(SessionTest, IndependentLaunchesShareAWave) {
  open();
  // embed; accumulate; scale; logits depend on each other: as many waves as launches.
  EXPECT_TRUE(reportSays("\"launches\":4,\"waves\":4")) << loaded.report();
  VariantSpec &v = toy.variant();
  uint32_t first = uint32_t(v.commands.size());
  v.commands.push_back(v.commands[0]);
  // A second embedding to other bytes of the arena, which the real one does not touch, then the rest.
  addCommand(toy.program, v, format::CommandKind::Launch, "embed too", 0,
             {slice(kTokens, format::Access::Read, extent(0, 4)), span(kEmbed),
              slice(kArena, format::Access::Write, extent(0, 4), 4 * kMaxTokens), size(format::Dim::T)},
             format::Grid(extent(0, 1), 2, 0, 1));
  for (int i = 1; i < 4; ++i) {
    v.commands.push_back(v.commands[size_t(i)]);
  }
  v.steps = {format::StepVariant(1, kMaxTokens, first, 5)};
  open();
  EXPECT_TRUE(reportSays("\"launches\":5,\"waves\":4")) << loaded.report();
  ASSERT_TRUE(loaded.step({3, 1, 5}, {0, 0, 1}, {0, 1, 0}, {1, 2}, logits)) << loaded.message;
  expectLogits(0, {3, 1});
  expectLogits(1, {5});
}

TEST_F(SessionTest, TraceAndReport) {
  open();
  ASSERT_EQ(moert_session_trace(loaded.session, 1), nullptr);
  ASSERT_TRUE(loaded.step({3, 1}, {0, 0}, {0, 1}, {1}, logits));
  expectLogits(0, {3, 1});
  ASSERT_TRUE(loaded.step({3}, {1}, {0}, {0}, logits));
  expectLogits(0, {3});
  ASSERT_EQ(moert_session_trace(loaded.session, 0), nullptr);
  ASSERT_TRUE(loaded.step({3}, {2}, {0}, {0}, logits)); // not in the trace
  std::string path = toy.package() + "/trace.json";
  ASSERT_EQ(moert_session_write_trace(loaded.session, path.c_str()), nullptr);
  std::string trace = readFile(path);
  EXPECT_EQ(trace.rfind(
                "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[{\"name\":\"embed\",\"cat\":\"launch\",\"ph\":\"X\"", 0),
            0u)
      << trace;
  size_t events = 0;
  for (size_t at = 0; (at = trace.find("\"ph\":\"X\"", at)) != std::string::npos; ++at) {
    ++events;
  }
  EXPECT_EQ(events, 8u);
  EXPECT_TRUE(reportSays("\"kernel\":\"scale\",\"description\":\"test kernel\",\"count\":2")) << loaded.report();
  EXPECT_TRUE(reportSays("\"steps_run\":3,\"tokens_run\":4"));
  EXPECT_TRUE(reportSays("\"threads\":2,\"sequences\":3,\"context\":32,\"max_tokens\":16"));
  EXPECT_TRUE(reportSays("\"arena_bytes\":128,\"state_bytes\":384"));
  EXPECT_TRUE(reportSays("\"weight_bytes\":136,\"copied_weight_bytes\":32")); // 4 * (8 + 2 + 8 + 8 + 8)
  moert_status *status = moert_session_write_trace(loaded.session, "/nonexistent/trace.json");
  EXPECT_EQ(moert_status_code(status), MOERT_NOT_FOUND);
  moert_status_free(status);
}

TEST_F(SessionTest, MissedDeadlineNamesTheCommand) {
  VariantSpec &v = toy.variant();
  v.buffers.push_back(format::Buffer(format::BufferKind::State, toy.program.string("flags"), 64, 0, extent(16)));
  uint32_t first = uint32_t(v.commands.size());
  const format::Operand flags = slice(uint32_t(v.buffers.size() - 1), format::Access::ReadWrite, extent(16));
  addCommand(toy.program, v, format::CommandKind::Launch, "mark", 6, {flags});
  static std::atomic<uint32_t> isOver;
  isOver = 0;
  addCommand(toy.program, v, format::CommandKind::Launch, "endless", 5, {flags, constant(uintptr_t(&isOver))},
             format::Grid(extent(64), 1, 0, 1));
  v.steps = {format::StepVariant(1, kMaxTokens, first, 2)};
  moert_session_options options = defaultOptions();
  options.deadline_seconds = 0.7;
  open(options);
  EXPECT_FALSE(loaded.step({1}, {0}, {0}, {0}, logits));
  EXPECT_EQ(loaded.code, MOERT_DEADLINE);
  EXPECT_NE(loaded.message.find("command 13 'endless' was not done within 0.7"), std::string::npos) << loaded.message;
  EXPECT_FALSE(loaded.step({1}, {0}, {0}, {0}, logits));
  EXPECT_EQ(loaded.code, MOERT_DEADLINE);
  isOver = 1; // before the session ends, which then leaves nothing behind
}

TEST_F(SessionTest, ProgramInfo) {
  open();
  moert_program_info info;
  ASSERT_EQ(moert_program_get_info(loaded.program, &info), nullptr);
  EXPECT_STREQ(info.compiler, "test 1.0");
  EXPECT_STREQ(info.model_json, "{\"family\":\"toy\"}");
  EXPECT_EQ(info.vocab, kVocab);
  EXPECT_EQ(info.max_tokens, kMaxTokens);
  EXPECT_EQ(info.max_context, 64);
  EXPECT_EQ(info.checkpoint_hint, toy.checkpoint());
}

} // namespace
