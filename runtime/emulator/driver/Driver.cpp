//===- Driver.cpp - Settings, the lock, errors and findings -----*- C++ -*-===//
//
// What every call goes through. Settings come from MOE_EMU_* once; an unknown
// value is an error of cuInit that names what is accepted. Findings go to
// standard error as they come, and to MOE_EMU_REPORT.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Driver.h"
#include "runtime/emulator/driver/Engine.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/syscall.h>
#include <unistd.h>

namespace moert::emulator {

static std::atomic<Driver *> theDriver{nullptr};

Driver *driver() { return theDriver.load(std::memory_order_acquire); }

std::mutex &driverLock() {
  static std::mutex *lock = new std::mutex; // never destroyed: calls may come during exit
  return *lock;
}

static std::atomic<int> threadCount{0};

/// Counts threads that live. The main thread's state is never freed: programs call the driver from destructors of
/// static objects, after the main thread's own thread-local objects are gone.
struct CountedThread {
  ThreadState *state = new ThreadState;
  CountedThread() { ++threadCount; }
  ~CountedThread() {
    --threadCount;
    if (syscall(SYS_gettid) != getpid()) {
      delete state;
    }
  }
};

ThreadState &threadState() {
  static thread_local CountedThread thread;
  return *thread.state;
}

int hostThreads() { return threadCount.load(); }

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

void logLine(const std::string &text) {
  const std::string line = "emulator: " + text + "\n";
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) {
    return; // nowhere to say it
  }
}

CUresult refuseText(CUresult code, const std::string &text) {
  ThreadState &state = threadState();
  state.lastError = std::string(state.function) + ": " + text;
  if (!driver() || driver()->settings.logErrors) {
    const char *name = errorName(code);
    logLine(state.lastError + " (" + (name ? name : std::to_string(code).c_str()) + ")");
  }
  return code;
}

/// A number in `text`, or false.
static bool number(const std::string &text, uint64_t &value) {
  char *end = nullptr;
  value = std::strtoull(text.c_str(), &end, 10);
  return !text.empty() && text[0] != '-' && *end == 0;
}

/// MOE_EMU_DEVICE: models separated by commas, each with an optional count: "h100", "a100:2,h100".
static CUresult parseDevices(const std::string &text, Settings &settings) {
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(',', start), text.size());
    std::string key = text.substr(start, end - start);
    uint64_t count = 1;
    if (const size_t colon = key.find(':'); colon != std::string::npos) {
      if (!number(key.substr(colon + 1), count) || count < 1 || count > 64) {
        return refuse(CUDA_ERROR_NO_DEVICE, "MOE_EMU_DEVICE: '", key, "' must have a count of 1 to 64 after the colon");
      }
      key.resize(colon);
    }
    const DeviceModel *model = findDeviceModel(key);
    if (!model) {
      return refuse(CUDA_ERROR_NO_DEVICE, "MOE_EMU_DEVICE: no model '", key, "', there are ", deviceModelKeys());
    }
    settings.devices.insert(settings.devices.end(), count, model);
    start = end + 1;
  }
  if (settings.devices.size() > 64) {
    return refuse(CUDA_ERROR_NO_DEVICE, "MOE_EMU_DEVICE: ", settings.devices.size(), " devices, at most 64");
  }
  return CUDA_SUCCESS;
}

/// Reads one variable that must be among `words`; leaves `index` alone when it is not set.
static CUresult word(const char *name, std::initializer_list<const char *> words, int &index) {
  const char *text = std::getenv(name);
  if (!text || !*text) {
    return CUDA_SUCCESS;
  }
  std::string all;
  int i = 0;
  for (const char *candidate : words) {
    if (!std::strcmp(candidate, text)) {
      index = i;
      return CUDA_SUCCESS;
    }
    all += (i++ ? ", " : "") + std::string(candidate);
  }
  return refuse(CUDA_ERROR_INVALID_VALUE, name, "='", text, "' must be one of ", all);
}

/// Reads one number.
static CUresult count(const char *name, uint64_t &value) {
  const char *text = std::getenv(name);
  if (text && *text && !number(text, value)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, name, "='", text, "' must be a number");
  }
  return CUDA_SUCCESS;
}

/// MOE_EMU_DRIVER: a release of CUDA, such as 12.2.
static CUresult parseVersion(int &version) {
  const char *text = std::getenv("MOE_EMU_DRIVER");
  if (!text || !*text) {
    return CUDA_SUCCESS;
  }
  const std::string all = text;
  const size_t dot = all.find('.');
  uint64_t major = 0, minor = 0;
  if (dot == std::string::npos || !number(all.substr(0, dot), major) || !number(all.substr(dot + 1), minor) ||
      major < 11 || major > 13 || minor > 9) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "MOE_EMU_DRIVER='", all, "' must be a release of CUDA from 11.0 to 13.9");
  }
  version = int(1000 * major + 10 * minor);
  return CUDA_SUCCESS;
}

static CUresult readSettings(Settings &settings) {
  const char *devices = std::getenv("MOE_EMU_DEVICE");
  MOE_CHECK(parseDevices(devices && *devices ? devices : "h100", settings));
  int schedule = int(settings.schedule), checks = settings.checks, log = 1, lanes = 0, copies = 1, buffers = 1,
      fences = 0;
  MOE_CHECK(word("MOE_EMU_SCHEDULE", {"early", "late", "random"}, schedule));
  MOE_CHECK(word("MOE_EMU_CHECKS", {"off", "on"}, checks));
  MOE_CHECK(word("MOE_EMU_LOG", {"off", "errors", "calls"}, log));
  MOE_CHECK(word("MOE_EMU_DELAY_LANES", {"off", "on"}, lanes));
  MOE_CHECK(word("MOE_EMU_PROXY_FENCES", {"usual", "all"}, fences));
  MOE_CHECK(word("MOE_EMU_UNDEFINED_COPIES", {"off", "note", "finding"}, copies));
  MOE_CHECK(word("MOE_EMU_BUFFERS", {"shared", "separate"}, buffers));
  MOE_CHECK(parseVersion(settings.version));
  uint64_t threads = 1, exitStatus = 0;
  MOE_CHECK(count("MOE_EMU_SEED", settings.seed));
  MOE_CHECK(count("MOE_EMU_THREADS", threads));
  MOE_CHECK(count("MOE_EMU_STEP_LIMIT", settings.stepLimit));
  MOE_CHECK(count("MOE_EMU_MEMORY", settings.memoryMebibytes));
  MOE_CHECK(count("MOE_EMU_FINDING_EXIT", exitStatus));
  if (threads < 1 || threads > 256 || exitStatus > 255) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "MOE_EMU_THREADS (", threads,
                  ") must be in 1 to 256, MOE_EMU_FINDING_EXIT (", exitStatus, ") at most 255");
  }
  if (settings.memoryMebibytes > uint64_t(1) << 20) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "MOE_EMU_MEMORY (", settings.memoryMebibytes,
                  ") must be at most 1048576 MiB");
  }
  if (threads > 1 && checks) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "MOE_EMU_THREADS=", threads,
                  " runs blocks in parallel and judges nothing: it needs MOE_EMU_CHECKS=off");
  }
  settings.schedule = Schedule(schedule);
  settings.checks = checks;
  settings.logErrors = log >= 1;
  settings.logCalls = log == 2;
  settings.delayLanes = lanes;
  settings.allProxyFences = fences;
  settings.undefinedCopies = UndefinedCopies(copies);
  settings.separate = buffers;
  settings.threads = unsigned(threads);
  settings.findingExit = int(exitStatus);
  if (const char *report = std::getenv("MOE_EMU_REPORT")) {
    settings.report = report;
  }
  if (const char *counts = std::getenv("MOE_EMU_COUNTS")) {
    settings.counts = counts;
  }
  return CUDA_SUCCESS;
}

void Driver::showFindings() {
  const std::vector<Finding> &all = sink.findings();
  if (findingsShown >= all.size()) {
    return;
  }
  FILE *file = settings.report.empty() ? nullptr : std::fopen(settings.report.c_str(), "a");
  for (; findingsShown < all.size(); ++findingsShown) {
    const Finding &finding = all[findingsShown];
    const std::string text = (finding.note ? "" : "finding: ") + finding.text();
    logLine(text);
    if (file) {
      std::fprintf(file, "%s\n", text.c_str());
    }
  }
  if (file) {
    std::fclose(file);
  }
}

void Driver::reportCounts(const std::string &kernel, const AccessCounts &counts) {
  FILE *file = settings.counts.empty() ? nullptr : std::fopen(settings.counts.c_str(), "a");
  if (!file) {
    return;
  }
  std::fprintf(file,
               "{\"kernel\": \"%s\", \"shared_accesses\": %llu, \"bank_conflicts\": %llu, \"global_accesses\": %llu, "
               "\"global_sectors\": %llu, \"warp_instructions\": %llu, \"thread_instructions\": %llu}\n",
               kernel.c_str(), (unsigned long long)counts.sharedAccesses, (unsigned long long)counts.bankConflicts,
               (unsigned long long)counts.globalAccesses, (unsigned long long)counts.globalSectors,
               (unsigned long long)counts.instructions, (unsigned long long)counts.threadInstructions);
  std::fclose(file);
}

/// At the end of the process: work that nobody waited for, and the exit status.
static void atEnd() {
  std::unique_lock<std::mutex> lock(driverLock());
  Driver *state = driver();
  state->engine->stop(lock);
  state->showFindings();
  const uint64_t faults = state->sink.faults();
  if (faults) {
    logLine(concat(faults, faults == 1 ? " finding" : " findings", ", seed ", state->settings.seed));
    if (state->settings.findingExit) {
      std::fflush(nullptr);
      _exit(state->settings.findingExit);
    }
  }
}

CUresult initializeDriver() {
  if (driver()) {
    return CUDA_SUCCESS;
  }
  auto state = std::make_unique<Driver>();
  MOE_CHECK(readSettings(state->settings));
  MemoryOptions options;
  options.checks = state->settings.checks;
  options.devices = uint32_t(state->settings.devices.size());
  const uint64_t asked = state->settings.memoryMebibytes << 20;
  options.bytesPerDevice = asked ? asked : state->settings.devices[0]->memoryBytes;
  state->memory = std::make_unique<DeviceMemory>(options);
  for (const DeviceModel *model : state->settings.devices) {
    auto device = std::make_unique<Device>();
    device->ordinal = int(state->devices.size());
    device->model = model;
    device->memoryBytes = asked ? asked : model->memoryBytes;
    state->devices.push_back(std::move(device));
  }
  state->engine = std::make_unique<Engine>(*state);
  std::atexit(atEnd);
  theDriver.store(state.release(), std::memory_order_release);
  driver()->engine->start();
  return CUDA_SUCCESS;
}

Call::Call(const char *function, Need need) : lock(driverLock()) {
  ThreadState &state = threadState();
  state.function = function;
  Driver *all = driver();
  if (all && all->settings.logCalls) {
    logLine(function);
  }
  if (state.inHostFunction && need != Need::Nothing) {
    status = refuse(CUDA_ERROR_NOT_PERMITTED, "a host function may not call the driver");
    return;
  }
  if (need == Need::Nothing) {
    return;
  }
  if (!all) {
    status = refuse(CUDA_ERROR_NOT_INITIALIZED, "cuInit has not been called");
    return;
  }
  context = state.contexts.empty() ? nullptr : state.contexts.back();
  all->engine->hostCalled();
  if (need != Need::Context) {
    return;
  }
  if (!context) {
    status = refuse(CUDA_ERROR_INVALID_CONTEXT, "no context is current to this thread");
  } else if (!all->contexts.has(context)) {
    status = refuse(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the current context has been destroyed");
  } else if (context->sticky != CUDA_SUCCESS) {
    status = context->sticky;
  }
}

Call::~Call() {
  if (Driver *all = driver()) {
    all->showFindings();
  }
}

Device *deviceOf(CUdevice ordinal) {
  Driver &all = *driver();
  if (ordinal < 0 || size_t(ordinal) >= all.devices.size()) {
    refuse(CUDA_ERROR_INVALID_DEVICE, "device ", ordinal, " is not in 0 to ", all.devices.size() - 1);
    return nullptr;
  }
  return all.devices[size_t(ordinal)].get();
}

// What tests and tools ask of the emulator; no part of the driver API.

/// Findings so far that are no notes.
extern "C" __attribute__((visibility("default"))) uint64_t moeEmulatorFindings(void) {
  std::lock_guard<std::mutex> lock(driverLock());
  return driver() ? driver()->sink.faults() : 0;
}

/// Copies the text of finding `index` (notes included); returns its length, 0 when there is none.
extern "C" __attribute__((visibility("default"))) size_t moeEmulatorFindingText(size_t index, char *text, size_t size) {
  std::lock_guard<std::mutex> lock(driverLock());
  if (!driver() || index >= driver()->sink.findings().size()) {
    return 0;
  }
  const Finding &finding = driver()->sink.findings()[index];
  const std::string line = finding.text();
  if (size) {
    const size_t length = std::min(size - 1, line.size());
    std::memcpy(text, line.data(), length);
    text[length] = 0;
  }
  return line.size();
}

/// Forgets all findings.
extern "C" __attribute__((visibility("default"))) void moeEmulatorClearFindings(void) {
  std::lock_guard<std::mutex> lock(driverLock());
  if (driver()) {
    driver()->sink.clear();
    driver()->findingsShown = 0;
  }
}

/// Makes device memory undefined again, which no work that is queued uses: whoever gives it to something new says so.
extern "C" __attribute__((visibility("default"))) void moeEmulatorForget(CUdeviceptr address, uint64_t bytes) {
  std::lock_guard<std::mutex> lock(driverLock());
  if (driver()) {
    driver()->memory->setDefined(address, bytes, false);
  }
}

/// Whether who divides memory among values should give each an allocation of its own, so that accesses beyond one are
/// found; as MOE_EMU_BUFFERS says.
extern "C" __attribute__((visibility("default"))) int moeEmulatorWantsSeparate(void) {
  std::lock_guard<std::mutex> lock(driverLock());
  return !driver() || driver()->settings.separate;
}

/// Why the calling thread's last refused call was refused.
extern "C" __attribute__((visibility("default"))) const char *moeEmulatorLastError(void) {
  return threadState().lastError.c_str();
}

} // namespace moert::emulator
