// What the loader checks of programs for several ranks: weights per rank, the extents of collectives, exchanges.
#include "test/runtime/core/TestPackage.h"

#include <functional>
#include <gtest/gtest.h>

using namespace moert;
using namespace moert::test;
using namespace moert::format;

namespace {

/// Command and operand of the toy's first launch, and of its initializer's kernel; see Toy::Toy.
enum : uint32_t { kEmbedCommand = 0, kScaleCommand = 2, kClearCommand = 8, kFoldCommand = 10 };

class RankChecksTest : public testing::Test {
protected:
  RankChecksTest() { toy.variant().ranks = 2; }

  void refuses(const std::string &part, const std::function<void(ProgramSpec &, VariantSpec &)> &change) {
    ProgramSpec before = toy.program;
    change(toy.program, toy.variant());
    toy.write();
    Loaded loaded;
    EXPECT_FALSE(loaded.load(toy.package())) << "expected: " << part;
    EXPECT_EQ(loaded.code, MOERT_CORRUPT) << loaded.message;
    EXPECT_NE(loaded.message.find(part), std::string::npos) << loaded.message;
    toy.program = before;
  }
  void accepts(const std::function<void(ProgramSpec &, VariantSpec &)> &change) {
    ProgramSpec before = toy.program;
    change(toy.program, toy.variant());
    toy.write();
    Loaded loaded;
    EXPECT_TRUE(loaded.load(toy.package())) << loaded.message;
    toy.program = before;
  }
  static std::function<void(ProgramSpec &, VariantSpec &)> operand(uint32_t command, uint32_t index,
                                                                   const Operand &operand) {
    return [=](ProgramSpec &, VariantSpec &v) { v.operands[v.commands[command].first_operand() + index] = operand; };
  }
  /// Makes the second step of one collective.
  static std::function<void(ProgramSpec &, VariantSpec &)>
  collective(CollectiveKind kind, const std::vector<Operand> &operands, uint64_t value = 0) {
    return [=](ProgramSpec &p, VariantSpec &v) {
      v.steps[1].mutate_first_command(addCommand(p, v, CommandKind::Collective, "together", uint32_t(kind), operands,
                                                 Grid(test::extent(1), 1, 0, 1), value));
      v.steps[1].mutate_command_count(1);
    };
  }
  static Operand to(int64_t fixed, int64_t perToken = 0) {
    return slice(kArena, Access::Write, test::extent(fixed, perToken));
  }
  static Operand from(int64_t fixed, int64_t perToken = 0) {
    return slice(kArena, Access::Read, test::extent(fixed, perToken), 64);
  }

  Toy toy;
};

TEST_F(RankChecksTest, WeightSpans) {
  accepts(operand(kEmbedCommand, 1, span(kEmbed, 0, 16, Access::Read, 16)));
  refuses("is bytes 4 .. + 16 of tensor 'embed', which has 32 bytes, at steps of 16 for each of 2 ranks",
          operand(kEmbedCommand, 1, span(kEmbed, 4, 16, Access::Read, 16)));
  refuses("at steps of 40 for each of 2 ranks", operand(kEmbedCommand, 1, span(kEmbed, 0, 4, Access::Read, 40)));
  refuses("at steps of 18446744073709551615", operand(kEmbedCommand, 1, span(kEmbed, 16, 4, Access::Read, UINT64_MAX)));
  refuses("is at a step of 16 bytes per rank: it must say how many bytes it is",
          operand(kEmbedCommand, 1, span(kEmbed, 0, 0, Access::Read, 16)));
  refuses("is at a step of 8 bytes per rank: the result of an initializer is each rank's own",
          operand(kClearCommand, 0, span(kHead, 0, 16, Access::Write, 8)));
  toy.variant().ranks = 3; // 2 * 2^63 overflows only with three
  refuses("at steps of 9223372036854775808",
          operand(kEmbedCommand, 1, span(kEmbed, 0, 4, Access::Read, uint64_t(1) << 63)));
}

TEST_F(RankChecksTest, WeightTables) {
  accepts(operand(kScaleCommand, 0, table(0, 1)));
  refuses("takes 2 entries per rank of weight table 0, which has 2 for 2 ranks",
          operand(kScaleCommand, 0, table(0, 2)));
  refuses("takes 9223372036854775809 entries per rank", operand(kScaleCommand, 0, table(0, (uint64_t(1) << 63) + 1)));
  toy.variant().ranks = 1;
  refuses("takes 1 entries per rank of weight table 0, which has 2 for 1 ranks",
          operand(kScaleCommand, 0, table(0, 1)));
}

TEST_F(RankChecksTest, SizesInInitializers) {
  accepts(operand(kFoldCommand, 2, size(Dim::Ranks)));
  accepts(operand(kFoldCommand, 2, size(Dim::Rank)));
  refuses("knows only ranks and rank", operand(kFoldCommand, 2, size(Dim::C)));
}

TEST_F(RankChecksTest, ExtentsOfCollectives) {
  accepts(collective(CollectiveKind::AllReduceSum, {to(32), from(32)}));
  accepts(collective(CollectiveKind::AllReduceSum, {slice(kArena, Access::ReadWrite, test::extent(32))}));
  accepts(collective(CollectiveKind::AllGather, {to(0, 2), from(0, 1)}));
  accepts(collective(CollectiveKind::ReduceScatterSum, {to(0, 2), from(0, 4)}, uint64_t(DType::BF16)));
  accepts(collective(CollectiveKind::AllToAll, {to(0, 4), from(0, 4)}));
  refuses("is collective 5, known are 0 to 4", collective(CollectiveKind(5), {to(32), from(32)}));
  refuses("goes from 32 to 16 bytes on 2 ranks: the two must be equal and whole elements",
          collective(CollectiveKind::AllReduceSum, {to(16), from(32)}));
  refuses("goes from 30 to 30 bytes", collective(CollectiveKind::AllReduceSum, {to(30), from(30)}));
  refuses("goes from 0 + 2*T to 0 + 2*T bytes", collective(CollectiveKind::AllReduceSum, {to(0, 2), from(0, 2)}));
  refuses("goes from 16 to 16 bytes on 2 ranks: the second must be ranks times the first",
          collective(CollectiveKind::AllGather, {to(16), from(16)}));
  refuses("goes from 0 + 1*T to 0 + 1*T bytes", collective(CollectiveKind::AllGather, {to(0, 1), from(0, 1)}));
  refuses("goes from 16 to 16 bytes on 2 ranks: the first must be ranks times the second and whole elements",
          collective(CollectiveKind::ReduceScatterSum, {to(16), from(16)}));
  refuses("goes from 12 to 6 bytes", collective(CollectiveKind::ReduceScatterSum, {to(6), from(12)}));
  refuses("goes from 16 to 32 bytes on 2 ranks: the two must be equal",
          collective(CollectiveKind::AllToAll, {to(32), from(16)}));
  refuses("cuts 15 bytes into parts for 2 ranks", collective(CollectiveKind::AllToAll, {to(15), from(15)}));
  refuses("cuts 0 + 3*T bytes into parts", collective(CollectiveKind::AllToAll, {to(0, 3), from(0, 3)}));
  // The members that follow the session or M, each alone.
  auto growing = [&](const Extent &large, const Extent &small) {
    return [=](ProgramSpec &p, VariantSpec &v) {
      v.buffers[kArena] =
          Buffer(BufferKind::Arena, v.buffers[kArena].name(), 64, 0, test::extent(4096, 64, 64, 64, 64));
      v.buffers.push_back(v.buffers[kArena]);
      const auto other = uint32_t(v.buffers.size() - 1);
      collective(CollectiveKind::AllGather,
                 {slice(kArena, Access::Write, large), slice(other, Access::Read, small)})(p, v);
    };
  };
  accepts(growing(test::extent(0, 0, 2, 2, 2), test::extent(0, 0, 1, 1, 1)));
  refuses("goes from 0 + 1*M to 0 + 1*M", growing(test::extent(0, 0, 1), test::extent(0, 0, 1)));
  refuses("goes from 0 + 1*B to 0 + 1*B", growing(test::extent(0, 0, 0, 1), test::extent(0, 0, 0, 1)));
  refuses("goes from 0 + 1*B*C to 0 + 1*B*C", growing(test::extent(0, 0, 0, 0, 1), test::extent(0, 0, 0, 0, 1)));
  toy.variant().rankInputs = RankInputs::Distributed;
  accepts(growing(test::extent(0, 0, 0, 2, 2), test::extent(0, 0, 0, 1, 1)));
  refuses("may not grow with M", growing(test::extent(0, 0, 2), test::extent(0, 0, 1)));
  for (int member = 2; member < 5; ++member) {
    auto odd = test::extent(0, 0, member == 2 ? 3 : 0, member == 3 ? 3 : 0, member == 4 ? 3 : 0);
    refuses("into parts for 2 ranks", [&](ProgramSpec &p, VariantSpec &v) {
      growing(odd, odd)(p, v);
      v.commands.back().mutate_target(uint32_t(CollectiveKind::AllToAll));
    });
  }
}

TEST_F(RankChecksTest, KindsOfCollectives) {
  refuses("sums elements of type 2, known are f32 (0) and bf16 (1)",
          collective(CollectiveKind::AllReduceSum, {to(32), from(32)}, uint64_t(DType::F16)));
  refuses("sums elements of type 2",
          collective(CollectiveKind::ReduceScatterSum, {to(16), from(32)}, uint64_t(DType::F16)));
  accepts(collective(CollectiveKind::AllToAll, {to(32), from(32)}, 77)); // copies have no element type
  refuses("of several ranks only a sum over all of them is in place",
          collective(CollectiveKind::AllToAll, {slice(kArena, Access::ReadWrite, test::extent(32))}));
  refuses("rank inputs of kind 9", [](auto &, auto &v) { v.rankInputs = RankInputs(9); });
  toy.variant().ranks = 1;
  refuses("copies 16 bytes to 32 bytes", collective(CollectiveKind::AllGather, {to(32), from(16)}));
  accepts(collective(CollectiveKind::AllGather, {to(32), from(32)}));
}

TEST_F(RankChecksTest, Exchanges) {
  auto exchange = [&](const Operand &received, const Operand &sent, uint64_t rowBytes) {
    return [=](ProgramSpec &p, VariantSpec &v) {
      v.buffers.push_back(Buffer(BufferKind::Arena, v.buffers[kArena].name(), 64, 0, test::extent(64)));
      const auto counts = uint32_t(v.buffers.size() - 1);
      Operand receivedCounts = received, sentCounts = sent;
      receivedCounts.mutate_index(counts);
      sentCounts.mutate_index(counts);
      collective(CollectiveKind::Exchange, {to(32), from(32), receivedCounts, sentCounts}, rowBytes)(p, v);
    };
  };
  const Operand received = slice(0, Access::Write, test::extent(8)), sent = slice(0, Access::Read, test::extent(8), 8);
  accepts(exchange(received, sent, 4));
  refuses("exchanges rows of 0 bytes", exchange(received, sent, 0));
  refuses("exchanges rows of 2147483648 bytes", exchange(received, sent, uint64_t(1) << 31));
  refuses("operand 2 must be a slice that is written", exchange(slice(0, Access::ReadWrite, test::extent(8)), sent, 4));
  refuses("operand 3 must be a slice that is read", exchange(received, constant(0), 4));
  refuses("operand 2 holds a count per rank and must have 8 bytes, it has 4",
          exchange(slice(0, Access::Write, test::extent(4)), sent, 4));
  refuses("operand 3 holds a count per rank and must have 8 bytes, it has 4 + 1*M",
          exchange(received, slice(0, Access::Read, test::extent(4, 0, 1), 8), 4));
  refuses("has 2 operands, an exchange must have 4", collective(CollectiveKind::Exchange, {to(32), from(32)}, 4));
}

} // namespace
