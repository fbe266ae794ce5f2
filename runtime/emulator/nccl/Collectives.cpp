//===- Collectives.cpp - What ranks do together, as operations of a stream ===//
//
// A rank copies what it gives to pinned memory, meets the others, takes what it
// needs from theirs, and meets them again before that memory is used anew. Large
// ones go in pieces. A meeting is a write of a value to every rank's memory and
// a wait for every rank's in one's own, which is set back then: so it can be
// captured and run any number of times. Sums are made by a host function, in
// f32 and in rank order.
//
// Messages go in pieces through memory of the sender that is for that receiver
// alone. First all first pieces are sent, then all are received, and when they
// were taken the second ones follow: so no order of calls makes ranks wait for
// each other in a circle.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/nccl/Group.h"

#include <algorithm>
#include <cstring>

namespace moert::emulator::nccl {

std::string Call::describe() const {
  const char *kinds[] = {"AllGather", "ReduceScatter", "AllReduce", "Send", "Receive"};
  const std::string what = std::string(kinds[int(kind)]) + " of " + std::to_string(count) +
                           (type == ncclFloat32    ? " f32"
                            : type == ncclBfloat16 ? " bf16"
                                                   : " bytes");
  return !isMessage() ? what : what + (kind == Kind::Send ? " to rank " : " from rank ") + std::to_string(peer);
}

/// As the stream reaches a collective: compares it with what the other ranks did as their n-th.
static void compare(void *data) {
  auto &note = *static_cast<ncclComm::Note *>(data);
  ncclComm &own = *note.communicator;
  Group &group = *own.group;
  std::lock_guard<std::mutex> guard(group.lock);
  const uint64_t index = own.ran++;
  if (group.fault.what == "remote" && group.fault.rank == own.rank && group.fault.call == index) {
    group.fail(ncclRemoteError,
               "a fault that was asked for, at call " + std::to_string(index) + " of rank " + std::to_string(own.rank));
  }
  const uint64_t place = index - group.firstLogged;
  if (place >= group.log.size()) {
    group.log.push_back({note.call, own.rank, 1});
    return;
  }
  Group::Logged &first = group.log[place];
  const bool isSame =
      first.call.kind == note.call.kind && first.call.count == note.call.count && first.call.type == note.call.type;
  if (!isSame) {
    group.fail(ncclInvalidUsage, "collective " + std::to_string(index) + " is " + first.call.describe() + " on rank " +
                                     std::to_string(first.rank) + " and " + note.call.describe() + " on rank " +
                                     std::to_string(own.rank));
  }
  if (++first.count == own.ranks && place == 0) {
    group.log.pop_front();
    ++group.firstLogged;
  }
}

/// As the stream reaches a message: compares it with what its other end did as their n-th.
static void compareMessages(void *data) {
  auto &note = *static_cast<ncclComm::Note *>(data);
  ncclComm &own = *note.communicator;
  Group &group = *own.group;
  std::lock_guard<std::mutex> guard(group.lock);
  const bool isSend = note.call.kind == Kind::Send;
  const int from = isSend ? own.rank : note.call.peer, to = isSend ? note.call.peer : own.rank;
  Group::Messages &messages = group.messages[{from, to}];
  (isSend ? messages.sent : messages.received).push_back(note.call);
  ++own.messages;
  if (messages.sent.empty() || messages.received.empty()) {
    return;
  }
  const Call sent = messages.sent.front(), received = messages.received.front();
  messages.sent.pop_front();
  messages.received.pop_front();
  if (sent.count * sent.elementBytes() != received.count * received.elementBytes() || sent.type != received.type) {
    group.fail(ncclInvalidUsage, "a message is " + sent.describe() + " on rank " + std::to_string(from) + " and " +
                                     received.describe() + " on rank " + std::to_string(to));
  }
}

static float valueAt(const unsigned char *bytes, size_t index, ncclDataType_t type) {
  float value;
  if (type == ncclFloat32) {
    std::memcpy(&value, bytes + 4 * index, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, bytes + 2 * index, 2);
  const uint32_t bits = uint32_t(half) << 16;
  std::memcpy(&value, &bits, 4);
  return value;
}

static void storeAt(unsigned char *bytes, size_t index, ncclDataType_t type, float value) {
  if (type == ncclFloat32) {
    std::memcpy(bytes + 4 * index, &value, 4);
    return;
  }
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const bool isNan = (bits & 0x7fffffffu) > 0x7f800000u;
  const auto half = uint16_t(isNan ? (bits >> 16) | 0x40u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  std::memcpy(bytes + 2 * index, &half, 2);
}

/// results = the sum over ranks of `count` elements that begin at `first` in each one's staging.
static void sum(void *data) {
  auto &note = *static_cast<ncclComm::Note *>(data);
  ncclComm &own = *note.communicator;
  std::lock_guard<std::mutex> guard(own.group->lock); // an abort lets nothing go on while this reads
  if (own.group->isAborted) {
    return;
  }
  for (size_t i = 0; i < note.count; ++i) {
    float total = 0;
    for (int rank = 0; rank < own.ranks; ++rank) {
      total += valueAt(own.group->members[size_t(rank)]->staging, note.first + i, note.call.type);
    }
    storeAt(own.results, i, note.call.type, total);
  }
}

namespace {

/// Puts operations into one stream; remembers the first that was refused.
class Stream {
public:
  Stream(ncclComm_t communicator, CUstream stream) : own(*communicator), stream(stream) {}

  CUresult result = CUDA_SUCCESS;

  void give(const void *from, size_t bytes, unsigned char *place) {
    keep(cuMemcpyDtoHAsync_v2(place, address(from), bytes, stream));
  }
  void take(void *to, const unsigned char *from, size_t bytes) {
    keep(cuMemcpyHtoDAsync_v2(address(to), from, bytes, stream));
  }
  void call(CUhostFn function, const Call &what, size_t first, size_t count) {
    own.notes.push_back({&own, what, first, count});
    keep(cuLaunchHostFunc(stream, function, &own.notes.back()));
  }
  void signal(Signal what, int rank) {
    keep(cuStreamWriteValue32_v2(stream, flag(*own.group->members[size_t(rank)], what, own.rank), 1, 0));
  }
  void wait(Signal what, int rank) {
    keep(cuStreamWaitValue32_v2(stream, flag(own, what, rank), 1, CU_STREAM_WAIT_VALUE_GEQ));
    keep(cuStreamWriteValue32_v2(stream, flag(own, what, rank), 0, 0));
  }
  /// `isSilent`: the others hear nothing of this rank.
  void meet(Signal which, bool isSilent) {
    for (int rank = 0; rank < own.ranks && !isSilent; ++rank) {
      signal(which, rank);
    }
    for (int rank = 0; rank < own.ranks; ++rank) {
      wait(which, rank);
    }
  }

private:
  /// What `rank` has signalled to `of`.
  CUdeviceptr flag(const ncclComm &of, Signal what, int rank) { return address(of.flags + what * own.ranks + rank); }
  static CUdeviceptr address(const void *pointer) { return CUdeviceptr(reinterpret_cast<uintptr_t>(pointer)); }
  void keep(CUresult given) { result = result == CUDA_SUCCESS ? given : result; }

  ncclComm &own;
  CUstream stream;
};

} // namespace

/// Whether a fault was asked for at this call. That of a host that stops is here.
static bool isFaulty(ncclComm &own, const Call &call) {
  Group &group = *own.group;
  const bool isMeant = group.fault.rank == own.rank && group.fault.call == call.index;
  if (isMeant && group.fault.what == "stop") {
    std::unique_lock<std::mutex> guard(group.lock);
    group.changed.wait(guard, [&] { return group.isReleased; });
  }
  return isMeant;
}

static ncclResult_t ended(ncclComm_t communicator, CUresult result) {
  communicator->polls = 1; // the host asks once before it knows that all went well
  return result == CUDA_SUCCESS ? ncclSuccess
                                : refuse(communicator, ncclUnhandledCudaError, "CUDA error " + std::to_string(result));
}

/// Takes memory of the device for the first message to or from a rank, and for the first collective (of which `peer` is
/// the rank itself), as the original does.
static CUresult connect(ncclComm &own, int peer) {
  const auto [known, isNew] = own.connections.emplace(peer, 0);
  return isNew ? cuMemAlloc_v2(&known->second, kMessageBytes) : CUDA_SUCCESS;
}

ncclResult_t enqueueMessages(ncclComm_t communicator, const std::vector<Call> &calls, CUstream handle) {
  ncclComm &own = *communicator;
  own.streams.insert(handle);
  Stream stream(communicator, handle);
  bool isLost = false;
  size_t most = 0;
  for (const Call &call : calls) {
    const auto isAlike = [&](const Call &other) { return other.kind == call.kind && other.peer == call.peer; };
    if (std::count_if(calls.begin(), calls.end(), isAlike) > 1) {
      return refuse(communicator, ncclInvalidUsage,
                    "two messages between the same ranks in one group are none of what programs of ours use");
    }
    if (const CUresult result = connect(own, call.peer)) {
      return ended(communicator, result);
    }
    isLost |= isFaulty(own, call) && own.group->fault.what == "lose";
    stream.call(compareMessages, call, 0, 0);
    most = std::max(most, call.count * call.elementBytes());
  }
  // body(a message of that kind, what is left of it) for those that have a piece left at `done`.
  auto each = [&](Kind kind, size_t done, auto body) {
    for (const Call &call : calls) {
      const size_t all = call.count * call.elementBytes();
      if (call.kind == kind && done < all) {
        body(call, std::min(kMessageBytes, all - done));
      }
    }
  };
  for (size_t done = 0; done < most; done += kMessageBytes) {
    each(Kind::Send, done, [&](const Call &call, size_t bytes) {
      stream.give(static_cast<const unsigned char *>(call.from) + done, bytes,
                  own.outgoing + size_t(call.peer) * kMessageBytes);
      if (!isLost) {
        stream.signal(kSent, call.peer);
      }
    });
    each(Kind::Receive, done, [&](const Call &call, size_t bytes) {
      stream.wait(kSent, call.peer);
      stream.take(static_cast<unsigned char *>(call.to) + done,
                  own.group->members[size_t(call.peer)]->outgoing + size_t(own.rank) * kMessageBytes, bytes);
      stream.signal(kReceived, call.peer);
    });
    each(Kind::Send, done, [&](const Call &call, size_t) { stream.wait(kReceived, call.peer); });
  }
  return ended(communicator, stream.result);
}

ncclResult_t enqueue(ncclComm_t communicator, const Call &call, CUstream handle) {
  ncclComm &own = *communicator;
  Group &group = *own.group;
  const bool isLost = isFaulty(own, call) && group.fault.what == "lose";
  own.streams.insert(handle);
  if (const CUresult result = connect(own, own.rank)) {
    return ended(communicator, result);
  }
  Stream stream(communicator, handle);
  stream.call(compare, call, 0, 0);
  const size_t element = call.elementBytes(), ranks = size_t(own.ranks);
  const bool isScattered = call.kind == Kind::ReduceScatter;
  const size_t most = kStagingBytes / element / (isScattered ? ranks : 1);
  const auto *from = static_cast<const unsigned char *>(call.from);
  auto *to = static_cast<unsigned char *>(call.to);
  for (size_t done = 0; done < call.count; done += most) {
    const size_t now = std::min(most, call.count - done), bytes = now * element;
    for (size_t part = 0; part < (isScattered ? ranks : 1); ++part) {
      stream.give(from + (part * call.count + done) * element, bytes, own.staging + part * bytes);
    }
    stream.meet(kGiven, isLost);
    if (call.kind == Kind::AllGather) {
      for (size_t rank = 0; rank < ranks; ++rank) {
        stream.take(to + (rank * call.count + done) * element, group.members[rank]->staging, bytes);
      }
    } else {
      stream.call(sum, call, isScattered ? size_t(own.rank) * now : 0, now);
      stream.take(to + done * element, own.results, bytes);
    }
    stream.meet(kTaken, false);
  }
  return ended(communicator, stream.result);
}

} // namespace moert::emulator::nccl
