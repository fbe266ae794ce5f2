// Both kinds of ranks: every collective against a plain loop, at sizes that take every path; and what each rank is told
// when another is late, fails, or does something else.
#include "test/runtime/ranks/RankHarness.h"

#include <chrono>
#include <cstring>
#include <gtest/gtest.h>
#include <random>

using namespace moert;
using namespace moert::test;
using format::CollectiveKind;
using format::DType;

namespace {

constexpr int64_t kSecond = 1000000000;
constexpr int64_t kLong = 60 * kSecond;

class CommunicatorTest : public testing::TestWithParam<bool> {
protected:
  static CollectiveCall call(CollectiveKind kind, void *to, uint64_t toBytes, const void *from, uint64_t fromBytes,
                             DType element = DType::F32) {
    CollectiveCall result;
    result.kind = kind;
    result.element = element;
    result.to = to;
    result.toBytes = toBytes;
    result.from = from;
    result.fromBytes = fromBytes;
    result.name = "layers.3.combine";
    return result;
  }
  /// Expects every rank but `missing` to fail with exactly `sentence`.
  static void expectAllSay(Ranks &ranks, Code code, const std::string &sentence, int missing = -1) {
    for (int rank = 0; rank < ranks.count; ++rank) {
      if (rank != missing) {
        EXPECT_EQ(ranks[rank].failure().message(), sentence) << "rank " << rank;
        EXPECT_EQ(ranks[rank].failure().code(), code) << "rank " << rank;
      }
    }
  }
  static std::string bytesOf(const std::vector<float> &values) {
    return std::string(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(float));
  }
};

std::vector<float> randomValues(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float &value : values) {
    value = float(int32_t(random())) / 1e6f;
  }
  return values;
}

uint16_t toBf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
float fromBf16(uint16_t value) {
  uint32_t bits = uint32_t(value) << 16;
  float result;
  memcpy(&result, &bits, 4);
  return result;
}

/// Counts of elements: nothing, less than ranks, odd, what no longer fits the first message, several parts per rank.
const size_t kCounts[] = {0, 1, 7, 4000, 70001, 600007};

TEST_P(CommunicatorTest, SumsAreInRankOrderAndTheSameEverywhere) {
  for (int count : {2, 3, 4, 8}) {
    Ranks ranks(GetParam(), count);
    for (size_t elements : kCounts) {
      std::vector<std::vector<float>> from, to(size_t(count), std::vector<float>(elements, -1));
      for (int rank = 0; rank < count; ++rank) {
        from.push_back(randomValues(elements, uint32_t(rank) + uint32_t(elements)));
      }
      std::vector<float> expected = from[0];
      for (int rank = 1; rank < count; ++rank) {
        for (size_t i = 0; i < elements; ++i) {
          expected[i] += from[size_t(rank)][i];
        }
      }
      std::vector<std::vector<float>> inPlace = from;
      ranks.run([&](Communicator &communicator) {
        const auto r = size_t(communicator.rank());
        EXPECT_TRUE(communicator.collective(
            call(CollectiveKind::AllReduceSum, to[r].data(), 4 * elements, from[r].data(), 4 * elements), kLong));
        EXPECT_TRUE(communicator.collective(
            call(CollectiveKind::AllReduceSum, inPlace[r].data(), 4 * elements, inPlace[r].data(), 4 * elements),
            kLong));
      });
      for (int rank = 0; rank < count; ++rank) {
        EXPECT_EQ(bytesOf(to[size_t(rank)]), bytesOf(expected)) << rank << " of " << count << ", " << elements;
        EXPECT_EQ(bytesOf(inPlace[size_t(rank)]), bytesOf(expected)) << rank << " of " << count << ", " << elements;
      }
    }
  }
}

/// 1 + 2^-9 is no bf16: rounding once at the end differs from rounding after every rank.
TEST_P(CommunicatorTest, SumsOfBf16AreRoundedOnce) {
  constexpr int kRanks = 4;
  constexpr size_t kElements = 30000;
  Ranks ranks(GetParam(), kRanks);
  std::vector<std::vector<uint16_t>> from(kRanks), to(kRanks, std::vector<uint16_t>(kElements));
  std::vector<uint16_t> expected(kElements);
  std::mt19937 random(3);
  for (size_t i = 0; i < kElements; ++i) {
    float sum = 0;
    for (auto &rank : from) {
      rank.push_back(toBf16(float(int32_t(random())) / 1e6f));
      sum += fromBf16(rank.back());
    }
    expected[i] = toBf16(sum);
  }
  from[0][0] = 0x3f80, from[1][0] = from[2][0] = 0x3b00, from[3][0] = 0x3b80; // 1 + 2^-9 + 2^-9 + 2^-8
  expected[0] = 0x3f81;                                                       // 1 + 2^-7
  from[0][1] = 0x7f80, from[1][1] = 0xff80, from[2][1] = from[3][1] = 0;      // inf - inf
  ranks.run([&](Communicator &communicator) {
    const auto r = size_t(communicator.rank());
    EXPECT_TRUE(communicator.collective(
        call(CollectiveKind::AllReduceSum, to[r].data(), 2 * kElements, from[r].data(), 2 * kElements, DType::BF16),
        kLong));
  });
  for (const auto &rank : to) {
    EXPECT_EQ(rank[1] & 0x7fc0, 0x7fc0) << "not a number";
    for (size_t i = 0; i < kElements; ++i) {
      ASSERT_TRUE(i == 1 || rank[i] == expected[i]) << i;
    }
  }
}

TEST_P(CommunicatorTest, PartsGoWhereTheyBelong) {
  for (int count : {2, 3, 5}) {
    Ranks ranks(GetParam(), count);
    const auto n = size_t(count);
    for (size_t part : kCounts) {
      // Rank q's value at place i of its part for rank p, and what is made of it.
      auto value = [&](size_t q, size_t p, size_t i) { return float(q * 1000 + p * 100) + float(i % 97); };
      ranks.run([&](Communicator &communicator) {
        const auto r = size_t(communicator.rank());
        std::vector<float> one(part), all(n * part), gathered(n * part, -1), exchanged(n * part, -1), sum(part, -1);
        for (size_t i = 0; i < part; ++i) {
          one[i] = value(r, 0, i);
          for (size_t p = 0; p < n; ++p) {
            all[p * part + i] = value(r, p, i);
          }
        }
        const uint64_t bytes = 4 * part;
        EXPECT_TRUE(communicator.collective(
            call(CollectiveKind::AllGather, gathered.data(), n * bytes, one.data(), bytes), kLong));
        EXPECT_TRUE(communicator.collective(
            call(CollectiveKind::AllToAll, exchanged.data(), n * bytes, all.data(), n * bytes), kLong));
        EXPECT_TRUE(communicator.collective(
            call(CollectiveKind::ReduceScatterSum, sum.data(), bytes, all.data(), n * bytes), kLong));
        for (size_t i = 0; i < part; ++i) {
          float total = 0;
          for (size_t q = 0; q < n; ++q) {
            ASSERT_EQ(gathered[q * part + i], value(q, 0, i));
            ASSERT_EQ(exchanged[q * part + i], value(q, r, i));
            total += value(q, r, i);
          }
          ASSERT_EQ(sum[i], total);
        }
      });
    }
  }
}

TEST_P(CommunicatorTest, ExchangesOfAnyCounts) {
  std::mt19937 random(11);
  for (int count : {2, 4}) {
    Ranks ranks(GetParam(), count);
    for (int round = 0; round < 20; ++round) {
      // Rows that all come with the counts, that never do, and up to five of which do.
      const uint64_t rowBytes = round % 3 == 0 ? 12 : round % 3 == 1 ? 40000 : 3000;
      std::vector<std::vector<int32_t>> counts(static_cast<size_t>(count));
      for (auto &from : counts) {
        for (int to = 0; to < count; ++to) {
          from.push_back(random() % 3 ? int32_t(random() % 9) : 0);
        }
      }
      ranks.run([&](Communicator &communicator) {
        const int r = communicator.rank();
        std::string from, expected;
        std::vector<int32_t> received(size_t(count), -1);
        for (int to = 0; to < count; ++to) {
          for (int row = 0; row < counts[size_t(r)][size_t(to)]; ++row) {
            from += std::string(rowBytes, char('a' + r * 10 + row));
          }
        }
        for (int q = 0; q < count; ++q) {
          for (int row = 0; row < counts[size_t(q)][size_t(r)]; ++row) {
            expected += std::string(rowBytes, char('a' + q * 10 + row));
          }
        }
        // As many rows as could come: exactly enough, or more.
        std::string to(expected.size() + size_t(round % 2) * rowBytes, '-');
        CollectiveCall exchange = call(CollectiveKind::Exchange, to.data(), 8 * 4 * rowBytes, from.data(), 0);
        exchange.toBytes = exchange.fromBytes = 9 * 4 * rowBytes;
        exchange.rowBytes = rowBytes;
        exchange.received = received.data();
        exchange.counts = counts[size_t(r)].data();
        ASSERT_TRUE(communicator.collective(exchange, kLong)) << communicator.failure().message();
        EXPECT_EQ(to.substr(0, expected.size()), expected);
        for (int q = 0; q < count; ++q) {
          // Rows of rank q start where its row numbers restart; the letters above only tell rows apart.
          EXPECT_EQ(received[size_t(q)], counts[size_t(q)][size_t(r)]);
        }
      });
    }
  }
}

TEST_P(CommunicatorTest, ExchangesBeyondTheirBuffers) {
  auto run = [&](const std::vector<std::vector<int32_t>> &counts, const std::string &sentence) {
    Ranks ranks(GetParam(), 3);
    ranks.run([&](Communicator &communicator) {
      std::vector<float> from(8), to(8);
      std::vector<int32_t> received(3);
      CollectiveCall exchange = call(CollectiveKind::Exchange, to.data(), 16, from.data(), 20);
      exchange.rowBytes = 4;
      exchange.received = received.data();
      exchange.counts = counts[size_t(communicator.rank())].data();
      // A rank whose few rows came with the counts has what it needs, and learns of it in its next call.
      (void)communicator.collective(exchange, kLong);
      EXPECT_FALSE(communicator.collective(exchange, kLong));
    });
    for (int rank = 0; rank < 3; ++rank) {
      EXPECT_EQ(ranks[rank].failure().message().find(sentence), 0u) << ranks[rank].failure().message();
    }
  };
  run({{0, 2, 1}, {1, 1, 1}, {0, 2, 0}}, "rank 1: collective 'layers.3.combine' receives 5 rows, its buffer holds 4");
  run({{0, 1, 0}, {1, 1, 1}, {0, 2, 4}}, "rank 2: collective 'layers.3.combine' sends ");
  run({{0, 1, 0}, {1, -1, 1}, {0, 2, 0}}, "rank 1: collective 'layers.3.combine' sends -1 rows to rank 1");
}

TEST_P(CommunicatorTest, ARankThatDoesNotComeIsNamed) {
  for (int missing : {0, 2}) {
    Ranks ranks(GetParam(), 4);
    const auto begin = std::chrono::steady_clock::now();
    ranks.run(
        [&](Communicator &communicator) {
          std::vector<float> data(100);
          EXPECT_FALSE(communicator.collective(call(CollectiveKind::AllReduceSum, data.data(), 400, data.data(), 400),
                                               kSecond / 2));
          EXPECT_FALSE(communicator.send((communicator.rank() + 1) % 4, data.data(), 4, kLong)) << "nothing works";
          EXPECT_FALSE(communicator.receive((communicator.rank() + 1) % 4, data.data(), 4, kLong));
        },
        missing);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
    expectAllSay(ranks, Code::Deadline,
                 concat("rank ", missing, " did not reach collective 'layers.3.combine' within 0.5 s"), missing);
    // When it does come, it is told the same.
    std::vector<float> data(100);
    EXPECT_FALSE(
        ranks[missing].collective(call(CollectiveKind::AllReduceSum, data.data(), 400, data.data(), 400), kSecond));
    expectAllSay(ranks, Code::Deadline,
                 concat("rank ", missing, " did not reach collective 'layers.3.combine' within 0.5 s"));
  }
}

TEST_P(CommunicatorTest, ARankThatFailsIsQuoted) {
  Ranks ranks(GetParam(), 4);
  ranks.run([&](Communicator &communicator) {
    if (communicator.rank() == 1) {
      communicator.abort(Code::IO, "the disk is gone");
    } else {
      std::vector<float> data(100);
      EXPECT_FALSE(
          communicator.collective(call(CollectiveKind::AllReduceSum, data.data(), 400, data.data(), 400), kLong));
    }
  });
  expectAllSay(ranks, Code::IO, "rank 1 failed: the disk is gone");
}

TEST_P(CommunicatorTest, DifferentCallsAreNamed) {
  struct Case {
    CollectiveKind kind;
    uint64_t bytes;
    DType element;
    const char *name, *part;
  };
  for (const Case &other : {Case{CollectiveKind::AllToAll, 400, DType::F32, "x", "AllToAll of 400 to 400 bytes"},
                            Case{CollectiveKind::AllReduceSum, 396, DType::F32, "x", "of 396 to 396 bytes"},
                            Case{CollectiveKind::AllReduceSum, 400, DType::BF16, "x", "element type 1"},
                            Case{CollectiveKind::AllReduceSum, 400, DType::F32, nullptr, "start of a step"}}) {
    Ranks ranks(GetParam(), 2);
    ranks.run([&](Communicator &communicator) {
      std::vector<float> data(100), result(100);
      CollectiveCall mine = call(CollectiveKind::AllReduceSum, result.data(), 400, data.data(), 400);
      if (communicator.rank() == 1) {
        mine = call(other.kind, result.data(), other.bytes, data.data(), other.bytes, other.element);
        mine.name = other.name;
      }
      EXPECT_FALSE(communicator.collective(mine, kLong));
    });
    for (int rank = 0; rank < 2; ++rank) {
      const std::string &text = ranks[rank].failure().message();
      EXPECT_NE(text.find("ranks 0 and 1 differ in what they do together: AllReduceSum of 400 to 400 bytes, element "
                          "type 0"),
                std::string::npos)
          << text;
      EXPECT_NE(text.find(other.part), std::string::npos) << text;
    }
  }
}

TEST_P(CommunicatorTest, Messages) {
  Ranks ranks(GetParam(), 3);
  const std::string large(3000000, 'L');
  ranks.run([&](Communicator &communicator) {
    std::string data(large.size(), '-');
    char small = char('0' + communicator.rank());
    if (communicator.rank() == 0) {
      EXPECT_TRUE(communicator.send(1, large.data(), large.size(), kLong));
      EXPECT_TRUE(communicator.send(2, nullptr, 0, kLong));
      EXPECT_TRUE(communicator.receive(2, &small, 1, kLong));
      EXPECT_EQ(small, '2');
    } else if (communicator.rank() == 1) {
      EXPECT_TRUE(communicator.receive(0, data.data(), data.size(), kLong));
      EXPECT_EQ(data, large);
    } else {
      EXPECT_TRUE(communicator.receive(0, nullptr, 0, kLong));
      EXPECT_TRUE(communicator.send(0, &small, 1, kLong));
    }
  });
  ranks.run([&](Communicator &communicator) {
    char data[8] = {};
    if (communicator.rank() == 2) {
      EXPECT_FALSE(communicator.receive(0, data, 8, kSecond / 4));
    }
  });
  EXPECT_EQ(ranks[2].failure().message(), "rank 0 sent nothing to rank 2 within 0.25 s");
  EXPECT_EQ(ranks[2].failure().code(), Code::Deadline);
}

TEST_P(CommunicatorTest, MessagesOfAnotherSize) {
  Ranks ranks(GetParam(), 2);
  ranks.run([&](Communicator &communicator) {
    char data[8] = {};
    if (communicator.rank() == 0) {
      communicator.send(1, data, 4, kLong);
    } else {
      EXPECT_FALSE(communicator.receive(0, data, 8, kLong));
    }
  });
  EXPECT_EQ(ranks[1].failure().message(), "rank 0 sent 4 bytes, rank 1 expects 8");
}

TEST_P(CommunicatorTest, ManySmallCalls) {
  Ranks ranks(GetParam(), 4);
  ranks.run([&](Communicator &communicator) {
    for (int64_t i = 0; i < 300; ++i) {
      int64_t mine = i * 10 + communicator.rank(), all[4] = {};
      ASSERT_TRUE(communicator.gather(&mine, all, sizeof(mine), kLong));
      for (int64_t other = 0; other < 4; ++other) {
        ASSERT_EQ(all[other], i * 10 + other);
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, CommunicatorTest, testing::Values(true, false),
                         [](const auto &info) { return info.param ? "Threads" : "Messages"; });

/// Rank 2 stops after it has sent to rank 0, not to the others: rank 0 goes on and then waits for three ranks, of which
/// it must not blame those that wait themselves.
TEST(MessageRanks, OnlyTheRankThatStoppedIsNamed) {
  for (int round = 0; round < 5; ++round) {
    Ranks ranks(false, 4);
    ranks.network->cut(2, 1);
    ranks.network->cut(2, 3);
    ranks.run([&](Communicator &communicator) {
      std::vector<float> data(100);
      CollectiveCall call;
      call.kind = CollectiveKind::AllReduceSum;
      call.to = data.data();
      call.from = data.data();
      call.toBytes = call.fromBytes = 400;
      call.name = "first";
      if (communicator.collective(call, kSecond / 2) && communicator.rank() == 0) {
        call.name = "second";
        EXPECT_FALSE(communicator.collective(call, kSecond / 2));
      }
    });
    for (int rank : {0, 1, 3}) {
      EXPECT_EQ(ranks[rank].failure().message(), "rank 2 did not reach collective 'first' within 0.5 s");
    }
  }
}

TEST(MessageRanks, CloseInOrderOnly) {
  Ranks ranks(false, 2);
  {
    auto first = makeMessageRank(ranks.network->transport(0));
  }
  EXPECT_EQ(ranks.network->closed(), 1);
  {
    auto second = makeMessageRank(ranks.network->transport(1));
    second->abort(Code::Internal, "no reason");
  }
  EXPECT_EQ(ranks.network->closed(), 1);
}

TEST(ThreadRanks, Counts) {
  EXPECT_FALSE(makeThreadGroup(0).ok());
  EXPECT_EQ(makeThreadGroup(257).status().message(), "a group of 257 thread ranks: must be 1 to 256");
  auto group = *makeThreadGroup(3);
  EXPECT_EQ(group->ranks(), 3);
  EXPECT_EQ(group->ownRank(), -1);
  EXPECT_EQ(group->member(3), nullptr);
  EXPECT_EQ(group->member(-1), nullptr);
  EXPECT_EQ(group->member(0)->threadShare(16), 5);
  EXPECT_EQ(group->member(0)->threadShare(2), 1);
}

} // namespace
