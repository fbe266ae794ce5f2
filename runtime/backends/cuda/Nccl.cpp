// NCCL by dlopen and one rank of it; see Nccl.h.
#include "runtime/backends/cuda/Nccl.h"

#include "runtime/core/File.h"
#include "runtime/core/Trace.h"
#include "runtime/ranks/Sums.h"

#include <chrono>
#include <cstring>
#include <dlfcn.h>
#include <thread>

namespace moert::cuda {
namespace {

constexpr const char *kLibrary = "libnccl.so.2";
/// The first version whose communicators need not block.
constexpr int kOldest = 21400;
/// How long the ranks that missed a deadline wait for each other: theirs passed at about the same time.
constexpr int64_t kMeetNs = 4000000000;
/// How long a rank waits for the others when it leaves in order. Who ends much later finds it gone, which is no error
/// any more.
constexpr int64_t kLeaveNs = 2000000000;

/// What ranks tell each other before they join.
struct Introduction {
  ncclUniqueId id; ///< rank 0's is used
  CUuuid device;
  int32_t code;
  char text[252];
};

/// Questions that are asked without a pause: what was handed over is mostly taken at once.
constexpr int kSpins = 200;

void pause() { std::this_thread::sleep_for(std::chrono::microseconds(50)); }

} // namespace

Status Nccl::load(const std::string &path, bool emulator) {
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *reason = dlerror();
    return error(Code::NotFound,
                 "several GPUs work together through NCCL, which was not found: ", reason ? reason : path,
                 emulator ? "; build the target moe_emulator_nccl, or install it with the runtime"
                          : "; install NCCL (libnccl2 of NVIDIA's repositories, or the nvidia-nccl package of a Python "
                            "with its folder in LD_LIBRARY_PATH)");
  }
  if ((dlsym(library, "moeEmulatorOpenGroups") != nullptr) != emulator) {
    return error(Code::Unsupported, "the ", path,
                 emulator ? " beside the emulator is not its own: install the runtime again"
                          : " that the system finds is the emulator's: take its folder out of the library path");
  }
  const char *missing = nullptr;
#define MOERT_NCCL(name, symbol, result, parameters)                                                                   \
  name = reinterpret_cast<decltype(name)>(dlsym(library, #symbol));                                                    \
  missing = name ? missing : #symbol;
#include "runtime/backends/cuda/NcclFunctions.inc"
#undef MOERT_NCCL
  int version = 0;
  if (missing || getVersion(&version) != ncclSuccess || version < kOldest) {
    return error(Code::Unsupported, path, ": ", missing ? concat("has no ", missing) : concat("is version ", version),
                 ", which is older than NCCL 2.14: install a newer one");
  }
  return {};
}

Result<Nccl *> Nccl::open(bool emulator) {
  static std::mutex lock;
  static Nccl *opened[2];
  std::lock_guard<std::mutex> guard(lock);
  Nccl *&mine = opened[emulator];
  if (!mine) {
    std::string path = kLibrary;
    if (emulator) {
      MOERT_ASSIGN(driver, emulatorPath());
      path = joinPath(driver.substr(0, driver.rfind('/')), kLibrary);
    }
    auto fresh = std::make_unique<Nccl>();
    MOERT_TRY(fresh->load(path, emulator));
    mine = fresh.release();
  }
  return mine;
}

NcclRank::~NcclRank() {
  if (!group) {
    return;
  }
  dropGraphs();
  // Orderly only together: another GPU may still read what this one sent last.
  ncclResult_t state = api.finalize(group);
  for (const int64_t begin = monotonicNs(); state == ncclInProgress && monotonicNs() - begin < kLeaveNs; pause()) {
    api.asyncError(group, &state);
  }
  state == ncclSuccess ? api.destroy(group) : api.abort(group);
}

Status NcclRank::statusOf(ncclResult_t result, const std::string &doing) const {
  const Code code = result == ncclInvalidUsage || result == ncclInvalidArgument ? Code::Corrupt
                    : result == ncclRemoteError || result == ncclSystemError    ? Code::IO
                                                                                : Code::Internal;
  const char *what = api.errorText(result), *detail = api.lastError(group);
  std::string text = what ? what : concat("NCCL error ", result);
  if (detail && *detail) {
    text += concat(" (", detail, ")");
  }
  return error(code, doing, ": NCCL: ", text);
}

/// Until NCCL has taken what it was given.
Status NcclRank::waitUntilReady(const std::string &doing) {
  const int64_t begin = monotonicNs();
  for (int spins = kSpins;; --spins) {
    ncclResult_t state = ncclInProgress;
    if (ncclResult_t result = api.asyncError(group, &state); result != ncclSuccess) {
      return statusOf(result, doing);
    }
    if (state != ncclInProgress) {
      return state == ncclSuccess ? Status() : statusOf(state, doing);
    }
    if (!control.isWell()) {
      return control.failure();
    }
    if (monotonicNs() - begin > deadlineNs) {
      abort();
      return findCulprit(/*isBusy=*/false);
    }
    if (spins <= 0) {
      pause();
    }
  }
}

Status NcclRank::join(const Device &device) {
  Introduction mine = {};
  Status status;
  if (CUresult result = device.driver->deviceUuid(&mine.device, device.handle)) {
    status = error(Code::Internal, device.describe(), ": cuDeviceGetUuid: ", device.driver->describe(result));
  } else if (ncclResult_t made = control.rank() == 0 ? api.uniqueId(&mine.id) : ncclSuccess) {
    status = statusOf(made, "an address to meet at");
  }
  mine.code = int32_t(status.code());
  strncpy(mine.text, status.message().c_str(), sizeof(mine.text) - 1);
  std::vector<Introduction> all(size_t(control.ranks()));
  if (!control.gather(&mine, all.data(), sizeof(mine), deadlineNs)) {
    return control.failure();
  }
  MOERT_TRY(status);
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].code) {
      return error(Code(all[rank].code), "rank ", rank, " failed: ", all[rank].text);
    }
    for (size_t other = 0; other < rank; ++other) {
      if (memcmp(&all[rank].device, &all[other].device, sizeof(CUuuid)) == 0) {
        return error(Code::InvalidArgument, "ranks ", other, " and ", rank, " were given the same GPU: ", all.size(),
                     " ranks need as many (of the emulator, MOE_EMU_DEVICE=h100:", all.size(), " makes them)");
      }
    }
  }
  ncclConfig_t config = {sizeof(ncclConfig_t), NCCL_CONFIG_MAGIC, NCCL_CONFIG_VERSION, /*blocking=*/0};
  const char doing[] = "joining the other ranks";
  if (ncclResult_t result = api.initRank(&group, control.ranks(), all[0].id, control.rank(), &config);
      result != ncclSuccess && result != ncclInProgress) {
    Status failed = statusOf(result, doing);
    abort();
    return failed;
  }
  return waitUntilReady(doing);
}

ncclResult_t NcclRank::issue(const CollectiveCall &call, CUstream stream) {
  const ncclDataType_t type = call.element == format::DType::BF16 ? ncclBfloat16 : ncclFloat32;
  const uint64_t element = bytesOfElement(call.element);
  switch (call.kind) {
  case format::CollectiveKind::AllGather:
    return api.allGather(call.from, call.to, call.fromBytes, ncclUint8, group, stream);
  case format::CollectiveKind::ReduceScatterSum:
    return api.reduceScatter(call.from, call.to, call.toBytes / element, type, ncclSum, group, stream);
  case format::CollectiveKind::AllReduceSum:
    return api.allReduce(call.from, call.to, call.toBytes / element, type, ncclSum, group, stream);
  case format::CollectiveKind::AllToAll:
  case format::CollectiveKind::Exchange:
    break; // cudaBackendLacks has refused it
  }
  return ncclInvalidUsage;
}

template <typename Calls> Status NcclRank::together(const std::string &doing, Calls calls) {
  if (!group) {
    return error(Code::Internal, doing, ": this rank has not joined the others");
  }
  {
    NcclGroup open(api);
    MOERT_TRY(calls());
    const ncclResult_t result = open.close();
    if (result != ncclSuccess && result != ncclInProgress) {
      return statusOf(result, doing);
    }
  }
  return waitUntilReady(doing);
}

Status NcclRank::enqueue(const CollectiveCall *calls, uint32_t count, CUstream stream) {
  return together(describeCall(calls[0]), [&] {
    for (uint32_t i = 0; i < count; ++i) {
      const ncclResult_t result = issue(calls[i], stream);
      if (result != ncclSuccess && result != ncclInProgress) {
        return statusOf(result, describeCall(calls[i]));
      }
    }
    return Status();
  });
}

// Rows lie by destination where they are sent from, and by source where they arrive. All ranks know all counts, so
// that a pair without rows makes no call on either side.
Status NcclRank::exchange(const CollectiveCall &call, const int32_t *counts, CUstream stream) {
  const int ranks = control.ranks(), me = control.rank();
  const auto *from = static_cast<const uint8_t *>(call.from);
  auto *to = static_cast<uint8_t *>(call.to);
  return together(describeCall(call), [&] {
    for (int other = 0; other < ranks; ++other) {
      const uint64_t sent = uint64_t(counts[me * ranks + other]) * call.rowBytes,
                     received = uint64_t(counts[other * ranks + me]) * call.rowBytes;
      ncclResult_t result = other == me || !sent ? ncclSuccess : api.send(from, sent, ncclUint8, other, group, stream);
      if (other != me && received && (result == ncclSuccess || result == ncclInProgress)) {
        result = api.receive(to, received, ncclUint8, other, group, stream);
      }
      if (result != ncclSuccess && result != ncclInProgress) {
        return statusOf(result, describeCall(call));
      }
      from += sent;
      to += received;
    }
    return Status();
  });
}

Status NcclRank::look() {
  if (!control.isWell()) {
    return control.failure();
  }
  ncclResult_t state = ncclSuccess;
  if (ncclResult_t result = group ? api.asyncError(group, &state) : ncclSuccess; result != ncclSuccess) {
    return statusOf(result, "a collective");
  }
  return state == ncclSuccess || state == ncclInProgress ? Status() : statusOf(state, "a collective");
}

void NcclRank::abort() {
  if (group) {
    dropGraphs(); // one that runs is freed when the abort has ended it
    api.abort(group);
    group = nullptr;
  }
}

Status NcclRank::findCulprit(bool isBusy) {
  const uint8_t mine = isBusy;
  std::vector<uint8_t> all(size_t(control.ranks()));
  CollectiveCall call;
  call.name = meeting;
  call.to = all.data();
  call.from = &mine;
  call.toBytes = all.size();
  call.fromBytes = 1;
  call.waitedNs = deadlineNs;
  if (!control.collective(call, kMeetNs)) {
    return control.failure();
  }
  std::string busy;
  int count = 0;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank]) {
      busy += concat(count++ ? ", " : "", rank);
    }
  }
  const std::string after = secondsText(deadlineNs);
  return count ? error(Code::Deadline, count > 1 ? "ranks " : "rank ", busy, count > 1 ? " were" : " was",
                       " not done within ", after, ": still busy with own kernels while the others wait")
               : error(Code::Deadline, "the ranks did not finish what they do together within ", after,
                       ", and no GPU is busy with kernels of its own: is the connection between them broken?");
}

} // namespace moert::cuda
