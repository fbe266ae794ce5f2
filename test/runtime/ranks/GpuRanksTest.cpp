// Several ranks with a GPU each, as threads over the emulator's libcuda and libnccl: results, and everything that can
// go wrong between them.
#include "runtime/core/Backend.h"
#include "test/runtime/ranks/GpuRankHarness.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

using namespace moert;
using namespace moert::test;
using namespace moert::format;

namespace {

/// Ranks with tokens of their own, none, and as many as each other; and ranks that compute the same.
TEST(GpuRanks, StepsWithAndWithoutGraphs) {
  struct Case {
    int ranks;
    bool isDistributed;
    int graphs;
  };
  const uint64_t before = findings();
  for (auto [ranks, isDistributed, graphs] : {Case{2, true, -1}, Case{2, true, 1}, Case{2, false, -1},
                                              Case{2, false, 1}, Case{4, true, 0}, Case{4, false, 0}}) {
    GpuRankToy toy(ranks, isDistributed);
    toy.write();
    Together run(toy, 60, graphs);
    ASSERT_TRUE(run.step(isDistributed ? std::vector<Ids>{{3, 1, 4}, {}} : std::vector<Ids>{{3, 1, 4}}))
        << run.message(0) << run.message(1);
    run.checkLogits();
    for (int32_t token = 0; token < 4; ++token) {
      ASSERT_TRUE(run.step(isDistributed ? std::vector<Ids>{{token}, {7 - token}} : std::vector<Ids>{{token}}))
          << run.message(0) << run.message(1);
      run.checkLogits();
    }
    for (int rank = 0; rank < ranks; ++rank) {
      EXPECT_EQ(findings(), before);
      EXPECT_TRUE(run.reportSays(rank, graphs < 0    ? "\"graphs_captured\":0,\"graphs_run\":0"
                                       : graphs == 0 ? "\"graphs_captured\":1,\"graphs_run\":3"
                                                     : "\"graphs_captured\":2,\"graphs_run\":5"))
          << run.sessions.sessions[size_t(rank)].report();
    }
  }
}

/// Steps come again on some ranks only: graphs are of steps that come again on all, since they hold collectives.
TEST(GpuRanks, RanksCaptureTheSameSteps) {
  GpuRankToy toy(2, true);
  toy.write();
  Together run(toy);
  ASSERT_TRUE(run.step({{1}, {2}})) << run.message(0);
  ASSERT_TRUE(run.step({{1}, {}})) << run.message(0); // the same to rank 0
  run.checkLogits();
  EXPECT_TRUE(run.reportSays(0, "\"graphs_captured\":0,")) << run.sessions.sessions[0].report();
  ASSERT_TRUE(run.step({{1}, {2}})) << run.message(0);
  run.checkLogits();
  EXPECT_TRUE(run.reportSays(0, "\"graphs_captured\":1,"));
  EXPECT_TRUE(run.reportSays(1, "\"graphs_captured\":1,"));
  // One rank is traced, so that nobody runs a graph.
  ASSERT_EQ(moert_session_trace(run.sessions.sessions[1].session, 1), nullptr);
  ASSERT_TRUE(run.step({{1}, {2}})) << run.message(0);
  run.checkLogits();
  EXPECT_TRUE(run.reportSays(0, "\"graphs_captured\":1,\"graphs_run\":1"));
}

/// One rank wants logits, the other only the likeliest token, as it may change: graphs are of steps in which every rank
/// wants the same again.
TEST(GpuRanks, RanksWantDifferentResults) {
  GpuRankToy toy(2, true);
  addPicks(toy);
  toy.write();
  Together run(toy);
  auto step = [&](std::vector<bool> isPicking) {
    std::vector<int> went(2);
    run.sessions.run([&](int rank) {
      Loaded &session = run.sessions.sessions[size_t(rank)];
      const int32_t token = 3, zero = 0;
      if (isPicking[size_t(rank)]) {
        int32_t pick = -1;
        const moert_step_input input = {1, &token, &zero, &zero, 1, &zero};
        went[size_t(rank)] = session.take(moert_session_pick(session.session, &input, &pick)) && pick == 5;
      } else {
        went[size_t(rank)] = run.sessions.step(rank, {token}, {zero}, {zero}, {zero}) &&
                             run.sessions.logits[size_t(rank)][5] == toy.expectedLogit({token}, 5);
      }
    });
    return went[0] && went[1];
  };
  for (const std::vector<bool> &isPicking :
       {std::vector<bool>{true, false}, {false, false}, {true, false}, {true, true}, {true, false}, {false, true}}) {
    ASSERT_TRUE(step(isPicking)) << run.message(0) << run.message(1);
  }
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_TRUE(run.reportSays(rank, "\"graphs_captured\":1,\"graphs_run\":2")) // of {true, false}
        << run.sessions.sessions[size_t(rank)].report();
  }
}

/// A rank whose host stops inside a step: the others name it when the deadline has passed, with and without graphs.
TEST(GpuRanks, APeerThatStopsIsNamed) {
  for (int graphs : {-1, 1}) {
    GpuRankToy toy(4, true);
    toy.write();
    const int deadline = shortDeadline(toy);
    Fault fault("stop:2:", kDistributedTrials + 1); // before its second collective
    Together run(toy, deadline, graphs);
    std::atomic<int> others{3};
    std::vector<int> went(4);
    run.sessions.run([&](int rank) {
      went[size_t(rank)] = run.sessions.step(rank, {3}, {1}, {0}, {0});
      if (rank != 2 && --others == 0) {
        releaseRanks();
      }
    });
    for (int rank = 0; rank < 4; ++rank) {
      EXPECT_FALSE(went[size_t(rank)]);
      expectMessage(run, rank, MOERT_DEADLINE, "rank 2 did not reach collective 'end of the step' within ");
    }
    EXPECT_FALSE(run.step({{3}}));
    expectMessage(run, 0, MOERT_DEADLINE, "the session cannot run another");
  }
}

/// Listens to the driver and to NCCL while it lives: which graphs a context has when its communicator ends.
struct GraphWatch {
  GraphWatch()
      : driver(**cuda::Driver::open(true)), nccl(**cuda::Nccl::open(true)), realDriver(driver), realNccl(nccl) {
    self = this;
    driver.contextSet = [](CUcontext context) {
      current = context;
      return self->realDriver.contextSet(context);
    };
    driver.graphInstantiate = [](CUgraphExec *executable, CUgraph graph, unsigned long long flags) {
      const CUresult result = self->realDriver.graphInstantiate(executable, graph, flags);
      std::lock_guard<std::mutex> guard(self->lock);
      self->graphs[*executable] = current;
      ++self->made;
      return result;
    };
    driver.graphExecDestroy = [](CUgraphExec executable) {
      std::unique_lock<std::mutex> guard(self->lock);
      self->graphs.erase(executable);
      guard.unlock();
      return self->realDriver.graphExecDestroy(executable);
    };
    nccl.abort = [](ncclComm_t communicator) {
      self->communicatorEnds();
      return self->realNccl.abort(communicator);
    };
    nccl.finalize = [](ncclComm_t communicator) {
      self->communicatorEnds();
      return self->realNccl.finalize(communicator);
    };
  }
  ~GraphWatch() {
    driver.contextSet = realDriver.contextSet;
    driver.graphInstantiate = realDriver.graphInstantiate;
    driver.graphExecDestroy = realDriver.graphExecDestroy;
    nccl.abort = realNccl.abort;
    nccl.finalize = realNccl.finalize;
  }
  void communicatorEnds() {
    std::lock_guard<std::mutex> guard(lock);
    ++ended;
    for (const auto &[executable, context] : graphs) {
      tooEarly += context == current;
    }
  }

  /// The functions as they were.
  struct DriverFunctions {
    explicit DriverFunctions(const cuda::Driver &of)
        : contextSet(of.contextSet), graphInstantiate(of.graphInstantiate), graphExecDestroy(of.graphExecDestroy) {}
    decltype(cuda::Driver::contextSet) contextSet;
    decltype(cuda::Driver::graphInstantiate) graphInstantiate;
    decltype(cuda::Driver::graphExecDestroy) graphExecDestroy;
  };

  static GraphWatch *self;
  static thread_local CUcontext current;
  cuda::Driver &driver;
  cuda::Nccl &nccl;
  const DriverFunctions realDriver;
  const cuda::Nccl realNccl;
  std::mutex lock;
  std::map<CUgraphExec, CUcontext> graphs;
  int made = 0, ended = 0, tooEarly = 0;
};
GraphWatch *GraphWatch::self;
thread_local CUcontext GraphWatch::current;

/// NCCL waits, in the end of a communicator and in its abort, for the end of every graph that captured it.
TEST(GpuRanks, GraphsEndBeforeTheirCommunicator) {
  GpuRankToy toy(2, true);
  toy.write();
  const int deadline = shortDeadline(toy);
  for (const char *text : {"", "lose:0:"}) { // all goes well; the graph hangs
    GraphWatch watch;
    {
      Fault fault(text, kDistributedTrials);
      Together run(toy, *text ? deadline : 60, 1);
      int steps = 0;
      while (steps < 8 && run.step({{3}, {4}})) {
        ++steps;
      }
      EXPECT_EQ(steps == 8, *text == 0) << run.message(0);
    }
    EXPECT_EQ(watch.made, 2);
    EXPECT_EQ(watch.ended, 2);
    EXPECT_EQ(watch.tooEarly, 0) << text;
  }
}

/// An exchange whose counts only the step knows, which no graph holds. A rank that stops in its messages is named, and
/// so is one whose rows have no room.
TEST(GpuRanks, AnExchangeOfRows) {
  GpuRankToy toy(2, true);
  toy.exchangeRows();
  toy.write();
  auto step = [](Together &run, const Ids &tokens, int stopped = -1) {
    std::vector<int> went(2);
    run.sessions.run([&](int rank) {
      Ids own, pos;
      for (int32_t token : tokens) {
        own.push_back(token + rank);
        pos.push_back(int32_t(pos.size()));
      }
      went[size_t(rank)] = run.sessions.step(rank, own, Ids(own.size(), 0), pos, {});
      if (rank == 1 - stopped) {
        releaseRanks();
      }
    });
    return went[0] && went[1];
  };
  {
    Together run(toy, 60, /*graphs=*/1);
    const uint64_t before = findings();
    ASSERT_TRUE(step(run, {0, 4})) << run.message(0);
    EXPECT_EQ(findings(), before);
    for (int rank = 0; rank < 2; ++rank) {
      float rows[2] = {};
      int32_t ones[2] = {};
      moert_session *session = run.sessions.sessions[size_t(rank)].session;
      ASSERT_EQ(moert_session_read(session, "received", rows, 8, nullptr), nullptr);
      ASSERT_EQ(moert_session_read(session, "counts", ones, 8, nullptr), nullptr);
      // Row `rank` of each: embed[token] is token + 1.
      EXPECT_EQ(rows[0], float(1 + 4 * rank));
      EXPECT_EQ(rows[1], float(2 + 4 * rank));
      EXPECT_EQ(ones[0], 1);
      EXPECT_EQ(ones[1], 1);
      EXPECT_TRUE(run.reportSays(rank, "\"graphs_captured\":0,\"graphs_run\":0"));
    }
    // One token is one row too few.
    EXPECT_FALSE(step(run, {0}));
    for (int rank = 0; rank < 2; ++rank) {
      expectMessage(run, rank, MOERT_OUT_OF_MEMORY, "rank 0: collective 'swap' sends 2 rows, its buffer holds 1");
    }
  }
  auto *openGroups = ncclFunction<int()>("moeEmulatorOpenGroups");
  {
    Fault fault("error:1:", kExchangeTrials + 1); // the one before gathers the counts
    Together run(toy, 30);
    EXPECT_FALSE(step(run, {0, 4}));
    expectMessage(run, 1, MOERT_INTERNAL, "collective 'swap': NCCL: internal error (a fault that was asked for)");
    expectMessage(run, 0, MOERT_INTERNAL, "rank 1 failed: collective 'swap': NCCL: internal error");
    EXPECT_EQ(openGroups(), 0);
  }
  const int deadline = shortDeadline(toy);
  {
    Fault fault("stop:1:", kExchangeTrials + 1);
    Together run(toy, deadline);
    EXPECT_FALSE(step(run, {0, 4}, /*stopped=*/1));
    expectMessage(run, 0, MOERT_DEADLINE, "rank 1 did not reach collective 'end of the step' within ");
  }
  // Rank 0 may find its own message taken when rank 1 gives up and lets go of what it waits for.
  Fault fault("lose:0:", kExchangeTrials + 1);
  Together run(toy, deadline);
  EXPECT_FALSE(step(run, {0, 4}));
  expectMessage(run, 1, MOERT_DEADLINE, " within ");
}

/// What one rank sends is lost on the way.
TEST(GpuRanks, ALostMessageIsNobodysFault) {
  GpuRankToy toy(2, false);
  toy.write();
  const int deadline = shortDeadline(toy);
  Fault fault("lose:0:", kReplicatedTrials);
  Together run(toy, deadline, 1);
  EXPECT_FALSE(run.step({{3}}));
  for (int rank = 0; rank < 2; ++rank) {
    expectMessage(run, rank, MOERT_DEADLINE,
                  concat("the ranks did not finish what they do together within ", deadline, " s"));
    expectMessage(run, rank, MOERT_DEADLINE, "is the connection between them broken?");
  }
}

/// NCCL refuses the second of two calls of a group: the group is closed, all ranks are told, and sessions made after
/// that work.
TEST(GpuRanks, AnErrorInAGroupLeavesNoneOpen) {
  auto *openGroups = ncclFunction<int()>("moeEmulatorOpenGroups");
  for (int graphs : {-1, 1}) {
    GpuRankToy toy(4, true);
    toy.write();
    {
      Fault fault("error:1:", kDistributedTrials + 1);
      Together run(toy, 30, graphs);
      const auto begin = std::chrono::steady_clock::now();
      EXPECT_FALSE(run.step({{3}}));
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20)); // nobody waits for the deadline
      expectMessage(run, 1, MOERT_INTERNAL, "collective 'gather x': NCCL: internal error (a fault that was asked for)");
      for (int rank : {0, 2, 3}) {
        expectMessage(run, rank, MOERT_INTERNAL, "rank 1 failed: collective 'gather x': NCCL: internal error");
      }
      EXPECT_EQ(openGroups(), 0);
    }
    Together next(toy, 30, graphs);
    ASSERT_TRUE(next.step({{3}, {4}})) << next.message(0);
    next.checkLogits();
  }
}

TEST(GpuRanks, AnErrorBetweenTheGpusIsReported) {
  GpuRankToy toy(2, true);
  toy.write();
  Fault fault("remote:1:", kDistributedTrials + 2);
  Together run(toy, 30);
  EXPECT_FALSE(run.step({{3}, {4}}));
  for (int rank = 0; rank < 2; ++rank) {
    expectMessage(run, rank, MOERT_IO, "NCCL: remote process exited or there was a network error (a fault that was");
  }
}

/// A step may be done before anybody asked NCCL whether all is well: that is asked at its end, too.
TEST(GpuRanks, AStepEndsWithAQuestionToNccl) {
  GpuRankToy toy(2, true);
  toy.write();
  Together run(toy);
  cuda::Driver &driver = **cuda::Driver::open(true);
  cuda::Nccl &nccl = **cuda::Nccl::open(true);
  static std::atomic<int> clock, done, asked;
  static decltype(driver.eventQuery) realQuery;
  static decltype(nccl.asyncError) realError;
  clock = done = asked = 0;
  realQuery = std::exchange(driver.eventQuery, [](CUevent event) {
    const CUresult result = realQuery(event);
    if (result == CUDA_SUCCESS) {
      done = ++clock;
    }
    return result;
  });
  realError = std::exchange(nccl.asyncError, [](ncclComm_t communicator, ncclResult_t *state) {
    asked = ++clock;
    return realError(communicator, state);
  });
  EXPECT_TRUE(run.step({{3}, {4}})) << run.message(0);
  driver.eventQuery = realQuery;
  nccl.asyncError = realError;
  EXPECT_GT(done, 0);
  EXPECT_GT(asked, done);
}

/// Ranks run what they do together all in the same way: without memory for a graph on one of them none goes on.
TEST(GpuRanks, AGraphWithoutMemoryIsAnError) {
  for (bool isUpload : {false, true}) {
    GpuRankToy toy(2, true);
    toy.write();
    Together run(toy, 30, /*graphs=*/1);
    cuda::Driver &driver = **cuda::Driver::open(true);
    static std::atomic<int> calls;
    static decltype(driver.graphInstantiate) realInstantiate;
    static decltype(driver.graphUpload) realUpload;
    calls = 0;
    realInstantiate = driver.graphInstantiate;
    realUpload = driver.graphUpload;
    if (isUpload) {
      driver.graphUpload = [](CUgraphExec executable, CUstream stream) {
        return calls++ ? realUpload(executable, stream) : CUDA_ERROR_OUT_OF_MEMORY;
      };
    } else {
      driver.graphInstantiate = [](CUgraphExec *executable, CUgraph graph, unsigned long long flags) {
        return calls++ ? realInstantiate(executable, graph, flags) : CUDA_ERROR_OUT_OF_MEMORY;
      };
    }
    EXPECT_FALSE(run.step({{3}, {4}}));
    driver.graphInstantiate = realInstantiate;
    driver.graphUpload = realUpload;
    for (int rank = 0; rank < 2; ++rank) {
      expectMessage(run, rank, MOERT_OUT_OF_MEMORY,
                    isUpload ? "cuGraphUpload: CUDA_ERROR_OUT_OF_MEMORY"
                             : "cuGraphInstantiate: CUDA_ERROR_OUT_OF_MEMORY");
    }
  }
}

/// A fault in a rank's kernel reaches the others at once.
TEST(GpuRanks, AFaultReachesTheOthers) {
  GpuRankToy toy(2, true);
  toy.variant().kernels[10] = KernelSpec("absent", 32);
  toy.write();
  Together broken(toy);
  expectMessage(broken, 0, MOERT_CORRUPT, "kernel 'absent' is missing");

  GpuRankToy straying(2, true);
  const auto begin = straying.variant().steps[0].first_command();
  addCommand(straying.program, straying.variant(), CommandKind::Launch, "astray", kStray,
             {slice(kState, Access::ReadWrite, extent(0, 0, 0, 0, 4))});
  straying.variant().steps = {StepVariant(1, kMaxTokens, begin, uint32_t(straying.variant().commands.size()) - begin)};
  straying.write();
  Together run(straying, 30);
  EXPECT_FALSE(run.step({{3}, {4}}));
  int own = 0, told = 0;
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_NE(run.message(rank).find("CUDA_ERROR_ILLEGAL_ADDRESS"), std::string::npos) << run.message(rank);
    const bool isTold = run.message(rank).find(concat("rank ", 1 - rank, " failed: ")) != std::string::npos;
    (isTold ? told : own) += 1;
  }
  EXPECT_GE(own, 1);
}

TEST(GpuRanks, EachRankNeedsAGpu) {
  GpuRankToy toy(8, true);
  toy.write();
  Together run(toy);
  for (int rank = 0; rank < 8; ++rank) {
    EXPECT_EQ(run.code(rank), MOERT_INVALID_ARGUMENT);
    EXPECT_NE(run.message(rank).find(" were given the same GPU: 8 ranks need as many"), std::string::npos)
        << run.message(rank);
  }
}

/// Rows between four ranks, from none to more than a message has in one piece, by counts that the ranks may know
/// differently. Gives back what the ranks say; checks what arrived.
class Rows : public testing::Test {
protected:
  static constexpr size_t ranks = 4, room = 60000;
  using Counts = std::vector<int32_t>; ///< from each rank to each

  static int32_t value(size_t from, size_t to, size_t row) { return int32_t(from * 1000000 + to * 100000 + row); }

  std::vector<std::string> exchange(const std::vector<Counts> &counts) {
    std::shared_ptr<Group> group = *makeThreadGroup(int(ranks));
    std::vector<std::string> said(ranks);
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] { said[rank] = runOn(*group->member(int(rank)), counts[rank % counts.size()]); });
    }
    for (std::thread &thread : threads) {
      thread.join();
    }
    return said;
  }

  static std::string runOn(Communicator &member, const Counts &counts) {
    const auto me = size_t(member.rank());
    auto device = cuda::openDevice(/*emulator=*/true, int(me));
    auto backend = openCudaBackend({0, false, 20, &member}, *device);
    auto nccl = cuda::Nccl::open(/*emulator=*/true);
    if (!backend.ok() || !nccl.ok()) {
      return "not there";
    }
    std::vector<int32_t> send, expected;
    for (size_t other = 0; other < ranks; ++other) {
      for (int32_t row = 0; row < counts[me * ranks + other]; ++row) {
        send.push_back(value(me, other, size_t(row)));
      }
      for (int32_t row = 0; row < counts[other * ranks + me]; ++row) {
        expected.push_back(value(other, me, size_t(row)));
      }
    }
    std::vector<int32_t> mine(counts.begin() + me * ranks, counts.begin() + (me + 1) * ranks), came(expected.size());
    send.resize(room);
    auto from = (*backend)->attach(send.data(), room * 4, "rows");
    auto to = (*backend)->allocate(room * 4, "rows", Contents::Undefined);
    auto own = (*backend)->attach(mine.data(), mine.size() * 4, "counts");
    auto received = (*backend)->allocate(ranks * 4, "counts", Contents::Undefined);
    CollectiveCall call;
    call.kind = CollectiveKind::Exchange;
    call.name = "rows";
    call.from = *from;
    call.fromBytes = room * 4; // as a session has it, the same on all ranks
    call.to = *to;
    call.toBytes = room * 4;
    call.rowBytes = 4;
    call.counts = static_cast<const int32_t *>(*own);
    call.received = static_cast<int32_t *>(*received);
    Status status = (*backend)->joinRanks({CollectiveKind::Exchange});
    if (!status.ok()) {
      return status.message();
    }
    for (int round = 0; round < 2; ++round) {
      if (!(*backend)->collectives(&call, 1) || !(*backend)->download(came.data(), *to, came.size() * 4)) {
        member.abort((*backend)->failure().code(), (*backend)->failure().message());
        return (*backend)->failure().message();
      }
      EXPECT_EQ(came, expected) << "rank " << me;
      int32_t fromEach[ranks] = {};
      EXPECT_TRUE((*backend)->download(fromEach, *received, sizeof(fromEach)));
      for (size_t other = 0; other < ranks; ++other) {
        EXPECT_EQ(fromEach[other], counts[other * ranks + me]);
      }
    }
    return "";
  }
};

TEST_F(Rows, GoToTheirRanks) {
  EXPECT_EQ(exchange({{3, 0, 40000, 1, 16384, 0, 2, 16385, 0, 0, 0, 0, 7, 33000, 5, 0}}),
            std::vector<std::string>(ranks));
  EXPECT_EQ(exchange({Counts(16, 0)}), std::vector<std::string>(ranks));
}

/// All ranks find the same wrong in the counts.
TEST_F(Rows, ThatHaveNoRoom) {
  const Counts many = {0, 0, 0, 0, 30000, 0, 0, 0, 30000, 0, 0, 0, 1, 0, 0, 0};
  for (const std::string &said : exchange({many})) {
    EXPECT_NE(said.find("rank 0: collective 'rows' receives 60001 rows, its buffer holds 60000"), std::string::npos)
        << said;
  }
  for (const std::string &said : exchange({{0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0}})) {
    EXPECT_NE(said.find("rank 1: collective 'rows' sends -1 rows to rank 2"), std::string::npos) << said;
  }
}

/// Two ranks of NCCL without sessions, which would have agreed on what they do.
class TwoRanks : public testing::Test {
protected:
  void SetUp() override { group = *makeThreadGroup(2); }

  /// Runs a collective on either rank and gives back what the ranks say when it is over, or nothing happens any more.
  std::vector<std::string> run(const std::vector<CollectiveCall> &first, const std::vector<CollectiveCall> &second) {
    std::vector<std::string> said(2);
    std::vector<std::thread> threads;
    for (int rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] { said[size_t(rank)] = runOn(rank, rank ? second : first); });
    }
    for (std::thread &thread : threads) {
      thread.join();
    }
    return said;
  }

  std::string runOn(int rank, const std::vector<CollectiveCall> &calls) {
    auto device = cuda::openDevice(/*emulator=*/true, rank);
    auto nccl = cuda::Nccl::open(/*emulator=*/true);
    if (!device.ok() || !nccl.ok()) {
      return "not there";
    }
    cuda::Driver &api = *device->driver;
    CUcontext context = nullptr;
    CUstream stream = nullptr;
    CUdeviceptr memory = 0;
    EXPECT_EQ(api.contextRetain(&context, device->handle), CUDA_SUCCESS);
    EXPECT_EQ(api.contextSet(context), CUDA_SUCCESS);
    EXPECT_EQ(api.streamCreate(&stream, CU_STREAM_NON_BLOCKING, 0), CUDA_SUCCESS);
    EXPECT_EQ(api.memoryAllocate(&memory, 4096), CUDA_SUCCESS);
    EXPECT_EQ(api.fillBytes(memory, 0, 4096, stream), CUDA_SUCCESS);
    std::string said;
    {
      cuda::NcclRank ranks(**nccl, *group->member(rank), int64_t(20) * 1000000000);
      Status status = ranks.join(*device);
      for (CollectiveCall call : calls) {
        call.from = reinterpret_cast<void *>(memory);
        call.to = reinterpret_cast<void *>(memory + 2048);
        const bool isExchange = call.kind == CollectiveKind::Exchange;
        status = !status.ok() ? status
                 : isExchange ? ranks.exchange(call, counts[rank].data(), stream)
                              : ranks.enqueue(&call, 1, stream);
      }
      CUevent end = nullptr;
      EXPECT_EQ(api.eventCreate(&end, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
      EXPECT_EQ(api.eventRecord(end, stream), CUDA_SUCCESS);
      const auto begin = std::chrono::steady_clock::now();
      while (status.ok() && api.eventQuery(end) == CUDA_ERROR_NOT_READY &&
             std::chrono::steady_clock::now() - begin < std::chrono::seconds(20)) {
        status = ranks.look();
      }
      status = status.ok() ? ranks.look() : status;
      if (!status.ok()) {
        ranks.abort();
        said = status.message();
      }
      while (api.eventQuery(end) == CUDA_ERROR_NOT_READY) {
      }
    }
    api.memoryFree(memory);
    api.streamDestroy(stream);
    api.contextRelease(device->handle);
    return said;
  }

  static CollectiveCall call(CollectiveKind kind, uint64_t fromBytes, uint64_t toBytes, DType element = DType::F32) {
    CollectiveCall call;
    call.kind = kind;
    call.element = element;
    call.fromBytes = fromBytes;
    call.toBytes = toBytes;
    call.name = "it";
    return call;
  }

  void expectDifference(const std::vector<CollectiveCall> &first, const std::vector<CollectiveCall> &second,
                        const std::string &one, const std::string &other) {
    for (const std::string &said : run(first, second)) {
      EXPECT_NE(said.find("NCCL: invalid usage (collective "), std::string::npos) << said;
      EXPECT_NE(said.find(one), std::string::npos) << said;
      EXPECT_NE(said.find(other), std::string::npos) << said;
    }
    SetUp(); // a group ends with its first failure
  }

  std::shared_ptr<Group> group;
  /// Of exchanges, as either rank knows them.
  std::vector<int32_t> counts[2];
};

TEST_F(TwoRanks, DifferencesAreReported) {
  const CollectiveCall gather = call(CollectiveKind::AllGather, 8, 16), sum = call(CollectiveKind::AllReduceSum, 8, 8);
  EXPECT_EQ(run({gather, sum}, {gather, sum}), std::vector<std::string>(2));
  // Kind, count, type and order.
  expectDifference({gather}, {sum}, "AllGather of 8 bytes on rank 0", "AllReduce of 2 f32 on rank 1");
  expectDifference({sum}, {call(CollectiveKind::AllReduceSum, 12, 12)}, "AllReduce of 2 f32 on rank 0",
                   "AllReduce of 3 f32 on rank 1");
  expectDifference({sum}, {call(CollectiveKind::AllReduceSum, 4, 4, DType::BF16)}, "AllReduce of 2 f32 on rank 0",
                   "AllReduce of 2 bf16 on rank 1");
  expectDifference({gather, gather, sum}, {gather, sum, gather}, "AllGather of 8 bytes on rank 0",
                   "AllReduce of 2 f32 on rank 1");
}

/// A message whose ends know it differently.
TEST_F(TwoRanks, MessagesThatDifferAreReported) {
  counts[0] = {0, 2, 0, 0};
  counts[1] = {0, 3, 0, 0};
  CollectiveCall rows = call(CollectiveKind::Exchange, 16, 16);
  rows.rowBytes = 4;
  for (const std::string &said : run({rows}, {rows})) {
    EXPECT_NE(said.find("NCCL: invalid usage (a message is Send of 8 bytes to rank 1 on rank 0 and Receive of 12 bytes "
                        "from rank 0 on rank 1)"),
              std::string::npos)
        << said;
  }
}

/// Groups end whatever happens inside.
TEST(NcclGroup, EndsByItself) {
  auto nccl = cuda::Nccl::open(/*emulator=*/true);
  ASSERT_TRUE(nccl.ok()) << nccl.status().message();
  auto *openGroups = ncclFunction<int()>("moeEmulatorOpenGroups");
  {
    cuda::NcclGroup group(**nccl);
    EXPECT_EQ(openGroups(), 1);
    EXPECT_EQ((*nccl)->allGather(nullptr, nullptr, 4, ncclUint8, nullptr, nullptr), ncclInvalidArgument);
  }
  EXPECT_EQ(openGroups(), 0);
  cuda::NcclGroup group(**nccl);
  EXPECT_NE(group.close(), ncclInvalidArgument); // what was refused before is forgotten
  EXPECT_EQ(openGroups(), 0);
  EXPECT_EQ((*nccl)->groupEnd(), ncclInvalidUsage);
}

/// A rank whose GPU hangs in a kernel of its own, while the host is well. The GPU stays busy, and
/// memory that is freed would be waited for: the sessions are left to the end of the process.
TEST(LastOfAll, ABusyGpuIsNamed) {
  static GpuRankToy toy(2, true);
  const auto first = uint32_t(toy.variant().commands.size());
  const StepVariant step = toy.variant().steps.back();
  addCommand(toy.program, toy.variant(), CommandKind::Launch, "linger", GpuRankToy::kLingerOn,
             {size(Dim::Rank), constant(1)});
  for (uint32_t c = 0; c < step.command_count(); ++c) {
    toy.variant().commands.push_back(toy.variant().commands[step.first_command() + c]);
  }
  toy.variant().steps = {StepVariant(1, kMaxTokens, first, 1 + step.command_count())};
  toy.write();
  const int deadline = shortDeadline(toy);
  static Together &run = *new Together(toy, deadline);
  EXPECT_FALSE(run.step({{3}, {4}}));
  for (int rank = 0; rank < 2; ++rank) {
    expectMessage(run, rank, MOERT_DEADLINE, concat("a step of 1 tokens: rank 1 was not done within ", deadline, " s"));
    expectMessage(run, rank, MOERT_DEADLINE, "still busy with own kernels while the others wait");
  }
}

} // namespace

int main(int argc, char **argv) {
  setenv("MOE_EMU_DEVICE", "h100:4", 1);
  setenv("MOE_EMU_MEMORY", "64", 1);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
