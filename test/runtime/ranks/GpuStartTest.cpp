// Several ranks with a GPU each: what they do when their sessions are made, and how often exchanges make the host wait.
#include "test/runtime/ranks/GpuRankHarness.h"

#include <atomic>
#include <chrono>

using namespace moert;
using namespace moert::test;
using namespace moert::format;

namespace {

/// Listens to NCCL while it lives: groups of calls, those that took memory of the GPU, and messages.
struct Listening {
  Listening() : driver(**cuda::Driver::open(true)), nccl(**cuda::Nccl::open(true)), real(nccl) {
    self = this;
    nccl.groupEnd = [] {
      size_t before = 0, after = 0, total = 0;
      self->driver.memoryInfo(&before, &total);
      const ncclResult_t result = self->real.groupEnd();
      self->driver.memoryInfo(&after, &total);
      ++self->groups;
      self->takers += after < before;
      return result;
    };
    nccl.allGather = [](const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t group,
                        CUstream stream) {
      ++self->gathers;
      return self->real.allGather(from, to, count, type, group, stream);
    };
    nccl.send = [](const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t group, CUstream stream) {
      ++self->messages;
      return self->real.send(from, count, type, peer, group, stream);
    };
  }
  ~Listening() {
    nccl.groupEnd = real.groupEnd;
    nccl.allGather = real.allGather;
    nccl.send = real.send;
  }
  void forget() { groups = takers = messages = gathers = 0; }

  static Listening *self;
  cuda::Driver &driver;
  cuda::Nccl &nccl;
  const cuda::Nccl real;
  std::atomic<int> groups{0}, takers{0}, messages{0}, gathers{0};
};
Listening *Listening::self;

/// Both ranks embed two tokens and exchange rows.
bool exchange(Together &run) {
  std::vector<int> went(2);
  run.sessions.run([&](int rank) { went[size_t(rank)] = run.sessions.step(rank, {rank, 4}, {0, 0}, {0, 1}, {}); });
  return went[0] && went[1];
}

std::vector<float> rowsIn(Together &run, int rank, const char *state) {
  std::vector<float> rows(2);
  EXPECT_EQ(moert_session_read(run.sessions.sessions[size_t(rank)].session, state, rows.data(), 8, nullptr), nullptr);
  return rows;
}

/// NCCL takes memory for the first message between two ranks, and for the first collective: before sessions have taken
/// theirs, not in a step. Each is tried small and large.
TEST(GpuStart, RanksThatExchangeAreConnected) {
  Listening heard;
  GpuRankToy toy(2, true);
  toy.exchangeRows();
  toy.write();
  Together run(toy);
  EXPECT_EQ(heard.messages, 2 * 2);
  EXPECT_EQ(heard.gathers, 2 * 2);
  EXPECT_EQ(heard.takers, 2 * 2);
  heard.forget();
  ASSERT_TRUE(exchange(run)) << run.message(0);
  EXPECT_EQ(heard.messages, 2);
  EXPECT_EQ(heard.takers, 0);
}

TEST(GpuStart, RanksAreConnectedForWhatTheyDo) {
  for (bool isDistributed : {false, true}) {
    Listening heard;
    GpuRankToy toy(2, isDistributed);
    toy.write();
    Together run(toy);
    EXPECT_EQ(heard.groups, 2 * (isDistributed ? kDistributedTrials : kReplicatedTrials));
    EXPECT_EQ(heard.gathers, isDistributed ? 2 * 2 : 0);
    EXPECT_EQ(heard.messages, 0);
    EXPECT_EQ(heard.takers, 2);
    heard.forget();
    ASSERT_TRUE(run.step(isDistributed ? std::vector<Ids>{{3}, {4}} : std::vector<Ids>{{3}})) << run.message(0);
    EXPECT_EQ(heard.takers, 0);
  }
}

/// A rank without memory for what joining needs: the others do not wait for it.
TEST(GpuStart, ARankThatCannotPrepareIsNamedAtOnce) {
  GpuRankToy toy(2, true);
  toy.exchangeRows();
  toy.write();
  cuda::Driver &driver = **cuda::Driver::open(true);
  static decltype(driver.pinnedAllocate) real;
  static std::atomic<bool> isRefused;
  real = driver.pinnedAllocate;
  isRefused = false;
  driver.pinnedAllocate = [](void **memory, size_t bytes, unsigned flags) {
    return bytes == 2 * 2 * (2 + 1) * sizeof(int32_t) && !isRefused.exchange(true) ? CUDA_ERROR_OUT_OF_MEMORY
                                                                                   : real(memory, bytes, flags);
  };
  const auto begin = std::chrono::steady_clock::now();
  Together run(toy, 60);
  driver.pinnedAllocate = real;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
  int own = 0;
  for (int rank = 0; rank < 2; ++rank) {
    expectMessage(run, rank, MOERT_OUT_OF_MEMORY, "bytes of pinned memory for counts of rows were refused: ");
    own += run.message(rank).find("failed: ") == std::string::npos;
  }
  EXPECT_EQ(own, 1);
}

/// A rank whose host stops while ranks are connected: no step was under way.
TEST(GpuStart, ARankThatStopsIsNamed) {
  GpuRankToy toy(2, true);
  toy.write();
  const int deadline = shortDeadline(toy);
  Fault fault("stop:1:", 0);
  RankSessions ranks(toy);
  ranks.run([&](int rank) {
    moert_session_options options = defaultOptions();
    options.group = ranks.group;
    options.rank = rank;
    options.device = "emulator";
    options.deadline_seconds = deadline;
    EXPECT_FALSE(ranks.sessions[size_t(rank)].open(options));
    if (rank == 0) {
      releaseRanks();
    }
  });
  for (const Loaded &session : ranks.sessions) {
    EXPECT_EQ(session.code, MOERT_DEADLINE) << session.message;
    EXPECT_NE(session.message.find("rank 1 did not reach collective 'connection of the ranks' within "),
              std::string::npos)
        << session.message;
  }
}

/// Ranks of which one is told another variant, or runs no other: all take the first that all of them run.
TEST(GpuStart, RanksTakeAVariantThatAllRun) {
  GpuRankToy toy(2, true);
  VariantSpec best = toy.variant();
  best.target = "cuda:sm_90a";
  best.blob = "kernels-cuda-sm_90a.ptx";
  toy.program.variants.insert(toy.program.variants.begin(), best);
  toy.write();
  auto open = [](RankSessions &sessions, const char *first, const char *second) {
    sessions.open([&](int rank, moert_session_options &options) {
      options.device = "emulator";
      options.variant = rank ? second : first;
    });
  };
  for (const char *other : {"cuda:sm_80", static_cast<const char *>(nullptr)}) {
    RankSessions sessions(toy);
    open(sessions, nullptr, other);
    for (Loaded &session : sessions.sessions) {
      ASSERT_NE(session.session, nullptr) << session.message;
      const std::string report = session.report();
      EXPECT_NE(report.find(concat("\"variant\":\"", other ? other : "cuda:sm_90a", "\"")), std::string::npos)
          << report;
    }
    EXPECT_EQ(sessions.sessions[0].report().find(
                  "the variant cuda:sm_90a was left out: another rank does not run it") != std::string::npos,
              other != nullptr);
  }
  RankSessions sessions(toy);
  open(sessions, "cuda:sm_90a", "cuda:sm_80");
  for (const Loaded &session : sessions.sessions) {
    EXPECT_NE(session.message.find("no variant runs on all ranks: rank 1 runs cuda:sm_80, those before it "
                                   "cuda:sm_90a; give all ranks the same device and --variant"),
              std::string::npos)
        << session.message;
  }
}

/// Counts of both ways that are there at once cost one wait of the host; those of a way back that come later one more.
TEST(GpuStart, OneWaitServesBothWays) {
  for (const auto back : {RankToy::WayBack::Known, RankToy::WayBack::Late}) {
    const bool isLate = back == RankToy::WayBack::Late;
    GpuRankToy toy(2, true);
    toy.exchangeRows(back);
    toy.write();
    Together run(toy);
    Listening heard;
    const uint64_t before = findings();
    for (int steps = 1; steps <= 3; ++steps) {
      ASSERT_TRUE(exchange(run)) << run.message(0);
      EXPECT_EQ(heard.groups, steps * 2 * (isLate ? 4 : 3)); // of both ranks: counts and rows
      for (int rank = 0; rank < 2; ++rank) {
        EXPECT_EQ(rowsIn(run, rank, "received"), (std::vector<float>{rank ? 5.0f : 1.0f, rank ? 5.0f : 2.0f}));
        EXPECT_EQ(rowsIn(run, rank, "home"), (std::vector<float>{rank ? 0.0f : 1.0f, rank ? 0.0f : 5.0f}));
        EXPECT_TRUE(run.reportSays(rank, concat("\"exchange_waits\":", steps * (isLate ? 2 : 1), ",")))
            << run.sessions.sessions[size_t(rank)].report();
      }
      EXPECT_EQ(findings(), before);
    }
  }
}

} // namespace
