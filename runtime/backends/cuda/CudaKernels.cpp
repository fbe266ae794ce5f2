// Kernels of the CUDA backend: which text or machine code a driver takes, loading it, and checks of what it made of it.
#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/core/File.h"
#include "runtime/emulator/driver/PtxVersion.h"

namespace moert::cuda {
namespace {

/// What a kernel has without asking; more must be opted in to.
constexpr uint32_t kDefaultSharedBytes = 48u << 10;
constexpr size_t kLogBytes = 8192;
/// Numbers of the JIT's options.
enum { kJitErrorLog = 5, kJitErrorLogBytes = 6 };

/// "12.2" of 12020.
std::string releaseText(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

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

} // namespace

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
  kernelTable.push_back({function, kernel.threads(), kernel.shared_bytes(), kernel.waits(), symbol});
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

bool CudaBackend::mayRunMachineCode(const std::string &machineCode, const format::Variant &variant) const {
  bool exact = false;
  const uint32_t made = gpuCapability(variant, exact);
  return !machineCode.empty() && !api.isEmulator() && runsMachineCode(made, exact, device.capability);
}

Status CudaBackend::loadMachineCode(const std::string &path, CUmodule &module) {
  if (auto known = machineCodes.find(path); known != machineCodes.end()) {
    module = known->second;
    return {};
  }
  MOERT_ASSIGN(file, File::open(path));
  MOERT_ASSIGN(code, file.readAll(kMaxProgramBytes));
  MOERT_TRY(loadModule(path, code.data(), module));
  machineCodes[path] = module;
  return {};
}

/// A driver that is older than the PTX may still take machine code of the same kernels.
std::string CudaBackend::whyNotKernels(const void *blob, size_t size, const std::string &machineCode,
                                       const format::Variant &variant) {
  const unsigned ptx = ptxVersionOf(std::string_view(static_cast<const char *>(blob), size));
  if (ptx <= newestPtx(api.version) || !makeCurrent()) {
    return "";
  }
  CUmodule module = nullptr;
  if (mayRunMachineCode(machineCode, variant) && loadMachineCode(machineCode, module).ok()) {
    return "";
  }
  return concat("its kernels are PTX ", ptx / 10, ".", ptx % 10, ", which drivers of CUDA ",
                releaseText(firstCudaOfPtx(ptx)), " or later take, the driver of ", device.describe(), " is of CUDA ",
                releaseText(api.version));
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
  if (CUresult result = streams.prepare(variant.streams(), variant.events())) {
    return statusOf(result, "cuStreamCreateWithPriority");
  }
  CUmodule module = nullptr;
  if (mayRunMachineCode(machineCode, variant) && !loadMachineCode(machineCode, module).ok()) {
    module = nullptr;
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

} // namespace moert::cuda
