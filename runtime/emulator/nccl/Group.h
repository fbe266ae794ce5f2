//===- Group.h - Ranks that joined, and what they did so far ------*- C++ -*-===//
//
// State behind libnccl.so.2: a `Group` of ranks that gave the same unique id,
// all in this process, one emulated device each; and a communicator per rank.
//
// What ranks are to do alike is compared when it runs, in stream order: the
// n-th collective of every rank must be of one kind, type and count. So a graph
// that runs again is compared again. The first difference is an error of all.
//
// MOE_EMU_NCCL_FAULT makes a rank misbehave, for tests (docs/emulator.md).
//
//===----------------------------------------------------------------------===//
#ifndef MOE_EMULATOR_NCCL_GROUP_H
#define MOE_EMULATOR_NCCL_GROUP_H

#include "runtime/emulator/nccl/DriverCalls.h"
#include "runtime/emulator/nccl/NcclApi.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace moert::emulator::nccl {

enum class Kind { AllGather, ReduceScatter, AllReduce, Send, Receive };

/// A collective, or a message to or from `peer`, as it was asked for; `count` as the API counts it.
struct Call {
  Kind kind = Kind::AllGather;
  const void *from = nullptr;
  void *to = nullptr;
  size_t count = 0;
  ncclDataType_t type = ncclUint8;
  int peer = -1;
  uint64_t index = 0; ///< among those of its rank

  bool isMessage() const { return kind >= Kind::Send; }

  size_t elementBytes() const { return type == ncclFloat32 ? 4 : type == ncclBfloat16 ? 2 : 1; }
  /// "AllReduce of 12 f32".
  std::string describe() const;
};

/// What MOE_EMU_NCCL_FAULT asks for: `what` at call `call` of rank `rank`, both from 0 on.
struct Fault {
  std::string what;
  int rank = -1;
  uint64_t call = 0;
};

struct Group {
  explicit Group(int ranks) : members(size_t(ranks), nullptr) {}

  std::mutex lock;
  std::condition_variable changed;
  std::vector<ncclComm_t> members;
  int joined = 0, left = 0;
  bool isAborted = false; ///< a rank waits for nobody any more, so staging is written while others read it
  bool mayFree = true;    ///< false: work of a rank that left may still use the memory of others
  /// The first error, which all have.
  ncclResult_t error = ncclSuccess;
  std::string text;
  /// What the first rank to run it did, from call `firstLogged` on, and how many ran it.
  struct Logged {
    Call call;
    int rank, count;
  };
  std::deque<Logged> log;
  uint64_t firstLogged = 0;
  /// Of messages from one rank to another: what one of the two did and the other did not yet.
  struct Messages {
    std::deque<Call> sent, received;
  };
  std::map<std::pair<int, int>, Messages> messages;
  Fault fault;
  bool isReleased = false; ///< ranks that a fault stopped may go on

  /// Needs `lock`.
  void fail(ncclResult_t code, const std::string &what) {
    if (error == ncclSuccess) {
      error = code;
      text = what;
    }
    changed.notify_all();
  }
};

/// Bytes of host memory through which a rank's data goes, and through which its results come back.
constexpr size_t kStagingBytes = size_t(1) << 20;
/// The same for messages to one rank.
constexpr size_t kMessageBytes = size_t(64) << 10;
/// What ranks signal to each other: the two meetings of a collective; that a piece of a message lies there, and that it
/// was taken.
enum Signal { kGiven, kTaken, kSent, kReceived, kSignals };

} // namespace moert::emulator::nccl

/// A communicator.
struct ncclComm {
  std::shared_ptr<moert::emulator::nccl::Group> group;
  int rank = 0, ranks = 0;
  CUdevice device = 0;
  CUcontext context = nullptr;
  CUstream control = nullptr; ///< of an abort
  /// Pinned: what this rank gives, and what it computed.
  unsigned char *staging = nullptr, *results = nullptr;
  /// Pinned, [ranks, kMessageBytes]: what it sends to each.
  unsigned char *outgoing = nullptr;
  /// Pinned, [kSignals, ranks]: the other ranks' signals.
  uint32_t *flags = nullptr;
  std::set<CUstream> streams;
  /// Device memory of the connection to each rank that messages went to or came from, and, at its own number, of
  /// collectives; nothing uses it, but the original takes some then, too.
  std::map<int, CUdeviceptr> connections;
  uint64_t issued = 0, ran = 0, messages = 0; ///< calls handed over; collectives and messages that streams reached
  std::atomic<int> polls{0};                  ///< that still say "in progress"
  std::string text;                           ///< of the latest error
  /// What host functions are given; lives as long as graphs may.
  struct Note {
    ncclComm_t communicator;
    moert::emulator::nccl::Call call;
    size_t first, count; ///< the piece that is summed
  };
  std::deque<Note> notes;
};

namespace moert::emulator::nccl {

/// Puts `call` into `stream`.
ncclResult_t enqueue(ncclComm_t communicator, const Call &call, CUstream stream);
/// Puts messages, which go side by side, into `stream`.
ncclResult_t enqueueMessages(ncclComm_t communicator, const std::vector<Call> &calls, CUstream stream);
/// Keeps and gives back an error of one rank.
ncclResult_t refuse(ncclComm_t communicator, ncclResult_t code, const std::string &text);

} // namespace moert::emulator::nccl

#endif // MOE_EMULATOR_NCCL_GROUP_H
