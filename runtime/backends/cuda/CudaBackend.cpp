// The CUDA backend: one stream, into which commands go as they come. The stream keeps their order, so that nothing
// waits between dependent commands, and events are nothing to do, as on the CPU: list order is one that the checks have
// proved right. The host waits once per step, by asking an event until the deadline: a driver call that waits could
// hang.
//
// Memory. Every buffer and tensor is an allocation of its own, so that an access beyond one is found (by the emulator,
// or by a tool). Host data goes through two pinned pieces in turn, one filled while the other is copied.
//
// A call of the driver that fails, or a fault in a kernel, ends the backend: `failure` says which call, with the
// error's name, and every later call returns false. A fault spoils the device's context for all sessions of the
// process, and the context ends with the last of them.
//
// Several ranks: collectives go into the stream through NCCL (Nccl.h). While the host waits for the GPU it looks for
// what NCCL or another rank says is wrong. After a failure graphs, which hold kernels of the communicator, are dropped
// and it is aborted, in this order: NCCL waits for the end of every graph that captured it.
#include "runtime/backends/cuda/Driver.h"
#include "runtime/backends/cuda/Nccl.h"
#include "runtime/backends/cuda/Ranges.h"
#include "runtime/core/Backend.h"
#include "runtime/core/File.h"
#include "runtime/core/Program.h"
#include "runtime/core/Trace.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <thread>

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
/// What a kernel has without asking; more must be opted in to.
constexpr uint32_t kDefaultSharedBytes = 48u << 10;
constexpr size_t kLogBytes = 8192;
/// Numbers of the JIT's options.
enum { kJitErrorLog = 5, kJitErrorLogBytes = 6 };

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

CUdeviceptr asDevice(const void *pointer) { return CUdeviceptr(reinterpret_cast<uintptr_t>(pointer)); }

/// A log of several lines as one.
std::string oneLine(const std::string &text) {
  std::string line;
  for (char c : text) {
    if (c != '\n' && c != '\r') {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += "; ";
    }
  }
  while (!line.empty() && (line.back() == ' ' || line.back() == ';')) {
    line.pop_back();
  }
  return line;
}

class CudaBackend final : public Backend {
public:
  CudaBackend(const BackendOptions &options, const Device &device)
      : device(device), api(*device.driver), deadlineNs(int64_t(options.deadlineSeconds * 1e9)),
        communicator(options.communicator) {}
  ~CudaBackend() override;
  Status open();

  const char *name() const override { return api.isEmulator() ? "emulator" : "cuda"; }
  std::string place() const override { return device.describe(); }
  int threads() const override { return processors; }
  bool usesHostMemory() const override { return false; }
  Status joinRanks() override;
  uint64_t availableBytes() override;
  Status loadKernels(const std::string &path, const void *blob, size_t size, const std::string &machineCode,
                     const format::Variant &variant, std::vector<void *> &kernels) override;
  Result<void *> allocate(uint64_t bytes, const std::string &what, Contents contents) override;
  void release(void *memory) override;
  Result<const void *> attach(const void *host, uint64_t bytes, const std::string &what) override;
  Status encodeTensorMap(TensorMapBytes &map, const void *address, format::DType dtype,
                         const format::TensorMap &recipe) override;
  Result<void *> allocateStaging(uint64_t bytes, const std::string &what) override;
  bool upload(void *to, const void *from, uint64_t bytes) override;
  bool download(void *to, const void *from, uint64_t bytes) override;

  bool launch(const Launch *launches, uint32_t count) override;
  bool copy(void *to, const void *from, uint64_t bytes) override;
  bool fill(void *to, uint8_t value, uint64_t bytes) override;
  bool collectives(const CollectiveCall *calls, uint32_t count) override;
  bool record(uint32_t, uint32_t) override { return failed.ok(); }
  bool wait(uint32_t, uint32_t) override { return failed.ok(); }
  bool synchronize() override;
  bool settle() override;

  bool beginGraph() override;
  void *endGraph() override;
  bool runGraph(void *graph) override;
  void dropGraph(void *graph) override;
  void beginRange(const char *what, int64_t tokens, int64_t rows) override { ranges.begin(what, tokens, rows); }
  void endRange() override { ranges.end(); }
  bool wantsSeparateBuffers() const override { return api.isEmulator(); }
  void forget(void *memory, uint64_t bytes) override { api.forget(asDevice(memory), bytes); }
  std::optional<uint64_t> findings() const override {
    return api.isEmulator() ? std::optional<uint64_t>(api.findings()) : std::nullopt;
  }

private:
  struct Kernel {
    CUfunction function;
    uint32_t threads, sharedBytes;
    std::string symbol;
  };
  /// A pinned piece and the event after the copy that uses it.
  struct Piece {
    void *memory = nullptr;
    CUevent copied = nullptr;
  };

  Status statusOf(CUresult result, const std::string &doing) const;
  /// Keeps the first failure; true if there is none.
  bool check(CUresult result, const char *doing);
  bool fail(CUresult result, const std::string &doing);
  bool makeCurrent() { return failed.ok() && check(api.contextSet(context), "cuCtxSetCurrent"); }
  bool waitFor(CUevent event);
  bool failAmongRanks(Status status);
  bool missDeadline();
  void dropGraphs();
  bool isIdleWithin(int64_t nanoseconds);
  /// Loads PTX or machine code that the file `path` has.
  Status loadModule(const std::string &path, const void *image, CUmodule &module);
  Status takeKernel(const format::Kernel &kernel, CUmodule module, const std::string &path);
  Status checkParameters(const format::Variant &variant, const std::string &path) const;
  Status failureOr(const std::string &what) const;

  const Device device;
  Driver &api;
  const int64_t deadlineNs;
  /// To the other ranks; null: there is one. Their GPUs are reached through `others`.
  Communicator *const communicator;
  std::unique_ptr<NcclRank> others;
  const Ranges ranges;
  CUcontext context = nullptr;
  CUstream stream = nullptr;
  int processors = 0;
  Piece pieces[2];
  /// Recorded as launches go by; `end` after the last.
  std::vector<CUevent> marks;
  uint32_t marksUsed = 0, launchesSinceMark = 0;
  CUevent end = nullptr;
  bool capturing = false, isUser = false, spoilt = false;
  /// The one kernel that was launched since the host last waited, if it is one.
  const Kernel *onlyKernel = nullptr;
  uint32_t launchesSinceWait = 0;
  std::vector<CUmodule> modules;
  std::deque<Kernel> kernelTable;
  std::vector<CUdeviceptr> memory;
  std::vector<void *> pinned;
  std::vector<CUgraphExec> graphs;
};

Status CudaBackend::statusOf(CUresult result, const std::string &doing) const {
  const Code code = result == CUDA_ERROR_OUT_OF_MEMORY ? Code::OutOfMemory
                    : result == CUDA_ERROR_NOT_SUPPORTED || result == CUDA_ERROR_NO_BINARY_FOR_GPU ||
                            result == CUDA_ERROR_INVALID_PTX || result == 222 /* newer PTX */
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
  MOERT_TRY(attempt(api.streamCreate(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate"));
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
    if (stream) {
      api.streamDestroy(stream);
    }
  }
  std::lock_guard<std::mutex> guard(api.usersLock);
  Driver::Users &users = api.users[size_t(device.ordinal)];
  users.spoilt |= spoilt;
  --users.count;
  users.spoilt &= users.count > 0;
  api.contextRelease(device.handle);
}

Status CudaBackend::joinRanks() {
  if (!communicator) {
    return {};
  }
  if (!makeCurrent()) {
    return failed;
  }
  MOERT_ASSIGN(nccl, Nccl::open(api.isEmulator()));
  others = std::make_unique<NcclRank>(*nccl, *communicator, deadlineNs, [this] { dropGraphs(); });
  return others->join(device);
}

uint64_t CudaBackend::availableBytes() {
  size_t free = 0, total = 0;
  return makeCurrent() && check(api.memoryInfo(&free, &total), "cuMemGetInfo") ? free : 0;
}

Status CudaBackend::takeKernel(const format::Kernel &kernel, CUmodule module, const std::string &path) {
  const std::string symbol = kernel.symbol()->str();
  auto refused = [&](CUresult result, const std::string &what) {
    return error(result == CUDA_ERROR_NOT_FOUND ? Code::Corrupt : Code::Unsupported, path, ": kernel '", symbol, "' ",
                 what, ": ", api.describe(result));
  };
  CUfunction function = nullptr;
  if (CUresult result = api.moduleFunction(&function, module, symbol.c_str())) {
    return refused(result, "is missing; compile the package again");
  }
  if (kernel.shared_bytes() > kDefaultSharedBytes) {
    if (CUresult result =
            api.functionSet(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, int(kernel.shared_bytes()))) {
      return refused(result, concat("needs ", kernel.shared_bytes(), " bytes of dynamic shared memory, which ",
                                    device.describe(), " does not give"));
    }
  }
  int most = 0;
  if (CUresult result = api.functionGet(&most, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function)) {
    return refused(result, "does not say how many threads it may have");
  }
  if (int64_t(kernel.threads()) > most) {
    return error(Code::Unsupported, path, ": kernel '", symbol, "' is launched with ", kernel.threads(),
                 " threads per workgroup, as it was assembled for ", device.describe(), " it runs with at most ", most);
  }
  kernelTable.push_back({function, kernel.threads(), kernel.shared_bytes(), symbol});
  return {};
}

/// Every launch must give what its kernel takes: a packed block of 64-bit words is not checked by the driver.
Status CudaBackend::checkParameters(const format::Variant &variant, const std::string &path) const {
  if (!api.functionParameter) {
    return {};
  }
  std::vector<uint32_t> parameters;
  for (const Kernel &kernel : kernelTable) {
    size_t offset = 0, size = 0;
    uint32_t count = 0;
    while (api.functionParameter(kernel.function, count, &offset, &size) == CUDA_SUCCESS) {
      if (size != sizeof(uint64_t) || offset != count * sizeof(uint64_t)) {
        return error(Code::Corrupt, path, ": kernel '", kernel.symbol, "': parameter ", count, " has ", size,
                     " bytes at offset ", offset, ", must be a 64-bit word at ", count * sizeof(uint64_t),
                     "; compile the package again");
      }
      ++count;
    }
    parameters.push_back(count);
  }
  for (uint32_t c = 0; variant.commands() && c < variant.commands()->size(); ++c) {
    const format::Command &command = *variant.commands()->Get(c);
    if (command.kind() == format::CommandKind::Launch && parameters[command.target()] != command.operand_count()) {
      return error(Code::Corrupt, path, ": kernel '", kernelTable[command.target()].symbol, "' has ",
                   parameters[command.target()], " parameters, command ", c, " launches it with ",
                   command.operand_count(), " operands; compile the package again");
    }
  }
  return {};
}

Status CudaBackend::loadModule(const std::string &path, const void *image, CUmodule &module) {
  std::vector<char> log(kLogBytes, 0);
  int options[] = {kJitErrorLog, kJitErrorLogBytes};
  void *values[] = {log.data(), reinterpret_cast<void *>(uintptr_t(log.size()))};
  if (CUresult result = api.moduleLoad(&module, image, 2, options, values)) {
    log.back() = 0;
    const std::string said = oneLine(log.data());
    return error(statusOf(result, "").code(), path, ": ", device.describe(), " (compute capability ",
                 device.capability / 10, ".", device.capability % 10,
                 ") does not take the kernels: ", api.describe(result), said.empty() ? "" : ": ", said);
  }
  modules.push_back(module);
  return {};
}

// Machine code saves the driver's assembler at load. A driver that is older than the ptxas that made it refuses it: the
// PTX, of the same kernels, decides then, and has the error if there is one. The emulator runs PTX only.
Status CudaBackend::loadKernels(const std::string &path, const void *blob, size_t size, const std::string &machineCode,
                                const format::Variant &variant, std::vector<void *> &kernels) {
  std::string text(static_cast<const char *>(blob), size);
  if (text.find('\0') != std::string::npos) {
    return error(Code::Corrupt, path, ": is no PTX: it has a byte of zero; compile the package again");
  }
  if (!makeCurrent()) {
    return failed;
  }
  CUmodule module = nullptr;
  bool exact = false;
  const uint32_t made = gpuCapability(variant, exact);
  if (!machineCode.empty() && !api.isEmulator() && runsMachineCode(made, exact, device.capability)) {
    MOERT_ASSIGN(file, File::open(machineCode));
    MOERT_ASSIGN(code, file.readAll(kMaxProgramBytes));
    if (!loadModule(machineCode, code.data(), module).ok()) {
      module = nullptr;
    }
  }
  if (!module) {
    MOERT_TRY(loadModule(path, text.c_str(), module));
  }
  for (uint32_t k = 0; variant.kernels() && k < variant.kernels()->size(); ++k) {
    MOERT_TRY(takeKernel(*variant.kernels()->Get(k), module, path));
    kernels.push_back(&kernelTable.back());
  }
  return checkParameters(variant, path);
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
  if (contents == Contents::Zero && !fill(address, 0, bytes)) {
    return failed;
  }
  return address;
}

void CudaBackend::release(void *pointer) {
  auto found = std::find(memory.begin(), memory.end(), asDevice(pointer));
  if (found != memory.end() && makeCurrent()) {
    memory.erase(found);
    check(api.memoryFree(asDevice(pointer)), "cuMemFree");
  }
}

Result<const void *> CudaBackend::attach(const void *host, uint64_t bytes, const std::string &what) {
  MOERT_ASSIGN(address, allocate(bytes, what, Contents::Undefined));
  auto *to = static_cast<uint8_t *>(address);
  auto *from = static_cast<const uint8_t *>(host);
  for (uint64_t at = 0, turn = 0; at < bytes; at += kStagingPiece, ++turn) {
    Piece &piece = pieces[turn % 2];
    const uint64_t size = std::min(kStagingPiece, bytes - at);
    if (!waitFor(piece.copied)) { // an event that was never recorded is done
      return failureOr(concat("the copy of ", what));
    }
    memcpy(piece.memory, from + at, size);
    if (!check(api.toDevice(asDevice(to + at), piece.memory, size, stream), "cuMemcpyHtoDAsync") ||
        !check(api.eventRecord(piece.copied, stream), "cuEventRecord")) {
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
  return makeCurrent() && (bytes == 0 || check(api.toDevice(asDevice(to), from, bytes, stream), "cuMemcpyHtoDAsync"));
}

bool CudaBackend::download(void *to, const void *from, uint64_t bytes) {
  if (!makeCurrent() || !waitFor(pieces[0].copied) || !waitFor(pieces[1].copied)) {
    return false;
  }
  auto *target = static_cast<uint8_t *>(to);
  auto *source = static_cast<const uint8_t *>(from);
  auto sizeAt = [&](uint64_t at) { return std::min(kStagingPiece, bytes - at); };
  auto begin = [&](uint64_t at) {
    Piece &piece = pieces[at / kStagingPiece % 2];
    return check(api.toHost(piece.memory, asDevice(source + at), sizeAt(at), stream), "cuMemcpyDtoHAsync") &&
           check(api.eventRecord(piece.copied, stream), "cuEventRecord");
  };
  // What is before the first piece has its own marks to wait for.
  if (bytes && (!begin(0) || !synchronize())) {
    return false;
  }
  for (uint64_t at = 0; at < bytes; at += kStagingPiece) {
    Piece &piece = pieces[at / kStagingPiece % 2];
    if ((bytes - at > kStagingPiece && !begin(at + kStagingPiece)) || !waitFor(piece.copied)) {
      return false;
    }
    memcpy(target + at, piece.memory, sizeAt(at));
  }
  return true;
}

bool CudaBackend::launch(const Launch *launches, uint32_t count) {
  if (!makeCurrent()) {
    return false;
  }
  for (uint32_t i = 0; i < count; ++i) {
    const Launch &launch = launches[i];
    const Kernel &kernel = *static_cast<const Kernel *>(launch.kernel);
    if (launch.grid == 0) {
      continue;
    }
    size_t bytes = launch.argCount * sizeof(uint64_t);
    void *block[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, const_cast<uint64_t *>(launch.args), CU_LAUNCH_PARAM_BUFFER_SIZE,
                     &bytes, CU_LAUNCH_PARAM_END};
    CUresult result = api.launchKernel(kernel.function, unsigned(launch.grid), 1, 1, kernel.threads, 1, 1,
                                       kernel.sharedBytes, stream, nullptr, bytes ? block : nullptr);
    onlyKernel = ++launchesSinceWait == 1 ? &kernel : nullptr;
    if (result) {
      return fail(result, concat("kernel '", kernel.symbol, "' cannot be launched (", launch.grid, " workgroups of ",
                                 kernel.threads, " threads, ", kernel.sharedBytes, " bytes of shared memory)"));
    }
    if (!capturing && ++launchesSinceMark == kLaunchesPerMark && marksUsed < kMarks) {
      launchesSinceMark = 0;
      if (!check(api.eventRecord(marks[marksUsed++], stream), "cuEventRecord")) {
        return false;
      }
    }
  }
  return true;
}

bool CudaBackend::copy(void *to, const void *from, uint64_t bytes) {
  return makeCurrent() &&
         (bytes == 0 || check(api.onDevice(asDevice(to), asDevice(from), bytes, stream), "cuMemcpyDtoDAsync"));
}

bool CudaBackend::fill(void *to, uint8_t value, uint64_t bytes) {
  return makeCurrent() && (bytes == 0 || check(api.fillBytes(asDevice(to), value, bytes, stream), "cuMemsetD8Async"));
}

/// Of one rank every collective is a copy.
bool CudaBackend::collectives(const CollectiveCall *calls, uint32_t count) {
  if (!communicator) {
    for (uint32_t i = 0; i < count; ++i) {
      if (calls[i].to != calls[i].from && !copy(calls[i].to, calls[i].from, calls[i].toBytes)) {
        return false;
      }
    }
    return true;
  }
  if (!makeCurrent()) {
    return false;
  }
  Status status = others->enqueue(calls, count, stream);
  return status.ok() || failAmongRanks(std::move(status));
}

/// The end of all graphs, and of the one that is being captured.
void CudaBackend::dropGraphs() {
  if (capturing) {
    capturing = false;
    CUgraph unfinished = nullptr;
    if (api.captureEnd(stream, &unfinished) == CUDA_SUCCESS && unfinished) {
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
  if (api.eventRecord(end, stream) != CUDA_SUCCESS) {
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

bool CudaBackend::synchronize() {
  if (!makeCurrent() || !check(api.eventRecord(end, stream), "cuEventRecord")) {
    return false;
  }
  for (uint32_t m = 0; m < marksUsed; ++m) {
    if (!waitFor(marks[m])) {
      return false;
    }
  }
  marksUsed = launchesSinceMark = 0;
  if (!waitFor(end)) {
    return false;
  }
  onlyKernel = nullptr;
  launchesSinceWait = 0;
  return true;
}

bool CudaBackend::settle() { return spoilt || api.contextSet(context) != CUDA_SUCCESS || isIdleWithin(deadlineNs); }

bool CudaBackend::beginGraph() {
  capturing =
      makeCurrent() && check(api.captureBegin(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
  return capturing;
}

void *CudaBackend::endGraph() {
  CUgraph graph = nullptr;
  CUgraphExec executable = nullptr;
  if (!capturing) {
    return nullptr; // a failure ended it
  }
  capturing = false;
  // Ended even after a failure, so that the stream is usable again.
  check(api.captureEnd(stream, &graph), "cuStreamEndCapture");
  if (failed.ok() && check(api.graphInstantiate(&executable, graph, 0), "cuGraphInstantiate")) {
    graphs.push_back(executable);
  }
  if (graph) {
    api.graphDestroy(graph);
  }
  return executable;
}

bool CudaBackend::runGraph(void *graph) {
  onlyKernel = nullptr; // who knows which
  launchesSinceWait = 2;
  return makeCurrent() && check(api.graphLaunch(static_cast<CUgraphExec>(graph), stream), "cuGraphLaunch");
}

void CudaBackend::dropGraph(void *graph) {
  auto found = std::find(graphs.begin(), graphs.end(), static_cast<CUgraphExec>(graph));
  if (found != graphs.end() && makeCurrent()) {
    graphs.erase(found);
    check(api.graphExecDestroy(static_cast<CUgraphExec>(graph)), "cuGraphExecDestroy");
  }
}

} // namespace
} // namespace cuda

const char *cudaBackendLacks(const format::Variant &variant, const format::Command &command) {
  if (command.kind() == format::CommandKind::HostCall) {
    return "no host function is registered";
  }
  if (command.kind() == format::CommandKind::Collective) {
    const auto kind = format::CollectiveKind(command.target());
    if (variant.ranks() == 1 && kind == format::CollectiveKind::Exchange) {
      return "an exchange is for several ranks";
    }
    if (kind == format::CollectiveKind::Exchange || (variant.ranks() > 1 && kind == format::CollectiveKind::AllToAll)) {
      return "GPUs send each other as much as is known before the step: compile with --exchange gather";
    }
  }
  return nullptr;
}

Result<std::unique_ptr<Backend>> openCudaBackend(const BackendOptions &options, const cuda::Device &device) {
  auto backend = std::make_unique<cuda::CudaBackend>(options, device);
  MOERT_TRY(backend->open());
  return std::unique_ptr<Backend>(std::move(backend));
}

} // namespace moert
