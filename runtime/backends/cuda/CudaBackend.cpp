// Memory and steps of the CUDA backend; see CudaBackend.h.
//
// Memory. Every buffer is an allocation of its own, and so is every tensor on the emulator, which finds accesses beyond
// one. A card gives memory in pages of 2 MiB, and models have tensors by the ten thousand: there all weights lie in one
// allocation. Host data goes through two pinned pieces in turn, one filled while the other is copied.
//
// Several ranks: collectives go into the stream through NCCL (Nccl.h). While the host waits for the GPU it looks for
// what NCCL or another rank says is wrong. After a failure graphs, which hold kernels of the communicator, are dropped
// and it is aborted, in this order: NCCL waits for the end of every graph that captured it.
#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/core/Trace.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

namespace moert {
namespace cuda {
namespace {

/// A piece of pinned memory that data is moved through.
constexpr uint64_t kStagingPiece = uint64_t(8) << 20;
/// An event after so many launches, at most so many per step: each has the deadline to itself.
constexpr uint32_t kLaunchesPerMark = 32, kMarks = 256;
/// How long an event is asked without a pause. A decode step is shorter.
constexpr int64_t kSpinNs = 5'000'000;
/// How often who waits looks whether the other ranks are well.
constexpr int64_t kLookNs = 1'000'000;
/// How long a GPU has after an abort to finish what it can: one that does not is busy with kernels of its own.
constexpr int64_t kDrainNs = 1'000'000'000;
/// Bytes of a rank by which collectives that move much are tried; on the emulator, which is slow and has one way for
/// all sizes, fewer.
constexpr uint64_t kLargeTrial = uint64_t(1) << 20, kEmulatorTrial = uint64_t(4) << 10;
/// That of cuMemAlloc.
constexpr uint64_t kPoolAlignment = 256;
/// CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY: kernels of a graph keep the priority of the stream that they were
/// captured from, not that of the stream that the graph is launched into. Since CUDA 11.7.
constexpr unsigned long long kUseNodePriority = 8;
constexpr int kFirstNodePriority = 11070;

/// Errors after which a context does nothing more.
bool isFault(CUresult result) {
  switch (result) {
  case CUDA_ERROR_ILLEGAL_ADDRESS:
  case CUDA_ERROR_LAUNCH_TIMEOUT:
  case CUDA_ERROR_ASSERT:
  case CUDA_ERROR_ILLEGAL_INSTRUCTION:
  case CUDA_ERROR_MISALIGNED_ADDRESS:
  case CUDA_ERROR_INVALID_ADDRESS_SPACE:
  case CUDA_ERROR_LAUNCH_FAILED:
  case 214: // uncorrectable ECC error
  case 714: // hardware stack error
  case 718: // invalid program counter
    return true;
  default:
    return false;
  }
}

/// What a tensor takes of a pool: each begins where an allocation would.
constexpr uint64_t inPool(uint64_t bytes) { return (bytes + kPoolAlignment - 1) / kPoolAlignment * kPoolAlignment; }

} // namespace

Status CudaBackend::statusOf(CUresult result, const std::string &doing) const {
  const Code code = result == CUDA_ERROR_OUT_OF_MEMORY ? Code::OutOfMemory
                    : result == CUDA_ERROR_NOT_SUPPORTED || result == CUDA_ERROR_NO_BINARY_FOR_GPU ||
                            result == CUDA_ERROR_INVALID_PTX || result == CUDA_ERROR_UNSUPPORTED_PTX_VERSION
                        ? Code::Unsupported
                        : Code::Internal;
  return error(code, device.describe(), ": ", doing, ": ", api.describe(result));
}

/// A fault is known at any call after it, which then says nothing of what failed: a kernel that was launched before.
bool CudaBackend::fail(CUresult result, const std::string &doing) {
  if (failed.ok()) {
    failed = statusOf(result, !isFault(result) ? doing
                              : onlyKernel     ? concat("kernel '", onlyKernel->symbol, "' failed")
                                               : "a kernel failed");
  }
  spoilt |= isFault(result);
  return false;
}

bool CudaBackend::check(CUresult result, const char *doing) { return result == CUDA_SUCCESS || fail(result, doing); }

/// For calls that return a status: why the backend failed, or that the deadline passed while `what` was done.
Status CudaBackend::failureOr(const std::string &what) const {
  return failed.ok() ? error(Code::Deadline, what, " was not done within ", secondsText(deadlineNs), " on ",
                             device.describe(), ": raise --deadline")
                     : failed;
}

bool CudaBackend::begin(uint32_t number, CUstream &stream) {
  if (!makeCurrent() || !check(streams.use(number, stream), "the beginning of a stream")) {
    return false;
  }
  streams.setEndsWithKernel(number, false);
  return true;
}

Status CudaBackend::open() {
  {
    std::lock_guard<std::mutex> guard(api.usersLock);
    Driver::Users &users = api.users[size_t(device.ordinal)];
    if (users.spoilt) {
      return error(Code::Internal, device.describe(),
                   ": a kernel of an earlier session of this process failed, and the device works again only when all "
                   "sessions that used it are freed");
    }
    if (CUresult result = api.contextRetain(&context, device.handle)) {
      return statusOf(result, "cannot be used");
    }
    ++users.count;
    isUser = true;
  }
  auto attempt = [&](CUresult result, const char *doing) {
    return result == CUDA_SUCCESS ? Status() : statusOf(result, doing);
  };
  MOERT_TRY(attempt(api.contextSet(context), "cuCtxSetCurrent"));
  MOERT_TRY(attempt(api.deviceAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device.handle),
                    "cuDeviceGetAttribute"));
  MOERT_TRY(attempt(streams.open(), "cuStreamCreateWithPriority"));
  MOERT_TRY(attempt(api.eventCreate(&end, CU_EVENT_DISABLE_TIMING), "cuEventCreate"));
  marks.resize(kMarks);
  for (CUevent &mark : marks) {
    MOERT_TRY(attempt(api.eventCreate(&mark, CU_EVENT_DISABLE_TIMING), "cuEventCreate"));
  }
  for (Piece &piece : pieces) {
    MOERT_ASSIGN(staging, allocateStaging(kStagingPiece, "staging"));
    piece.memory = staging;
    MOERT_TRY(attempt(api.eventCreate(&piece.copied, CU_EVENT_DISABLE_TIMING), "cuEventCreate"));
  }
  return {};
}

CudaBackend::~CudaBackend() {
  if (!isUser) {
    return;
  }
  api.contextSet(context);
  if (others && !failed.ok()) {
    others->abort();
  }
  others.reset(); // while what its peers may read is there
  // In a spoilt context nothing can be freed; its end does.
  if (!spoilt && api.contextSet(context) == CUDA_SUCCESS) {
    for (CUgraphExec graph : graphs) {
      api.graphExecDestroy(graph);
    }
    for (CUdeviceptr pointer : memory) {
      api.memoryFree(pointer);
    }
    for (void *host : pinned) {
      api.pinnedFree(host);
    }
    for (CUmodule module : modules) {
      api.moduleUnload(module);
    }
    marks.push_back(end);
    marks.push_back(pieces[0].copied);
    marks.push_back(pieces[1].copied);
    for (CUevent event : marks) {
      if (event) {
        api.eventDestroy(event);
      }
    }
    streams.close();
  }
  std::lock_guard<std::mutex> guard(api.usersLock);
  Driver::Users &users = api.users[size_t(device.ordinal)];
  users.spoilt |= spoilt;
  --users.count;
  users.spoilt &= users.count > 0;
  api.contextRelease(device.handle);
}

/// Memory for the counts of exchanges.
Status CudaBackend::prepareExchanges() {
  const uint64_t own = uint64_t(communicator->ranks()) * sizeof(int32_t), all = own * uint64_t(communicator->ranks());
  MOERT_ASSIGN(onGpu, allocate(2 * all, "counts of rows", Contents::Undefined));
  MOERT_ASSIGN(onHost, allocateStaging(2 * (all + own), "counts of rows"));
  countsOnGpu = static_cast<int32_t *>(onGpu);
  auto *words = static_cast<int32_t *>(onHost);
  const size_t ranks = size_t(communicator->ranks());
  for (Counts &counts : known) {
    counts = {words, words + ranks * ranks};
    words += ranks * (ranks + 1);
  }
  return {};
}

Status CudaBackend::joinRanks(const std::vector<format::CollectiveKind> &kinds) {
  if (!communicator) {
    return {};
  }
  if (!makeCurrent()) {
    return failed;
  }
  MOERT_ASSIGN(nccl, Nccl::open(api.isEmulator()));
  others = std::make_unique<NcclRank>(*nccl, *communicator, deadlineNs, [this] { dropGraphs(); });
  if (std::count(kinds.begin(), kinds.end(), format::CollectiveKind::Exchange)) {
    MOERT_TRY(prepareExchanges());
  }
  MOERT_TRY(others->join(device));
  return connectRanks(kinds);
}

/// NCCL connects ranks by the first message and the first collective of a kind (and of a size, by which it chooses how
/// to run it), and takes memory of the GPUs for it. So all that steps do is done once now, small and large: before
/// caches take what is free, and not in the middle of a step.
Status CudaBackend::connectRanks(std::vector<format::CollectiveKind> kinds) {
  using format::CollectiveKind;
  const auto ranks = uint64_t(communicator->ranks());
  if (kinds.empty()) {
    others->setConnected();
    return {};
  }
  const bool exchanges = known[0].all != nullptr;
  if (exchanges && !std::count(kinds.begin(), kinds.end(), CollectiveKind::AllGather)) {
    kinds.push_back(CollectiveKind::AllGather); // of counts
  }
  const uint64_t most = api.isEmulator() ? kEmulatorTrial : kLargeTrial;
  MOERT_ASSIGN(scratch, allocate(2 * ranks * most, "the first collectives", Contents::Zero));
  for (uint64_t bytes : {uint64_t(sizeof(float)), most}) {
    for (CollectiveKind kind : kinds) {
      CollectiveCall call;
      call.kind = kind;
      call.name = "a trial";
      call.from = scratch;
      call.to = static_cast<uint8_t *>(scratch) + ranks * most;
      call.fromBytes = kind == CollectiveKind::ReduceScatterSum ? ranks * bytes : bytes;
      call.toBytes = kind == CollectiveKind::AllGather ? ranks * bytes : bytes;
      call.rowBytes = bytes;
      std::fill_n(known[0].all, exchanges ? ranks * ranks : 0, 1);
      Status status = kind == CollectiveKind::Exchange ? others->exchange(call, known[0].all, streams.first())
                                                       : others->enqueue(&call, 1, streams.first());
      if (!status.ok()) {
        failAmongRanks(std::move(status));
        return failed;
      }
    }
  }
  if (!synchronize()) {
    return failureOr("the connection to the other ranks");
  }
  others->setConnected();
  release(scratch);
  return failed;
}

uint64_t CudaBackend::availableBytes() {
  size_t free = 0, total = 0;
  return makeCurrent() && check(api.memoryInfo(&free, &total), "cuMemGetInfo") ? free : 0;
}

Result<void *> CudaBackend::allocate(uint64_t bytes, const std::string &what, Contents contents) {
  if (!makeCurrent()) {
    return failed;
  }
  CUdeviceptr pointer = 0;
  CUresult result = api.memoryAllocate(&pointer, std::max<uint64_t>(bytes, 1));
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    size_t free = 0, total = 0;
    api.memoryInfo(&free, &total);
    return error(Code::OutOfMemory, what, " needs ", bytes, " bytes (", bytes >> 20, " MiB) of memory on ",
                 device.describe(), ", which has ", free, " free of ", total,
                 ": lower --sequences or --context, or end what else uses the GPU");
  }
  if (result) {
    return statusOf(result, concat("no memory for ", what));
  }
  memory.push_back(pointer);
  void *address = reinterpret_cast<void *>(uintptr_t(pointer));
  if (contents == Contents::Zero && !fill(address, 0, bytes, 0)) {
    return failed;
  }
  return address;
}

Status CudaBackend::reserve(const std::vector<uint64_t> &sizes, const std::string &what) {
  uint64_t total = 0;
  for (uint64_t bytes : sizes) {
    total += inPool(bytes);
  }
  if (wantsSeparateBuffers() || total == 0) {
    return {};
  }
  MOERT_ASSIGN(pool, allocate(total, what, Contents::Undefined));
  poolNext = asDevice(pool);
  poolEnd = poolNext + total;
  return {};
}

void CudaBackend::release(void *pointer) {
  auto found = std::find(memory.begin(), memory.end(), asDevice(pointer));
  if (found != memory.end() && makeCurrent()) {
    memory.erase(found);
    check(api.memoryFree(asDevice(pointer)), "cuMemFree");
  }
}

Result<const void *> CudaBackend::attach(const void *host, uint64_t bytes, const std::string &what) {
  void *address = reinterpret_cast<void *>(uintptr_t(poolNext));
  if (poolEnd - poolNext >= std::max<uint64_t>(inPool(bytes), 1)) {
    poolNext += inPool(bytes);
  } else {
    MOERT_ASSIGN(own, allocate(bytes, what, Contents::Undefined));
    address = own;
  }
  auto *to = static_cast<uint8_t *>(address);
  auto *from = static_cast<const uint8_t *>(host);
  for (uint64_t at = 0, turn = 0; at < bytes; at += kStagingPiece, ++turn) {
    Piece &piece = pieces[turn % 2];
    const uint64_t size = std::min(kStagingPiece, bytes - at);
    if (!waitFor(piece.copied)) { // an event that was never recorded is done
      return failureOr(concat("the copy of ", what));
    }
    memcpy(piece.memory, from + at, size);
    if (!check(api.toDevice(asDevice(to + at), piece.memory, size, streams.first()), "cuMemcpyHtoDAsync") ||
        !check(api.eventRecord(piece.copied, streams.first()), "cuEventRecord")) {
      return failed;
    }
  }
  return static_cast<const void *>(address);
}

Status CudaBackend::encodeTensorMap(TensorMapBytes &map, const void *address, format::DType dtype,
                                    const format::TensorMap &recipe) {
  if (!api.tensorMapEncode) {
    return error(Code::Unsupported, device.describe(),
                 ": its driver has no cuTensorMapEncodeTiled: it is older than "
                 "CUDA 12.0, install a newer driver");
  }
  if (!makeCurrent()) {
    return failed;
  }
  constexpr uint64_t width = 2, boxBytes = 128;
  const uint64_t dims[] = {recipe.columns(), recipe.rows()}, strides[] = {recipe.columns() * width};
  const uint32_t box[] = {boxBytes / width, recipe.box_rows()}, steps[] = {1, 1};
  static_assert(sizeof(TensorMapBytes) == sizeof(CUtensorMap));
  const auto type = dtype == format::DType::BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  if (CUresult result =
          api.tensorMapEncode(reinterpret_cast<CUtensorMap *>(map.bytes), type, 2, const_cast<void *>(address), dims,
                              strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                              CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)) {
    return statusOf(result, concat("no tensor map of ", recipe.rows(), " rows of ", recipe.columns(), " elements"));
  }
  return {};
}

Result<void *> CudaBackend::allocateStaging(uint64_t bytes, const std::string &what) {
  void *host = nullptr;
  if (CUresult result = api.pinnedAllocate(&host, std::max<uint64_t>(bytes, 1), 0)) {
    return error(result == CUDA_ERROR_OUT_OF_MEMORY ? Code::OutOfMemory : Code::Internal, bytes,
                 " bytes of pinned memory for ", what, " were refused: ", api.describe(result));
  }
  pinned.push_back(host);
  return host;
}

bool CudaBackend::upload(void *to, const void *from, uint64_t bytes) {
  CUstream stream = nullptr;
  return begin(stream) && (bytes == 0 || check(api.toDevice(asDevice(to), from, bytes, stream), "cuMemcpyHtoDAsync"));
}

bool CudaBackend::download(void *to, const void *from, uint64_t bytes) {
  CUstream stream = nullptr;
  if (!begin(stream) || !check(streams.join(), "cuStreamWaitEvent") || !waitFor(pieces[0].copied) ||
      !waitFor(pieces[1].copied)) {
    return false;
  }
  auto *target = static_cast<uint8_t *>(to);
  auto *source = static_cast<const uint8_t *>(from);
  auto sizeAt = [&](uint64_t at) { return std::min(kStagingPiece, bytes - at); };
  auto take = [&](uint64_t at) {
    Piece &piece = pieces[at / kStagingPiece % 2];
    return check(api.toHost(piece.memory, asDevice(source + at), sizeAt(at), stream), "cuMemcpyDtoHAsync") &&
           check(api.eventRecord(piece.copied, stream), "cuEventRecord");
  };
  // What is before the first piece has its own marks to wait for.
  if (bytes && (!take(0) || !synchronize())) {
    return false;
  }
  for (uint64_t at = 0; at < bytes; at += kStagingPiece) {
    Piece &piece = pieces[at / kStagingPiece % 2];
    if ((bytes - at > kStagingPiece && !take(at + kStagingPiece)) || !waitFor(piece.copied)) {
      return false;
    }
    memcpy(target + at, piece.memory, sizeAt(at));
  }
  return true;
}

bool CudaBackend::launch(const Launch *launches, uint32_t count, uint32_t number) {
  CUstream stream = nullptr;
  bool afterKernel = streams.endsWithKernel(number);
  if (!begin(number, stream)) {
    return false;
  }
  for (uint32_t i = 0; i < count; ++i) {
    const Launch &launch = launches[i];
    const Kernel &kernel = *static_cast<const Kernel *>(launch.kernel);
    if (launch.grid == 0) {
      continue;
    }
    const CUresult result =
        api.enqueue(kernel.function, unsigned(launch.grid), kernel.threads, kernel.sharedBytes, launch.args,
                    launch.argCount, stream, afterKernel && kernel.waits && mayLaunchEarly);
    afterKernel = true;
    onlyKernel = ++launchesSinceWait == 1 ? &kernel : nullptr;
    if (result) {
      return fail(result, concat("kernel '", kernel.symbol, "' cannot be launched (", launch.grid, " workgroups of ",
                                 kernel.threads, " threads, ", kernel.sharedBytes, " bytes of shared memory)"));
    }
    if (!capturing && number == 0 && ++launchesSinceMark == kLaunchesPerMark && marksUsed < kMarks) {
      launchesSinceMark = 0;
      if (!check(api.eventRecord(marks[marksUsed++], stream), "cuEventRecord")) {
        return false;
      }
      afterKernel = false;
    }
  }
  streams.setEndsWithKernel(number, afterKernel);
  return true;
}

bool CudaBackend::copy(void *to, const void *from, uint64_t bytes, uint32_t number) {
  CUstream stream = nullptr;
  return begin(number, stream) &&
         (bytes == 0 || check(api.onDevice(asDevice(to), asDevice(from), bytes, stream), "cuMemcpyDtoDAsync"));
}

bool CudaBackend::fill(void *to, uint8_t value, uint64_t bytes, uint32_t number) {
  CUstream stream = nullptr;
  return begin(number, stream) &&
         (bytes == 0 || check(api.fillBytes(asDevice(to), value, bytes, stream), "cuMemsetD8Async"));
}

// In a graph an event is nothing: what follows depends on the kernel before it, so that it may begin early.
bool CudaBackend::record(uint32_t event, uint32_t number) {
  if (!makeCurrent()) {
    return false;
  }
  streams.setEndsWithKernel(number, capturing && streams.endsWithKernel(number));
  return check(streams.record(event, number), "cuEventRecord");
}

bool CudaBackend::wait(uint32_t event, uint32_t number) {
  return makeCurrent() && check(streams.wait(event, number), "cuStreamWaitEvent");
}

/// Of one rank every collective is a copy.
bool CudaBackend::collectives(const CollectiveCall *calls, uint32_t count, uint32_t number) {
  if (!communicator) {
    for (uint32_t i = 0; i < count; ++i) {
      if (calls[i].to != calls[i].from && !copy(calls[i].to, calls[i].from, calls[i].toBytes, number)) {
        return false;
      }
    }
    return true;
  }
  CUstream stream = nullptr;
  if (!begin(number, stream)) {
    return false;
  }
  for (uint32_t next = 0; next < count;) {
    const uint32_t first = next;
    while (next < count && calls[next].kind != format::CollectiveKind::Exchange) {
      ++next;
    }
    Status status = next > first ? others->enqueue(calls + first, next - first, stream) : Status();
    if (!status.ok()) {
      return failAmongRanks(std::move(status));
    }
    if (next < count && !exchange(calls[next++], stream)) {
      return false;
    }
  }
  return true;
}

Status CudaBackend::checkCounts(const CollectiveCall &call, const int32_t *counts) const {
  const int ranks = communicator->ranks();
  const uint64_t sendRoom = call.fromBytes / call.rowBytes, receiveRoom = call.toBytes / call.rowBytes;
  for (int rank = 0; rank < ranks; ++rank) {
    uint64_t sent = 0, came = 0;
    for (int other = 0; other < ranks; ++other) {
      const int32_t rows = counts[rank * ranks + other];
      if (rows < 0) {
        return error(Code::Corrupt, "rank ", rank, ": ", describeCall(call), " sends ", rows, " rows to rank ", other);
      }
      sent += uint64_t(rows);
      came += uint64_t(std::max(counts[other * ranks + rank], 0));
    }
    if (sent > sendRoom || came > receiveRoom) {
      return error(Code::OutOfMemory, "rank ", rank, ": ", describeCall(call),
                   sent > sendRoom ? " sends " : " receives ", sent > sendRoom ? sent : came,
                   " rows, its buffer holds ", sent > sendRoom ? sendRoom : receiveRoom);
    }
  }
  return {};
}

/// The counts of an exchange, and of the one that has its own already, from all ranks to all, and to their hosts.
bool CudaBackend::learnCounts(const CollectiveCall &call, CUstream stream) {
  const auto ranks = size_t(communicator->ranks());
  CollectiveCall gathers[2];
  const uint32_t count = call.laterCounts ? 2 : 1;
  for (uint32_t i = 0; i < count; ++i) {
    gathers[i].name = call.name;
    gathers[i].from = i ? call.laterCounts : call.counts;
    gathers[i].to = countsOnGpu + i * ranks * ranks;
    gathers[i].fromBytes = ranks * sizeof(int32_t);
    gathers[i].toBytes = ranks * gathers[i].fromBytes;
  }
  if (Status status = others->enqueue(gathers, count, stream); !status.ok()) {
    return failAmongRanks(std::move(status));
  }
  for (uint32_t i = 0; i < count; ++i) {
    if (!check(api.toHost(known[i].all, asDevice(gathers[i].to), gathers[i].toBytes, stream), "cuMemcpyDtoHAsync")) {
      return false;
    }
  }
  ++waits;
  return waitFor(stream);
}

/// NCCL wants to know on the host how much is sent and received, which waits for the counts of all ranks. All find the
/// same wrong in them.
bool CudaBackend::exchange(const CollectiveCall &call, CUstream stream) {
  const auto ranks = size_t(communicator->ranks()), me = size_t(communicator->rank());
  if (!call.areCountsKnown && !learnCounts(call, stream)) {
    return false;
  }
  const auto [counts, received] = known[call.areCountsKnown];
  Status status = checkCounts(call, counts);
  status = status.ok() ? others->exchange(call, counts, stream) : status;
  if (!status.ok()) {
    return failAmongRanks(std::move(status));
  }
  uint64_t sentBefore = 0, receivedBefore = 0;
  for (size_t other = 0; other < ranks; ++other) {
    received[other] = counts[other * ranks + me]; // no earlier copy of them is on its way: learnCounts has waited
    sentBefore += other < me ? uint64_t(counts[me * ranks + other]) : 0;
    receivedBefore += other < me ? uint64_t(received[other]) : 0;
  }
  const uint64_t own = uint64_t(received[me]) * call.rowBytes;
  return (!own || check(api.onDevice(asDevice(static_cast<uint8_t *>(call.to) + receivedBefore * call.rowBytes),
                                     asDevice(static_cast<const uint8_t *>(call.from) + sentBefore * call.rowBytes),
                                     own, stream),
                        "cuMemcpyDtoDAsync")) &&
         check(api.toDevice(asDevice(call.received), received, ranks * sizeof(int32_t), stream), "cuMemcpyHtoDAsync");
}

/// The end of all graphs, and of the one that is being captured.
void CudaBackend::dropGraphs() {
  if (capturing) {
    capturing = false;
    CUgraph unfinished = nullptr;
    streams.join();
    if (api.captureEnd(streams.first(), &unfinished) == CUDA_SUCCESS && unfinished) {
      api.graphDestroy(unfinished);
    }
  }
  for (CUgraphExec graph : graphs) {
    api.graphExecDestroy(graph);
  }
  graphs.clear();
}

/// After a failure that another rank, NCCL or this rank told of.
bool CudaBackend::failAmongRanks(Status status) {
  failed = failed.ok() ? std::move(status) : failed;
  others->abort();
  return false;
}

/// Whether everything in the stream is done by then.
bool CudaBackend::isIdleWithin(int64_t nanoseconds) {
  if (streams.join() != CUDA_SUCCESS || api.eventRecord(end, streams.first()) != CUDA_SUCCESS) {
    return true; // nothing runs in a context that failed
  }
  const int64_t begin = monotonicNs();
  CUresult result;
  while ((result = api.eventQuery(end)) == CUDA_ERROR_NOT_READY && monotonicNs() - begin < nanoseconds) {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  spoilt |= isFault(result);
  return result != CUDA_ERROR_NOT_READY;
}

/// After the deadline of a wait. Alone that is all there is to say; among ranks one must be to blame, and all find out
/// which.
bool CudaBackend::missDeadline() {
  if (!others) {
    return false;
  }
  others->abort();
  const bool isBusy = !isIdleWithin(kDrainNs);
  return failAmongRanks(others->findCulprit(isBusy));
}

/// Asks until the event is done. A fault in a kernel is found here.
bool CudaBackend::waitFor(CUevent event) {
  const int64_t begin = monotonicNs();
  for (int64_t looked = begin;;) {
    CUresult result = api.eventQuery(event);
    if (result != CUDA_ERROR_NOT_READY) {
      return result == CUDA_SUCCESS || fail(result, "cuEventQuery");
    }
    const int64_t now = monotonicNs(), waited = now - begin;
    if (others && now - looked > kLookNs) {
      looked = now;
      if (Status status = others->look(); !status.ok()) {
        return failAmongRanks(std::move(status));
      }
    }
    if (waited > deadlineNs) {
      return missDeadline();
    }
    if (waited > kSpinNs && !api.isEmulator()) { // the emulator works while it is asked
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
}

bool CudaBackend::waitFor(CUstream stream) {
  if (!makeCurrent() || !check(api.eventRecord(end, stream), "cuEventRecord")) {
    return false;
  }
  for (uint32_t m = 0; m < marksUsed; ++m) {
    if (!waitFor(marks[m])) {
      return false;
    }
  }
  marksUsed = launchesSinceMark = 0;
  return waitFor(end);
}

bool CudaBackend::synchronize() {
  CUstream stream = nullptr;
  if (!begin(stream) || !check(streams.join(), "cuStreamWaitEvent") || !waitFor(stream)) {
    return false;
  }
  onlyKernel = nullptr;
  launchesSinceWait = 0;
  // What was done before the first look may have ended without what NCCL says is broken.
  Status status = others ? others->look() : Status();
  return status.ok() || failAmongRanks(std::move(status));
}

bool CudaBackend::settle() { return spoilt || api.contextSet(context) != CUDA_SUCCESS || isIdleWithin(deadlineNs); }

bool CudaBackend::beginGraph() {
  CUstream stream = nullptr;
  capturing = begin(stream) && check(streams.join(), "cuStreamWaitEvent") &&
              check(api.captureBegin(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
  return capturing;
}

void *CudaBackend::endGraph() {
  CUgraph graph = nullptr;
  CUgraphExec executable = nullptr;
  if (!capturing) {
    return nullptr; // a failure ended it
  }
  capturing = false;
  check(streams.join(), "cuStreamWaitEvent");
  // Ended even after a failure, so that the stream is usable again.
  check(api.captureEnd(streams.first(), &graph), "cuStreamEndCapture");
  if (failed.ok()) {
    const char *doing = "cuGraphInstantiate";
    const unsigned long long flags = api.version >= kFirstNodePriority ? kUseNodePriority : 0;
    CUresult result = api.graphInstantiate(&executable, graph, flags);
    if (result) {
      executable = nullptr;
    } else if (api.graphUpload && (result = api.graphUpload(executable, streams.first()))) { // takes its memory
      doing = "cuGraphUpload";
      api.graphExecDestroy(std::exchange(executable, nullptr));
    } else {
      graphs.push_back(executable);
    }
    // Among ranks all must run what they do together in the same way.
    if (result != CUDA_ERROR_OUT_OF_MEMORY || others) {
      check(result, doing);
    }
  }
  if (graph) {
    api.graphDestroy(graph);
  }
  return executable;
}

bool CudaBackend::runGraph(void *graph) {
  onlyKernel = nullptr; // who knows which
  launchesSinceWait = 2;
  CUstream stream = nullptr;
  return begin(stream) && check(api.graphLaunch(static_cast<CUgraphExec>(graph), stream), "cuGraphLaunch");
}

void CudaBackend::dropGraph(void *graph) {
  auto found = std::find(graphs.begin(), graphs.end(), static_cast<CUgraphExec>(graph));
  if (found != graphs.end() && makeCurrent()) {
    graphs.erase(found);
    check(api.graphExecDestroy(static_cast<CUgraphExec>(graph)), "cuGraphExecDestroy");
  }
}

} // namespace cuda

Result<std::unique_ptr<Backend>> openCudaBackend(const BackendOptions &options, const cuda::Device &device) {
  auto backend = std::make_unique<cuda::CudaBackend>(options, device);
  MOERT_TRY(backend->open());
  return std::unique_ptr<Backend>(std::move(backend));
}

} // namespace moert
