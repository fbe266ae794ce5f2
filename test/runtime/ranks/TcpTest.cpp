// Ranks that meet at an address: messages and collectives over TCP, and everything that may go wrong on the way there.
#include "runtime/ranks/MessageRanks.h"
#include "runtime/ranks/TcpTransport.h"

#include <arpa/inet.h>
#include <atomic>
#include <chrono>
#include <cstring>
#include <gtest/gtest.h>
#include <numeric>
#include <thread>
#include <unistd.h>

using namespace moert;

namespace {

constexpr int64_t kSecond = 1000000000;

/// A port that the system gives to nobody else while this lives: it is bound, and nobody listens there. Who says
/// SO_REUSEADDR, as ranks do, may listen.
class Port {
public:
  Port() : handle(socket(AF_INET, SOCK_STREAM, 0)) {
    const int yes = 1;
    sockaddr_in any = {};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(any);
    EXPECT_EQ(setsockopt(handle, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)), 0);
    EXPECT_EQ(bind(handle, reinterpret_cast<sockaddr *>(&any), length), 0);
    EXPECT_EQ(getsockname(handle, reinterpret_cast<sockaddr *>(&any), &length), 0);
    number = ntohs(any.sin_port);
  }
  ~Port() { close(handle); }
  Port(const Port &) = delete;

  int number = 0;

private:
  const int handle;
};

/// Calls `function` with each rank's communicator, or with why there is none.
template <typename Function>
void meet(int ranks, Function function, int missing = -1, int64_t deadline = 20 * kSecond) {
  const Port port;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    if (rank != missing) {
      threads.emplace_back([=, number = port.number] {
        auto transport = openTcpTransport({"127.0.0.1", number, rank, ranks, rank, ranks}, deadline);
        function(rank, transport.ok() ? makeMessageRank(*transport) : nullptr, transport.status());
      });
    }
  }
  for (std::thread &thread : threads) {
    thread.join();
  }
}

TEST(Tcp, CollectivesAndMessages) {
  for (int ranks : {1, 2, 5}) {
    meet(ranks, [=](int rank, std::unique_ptr<Communicator> own, const Status &status) {
      ASSERT_TRUE(own) << status.message();
      EXPECT_EQ(own->rank(), rank);
      EXPECT_EQ(own->localRank(), rank);
      // Small ones travel with their header, large ones in pieces.
      for (size_t count : {size_t(3), size_t(300000)}) {
        std::vector<float> mine(count, float(rank + 1)), all(count * size_t(ranks)), sum(count);
        ASSERT_TRUE(own->gather(mine.data(), all.data(), count * 4, 20 * kSecond)) << own->failure().message();
        for (int other = 0; other < ranks; ++other) {
          EXPECT_EQ(all[size_t(other) * count], float(other + 1));
          EXPECT_EQ(all[size_t(other + 1) * count - 1], float(other + 1));
        }
        CollectiveCall call;
        call.kind = format::CollectiveKind::AllReduceSum;
        call.from = mine.data();
        call.to = sum.data();
        call.fromBytes = call.toBytes = count * 4;
        call.name = "sum";
        ASSERT_TRUE(own->collective(call, 20 * kSecond)) << own->failure().message();
        EXPECT_EQ(sum[0], float(ranks * (ranks + 1) / 2));
        EXPECT_EQ(sum[count - 1], float(ranks * (ranks + 1) / 2));
      }
      // A message that is there before anybody asks for it, and an empty one.
      const int next = (rank + 1) % ranks, before = (rank + ranks - 1) % ranks;
      for (size_t bytes : {size_t(100000), size_t(0)}) {
        std::vector<uint8_t> sent(bytes), got(bytes);
        std::iota(sent.begin(), sent.end(), uint8_t(rank));
        if (ranks > 1 && rank % 2 == 0) {
          ASSERT_TRUE(own->send(next, sent.data(), bytes, 20 * kSecond)) << own->failure().message();
          ASSERT_TRUE(own->receive(before, got.data(), bytes, 20 * kSecond)) << own->failure().message();
        } else if (ranks > 1) {
          ASSERT_TRUE(own->receive(before, got.data(), bytes, 20 * kSecond)) << own->failure().message();
          ASSERT_TRUE(own->send(next, sent.data(), bytes, 20 * kSecond)) << own->failure().message();
        }
        for (size_t i = 0; i < bytes && ranks > 1; ++i) {
          ASSERT_EQ(got[i], uint8_t(before + int(i)));
        }
      }
    });
  }
}

/// Receives are begun while a message is on its way that came before anybody asked for it.
TEST(Tcp, MessagesKeepTheirOrder) {
  const Port port;
  const size_t large = size_t(32) << 20, small = 5; // more than a connection holds
  std::atomic<int> phase{0};
  auto pump = [](moert_transport &transport, moert_transfer &transfer, size_t expected) {
    size_t bytes = 0;
    int state = 0;
    while ((state = transport.test(&transport, &transfer, &bytes)) == 0) {
    }
    EXPECT_EQ(state, 1) << transport.error;
    EXPECT_EQ(bytes, expected);
  };
  std::thread sender([&] {
    auto transport = openTcpTransport({"127.0.0.1", port.number, 1, 2, 0, 1}, 20 * kSecond);
    ASSERT_TRUE(transport.ok()) << transport.status().message();
    const std::vector<uint8_t> first(large, 1), second(small, 2);
    moert_transfer transfers[2];
    transport->send(&*transport, first.data(), large, 0, 7, &transfers[0]);
    phase = 1;
    while (phase != 2) {
    }
    transport->send(&*transport, second.data(), small, 0, 7, &transfers[1]);
    pump(*transport, transfers[0], large);
    pump(*transport, transfers[1], small);
    transport->close(&*transport);
  });
  auto transport = openTcpTransport({"127.0.0.1", port.number, 0, 2, 0, 1}, 20 * kSecond);
  ASSERT_TRUE(transport.ok()) << transport.status().message();
  while (phase != 1) {
  }
  std::vector<uint8_t> first(large), second(large), none(1);
  moert_transfer transfers[3];
  size_t bytes = 0;
  transport->receive(&*transport, none.data(), 1, 1, 8, &transfers[2]);
  EXPECT_EQ(transport->test(&*transport, &transfers[2], &bytes), 0); // takes what there is
  transport->receive(&*transport, first.data(), large, 1, 7, &transfers[0]);
  transport->receive(&*transport, second.data(), large, 1, 7, &transfers[1]);
  phase = 2;
  pump(*transport, transfers[0], large);
  pump(*transport, transfers[1], small);
  EXPECT_EQ(first.back(), 1);
  EXPECT_EQ(second.front(), 2);
  sender.join();
  transport->close(&*transport);
}

/// What a rank said before it ended arrives, also where much was being sent to it.
TEST(Tcp, LastWordsAreHeard) {
  const Port port;
  const std::vector<uint8_t> large(size_t(32) << 20);
  uint8_t word = 7;
  moert_transfer transfers[2];
  std::thread speaker([&] {
    auto transport = openTcpTransport({"127.0.0.1", port.number, 1, 2, 0, 1}, 20 * kSecond);
    ASSERT_TRUE(transport.ok()) << transport.status().message();
    moert_transfer transfer;
    transport->send(&*transport, &word, 1, 0, 8, &transfer);
    transport->close(&*transport);
  });
  auto transport = openTcpTransport({"127.0.0.1", port.number, 0, 2, 0, 1}, 20 * kSecond);
  speaker.join();
  ASSERT_TRUE(transport.ok()) << transport.status().message();
  uint8_t heard = 0;
  size_t bytes = 0;
  int state = 0;
  transport->send(&*transport, large.data(), large.size(), 1, 7, &transfers[0]);
  transport->receive(&*transport, &heard, 1, 1, 8, &transfers[1]);
  while ((state = transport->test(&*transport, &transfers[1], &bytes)) == 0) {
  }
  EXPECT_EQ(state, 1) << transport->error;
  EXPECT_EQ(heard, word);
  while ((state = transport->test(&*transport, &transfers[0], &bytes)) == 0) {
  }
  EXPECT_EQ(state, -1);
  transport->close(&*transport);
}

TEST(Tcp, RanksThatAreGoneAreNamed) {
  meet(3, [](int rank, std::unique_ptr<Communicator> own, const Status &status) {
    ASSERT_TRUE(own) << status.message();
    if (rank == 2) {
      return; // leaves
    }
    uint8_t mine = 0, all[3];
    EXPECT_FALSE(own->gather(&mine, all, 1, 5 * kSecond));
    EXPECT_NE(own->failure().message().find("rank 2"), std::string::npos) << own->failure().message();
    EXPECT_NE(own->failure().message().find("has closed its connection"), std::string::npos)
        << own->failure().message();
  });
}

TEST(Tcp, ARankSaysWhyItFailed) {
  meet(2, [](int rank, std::unique_ptr<Communicator> own, const Status &status) {
    ASSERT_TRUE(own) << status.message();
    if (rank == 1) {
      own->abort(Code::Internal, "the cellar is flooded");
      return;
    }
    const auto begin = std::chrono::steady_clock::now();
    while (own->isWell() && std::chrono::steady_clock::now() - begin < std::chrono::seconds(10)) {
      usleep(1000);
    }
    EXPECT_EQ(own->failure().message(), "rank 1 failed: the cellar is flooded");
  });
}

TEST(Tcp, WhoDoesNotComeIsNamed) {
  meet(
      3,
      [](int rank, std::unique_ptr<Communicator> own, const Status &status) {
        EXPECT_FALSE(own);
        if (rank == 0) {
          EXPECT_EQ(status.code(), Code::Deadline);
          EXPECT_NE(status.message().find(": no word of rank 1 within 1 s"), std::string::npos) << status.message();
        }
      },
      /*missing=*/1, kSecond);
  const Port port;
  auto alone = openTcpTransport({"127.0.0.1", port.number, 1, 2, 0, 1}, kSecond / 2);
  EXPECT_EQ(alone.status().code(), Code::Deadline);
  EXPECT_NE(alone.status().message().find("cannot reach rank 0: Connection refused within 0.5 s"), std::string::npos)
      << alone.status().message();
}

TEST(Tcp, StrangersAndMistakes) {
  const Port port;
  auto start = [&](int rank, int ranks) {
    return openTcpTransport({"127.0.0.1", port.number, rank, ranks, 0, 1}, 5 * kSecond);
  };
  // Somebody else at the door is sent away, before the other rank comes: who has all ranks listens no longer.
  std::thread other([&] {
    sockaddr_in there = {};
    there.sin_family = AF_INET;
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    there.sin_port = htons(uint16_t(port.number));
    const int handle = socket(AF_INET, SOCK_STREAM, 0);
    while (connect(handle, reinterpret_cast<sockaddr *>(&there), sizeof(there)) != 0) {
      usleep(1000);
    }
    const char greeting[] = "GET / HTTP/1.0\r\n\r\n";
    EXPECT_GT(write(handle, greeting, sizeof(greeting)), 0);
    char answer;
    EXPECT_LE(read(handle, &answer, 1), 0);
    close(handle);
    auto transport = start(1, 2);
    ASSERT_TRUE(transport.ok()) << transport.status().message();
    transport->close(&*transport);
  });
  auto first = start(0, 2);
  ASSERT_TRUE(first.ok()) << first.status().message();
  other.join();
  // The port is taken as long as somebody else listens there.
  const int taken = socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 any = {};
  any.sin6_family = AF_INET6;
  ASSERT_EQ(bind(taken, reinterpret_cast<sockaddr *>(&any), sizeof(any)), 0);
  ASSERT_EQ(listen(taken, 1), 0);
  socklen_t length = sizeof(any);
  getsockname(taken, reinterpret_cast<sockaddr *>(&any), &length);
  auto late = openTcpTransport({"127.0.0.1", ntohs(any.sin6_port), 0, 2, 0, 1}, kSecond);
  EXPECT_NE(late.status().message().find("cannot listen at port "), std::string::npos) << late.status().message();
  EXPECT_NE(late.status().message().find("; choose another MASTER_PORT"), std::string::npos) << late.status().message();
  close(taken);
  first->close(&*first);

  std::thread wrong([&] { EXPECT_FALSE(start(1, 3).ok()); });
  auto two = start(0, 2);
  EXPECT_NE(two.status().message().find("somebody says to be rank 1 of 3, expected are ranks 1 to 1 of 2"),
            std::string::npos)
      << two.status().message();
  wrong.join();
  EXPECT_EQ(openTcpTransport({"127.0.0.1", 0, 0, 2, 0, 1}, kSecond).status().code(), Code::InvalidArgument);
  EXPECT_EQ(openTcpTransport({"127.0.0.1", 1, 2, 2, 0, 1}, kSecond).status().code(), Code::InvalidArgument);
  EXPECT_NE(openTcpTransport({"no such host.invalid", 1, 1, 2, 0, 1}, kSecond)
                .status()
                .message()
                .find("the host is not known"),
            std::string::npos);
}

} // namespace
