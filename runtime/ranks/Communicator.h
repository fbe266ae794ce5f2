//===- Communicator.h - One rank's way to the others --------------*- C++ -*-===//
//
// What a session needs of the other ranks: collectives (and, before each step, a small gather), messages between two
// ranks for a caller that drives all of them from one, and word of a rank that failed. Two implementations: ranks as
// threads of one process (ThreadRanks.h) and ranks as processes over a transport (MessageRanks.h).
//
// Key idea: every wait has a deadline and knows whom it waits for, so that what fails names a rank. The first failure
// is told to all, as one sentence that every rank then reports; after it nothing more works.
//
// Example: rank 2 of 4 hangs in a kernel. Ranks 0, 1 and 3 wait in the next collective; after 30 s one of them finds
// "rank 2 did not reach collective 'layers.3.combine' within 30 s" and all four sessions end with that.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_RANKS_COMMUNICATOR_H
#define MOERT_RANKS_COMMUNICATOR_H

#include "runtime/core/Status.h"
#include "runtime/format/program_generated.h"

#include <cstdint>
#include <memory>

namespace moert {

/// A collective with its operands resolved; see CollectiveKind in program.fbs.
struct CollectiveCall {
  format::CollectiveKind kind = format::CollectiveKind::AllGather;
  format::DType element = format::DType::F32; ///< of sums
  void *to = nullptr;
  const void *from = nullptr; ///< `to` itself: in place
  uint64_t toBytes = 0, fromBytes = 0;
  /// Of an exchange: bytes of a row, rows received from and sent to each rank (of GPUs in their memory). The bytes
  /// above are capacities.
  uint64_t rowBytes = 0;
  int32_t *received = nullptr;
  const int32_t *counts = nullptr;
  /// Counts of a later exchange that are there already; that one then says that they came along with an earlier one.
  const int32_t *laterCounts = nullptr;
  bool areCountsKnown = false;
  /// For messages; null: the gather at the start of a step.
  const char *name = nullptr;
  /// For messages: how long the caller has waited already.
  int64_t waitedNs = 0;
};

/// "collective 'layers.3.combine'", or what stands for a call without a name.
std::string describeCall(const CollectiveCall &call);

/// What calls of two ranks that should be the same differ in; empty if in nothing.
std::string compareCalls(int rank, const CollectiveCall &mine, int other, const CollectiveCall &its);

/// How long a rank that missed several others waits for word of one that knows which of them it is. It may wait a
/// second longer itself, for orders (tools/moe-run/Ranks.cpp).
constexpr int64_t kLingerNs = 2000000000;

/// "30 s", "0.5 s".
std::string secondsText(int64_t nanoseconds);

class Communicator {
public:
  Communicator(int rank, int ranks) : myRank(rank), rankCount(ranks) {}
  virtual ~Communicator() = default;

  int rank() const { return myRank; }
  int ranks() const { return rankCount; }

  /// All ranks make the same calls in the same order. Neither allocates nor looks anything up unless it fails. False:
  /// `failure` says why, and no later call works.
  virtual bool collective(const CollectiveCall &call, int64_t deadlineNs) = 0;
  /// A message of `bytes` bytes, which the other side takes with a receive of as many.
  virtual bool send(int to, const void *data, uint64_t bytes, int64_t deadlineNs) = 0;
  virtual bool receive(int from, void *data, uint64_t bytes, int64_t deadlineNs) = 0;
  /// Whether nobody failed, as far as is known here: a look that does not wait, for who waits for something else.
  virtual bool isWell() = 0;
  /// Tells the others that this rank failed: their waits end with "rank N failed: `reason`".
  virtual void abort(Code code, const std::string &reason) = 0;
  /// Ends the processes that the ranks are with this exit status; of threads nothing.
  virtual void endJob(int status) = 0;
  /// Threads for each rank's kernels on a machine where this process may use `available` cores.
  virtual int threadShare(int available) const = 0;
  /// Which of the ranks of this machine this one is, from 0 on: whose GPU it takes.
  virtual int localRank() const = 0;
  /// How many ranks share this process's cores.
  virtual int sharers() const = 0;

  /// `bytes` bytes of every rank, in rank order, in `all`.
  bool gather(const void *mine, void *all, uint64_t bytes, int64_t deadlineNs) {
    CollectiveCall call;
    call.to = all;
    call.from = mine;
    call.toBytes = bytes * uint64_t(rankCount);
    call.fromBytes = bytes;
    return collective(call, deadlineNs);
  }

  const Status &failure() const { return failed; }

protected:
  bool fail(Status status) {
    failed = std::move(status);
    return false;
  }

private:
  const int myRank, rankCount;
  Status failed;
};

/// Ranks that work together, as far as this process has them. Outlives the sessions that it joins.
class Group {
public:
  virtual ~Group() = default;
  virtual int ranks() const = 0;
  /// The rank that this process is; -1: all of them are threads of it.
  virtual int ownRank() const = 0;
  /// The communicator of a rank of this process, null of another.
  virtual Communicator *member(int rank) = 0;
};

/// Most ranks that are threads of one process.
constexpr int kMaxThreadRanks = 256;

/// A group of threads of this process.
Result<std::shared_ptr<Group>> makeThreadGroup(int ranks);

/// This process's place among those that mpirun started, through a plugin (empty: libmoert-mpi.so beside libmoert).
Result<std::shared_ptr<Group>> joinProcessGroup(const std::string &plugin);

struct Rendezvous;
/// This process's place among those that meet at an address (TcpTransport.h).
Result<std::shared_ptr<Group>> joinRendezvous(const Rendezvous &meeting, int64_t deadlineNs);

} // namespace moert

#endif // MOERT_RANKS_COMMUNICATOR_H
