//===- Driver.h - State behind the driver API -------------------*- C++ -*-===//
//
// One process-wide `Driver` behind one lock: devices, contexts, modules, the
// memory of all devices and the engine that runs what streams hold. Every API
// function starts with MOE_CALL, which takes the lock and refuses what may not
// be called now (before cuInit, without a context, from a host function, after
// a sticky error). Handles are pointers to the structs below, checked against
// the set of live ones before they are followed.
//
// Not here: streams, events and work (Engine.h), graphs (Graph.h).
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_DRIVER_DRIVER_H
#define MOERT_EMULATOR_DRIVER_DRIVER_H

#include "runtime/core/Status.h"
#include "runtime/emulator/driver/CudaApi.h"
#include "runtime/emulator/driver/DeviceModel.h"
#include "runtime/emulator/exec/Launch.h"

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#define CU_API extern "C" __attribute__((visibility("default"))) CUresult

namespace moert::emulator {

class Engine;

/// When the emulator runs what is ready: as soon as it can, not before it must, or at seeded times.
enum class Schedule { Early, Late, Random };

/// What a copy of undefined bytes to the host is.
enum class UndefinedCopies { Off, Note, Finding };

/// MOE_EMU_*, read once by cuInit. docs/emulator.md describes each.
struct Settings {
  std::vector<const DeviceModel *> devices;
  uint64_t seed = 0;
  Schedule schedule = Schedule::Random;
  unsigned threads = 1; ///< more than one: the parallel mode
  bool checks = true;
  bool delayLanes = false;
  bool allProxyFences = false;
  UndefinedCopies undefinedCopies = UndefinedCopies::Note;
  uint64_t stepLimit = 0;
  uint64_t memoryMebibytes = 0; ///< of each device; 0: as its model
  int findingExit = 0;          ///< exit status when there were findings; 0: as the program says
  bool logCalls = false;        ///< also calls that succeed
  bool logErrors = true;
  bool separate = true; ///< whether who asks should keep values of device memory apart
  int version = 0;      ///< of CUDA, 12020 of 12.2, which limits the PTX; 0: the newest, which takes all
  std::string report;   ///< file that findings are appended to
  std::string counts;   ///< file that bank conflicts and sectors of each launch are appended to
};

} // namespace moert::emulator

/// A context.
struct CUctx_st {
  struct Device *device = nullptr;
  unsigned flags = 0;
  unsigned long long id = 0;
  bool primary = false;
  CUresult sticky = CUDA_SUCCESS; ///< after a fault in a kernel, every call says so
  std::array<size_t, 7> limits{1024, 1 << 20, 8 << 20, 2, 2048, 64, 0};
  std::unordered_set<CUctx_st *> peers;
  CUstream legacy = nullptr;                     ///< the default stream
  std::map<std::thread::id, CUstream> perThread; ///< the per-thread default streams
  moert::emulator::Clock finished;               ///< what all work that is done knows
  std::unordered_set<uint64_t> allocations;      ///< freed with the context
};

/// A card.
struct Device {
  int ordinal = 0;
  const moert::emulator::DeviceModel *model = nullptr;
  uint64_t memoryBytes = 0;
  CUctx_st *primary = nullptr;
  unsigned primaryReferences = 0;
  unsigned primaryFlags = 0;
  unsigned primaryGeneration = 0;
};

namespace moert::emulator {

/// The live objects of one kind of handle.
template <typename T> class Registry {
public:
  T *add(T *object) {
    live.insert(object);
    return object;
  }
  bool has(const T *object) const { return live.count(const_cast<T *>(object)) != 0; }
  void remove(T *object) { live.erase(object); }
  const std::unordered_set<T *> &all() const { return live; }

private:
  std::unordered_set<T *> live;
};

/// Everything. Exists from cuInit to the end of the process.
struct Driver {
  Settings settings;
  std::vector<std::unique_ptr<Device>> devices;
  std::unique_ptr<DeviceMemory> memory;
  std::unique_ptr<Engine> engine;
  FindingSink sink;
  size_t findingsShown = 0;
  unsigned long long nextId = 1;

  Registry<CUctx_st> contexts;
  Registry<CUstream_st> streams;
  Registry<CUevent_st> events;
  Registry<CUlib_st> libraries;
  Registry<CUmod_st> modules;
  Registry<CUfunc_st> functions;
  Registry<CUkern_st> kernels;
  Registry<CUgraph_st> graphs;
  Registry<CUgraphNode_st> nodes;
  Registry<CUgraphExec_st> execs;
  Registry<CUmemPoolHandle_st> pools;

  /// Prints findings that nobody has seen yet, and appends them to the report.
  void showFindings();
  /// Appends a line for a launch to MOE_EMU_COUNTS.
  void reportCounts(const std::string &kernel, const AccessCounts &counts);
};

/// The driver, or null before cuInit.
Driver *driver();
/// The lock of everything. Held by whoever is inside MOE_CALL; released while a host function runs.
std::mutex &driverLock();
/// Creates the driver (MOE_EMU_*); an error says which variable is wrong.
CUresult initializeDriver();

/// State of the calling thread.
struct ThreadState {
  std::vector<CUctx_st *> contexts; ///< the stack; the last is current
  int inHostFunction = 0;
  CUstreamCaptureMode captureMode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::string lastError;
  const char *function = "";
};
ThreadState &threadState();
/// Host threads that have called the driver and still run.
int hostThreads();

/// What a call needs before it may do anything.
enum class Need {
  Nothing, ///< works before cuInit
  Init,    ///< cuInit
  Context  ///< a current context without a sticky error
};

/// One API call: holds the lock from its start to its end.
class Call {
public:
  Call(const char *function, Need need);
  ~Call();
  Call(const Call &) = delete;

  CUresult status = CUDA_SUCCESS;
  CUctx_st *context = nullptr; ///< the current one; null when there is none

private:
  std::unique_lock<std::mutex> lock;
};

/// Keeps and logs why a call fails; returns `code`. The text is "function: parts".
CUresult refuseText(CUresult code, const std::string &text);
template <typename... Parts> CUresult refuse(CUresult code, const Parts &...parts) {
  return refuseText(code, concat(parts...));
}
/// "0x7f00".
std::string hex(uint64_t value);
/// Writes one line to where MOE_EMU_LOG says.
void logLine(const std::string &text);
/// The name of an error code: "CUDA_ERROR_INVALID_VALUE", or null.
const char *errorName(CUresult code);

#define MOE_CALL(need)                                                                                                 \
  Call call(__func__, need);                                                                                           \
  if (call.status != CUDA_SUCCESS) {                                                                                   \
    return call.status;                                                                                                \
  }
#define MOE_CHECK(expression)                                                                                          \
  do {                                                                                                                 \
    if (const CUresult checked = (expression); checked != CUDA_SUCCESS) {                                              \
      return checked;                                                                                                  \
    }                                                                                                                  \
  } while (false)
/// Refuses a null pointer where the API wants a result.
#define MOE_OUT(pointer)                                                                                               \
  if (!(pointer)) {                                                                                                    \
    return refuse(CUDA_ERROR_INVALID_VALUE, #pointer " is null");                                                      \
  }

/// The device of that ordinal, or null after refusing.
Device *deviceOf(CUdevice ordinal);
/// A new context on `device` with its default stream.
CUctx_st *createContext(Device &device, unsigned flags);
/// Waits for its work, then destroys streams, modules and the context.
void destroyContext(CUctx_st *context);
/// Destroys a module (ModuleApi.cpp).
void destroyModule(CUmod_st *module);

} // namespace moert::emulator

#endif // MOERT_EMULATOR_DRIVER_DRIVER_H
