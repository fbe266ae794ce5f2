// See MessageRanks.h.
#include "runtime/ranks/MessageRanks.h"

#include "runtime/backends/cpu/ThreadPool.h"
#include "runtime/core/Futex.h"
#include "runtime/core/Trace.h"
#include "runtime/ranks/Sums.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

namespace moert {
namespace {

using format::CollectiveKind;

enum Tag : int { kCallTag = 1, kDataTag, kMessageTag, kNoticeTag };

/// Payload that travels with the header of a call.
constexpr uint64_t kInlineBytes = 16384;
/// Of a large sum, what one rank sums at a time.
constexpr uint64_t kPartBytes = 256 << 10;
/// How long notices are given to leave.
constexpr int64_t kFarewellNs = 300000000;

/// What ranks tell each other before they do something together.
struct Header {
  uint64_t sequence, toBytes, fromBytes, rowBytes;
  uint32_t kind, element, isNamed;
  int32_t count; ///< of an exchange: rows that follow
};
constexpr uint64_t kRoom = sizeof(Header) + kInlineBytes;

/// What a rank that fails tells all others.
struct Notice {
  int32_t code;
  char sentence[508];
};

/// Bytes on their way to or from a peer, piece by piece. Of several with one peer and tag only the last has more than
/// one piece.
struct Flow {
  int peer, tag;
  bool isSend;
  bool endsShort; ///< a receive that may bring less than there is room for
  uint8_t *data;
  uint64_t bytes, done;
  bool isBegun, isOver;
  int64_t since; ///< when it last moved
  moert_transfer transfer;

  uint64_t piece() const { return std::min<uint64_t>(bytes - done, MOERT_TRANSPORT_MESSAGE); }
};

class MessageRank final : public Communicator {
public:
  explicit MessageRank(const moert_transport &given)
      : Communicator(given.rank, given.ranks), transport(given), notices(size_t(ranks())),
        noticeTransfers(size_t(ranks())), noticeIsOpen(size_t(ranks()), false), flows(size_t(4 * ranks())),
        sendRoom(size_t(ranks()) * kRoom), receiveRoom(size_t(ranks()) * kRoom), scratch(size_t(ranks()) * kPartBytes),
        sources(size_t(ranks())), partBytes(size_t(ranks())) {
    spins = sharers() <= cpu::availableCores() ? 1000 : 0;
    for (int other = 0; other < ranks(); ++other) {
      noticeIsOpen[size_t(other)] =
          other != rank() && transport.receive(&transport, &notices[size_t(other)], sizeof(Notice), other, kNoticeTag,
                                               &noticeTransfers[size_t(other)]) == 0;
    }
  }

  ~MessageRank() override {
    if (!failure().ok()) { // an orderly end would wait for ranks that are gone
      if (transport.drop) {
        transport.drop(&transport);
      }
      return;
    }
    for (int other = 0; other < ranks(); ++other) {
      if (noticeIsOpen[size_t(other)]) {
        transport.cancel(&transport, &noticeTransfers[size_t(other)]);
      }
    }
    transport.close(&transport);
  }

  bool collective(const CollectiveCall &call, int64_t deadlineNs) override {
    // Who comes late has everything it needs here already, and still must not go on alone.
    if (!failure().ok() || heardNotice()) {
      return false;
    }
    return checkCounts(call) && greet(call, deadlineNs) && finish(call, deadlineNs);
  }

  bool send(int to, const void *data, uint64_t bytes, int64_t deadlineNs) override {
    if (!failure().ok()) {
      return false;
    }
    uint64_t length = bytes;
    flowCount = 0;
    addSend(to, kMessageTag, &length, sizeof(length));
    addSend(to, kMessageTag, data, bytes);
    return run(nullptr, deadlineNs);
  }

  bool receive(int from, void *data, uint64_t bytes, int64_t deadlineNs) override {
    if (!failure().ok()) {
      return false;
    }
    uint64_t length = 0;
    flowCount = 0;
    addReceive(from, kMessageTag, &length, sizeof(length));
    if (!run(nullptr, deadlineNs)) {
      return false;
    }
    if (length != bytes) {
      return failTogether(Code::Internal,
                          concat("rank ", from, " sent ", length, " bytes, rank ", rank(), " expects ", bytes));
    }
    flowCount = 0;
    addReceive(from, kMessageTag, data, bytes);
    return run(nullptr, deadlineNs);
  }

  bool isWell() override { return failure().ok() && !heardNotice(); }

  void abort(Code code, const std::string &reason) override {
    if (failure().ok()) {
      failTogether(code, concat("rank ", rank(), " failed: ", reason));
    }
  }

  void endJob(int status) override { transport.end_job(&transport, status); }

  /// A process that mpirun bound has the cores it has; else those of the machine are shared.
  int threadShare(int available) const override {
    return std::min(available, std::max(1, cpu::machineCores() / std::max(1, transport.local_ranks)));
  }
  int localRank() const override { return transport.local_rank; }
  int sharers() const override {
    return std::max(1, transport.local_ranks * cpu::availableCores() / cpu::machineCores());
  }

private:
  //===--------------------------------------------------------------------===//
  // Flows
  //===--------------------------------------------------------------------===//

  void addSend(int to, int tag, const void *data, uint64_t bytes) {
    if (bytes) {
      flows[flowCount++] = {to,    tag,   true, false, static_cast<uint8_t *>(const_cast<void *>(data)), bytes, 0,
                            false, false, 0,    {}};
    }
  }
  void addReceive(int from, int tag, void *data, uint64_t bytes, bool endsShort = false) {
    if (bytes) {
      flows[flowCount++] = {from, tag, false, endsShort, static_cast<uint8_t *>(data), bytes, 0, false, false, 0, {}};
    }
  }

  bool begin(Flow &flow) {
    const int status =
        flow.isSend
            ? transport.send(&transport, flow.data + flow.done, flow.piece(), flow.peer, flow.tag, &flow.transfer)
            : transport.receive(&transport, flow.data + flow.done, flow.piece(), flow.peer, flow.tag, &flow.transfer);
    flow.isBegun = status == 0;
    return flow.isBegun;
  }

  /// Moves a flow on: 1 if it did, 0 if there is nothing new, -1 after an error.
  int advance(Flow &flow) {
    if (!flow.isBegun && !begin(flow)) {
      return -1;
    }
    size_t came = 0;
    const int state = transport.test(&transport, &flow.transfer, &came);
    if (state <= 0) {
      return state;
    }
    const uint64_t piece = flow.piece(), moved = flow.isSend ? piece : came;
    flow.isBegun = false;
    flow.done += moved;
    flow.since = monotonicNs();
    if (moved < piece && !flow.endsShort) {
      snprintf(transport.error, sizeof(transport.error), "%llu bytes came where %llu are expected",
               static_cast<unsigned long long>(moved), static_cast<unsigned long long>(piece));
      return -1;
    }
    flow.isOver = flow.done == flow.bytes || flow.endsShort;
    return 1;
  }

  /// Runs the flows that were added; `call` is what they are for, null: a message. After a failure nothing may arrive
  /// in memory that the caller is about to free.
  bool run(const CollectiveCall *call, int64_t deadlineNs) {
    if (runFlows(call, deadlineNs)) {
      return true;
    }
    for (size_t i = 0; i < flowCount; ++i) {
      if (flows[i].isBegun && !flows[i].isOver) {
        transport.cancel(&transport, &flows[i].transfer);
      }
    }
    return false;
  }

  bool runFlows(const CollectiveCall *call, int64_t deadlineNs) {
    const int64_t start = monotonicNs();
    for (size_t i = 0; i < flowCount; ++i) {
      flows[i].since = start;
    }
    for (int idle = 0;;) {
      bool moved = false, isDone = true;
      for (size_t i = 0; i < flowCount; ++i) {
        if (flows[i].isOver) {
          continue;
        }
        const int state = advance(flows[i]);
        if (state < 0) {
          return failTogether(Code::IO, concat("rank ", rank(), " and rank ", flows[i].peer, ", in ",
                                               call ? describeCall(*call) : "a message", ": ", transport.error));
        }
        moved |= state > 0;
        isDone &= flows[i].isOver;
      }
      if (isDone) {
        return true;
      }
      idle = moved ? 0 : idle + 1;
      if (idle < spins) {
        pauseCpu();
        continue;
      }
      if (heardNotice()) {
        return false;
      }
      if (!idle) {
        continue;
      }
      // A sleep, not a yield: on a busy machine who yields waits for everybody, who wakes up comes first.
      usleep(idle < spins + 500 ? 20 : 200);
      if (missedDeadline(call, deadlineNs)) {
        return false;
      }
    }
  }

  /// Whether a flow did not move for as long as the deadline; all are told whom it waited for.
  bool missedDeadline(const CollectiveCall *call, int64_t deadlineNs) {
    const int64_t now = monotonicNs();
    bool isLate = false;
    for (size_t i = 0; i < flowCount; ++i) {
      isLate |= !flows[i].isOver && now - flows[i].since > deadlineNs;
    }
    if (!isLate) {
      return false;
    }
    // Whoever owes us bytes; if nobody does, who does not take ours.
    std::string missing;
    int count = 0;
    for (bool ofSends : {false, true}) {
      for (size_t i = 0; i < flowCount && (!ofSends || !count); ++i) {
        if (!flows[i].isOver && flows[i].isSend == ofSends) {
          missing += concat(count++ ? ", " : "", flows[i].peer);
        }
      }
    }
    // Of several some may only wait for another themselves, and have missed it before us: then they say so.
    while (count > 1 && monotonicNs() - now < kLingerNs) {
      if (heardNotice()) {
        return true;
      }
      usleep(1000);
    }
    const char *did = call ? " did not reach " : flows[0].isSend ? " did not take a message of " : " sent nothing to ";
    return !failTogether(Code::Deadline, concat(count > 1 ? "ranks " : "rank ", missing, did,
                                                call ? describeCall(*call) : concat("rank ", rank()), " within ",
                                                secondsText((call ? call->waitedNs : 0) + deadlineNs)));
  }

  //===--------------------------------------------------------------------===//
  // Failures
  //===--------------------------------------------------------------------===//

  bool heardNotice() {
    for (int other = 0; other < ranks(); ++other) {
      size_t came = 0;
      if (noticeIsOpen[size_t(other)] && transport.test(&transport, &noticeTransfers[size_t(other)], &came) == 1) {
        Notice &notice = notices[size_t(other)];
        notice.sentence[sizeof(notice.sentence) - 1] = 0;
        noticeIsOpen[size_t(other)] = false;
        fail(Status(Code(notice.code), notice.sentence));
        return true;
      }
    }
    return false;
  }

  bool failTogether(Code code, std::string sentence) {
    if (heardNotice()) {
      return false;
    }
    farewell.code = int32_t(code);
    strncpy(farewell.sentence, sentence.c_str(), sizeof(farewell.sentence) - 1);
    fail(Status(code, std::move(sentence)));
    std::vector<moert_transfer> leaving;
    for (int other = 0; other < ranks(); ++other) {
      moert_transfer transfer;
      if (other != rank() &&
          transport.send(&transport, &farewell, sizeof(farewell), other, kNoticeTag, &transfer) == 0) {
        leaving.push_back(transfer);
      }
    }
    for (const int64_t begin = monotonicNs(); !leaving.empty() && monotonicNs() - begin < kFarewellNs; usleep(100)) {
      size_t bytes;
      leaving.erase(
          std::remove_if(leaving.begin(), leaving.end(),
                         [&](moert_transfer &transfer) { return transport.test(&transport, &transfer, &bytes) != 0; }),
          leaving.end());
    }
    return false;
  }

  //===--------------------------------------------------------------------===//
  // Collectives
  //===--------------------------------------------------------------------===//

  /// What one rank sends another in the first message, beside the header; 0 if it is too much for it.
  uint64_t inlineBytes(const CollectiveCall &call) const {
    uint64_t bytes = 0;
    switch (call.kind) {
    case CollectiveKind::AllReduceSum:
    case CollectiveKind::AllGather:
      bytes = call.fromBytes;
      break;
    case CollectiveKind::ReduceScatterSum:
      bytes = call.toBytes;
      break;
    case CollectiveKind::AllToAll:
      bytes = call.toBytes / uint64_t(ranks());
      break;
    case CollectiveKind::Exchange:
      break; // by the rows for each rank
    }
    return bytes <= kInlineBytes ? bytes : 0;
  }

  /// The same of an exchange, for a rank that gets `count` rows.
  static uint64_t inlineRows(const CollectiveCall &call, int32_t count) {
    const uint64_t bytes = uint64_t(uint32_t(count)) * call.rowBytes;
    return bytes <= kInlineBytes ? bytes : 0;
  }

  const uint8_t *payloadOf(int other) const { return &receiveRoom[size_t(other) * kRoom + sizeof(Header)]; }
  Header headerOf(int other) const {
    Header header;
    memcpy(&header, &receiveRoom[size_t(other) * kRoom], sizeof(header));
    return header;
  }

  /// Tells all others what this rank is about to do, with the data if that is little, and checks that they agree.
  bool greet(const CollectiveCall &call, int64_t deadlineNs) {
    const bool isExchange = call.kind == CollectiveKind::Exchange;
    const bool isOnePart = call.kind == CollectiveKind::ReduceScatterSum || call.kind == CollectiveKind::AllToAll;
    const auto *from = static_cast<const uint8_t *>(call.from);
    uint64_t rowsBefore = 0;
    ++sequence;
    flowCount = 0;
    for (int other = 0; other < ranks(); ++other) {
      const uint64_t payload = isExchange ? inlineRows(call, call.counts[other]) : inlineBytes(call);
      const uint64_t offset = isExchange ? rowsBefore * call.rowBytes : isOnePart ? uint64_t(other) * payload : 0;
      rowsBefore += isExchange ? uint64_t(call.counts[other]) : 0;
      if (other == rank()) {
        continue;
      }
      Header header = {sequence,
                       call.toBytes,
                       call.fromBytes,
                       call.rowBytes,
                       uint32_t(call.kind),
                       uint32_t(call.element),
                       uint32_t(call.name != nullptr),
                       call.counts ? call.counts[other] : 0};
      uint8_t *room = &sendRoom[size_t(other) * kRoom];
      memcpy(room, &header, sizeof(header));
      if (payload) {
        memcpy(room + sizeof(header), from + offset, payload);
      }
      addReceive(other, kCallTag, &receiveRoom[size_t(other) * kRoom], kRoom, /*endsShort=*/true);
      addSend(other, kCallTag, room, sizeof(header) + payload);
    }
    if (!run(&call, deadlineNs)) {
      return false;
    }
    for (size_t i = 0; i < flowCount; ++i) {
      if (flows[i].isSend) {
        continue;
      }
      const int other = flows[i].peer;
      const Header header = headerOf(other);
      CollectiveCall its;
      its.kind = CollectiveKind(header.kind);
      its.element = format::DType(header.element);
      its.toBytes = header.toBytes;
      its.fromBytes = header.fromBytes;
      its.rowBytes = header.rowBytes;
      its.name = header.isNamed ? "" : nullptr;
      std::string wrong =
          other < rank() ? compareCalls(other, its, rank(), call) : compareCalls(rank(), call, other, its);
      const uint64_t payload = isExchange ? inlineRows(call, header.count) : inlineBytes(call);
      if (wrong.empty() && (header.sequence != sequence || flows[i].done != sizeof(Header) + payload)) {
        wrong = concat("ranks ", rank(), " and ", other, " are at their calls ", sequence, " and ", header.sequence);
      }
      if (!wrong.empty()) {
        return failTogether(Code::Corrupt, concat(describeCall(call), ": ", wrong));
      }
    }
    return true;
  }

  bool finish(const CollectiveCall &call, int64_t deadlineNs) {
    switch (call.kind) {
    case CollectiveKind::AllReduceSum:
      return inlineBytes(call) || !call.toBytes ? sumInline(call, call.from) : allReduce(call, deadlineNs);
    case CollectiveKind::ReduceScatterSum:
      return inlineBytes(call) || !call.toBytes
                 ? sumInline(call, static_cast<const uint8_t *>(call.from) + uint64_t(rank()) * call.toBytes)
                 : reduceScatter(call, deadlineNs);
    case CollectiveKind::AllGather:
      return distribute(call, call.fromBytes, false, deadlineNs);
    case CollectiveKind::AllToAll:
      return distribute(call, call.toBytes / uint64_t(ranks()), true, deadlineNs);
    case CollectiveKind::Exchange:
      return exchange(call, deadlineNs);
    }
    return true;
  }

  bool sumInline(const CollectiveCall &call, const void *own) {
    for (int other = 0; other < ranks(); ++other) {
      sources[size_t(other)] = other == rank() ? own : payloadOf(other);
    }
    void *target = call.to;
    sumInRankOrder(call.element, sources.data(), ranks(), &target, 1, 0, call.toBytes / bytesOfElement(call.element));
    return true;
  }

  /// Part `other` of `to` comes from rank `other`; sent is all of `from`, or its part for each rank.
  bool distribute(const CollectiveCall &call, uint64_t part, bool byParts, int64_t deadlineNs) {
    auto *to = static_cast<uint8_t *>(call.to);
    const auto *from = static_cast<const uint8_t *>(call.from);
    const bool isInline = inlineBytes(call);
    flowCount = 0;
    for (int other = 0; other < ranks() && part; ++other) {
      const uint8_t *mine = from + (byParts ? uint64_t(other) * part : 0);
      uint8_t *its = to + uint64_t(other) * part;
      if (other == rank()) {
        memcpy(its, mine, part);
      } else if (isInline) {
        memcpy(its, payloadOf(other), part);
      } else {
        addReceive(other, kDataTag, its, part);
        addSend(other, kDataTag, mine, part);
      }
    }
    return run(&call, deadlineNs);
  }

  /// Sums what the ranks send of `bytes` bytes for this one; `ours(q)` is where this rank's part for rank q lies.
  template <typename Ours>
  bool sumPart(const CollectiveCall &call, Ours ours, const uint64_t *bytes, void *target, int64_t deadlineNs) {
    flowCount = 0;
    for (int other = 0; other < ranks(); ++other) {
      uint8_t *room = &scratch[size_t(other) * kPartBytes];
      sources[size_t(other)] = other == rank() ? ours(other) : room;
      if (other != rank()) {
        addReceive(other, kDataTag, room, bytes[rank()]);
        addSend(other, kDataTag, ours(other), bytes[other]);
      }
    }
    if (!run(&call, deadlineNs)) {
      return false;
    }
    sumInRankOrder(call.element, sources.data(), ranks(), &target, 1, 0, bytes[rank()] / bytesOfElement(call.element));
    return true;
  }

  bool reduceScatter(const CollectiveCall &call, int64_t deadlineNs) {
    const auto *from = static_cast<const uint8_t *>(call.from);
    for (uint64_t done = 0; done < call.toBytes; done += kPartBytes) {
      partBytes.assign(size_t(ranks()), std::min(kPartBytes, call.toBytes - done));
      auto ours = [&](int other) { return from + uint64_t(other) * call.toBytes + done; };
      if (!sumPart(call, ours, partBytes.data(), static_cast<uint8_t *>(call.to) + done, deadlineNs)) {
        return false;
      }
    }
    return true;
  }

  /// Each rank sums a part; then the parts are gathered.
  bool allReduce(const CollectiveCall &call, int64_t deadlineNs) {
    const auto count = uint64_t(ranks());
    const uint64_t element = bytesOfElement(call.element), all = call.toBytes / element;
    const uint64_t most = kPartBytes / element * count;
    for (uint64_t done = 0; done < all; done += most) {
      const uint64_t now = std::min(most, all - done);
      auto offset = [&](uint64_t part) { return (done + now * part / count) * element; };
      for (uint64_t part = 0; part < count; ++part) {
        partBytes[part] = offset(part + 1) - offset(part);
      }
      const auto *from = static_cast<const uint8_t *>(call.from);
      auto *to = static_cast<uint8_t *>(call.to);
      auto ours = [&](int other) { return from + offset(uint64_t(other)); };
      uint8_t *mine = to + offset(uint64_t(rank()));
      if (!sumPart(call, ours, partBytes.data(), mine, deadlineNs)) {
        return false;
      }
      flowCount = 0;
      for (int other = 0; other < ranks(); ++other) {
        if (other != rank()) {
          addReceive(other, kDataTag, to + offset(uint64_t(other)), partBytes[size_t(other)]);
          addSend(other, kDataTag, mine, partBytes[size_t(rank())]);
        }
      }
      if (!run(&call, deadlineNs)) {
        return false;
      }
    }
    return true;
  }

  /// Of an exchange: what this rank sends must be in its rows.
  bool checkCounts(const CollectiveCall &call) {
    if (call.kind != CollectiveKind::Exchange) {
      return true;
    }
    uint64_t rows = 0;
    for (int other = 0; other < ranks(); ++other) {
      rows += uint64_t(call.counts[other]);
      if (call.counts[other] < 0 || rows * call.rowBytes > call.fromBytes) {
        return failTogether(Code::OutOfMemory, concat("rank ", rank(), ": ", describeCall(call), " sends ",
                                                      call.counts[other], " rows to rank ", other, ", in all ", rows,
                                                      ", its buffer holds ", call.fromBytes / call.rowBytes));
      }
    }
    return true;
  }

  bool exchange(const CollectiveCall &call, int64_t deadlineNs) {
    uint64_t rows = 0;
    for (int other = 0; other < ranks(); ++other) {
      call.received[other] = other == rank() ? call.counts[other] : headerOf(other).count;
      rows += uint64_t(uint32_t(call.received[other]));
    }
    if (rows * call.rowBytes > call.toBytes) {
      return failTogether(Code::OutOfMemory, concat("rank ", rank(), ": ", describeCall(call), " receives ", rows,
                                                    " rows, its buffer holds ", call.toBytes / call.rowBytes));
    }
    auto *to = static_cast<uint8_t *>(call.to);
    const auto *from = static_cast<const uint8_t *>(call.from);
    flowCount = 0;
    for (int other = 0; other < ranks(); ++other) {
      const uint64_t in = uint64_t(call.received[other]) * call.rowBytes;
      const uint64_t out = uint64_t(call.counts[other]) * call.rowBytes;
      if (other == rank()) {
        if (in) {
          memcpy(to, from, in);
        }
      } else {
        if (!inlineRows(call, call.received[other])) {
          addReceive(other, kDataTag, to, in);
        } else {
          memcpy(to, payloadOf(other), in);
        }
        if (!inlineRows(call, call.counts[other])) {
          addSend(other, kDataTag, from, out);
        }
      }
      to += in;
      from += out;
    }
    return run(&call, deadlineNs);
  }

  moert_transport transport;
  int spins = 0;
  uint64_t sequence = 0;
  std::vector<Notice> notices;
  std::vector<moert_transfer> noticeTransfers;
  std::vector<char> noticeIsOpen;
  Notice farewell = {};
  std::vector<Flow> flows;
  size_t flowCount = 0;
  /// A header and a small payload to and from each rank; parts of sums from each.
  std::vector<uint8_t> sendRoom, receiveRoom, scratch;
  std::vector<const void *> sources;
  std::vector<uint64_t> partBytes;
};

} // namespace

std::unique_ptr<Communicator> makeMessageRank(const moert_transport &transport) {
  return std::make_unique<MessageRank>(transport);
}

} // namespace moert
