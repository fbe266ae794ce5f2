// Ranks as threads of one process. A collective is: everybody publishes its call and arrives; each reads what it needs
// from the others' memory; everybody arrives again, after which memory may change. Sums are cut into one part per
// rank, each summed by its rank in rank order and written to all. Waits spin, then sleep on one word of the group.
#include "runtime/backends/cpu/ThreadPool.h"
#include "runtime/core/Futex.h"
#include "runtime/core/Trace.h"
#include "runtime/ranks/Communicator.h"
#include "runtime/ranks/Sums.h"

#include <algorithm>
#include <cstring>
#include <sched.h>
#include <vector>

namespace moert {
namespace {

/// A sleep is never longer, so that a wake-up that went to somebody else costs little.
constexpr int64_t kLongestSleepNs = 20000000;
/// How long a rank that failed waits for others to leave its memory alone.
constexpr int64_t kLeaveNs = 1000000000;

/// What the ranks of a group share.
struct Shared {
  explicit Shared(int ranks) : ranks(ranks), members(size_t(ranks)), mail(size_t(ranks) * size_t(ranks)) {}

  struct alignas(64) Member {
    /// Twice the number of collectives that this rank has finished, plus one inside of one.
    std::atomic<uint64_t> arrived{0};
    /// Whether it has failed and reads nobody's memory any more.
    std::atomic<bool> isGone{false};
    /// Written before the first arrival, read by others between the two.
    CollectiveCall call;
  };
  /// A message on its way; who sends waits until it is taken.
  struct alignas(64) Mail {
    enum State : uint32_t { Empty, Full, Taking };
    std::atomic<uint32_t> state{Empty};
    const void *data = nullptr;
    uint64_t bytes = 0;
  };

  /// The first to fail says why for all.
  void tell(Code code, std::string sentence) {
    if (!claimed.exchange(true)) {
      reason = Status(code, std::move(sentence));
      over.store(true);
    }
    ring();
  }
  void ring() {
    bell.fetch_add(1);
    futexWakeAll(bell);
  }
  /// After a change that somebody may wait for.
  void ringSleepers() {
    if (sleepers.load()) {
      ring();
    }
  }

  const int ranks;
  int spins = 0;
  std::vector<Member> members;
  std::vector<Mail> mail;
  alignas(64) std::atomic<uint32_t> bell{0};
  std::atomic<uint32_t> sleepers{0};
  std::atomic<bool> claimed{false}, over{false};
  /// Set once, before `over`.
  Status reason;
};

class ThreadRank final : public Communicator {
public:
  ThreadRank(Shared &shared, int rank) : Communicator(rank, shared.ranks), shared(shared) {}

  bool collective(const CollectiveCall &call, int64_t deadlineNs) override {
    if (!failure().ok()) {
      return false;
    }
    Shared::Member &mine = shared.members[size_t(rank())];
    const uint64_t inside = mine.arrived.load(std::memory_order_relaxed) + 1;
    mine.call = call;
    if (checkCounts(call) && meet(call, inside, deadlineNs) && !joinFailure() && checkCalls(call) && perform(call) &&
        meet(call, inside + 1, deadlineNs)) {
      return true;
    }
    leave(inside);
    return false;
  }

  bool send(int to, const void *data, uint64_t bytes, int64_t deadlineNs) override {
    if (!failure().ok()) {
      return false;
    }
    Shared::Mail &box = mailbox(rank(), to);
    box.data = data;
    box.bytes = bytes;
    box.state.store(Shared::Mail::Full);
    shared.ringSleepers();
    bool taken = waitUntil([&] { return box.state.load() == Shared::Mail::Empty; }, deadlineNs, [] { return 1; },
                           [&] {
                             return concat("rank ", to, " did not take a message of rank ", rank(), " within ",
                                           secondsText(deadlineNs));
                           });
    uint32_t full = Shared::Mail::Full;
    if (!taken && !box.state.compare_exchange_strong(full, Shared::Mail::Empty)) {
      waitAtMost(kLeaveNs, [&] { return box.state.load() == Shared::Mail::Empty; }); // it is being copied
    }
    return taken;
  }

  bool receive(int from, void *data, uint64_t bytes, int64_t deadlineNs) override {
    if (!failure().ok()) {
      return false;
    }
    Shared::Mail &box = mailbox(from, rank());
    auto take = [&] {
      uint32_t full = Shared::Mail::Full;
      return box.state.compare_exchange_strong(full, Shared::Mail::Taking);
    };
    bool came = waitUntil(
        take, deadlineNs, [] { return 1; },
        [&] { return concat("rank ", from, " sent nothing to rank ", rank(), " within ", secondsText(deadlineNs)); });
    if (!came) {
      return false;
    }
    const uint64_t sent = box.bytes;
    if (sent == bytes && bytes) {
      memcpy(data, box.data, bytes);
    }
    box.state.store(Shared::Mail::Empty);
    shared.ringSleepers();
    return sent == bytes || failTogether(Code::Internal, concat("rank ", from, " sent ", sent, " bytes, rank ", rank(),
                                                                " expects ", bytes));
  }

  bool isWell() override { return failure().ok() && !joinFailure(); }

  void abort(Code code, const std::string &reason) override {
    if (failure().ok()) {
      failTogether(code, concat("rank ", rank(), " failed: ", reason));
    }
  }

  void endJob(int) override {}

  int threadShare(int available) const override { return std::max(1, available / ranks()); }
  int localRank() const override { return rank(); }
  int sharers() const override { return ranks(); }

private:
  const CollectiveCall &callOf(int other) const { return shared.members[size_t(other)].call; }
  Shared::Mail &mailbox(int from, int to) { return shared.mail[size_t(from) * size_t(ranks()) + size_t(to)]; }

  bool failTogether(Code code, std::string sentence) {
    shared.tell(code, std::move(sentence));
    while (!shared.over.load(std::memory_order_acquire)) {
      sched_yield(); // somebody else is about to say what failed first
    }
    return fail(shared.reason);
  }

  /// Waits for `condition`; after the deadline tells all what `sentence` says. Of several `awaited` ranks some may only
  /// wait for another themselves, which they then say first.
  template <typename Condition, typename Awaited, typename Sentence>
  bool waitUntil(Condition condition, int64_t deadlineNs, Awaited awaited, Sentence sentence) {
    for (int spins = shared.spins; spins > 0; --spins) {
      if (condition()) {
        return true;
      }
      pauseCpu();
    }
    const int64_t begin = monotonicNs();
    for (;;) {
      shared.sleepers.fetch_add(1);
      const uint32_t heard = shared.bell.load();
      const bool isTrue = condition(), isOver = shared.over.load(std::memory_order_acquire);
      int64_t left = deadlineNs - (monotonicNs() - begin);
      if (left <= 0 && awaited() > 1) {
        left += kLingerNs;
      }
      if (!isTrue && !isOver && left > 0) {
        futexWait(shared.bell, heard, std::min(left, kLongestSleepNs));
      }
      shared.sleepers.fetch_sub(1);
      if (isTrue) {
        return true;
      }
      if (isOver || left <= 0) {
        return failTogether(Code::Deadline, isOver ? std::string() : sentence());
      }
    }
  }

  template <typename Condition> void waitAtMost(int64_t nanoseconds, Condition condition) {
    for (const int64_t begin = monotonicNs(); !condition() && monotonicNs() - begin < nanoseconds;) {
      usleep(100);
    }
  }

  /// Whether somebody failed; this rank then has, too.
  bool joinFailure() { return shared.over.load() && !fail(shared.reason); }

  /// After a failure: this rank reads no memory of others any more, and waits for those that may read its own, which
  /// its caller is about to free. Who arrives later sees the failure before it reads.
  void leave(uint64_t inside) {
    shared.members[size_t(rank())].isGone.store(true);
    waitAtMost(kLeaveNs, [&] {
      for (int other = 0; other < ranks(); ++other) {
        const Shared::Member &member = shared.members[size_t(other)];
        if (other != rank() && member.arrived.load() == inside && !member.isGone.load()) {
          return false;
        }
      }
      return true;
    });
  }

  bool checkCalls(const CollectiveCall &call) {
    for (int other = 0; other < ranks(); ++other) {
      const int first = std::min(rank(), other), second = std::max(rank(), other);
      std::string wrong = compareCalls(first, callOf(first), second, callOf(second));
      if (!wrong.empty()) {
        return failTogether(Code::Corrupt, concat(describeCall(call), ": ", wrong));
      }
    }
    return true;
  }

  /// Arrives at `phase` and waits until all others have.
  bool meet(const CollectiveCall &call, uint64_t phase, int64_t deadlineNs) {
    shared.members[size_t(rank())].arrived.store(phase);
    shared.ringSleepers();
    auto isHere = [&](int other) { return shared.members[size_t(other)].arrived.load() >= phase; };
    auto countMissing = [&] {
      int count = 0;
      for (int other = 0; other < ranks(); ++other) {
        count += isHere(other) ? 0 : 1;
      }
      return count;
    };
    auto allAreHere = [&] {
      for (int other = 0; other < ranks(); ++other) {
        if (!isHere(other)) {
          return false;
        }
      }
      return true;
    };
    return waitUntil(allAreHere, deadlineNs, countMissing, [&] {
      std::string missing;
      int count = 0;
      for (int other = 0; other < ranks(); ++other) {
        if (!isHere(other)) {
          missing += concat(count++ ? ", " : "", other);
        }
      }
      return concat(count > 1 ? "ranks " : "rank ", missing, phase % 2 ? " did not reach " : " did not finish ",
                    describeCall(call), " within ", secondsText(call.waitedNs + deadlineNs));
    });
  }

  /// Of an exchange: what this rank sends must be in its rows.
  bool checkCounts(const CollectiveCall &call) {
    if (call.kind != format::CollectiveKind::Exchange) {
      return true;
    }
    uint64_t rows = 0;
    for (int other = 0; other < ranks(); ++other) {
      if (call.counts[other] < 0) {
        return failTogether(Code::Corrupt, concat("rank ", rank(), ": ", describeCall(call), " sends ",
                                                  call.counts[other], " rows to rank ", other));
      }
      rows += uint64_t(call.counts[other]);
    }
    return rows * call.rowBytes <= call.fromBytes ||
           failTogether(Code::OutOfMemory, concat("rank ", rank(), ": ", describeCall(call), " sends ", rows,
                                                  " rows, its buffer holds ", call.fromBytes / call.rowBytes));
  }

  /// The part of the work that is this rank's, between the two arrivals.
  bool perform(const CollectiveCall &call) {
    const auto count = size_t(ranks());
    const auto me = size_t(rank());
    uint8_t *to = static_cast<uint8_t *>(call.to);
    switch (call.kind) {
    case format::CollectiveKind::AllReduceSum: {
      const void *sources[kMaxThreadRanks];
      void *targets[kMaxThreadRanks];
      for (size_t other = 0; other < count; ++other) {
        sources[other] = callOf(int(other)).from;
        targets[other] = callOf(int(other)).to;
      }
      const uint64_t elements = call.toBytes / bytesOfElement(call.element);
      const uint64_t begin = elements * me / count, end = elements * (me + 1) / count;
      sumInRankOrder(call.element, sources, ranks(), targets, ranks(), begin, end - begin);
      return true;
    }
    case format::CollectiveKind::ReduceScatterSum: {
      const void *sources[kMaxThreadRanks];
      for (size_t other = 0; other < count; ++other) {
        sources[other] = static_cast<const uint8_t *>(callOf(int(other)).from) + me * call.toBytes;
      }
      void *target = to;
      sumInRankOrder(call.element, sources, ranks(), &target, 1, 0, call.toBytes / bytesOfElement(call.element));
      return true;
    }
    case format::CollectiveKind::AllGather:
      for (size_t other = 0; other < count && call.fromBytes; ++other) {
        memcpy(to + other * call.fromBytes, callOf(int(other)).from, call.fromBytes);
      }
      return true;
    case format::CollectiveKind::AllToAll: {
      const uint64_t part = call.toBytes / count;
      for (size_t other = 0; other < count && part; ++other) {
        memcpy(to + other * part, static_cast<const uint8_t *>(callOf(int(other)).from) + me * part, part);
      }
      return true;
    }
    case format::CollectiveKind::Exchange:
      return exchange(call);
    }
    return true;
  }

  bool exchange(const CollectiveCall &call) {
    uint64_t rows = 0;
    for (int other = 0; other < ranks(); ++other) {
      call.received[other] = callOf(other).counts[rank()];
      rows += uint64_t(call.received[other]);
    }
    if (rows * call.rowBytes > call.toBytes) {
      return failTogether(Code::OutOfMemory, concat("rank ", rank(), ": ", describeCall(call), " receives ", rows,
                                                    " rows, its buffer holds ", call.toBytes / call.rowBytes));
    }
    uint8_t *to = static_cast<uint8_t *>(call.to);
    for (int other = 0; other < ranks(); ++other) {
      const CollectiveCall &source = callOf(other);
      uint64_t before = 0;
      for (int target = 0; target < rank(); ++target) {
        before += uint64_t(source.counts[target]);
      }
      const uint64_t bytes = uint64_t(call.received[other]) * call.rowBytes;
      if (bytes) {
        memcpy(to, static_cast<const uint8_t *>(source.from) + before * call.rowBytes, bytes);
      }
      to += bytes;
    }
    return true;
  }

  Shared &shared;
};

class ThreadGroup final : public Group {
public:
  explicit ThreadGroup(int ranks) : shared(ranks) {
    // With more ranks than cores, spinning only takes time from whom one waits for.
    shared.spins = ranks <= cpu::availableCores() ? 4000 : 0;
    for (int rank = 0; rank < ranks; ++rank) {
      communicators.push_back(std::make_unique<ThreadRank>(shared, rank));
    }
  }
  int ranks() const override { return shared.ranks; }
  int ownRank() const override { return -1; }
  Communicator *member(int rank) override {
    return rank >= 0 && rank < shared.ranks ? communicators[size_t(rank)].get() : nullptr;
  }

private:
  Shared shared;
  std::vector<std::unique_ptr<ThreadRank>> communicators;
};

} // namespace

Result<std::shared_ptr<Group>> makeThreadGroup(int ranks) {
  if (ranks < 1 || ranks > kMaxThreadRanks) {
    return error(Code::InvalidArgument, "a group of ", ranks, " thread ranks: must be 1 to ", kMaxThreadRanks);
  }
  return std::shared_ptr<Group>(std::make_shared<ThreadGroup>(ranks));
}

} // namespace moert
