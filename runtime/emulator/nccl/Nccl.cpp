//===- Nccl.cpp - Collectives and messages of the API, groups of calls ----===//
//
// Calls between ncclGroupStart and ncclGroupEnd are handed over at the end of
// the outermost group: collectives in order, then the messages of each stream
// side by side. One that is refused spoils its group: nothing
// of it is handed over, as in the original.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/nccl/Group.h"

#define NCCL_API extern "C" __attribute__((visibility("default")))

namespace moert::emulator::nccl {

namespace {

struct Pending {
  ncclComm_t communicator;
  Call call;
  CUstream stream;
};

/// Groups of calls are a thread's own.
struct Open {
  int depth = 0;
  ncclResult_t error = ncclSuccess;
  std::vector<Pending> calls;
};

thread_local Open open;
/// Of all threads.
std::atomic<int> openGroups{0};

ncclResult_t handOver() {
  ncclResult_t result = open.error;
  std::map<std::pair<ncclComm_t, CUstream>, std::vector<Call>> messages;
  for (const Pending &pending : open.calls) {
    if (pending.call.isMessage()) {
      messages[{pending.communicator, pending.stream}].push_back(pending.call);
    } else {
      result = result ? result : enqueue(pending.communicator, pending.call, pending.stream);
    }
  }
  for (const auto &[place, calls] : messages) {
    result = result ? result : enqueueMessages(place.first, calls, place.second);
  }
  open = {};
  return result ? result : ncclInProgress; // as a communicator that does not block says
}

ncclResult_t add(ncclComm_t communicator, Call call, CUstream stream) {
  ncclResult_t result = ncclSuccess;
  if (!communicator) {
    result = ncclInvalidArgument;
  } else {
    Group &group = *communicator->group;
    std::unique_lock<std::mutex> guard(group.lock);
    const bool hasJoined = group.joined == communicator->ranks;
    const bool isUnknown = call.type != ncclUint8 && call.type != ncclFloat32 && call.type != ncclBfloat16;
    const bool isSumOfBytes = call.kind != Kind::AllGather && !call.isMessage() && call.type == ncclUint8;
    const bool isToNobody =
        call.isMessage() && (call.peer < 0 || call.peer >= communicator->ranks || call.peer == communicator->rank);
    const Fault fault = group.fault;
    guard.unlock();
    call.index = communicator->issued++;
    if (fault.what == "error" && fault.rank == communicator->rank && fault.call == call.index) {
      result = refuse(communicator, ncclInternalError, "a fault that was asked for");
    } else if (!hasJoined) {
      result = refuse(communicator, ncclInvalidUsage, "not all ranks have joined yet");
    } else if (isToNobody) {
      result = refuse(communicator, ncclInvalidArgument,
                      call.describe() + " of rank " + std::to_string(communicator->rank) + " of " +
                          std::to_string(communicator->ranks) + ": the other must be another rank");
    } else if (isUnknown || isSumOfBytes) {
      result = refuse(communicator, ncclInvalidArgument,
                      "data type " + std::to_string(call.type) + " of " + call.describe() +
                          " is none of what programs of ours use");
    }
  }
  if (open.depth == 0) {
    open.error = result;
    open.calls.push_back({communicator, call, stream});
    return handOver();
  }
  if (result) {
    open.error = open.error ? open.error : result;
  } else {
    open.calls.push_back({communicator, call, stream});
  }
  return result;
}

} // namespace

NCCL_API ncclResult_t ncclGroupStart() {
  openGroups += open.depth++ == 0;
  return ncclSuccess;
}

NCCL_API ncclResult_t ncclGroupEnd() {
  if (open.depth == 0) {
    return ncclInvalidUsage;
  }
  if (--open.depth > 0) {
    return ncclSuccess;
  }
  --openGroups;
  return handOver();
}

NCCL_API ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type,
                                    ncclComm_t communicator, CUstream stream) {
  return add(communicator, {Kind::AllGather, from, to, count, type}, stream);
}

NCCL_API ncclResult_t ncclReduceScatter(const void *from, void *to, size_t count, ncclDataType_t type,
                                        ncclRedOp_t operation, ncclComm_t communicator, CUstream stream) {
  return operation == ncclSum ? add(communicator, {Kind::ReduceScatter, from, to, count, type}, stream)
                              : ncclInvalidArgument;
}

NCCL_API ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                                    ncclRedOp_t operation, ncclComm_t communicator, CUstream stream) {
  return operation == ncclSum ? add(communicator, {Kind::AllReduce, from, to, count, type}, stream)
                              : ncclInvalidArgument;
}

NCCL_API ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator,
                               CUstream stream) {
  return add(communicator, {Kind::Send, from, nullptr, count, type, peer}, stream);
}

NCCL_API ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator,
                               CUstream stream) {
  return add(communicator, {Kind::Receive, nullptr, to, count, type, peer}, stream);
}

/// For tests: groups that were begun and not ended, in all threads.
NCCL_API int moeEmulatorOpenGroups() { return openGroups; }

} // namespace moert::emulator::nccl
