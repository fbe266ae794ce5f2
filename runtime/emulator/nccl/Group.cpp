//===- Group.cpp - Joining, aborting and leaving --------------------------===//
//
// A rank joins by a unique id, which names this process: ranks of others cannot
// meet here. The memory of all is freed when the last has left, since another
// rank's stream may read it until then.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/nccl/Group.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <unistd.h>

#define NCCL_API extern "C" __attribute__((visibility("default")))

namespace moert::emulator::nccl {

/// How long an abort waits for a stream that it has let go on and that reaches no further collective: a kernel of the
/// program itself may hang in it. And how often it has asked until then: a slow machine is not to be taken for that.
constexpr std::chrono::milliseconds kLetGo(1500);
constexpr int kAsks = 60;

static std::mutex groupsLock;
static std::map<std::string, std::shared_ptr<Group>> &groups() {
  static auto &all = *new std::map<std::string, std::shared_ptr<Group>>;
  return all;
}

/// Why this thread could not join.
static thread_local std::string unjoined;

/// "stop:1:3": what, rank, call.
static Fault readFault() {
  Fault fault;
  const char *given = std::getenv("MOE_EMU_NCCL_FAULT");
  const std::string text = given ? given : "";
  const size_t first = text.find(':'), second = text.find(':', first + 1);
  if (second != std::string::npos) {
    fault.what = text.substr(0, first);
    fault.rank = std::atoi(text.c_str() + first + 1);
    fault.call = std::strtoull(text.c_str() + second + 1, nullptr, 10);
  }
  return fault;
}

ncclResult_t refuse(ncclComm_t communicator, ncclResult_t code, const std::string &text) {
  if (communicator) {
    std::lock_guard<std::mutex> guard(communicator->group->lock);
    communicator->text = text;
  }
  return code;
}

static ncclResult_t prepare(ncclComm &own) {
  CUresult result = cuCtxGetDevice(&own.device);
  result = result ? result : cuDevicePrimaryCtxRetain(&own.context, own.device);
  result = result ? result : cuStreamCreate(&own.control, CU_STREAM_NON_BLOCKING);
  void *staging = nullptr, *results = nullptr, *outgoing = nullptr, *flags = nullptr;
  const size_t flagBytes = kSignals * size_t(own.ranks) * sizeof(uint32_t);
  result = result ? result : cuMemHostAlloc(&staging, kStagingBytes, 0);
  result = result ? result : cuMemHostAlloc(&results, kStagingBytes, 0);
  result = result ? result : cuMemHostAlloc(&outgoing, kMessageBytes * size_t(own.ranks), 0);
  result = result ? result : cuMemHostAlloc(&flags, flagBytes, 0);
  if (result) {
    return ncclUnhandledCudaError;
  }
  own.staging = static_cast<unsigned char *>(staging);
  own.results = static_cast<unsigned char *>(results);
  own.outgoing = static_cast<unsigned char *>(outgoing);
  own.flags = static_cast<uint32_t *>(flags);
  std::memset(flags, 0, flagBytes);
  return ncclSuccess;
}

/// Frees what all members had.
static void freeAll(Group &group) {
  CUcontext before = nullptr;
  cuCtxGetCurrent(&before);
  for (ncclComm_t member : group.members) {
    if (member && cuCtxSetCurrent(member->context) == CUDA_SUCCESS) {
      cuStreamDestroy_v2(member->control);
      for (const auto &[peer, memory] : member->connections) {
        cuMemFree_v2(memory);
      }
      for (void *memory : {static_cast<void *>(member->staging), static_cast<void *>(member->results),
                           static_cast<void *>(member->outgoing), static_cast<void *>(member->flags)}) {
        cuMemFreeHost(memory);
      }
    }
  }
  cuCtxSetCurrent(before);
  for (ncclComm_t member : group.members) {
    if (member) {
      cuDevicePrimaryCtxRelease_v2(member->device);
      delete member;
    }
  }
}

static void leave(ncclComm_t communicator, bool isIdle) {
  std::shared_ptr<Group> group = communicator->group;
  bool isLast, mayFree;
  {
    std::lock_guard<std::mutex> guard(group->lock);
    group->mayFree &= isIdle;
    isLast = ++group->left == communicator->ranks;
    mayFree = group->mayFree;
    group->changed.notify_all();
  }
  if (isLast && mayFree) {
    freeAll(*group);
  }
}

NCCL_API ncclResult_t ncclGetVersion(int *version) {
  *version = 22800; // what it behaves like
  return ncclSuccess;
}

NCCL_API ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  static std::atomic<int> next{0};
  *id = {};
  const std::string text = "emulator " + std::to_string(getpid()) + " " + std::to_string(next++);
  text.copy(id->internal, sizeof(id->internal) - 1);
  return ncclSuccess;
}

NCCL_API ncclResult_t ncclCommInitRankConfig(ncclComm_t *communicator, int ranks, ncclUniqueId id, int rank,
                                             ncclConfig_t *config) {
  *communicator = nullptr;
  unjoined.clear();
  id.internal[sizeof(id.internal) - 1] = 0;
  const std::string key = id.internal, mine = "emulator " + std::to_string(getpid()) + " ";
  if (!config || config->magic != NCCL_CONFIG_MAGIC || config->blocking != 0 || ranks < 1 || rank < 0 ||
      rank >= ranks) {
    return ncclInvalidArgument;
  }
  if (key.compare(0, mine.size(), mine) != 0) {
    unjoined = "the emulator's devices are joined within one process only: run ranks as threads";
    return ncclInvalidUsage;
  }
  auto *own = new (std::nothrow) ncclComm;
  own->rank = rank;
  own->ranks = ranks;
  {
    std::lock_guard<std::mutex> guard(groupsLock);
    std::shared_ptr<Group> &known = groups()[key];
    if (!known) {
      known = std::make_shared<Group>(ranks);
      known->fault = readFault();
    }
    own->group = known;
  }
  Group &group = *own->group;
  if (ncclResult_t result = prepare(*own)) {
    delete own;
    return result;
  }
  std::lock_guard<std::mutex> guard(group.lock);
  if (group.members.size() != size_t(ranks) || group.members[size_t(rank)]) {
    return ncclInvalidArgument;
  }
  group.members[size_t(rank)] = own;
  ++group.joined;
  *communicator = own;
  return ncclInProgress;
}

NCCL_API ncclResult_t ncclCommGetAsyncError(ncclComm_t communicator, ncclResult_t *state) {
  Group &group = *communicator->group;
  std::lock_guard<std::mutex> guard(group.lock);
  const bool isBusy = group.joined < communicator->ranks || (communicator->polls > 0 && communicator->polls-- > 0);
  *state = group.error != ncclSuccess ? group.error : isBusy ? ncclInProgress : ncclSuccess;
  return ncclSuccess;
}

/// Lets go on what waits for other ranks in this one's streams.
NCCL_API ncclResult_t ncclCommAbort(ncclComm_t communicator) {
  ncclComm &own = *communicator;
  CUcontext before = nullptr;
  cuCtxGetCurrent(&before);
  cuCtxSetCurrent(own.context);
  {
    std::lock_guard<std::mutex> guard(own.group->lock);
    own.group->isAborted = true;
  }
  auto end = std::chrono::steady_clock::now() + kLetGo;
  uint64_t reached = 0;
  bool isIdle = false;
  for (int asks = 0; !isIdle && (asks < kAsks || std::chrono::steady_clock::now() < end); ++asks) {
    cuMemsetD32Async(CUdeviceptr(reinterpret_cast<uintptr_t>(own.flags)), 1, kSignals * size_t(own.ranks), own.control);
    isIdle = cuStreamQuery(own.control) != CUDA_ERROR_NOT_READY;
    for (CUstream stream : own.streams) {
      isIdle &= cuStreamQuery(stream) != CUDA_ERROR_NOT_READY;
    }
    std::unique_lock<std::mutex> guard(own.group->lock);
    if (own.ran + own.messages != reached) {
      reached = own.ran + own.messages;
      end = std::chrono::steady_clock::now() + kLetGo;
      asks = 0;
    }
    guard.unlock();
    std::this_thread::yield();
  }
  cuCtxSetCurrent(before);
  leave(communicator, isIdle);
  return ncclSuccess;
}

NCCL_API ncclResult_t ncclCommFinalize(ncclComm_t communicator) {
  communicator->polls = 1;
  return ncclInProgress;
}

NCCL_API ncclResult_t ncclCommDestroy(ncclComm_t communicator) {
  leave(communicator, true);
  return ncclSuccess;
}

NCCL_API const char *ncclGetErrorString(ncclResult_t result) {
  switch (result) {
  case ncclSuccess:
    return "no error";
  case ncclUnhandledCudaError:
    return "unhandled cuda error";
  case ncclSystemError:
    return "unhandled system error";
  case ncclInternalError:
    return "internal error";
  case ncclInvalidArgument:
    return "invalid argument";
  case ncclInvalidUsage:
    return "invalid usage";
  case ncclRemoteError:
    return "remote process exited or there was a network error";
  case ncclInProgress:
    return "NCCL operation in progress";
  default:
    return "unknown result code";
  }
}

NCCL_API const char *ncclGetLastError(ncclComm_t communicator) {
  static thread_local std::string text;
  text = unjoined;
  if (communicator) {
    std::lock_guard<std::mutex> guard(communicator->group->lock);
    text = communicator->text.empty() ? communicator->group->text : communicator->text;
  }
  return text.c_str();
}

/// For tests: lets ranks go on that a fault has stopped.
NCCL_API void moeEmulatorReleaseRanks() {
  std::lock_guard<std::mutex> guard(groupsLock);
  for (auto &[key, group] : groups()) {
    std::lock_guard<std::mutex> inner(group->lock);
    group->isReleased = true;
    group->changed.notify_all();
  }
}

} // namespace moert::emulator::nccl
