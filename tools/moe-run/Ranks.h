//===- Ranks.h - Several ranks behind one engine ----------------*- C++ -*-===//
//
// Rank 0 feeds tokens and prints; every other rank serves it: it waits for an
// order, does its part and sends back what rank 0 needs. So feeding, sampling
// and printing know nothing of ranks. Ranks are threads of this process, or the
// processes of an mpirun, or of a launcher that tells them where to meet
// (torchrun), which all run the same command.
//
// Of a package whose ranks have their own sequences, slot s of the engine is
// slot s / R of rank s % R; else every rank is given everything.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_RANKS_H
#define MOE_TOOLS_MOERUN_RANKS_H

#include "tools/moe-run/Engine.h"

#include <thread>

namespace moerun {

/// Processes of the launcher that started this one, and which of them it is; 1 and 0 if none did.
int processRanks();
int processRank();
/// Whether threads of a failed session may still run: the process must then end without waiting for them.
bool hasLostThreads();

/// This process's place among them: joined once, left in order by leaveProcesses.
moert::Result<moert_group *> joinProcesses();
void leaveProcesses();
/// After a failure: ends all of them, once every rank has had time to say what it knows. Returns if there are none.
void endProcesses(int status);

/// Serves rank 0 as `rank` of `group` until it is told to stop.
moert::Status serveRank(const Package &package, SessionOptions options, moert_group *group, int rank);

/// The session of rank 0, which drives the others.
class RankedSession final : public Session {
public:
  /// `group` null: ranks are threads, started here. `options.sequences` are those of all ranks together.
  static moert::Result<std::unique_ptr<RankedSession>> create(const Package &package, const SessionOptions &options,
                                                              moert_group *group);
  ~RankedSession() override;

  moert::Status step(const moert_step_input &input, float *logits) override;
  moert::Status pick(const moert_step_input &input, int32_t *tokens) override;
  /// Rank 0's, with the weights, threads and bytes of results of all ranks.
  moert::Result<std::string> report() override;
  /// Of all ranks together where each has its own sequences.
  moert::Result<std::vector<std::vector<int64_t>>> layerCounters(const std::string &prefix) override;

private:
  /// The part of a step that one rank is given; `owners`: the row of the whole step that each of its rows is.
  struct Share {
    std::vector<int32_t> ids; ///< tokens, slots, positions and rows, one after the other
    int64_t tokens = 0, rows = 0;
    std::vector<int64_t> owners;
    std::vector<float> logits;
    std::vector<int32_t> picks;
  };

  struct Speaker;

  RankedSession() = default;
  /// `logits` or `picks` is null: what is not wanted.
  moert::Status stepRanks(const moert_step_input &input, float *logits, int32_t *picks);
  moert::Status runShares(const moert_step_input &input, float *logits, int32_t *picks);
  moert::Status order(int rank, int32_t what, const std::string &text = "");
  moert::Status orderStep(int rank, const Share &share, bool isPicking);
  void share(const moert_step_input &input);
  moert::Status receive(int rank, void *data, size_t bytes);

  moert_group *group = nullptr;
  std::shared_ptr<moert_group> threadGroup; ///< Of thread ranks.
  std::shared_ptr<Speaker> speaker;         ///< Likewise.
  std::vector<std::thread> threads;
  int ranks = 1;
  bool isDistributed = false, isServed = false;
  double deadlineSeconds = 30;
  std::vector<Share> shares;
  std::vector<int32_t> rankOfToken, rowOfToken;
};

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_RANKS_H
