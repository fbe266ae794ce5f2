// What tests of ranks with a GPU each share: the toy with its kernels in PTX, its sessions, faults of the emulator's
// NCCL.
#ifndef TEST_RUNTIME_RANKS_GPURANKHARNESS_H
#define TEST_RUNTIME_RANKS_GPURANKHARNESS_H

#include "runtime/backends/cuda/Nccl.h"
#include "runtime/core/Trace.h"
#include "test/runtime/backends/GpuToy.h"
#include "test/runtime/ranks/RankToy.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <dlfcn.h>
#include <gtest/gtest.h>

namespace moert::test {

using Ids = std::vector<int32_t>;

/// A function of the emulator's libnccl that only tests call.
template <typename Function> Function *ncclFunction(const char *name) {
  auto path = cuda::emulatorPath();
  const std::string library = path->substr(0, path->rfind('/')) + "/libnccl.so.2";
  return reinterpret_cast<Function *>(dlsym(dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL), name));
}

/// Calls of NCCL that each of two ranks makes when they meet, before its steps: each collective of the toy, small and
/// large; where rows are exchanged a message each way besides.
constexpr int kDistributedTrials = 4, kReplicatedTrials = 2, kExchangeTrials = 8;

/// The toy for ranks with its kernels in PTX.
class GpuRankToy : public RankToy {
public:
  static constexpr uint32_t kLingerOn = 12;

  GpuRankToy(int ranks, bool isDistributed) : RankToy(ranks, isDistributed) {
    variant().kernels.emplace_back("linger_on");
    makeForGpu(*this);
    const std::string path = kernels.path + "/kernels.ptx";
    test::writeFile(path, readFile(TEST_PTX) + readFile(TEST_RANK_PTX));
    variant().kernelFile = path;
  }

private:
  TemporaryFolder kernels;
};

/// One session per rank, and what they are asked.
struct Together {
  explicit Together(const GpuRankToy &toy, double deadline = 60, int graphs = 0) : toy(toy), sessions(toy) {
    sessions.open([&](int, moert_session_options &options) {
      options.device = "emulator";
      options.graphs = graphs;
      options.deadline_seconds = deadline;
    });
  }
  const std::string &message(int rank) const { return sessions.sessions[size_t(rank)].message; }
  moert_code code(int rank) const { return sessions.sessions[size_t(rank)].code; }

  /// Each rank's tokens go on with its sequence (all the same of replicated ranks); true if all went well.
  bool step(const std::vector<Ids> &tokens) {
    std::vector<int> went(size_t(toy.ranks), 0);
    sequences.resize(size_t(toy.ranks));
    sessions.run([&](int rank) {
      const Ids &mine = tokens[size_t(rank) % tokens.size()];
      Ids &sequence = sequences[size_t(rank)];
      Ids seq(mine.size(), 1), pos, rows;
      for (int32_t token : mine) {
        pos.push_back(int32_t(sequence.size()));
        sequence.push_back(token);
      }
      if (!mine.empty()) {
        rows.push_back(int32_t(mine.size()) - 1);
      }
      went[size_t(rank)] = sessions.step(rank, mine, seq, pos, rows);
    });
    return std::count(went.begin(), went.end(), 1) == toy.ranks;
  }
  void checkLogits() {
    for (int rank = 0; rank < toy.ranks; ++rank) {
      const std::vector<float> &logits = sessions.logits[size_t(rank)];
      for (size_t v = 0; v < logits.size(); ++v) {
        ASSERT_FLOAT_EQ(logits[v], toy.expectedLogit(sequences[size_t(rank)], int64_t(v))) << "rank " << rank;
      }
    }
  }
  bool reportSays(int rank, const std::string &part) {
    return sessions.sessions[size_t(rank)].report().find(part) != std::string::npos;
  }

  const GpuRankToy &toy;
  RankSessions sessions;
  std::vector<Ids> sequences;
};

/// A deadline, of whole seconds, that steps of `toy` may miss: its sessions are opened within it, too, which takes long
/// where many programs share few cores. So ten times what it takes now.
inline int shortDeadline(const GpuRankToy &toy) {
  const int64_t begin = monotonicNs();
  Together opened(toy);
  return std::max(2, int(std::ceil(10e-9 * double(monotonicNs() - begin))));
}

/// Lets ranks go on that a fault has stopped: when the others are done, so that a test ends.
inline void releaseRanks() { ncclFunction<void()>("moeEmulatorReleaseRanks")(); }

/// Of the emulator in this process: tests before this one may have had some.
inline uint64_t findings() { return (*cuda::Driver::open(true))->findings(); }

/// Sets a fault of the emulator's NCCL while it lives.
struct Fault {
  /// "stop:2:" and the number of the call.
  Fault(const std::string &text, int call) { setenv("MOE_EMU_NCCL_FAULT", concat(text, call).c_str(), 1); }
  ~Fault() { unsetenv("MOE_EMU_NCCL_FAULT"); }
};

inline void expectMessage(const Together &run, int rank, moert_code code, const std::string &part) {
  EXPECT_EQ(run.code(rank), code) << "rank " << rank << ": " << run.message(rank);
  EXPECT_NE(run.message(rank).find(part), std::string::npos) << "rank " << rank << ": " << run.message(rank);
}

} // namespace moert::test

#endif // TEST_RUNTIME_RANKS_GPURANKHARNESS_H
