// The toy package (test/runtime/core/TestPackage.h) for several ranks, and sessions of it on threads.
//
// Replicated: the embedding is cut by rows, a sum over ranks joins it; the rest is as in the toy. Distributed: rank r
// has expert r of R (factor 0.5 for even r, 3 for odd), which its token % R chooses; tokens and their ids are gathered,
// each rank computes its share, a reduce-scatter brings them home: logits[v] = sum over the sequence of x * factor, *
// head[v].
#ifndef TEST_RUNTIME_RANKS_RANKTOY_H
#define TEST_RUNTIME_RANKS_RANKTOY_H

#include "test/runtime/core/TestPackage.h"

#include <functional>

namespace moert::test {

class RankToy : public Toy {
public:
  RankToy(int ranks, bool isDistributed);
  /// Logit `v` after the last token of `sequence`.
  float expectedLogit(const std::vector<int32_t> &sequence, int64_t v) const;
  /// Instead of its steps, one of two ranks and two tokens: each rank embeds its tokens and sends a row to each, into
  /// the state 'received', and the numbers of rows that came into 'counts'. Then a row of each back to rank 0, into the
  /// state 'home', by counts that are there from the beginning, or only when the rows have arrived.
  enum class WayBack { None, Known, Late };
  void exchangeRows(WayBack back = WayBack::None);

  const int ranks;
  const bool isDistributed;
  uint32_t firstBuffer; ///< of those that the toy has not

private:
  void addReplicated();
  void addDistributed();
  void endStep(uint32_t begin, int64_t first, int64_t last);
};

/// One session per rank of a loaded package; all are made and stepped at the same time.
class RankSessions {
public:
  explicit RankSessions(const RankToy &toy, int ranks = 0);
  ~RankSessions();
  /// Calls `function` for every rank on a thread of its own.
  void run(const std::function<void(int rank)> &function);
  /// Makes the sessions; `change` may change a rank's options.
  void open(const std::function<void(int rank, moert_session_options &options)> &change = nullptr);
  bool step(int rank, const std::vector<int32_t> &tokens, const std::vector<int32_t> &seq,
            const std::vector<int32_t> &pos, const std::vector<int32_t> &rows);

  const int count;
  moert_group *group = nullptr;
  std::vector<Loaded> sessions;
  std::vector<std::vector<float>> logits; ///< of each rank's last step
};

} // namespace moert::test

#endif // TEST_RUNTIME_RANKS_RANKTOY_H
