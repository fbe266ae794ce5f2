// Runs a function on every rank of a group, one thread each. The ranks are thread ranks, or message ranks over a
// transport in memory that can lose messages, as if their sender had stopped.
#ifndef TEST_RUNTIME_RANKS_RANKHARNESS_H
#define TEST_RUNTIME_RANKS_RANKHARNESS_H

#include "runtime/ranks/MessageRanks.h"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace moert::test {

/// Mailboxes between ranks, in place of MPI.
class FakeNetwork {
public:
  explicit FakeNetwork(int ranks) : ranks(ranks) {}
  moert_transport transport(int rank);
  /// From now on nothing of `from` reaches `to`.
  void cut(int from, int to);
  int closed();

private:
  struct Posted {
    void *data;
    size_t room, came;
    bool isDone;
  };
  using Key = std::tuple<int, int, int>; ///< from, to, tag
  static FakeNetwork &of(moert_transport *transport);
  static int send(moert_transport *, const void *, size_t, int, int, moert_transfer *);
  static int receive(moert_transport *, void *, size_t, int, int, moert_transfer *);
  static int test(moert_transport *, moert_transfer *, size_t *);
  static void cancel(moert_transport *, moert_transfer *);
  static void close(moert_transport *);
  void match(const Key &key);

  const int ranks;
  std::mutex mutex;
  std::map<Key, std::deque<std::string>> arrived;
  std::map<Key, std::deque<uint64_t>> waiting;
  std::map<uint64_t, Posted> posted;
  std::map<std::pair<int, int>, bool> isCut;
  uint64_t next = 1;
  int closes = 0;
};

/// A group of either kind.
class Ranks {
public:
  Ranks(bool areThreads, int ranks);
  /// Calls `function` for every rank of [0, ranks) but `missing`, at the same time.
  void run(const std::function<void(Communicator &)> &function, int missing = -1);
  Communicator &operator[](int rank);
  const int count;
  std::unique_ptr<FakeNetwork> network; ///< of message ranks

private:
  std::shared_ptr<Group> group;
  std::vector<std::unique_ptr<Communicator>> owned;
};

} // namespace moert::test

#endif // TEST_RUNTIME_RANKS_RANKHARNESS_H
