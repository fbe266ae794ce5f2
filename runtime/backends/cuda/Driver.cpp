// Finding and loading a driver library; see Driver.h.
#include "runtime/backends/cuda/Driver.h"

#include "runtime/core/File.h"

#include <algorithm>
#include <dlfcn.h>
#include <unistd.h>

namespace moert::cuda {
namespace {

constexpr const char *kLibrary = "libcuda.so.1";

/// Where the emulator lies: beside libmoert (of a static libmoert: in lib beside the program's folder), in a folder of
/// its own.
std::vector<std::string> emulatorPaths() {
  const std::string folder = libraryFolder();
  std::vector<std::string> paths;
  for (const char *place : {"emulator", "../lib/emulator", "../../lib/emulator"}) {
    paths.push_back(joinPath(joinPath(folder, place), kLibrary));
  }
  return paths;
}

} // namespace

Result<std::string> emulatorPath() {
  std::string looked;
  for (const std::string &path : emulatorPaths()) {
    if (access(path.c_str(), R_OK) == 0) {
      return path;
    }
    looked += (looked.empty() ? "" : ", ") + path;
  }
  return error(Code::NotFound, "the emulator was not found (looked for ", looked,
               "): build the target moe_emulator, or install it with the runtime");
}

Status Driver::load(const std::string &path, bool emulator) {
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *reason = dlerror();
    return error(Code::NotFound, "no CUDA driver was found: ", reason ? reason : path,
                 "; install NVIDIA's driver, or run without a GPU with --device emulator (slow, for correctness only) "
                 "or a package for CPUs");
  }
  findings = reinterpret_cast<decltype(findings)>(dlsym(library, "moeEmulatorFindings"));
  forget = reinterpret_cast<decltype(forget)>(dlsym(library, "moeEmulatorForget"));
  wantsSeparate = reinterpret_cast<decltype(wantsSeparate)>(dlsym(library, "moeEmulatorWantsSeparate"));
  if (isEmulator() != emulator || (emulator && (!forget || !wantsSeparate))) {
    return emulator ? error(Code::Unsupported, path, ": is not the emulator: install the runtime again")
                    : error(Code::Unsupported, "the ", path,
                            " that the system finds is the emulator, not a driver: ask for it by name, with --device "
                            "emulator, or take its folder out of the library path (a process that has used the "
                            "emulator finds no driver any more)");
  }
  const char *missing = nullptr;
#define MOERT_CUDA_OPTIONAL(name, symbol, parameters) name = reinterpret_cast<decltype(name)>(dlsym(library, #symbol));
#define MOERT_CUDA(name, symbol, parameters)                                                                           \
  MOERT_CUDA_OPTIONAL(name, symbol, parameters)                                                                        \
  missing = name ? missing : #symbol;
#include "runtime/backends/cuda/Functions.inc"
#undef MOERT_CUDA
#undef MOERT_CUDA_OPTIONAL
  if (missing) {
    return error(Code::Unsupported, path, ": has no ", missing, ": it is older than CUDA 11.4, install a newer driver");
  }
  if (CUresult result = init(0); result != CUDA_SUCCESS) {
    return error(result == CUDA_ERROR_NO_DEVICE ? Code::NotFound : Code::Unsupported, path,
                 ": the driver does not start: ", describe(result),
                 result != CUDA_ERROR_NO_DEVICE ? ""
                 : emulator                     ? "; MOE_EMU_DEVICE says which devices the emulator has, such as h100:2"
                                                : "; there is no GPU here: use --device emulator (slow, for "
                                                  "correctness only) or a package for CPUs");
  }
  if (CUresult result = driverVersion(&version); result != CUDA_SUCCESS) {
    return error(Code::Unsupported, path, ": does not say its version: ", describe(result));
  }
  int count = 0;
  if (CUresult result = deviceCount(&count); result != CUDA_SUCCESS) {
    return error(Code::Unsupported, path, ": cannot count its devices: ", describe(result));
  }
  users.resize(size_t(count));
  return {};
}

Result<Driver *> Driver::open(bool emulator) {
  // One of each, opened when it is first asked for; a failure may be cured (a driver that is loaded later).
  static std::mutex lock;
  static Driver *opened[2];
  std::lock_guard<std::mutex> guard(lock);
  Driver *&mine = opened[emulator];
  if (!mine) {
    std::string path = kLibrary; // the machine's, as the system finds it
    if (emulator) {
      MOERT_ASSIGN(found, emulatorPath());
      path = found;
    }
    auto fresh = std::make_unique<Driver>();
    MOERT_TRY(fresh->load(path, emulator));
    mine = fresh.release();
  }
  return mine;
}

CUresult Driver::enqueue(CUfunction function, unsigned grid, unsigned threads, unsigned sharedBytes,
                         const uint64_t *words, size_t count, CUstream stream, bool early) const {
  size_t bytes = count * sizeof(uint64_t);
  void *block[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, const_cast<uint64_t *>(words), CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
                   CU_LAUNCH_PARAM_END};
  void **parameters = bytes ? block : nullptr;
  if (!early) {
    return launchKernel(function, grid, 1, 1, threads, 1, 1, sharedBytes, stream, nullptr, parameters);
  }
  CUlaunchAttribute attribute = {};
  attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
  attribute.value.programmaticStreamSerializationAllowed = 1;
  const CUlaunchConfig config = {grid, 1, 1, threads, 1, 1, sharedBytes, stream, &attribute, 1};
  return launchKernelEx(&config, function, nullptr, parameters);
}

std::string Driver::describe(CUresult result) const {
  const char *name = nullptr, *text = nullptr;
  if (errorName(result, &name) != CUDA_SUCCESS || !name) {
    return concat("CUDA error ", result);
  }
  std::string words = name;
  if (errorText(result, &text) == CUDA_SUCCESS && text) {
    words += concat(" (", text, ")");
  }
  return words;
}

std::string Device::describe() const {
  if (!driver->isEmulator()) {
    return concat("cuda:", ordinal, " '", name, "'");
  }
  return driver->users.size() == 1 ? concat("the emulator '", name, "'")
                                   : concat("the emulator:", ordinal, " '", name, "'");
}

Result<Device> openDevice(bool emulator, int ordinal, int localRank) {
  MOERT_ASSIGN(driver, Driver::open(emulator));
  Device device;
  if (ordinal < 0) {
    // A launcher may show each rank one GPU only. Two ranks on one GPU are found when they join.
    ordinal = localRank % std::max(1, int(driver->users.size()));
  }
  device.driver = driver;
  device.ordinal = ordinal;
  if (size_t(ordinal) >= driver->users.size()) {
    return error(Code::InvalidArgument, "device cuda:", ordinal, " was asked for, this machine has ",
                 driver->users.size(), " (cuda:0 to cuda:", int64_t(driver->users.size()) - 1, ")");
  }
  char name[256] = "";
  int major = 0, minor = 0;
  CUresult result = driver->deviceGet(&device.handle, ordinal);
  result = result ? result : driver->deviceName(name, sizeof(name), device.handle);
  result =
      result ? result : driver->deviceAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device.handle);
  result =
      result ? result : driver->deviceAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device.handle);
  if (result) {
    return error(Code::Unsupported, "device cuda:", ordinal, " does not answer: ", driver->describe(result));
  }
  device.name = name;
  device.capability = uint32_t(10 * major + minor);
  return device;
}

} // namespace moert::cuda
