//===- ModuleApi.cpp - Libraries and modules from PTX text ------*- C++ -*-===//
//
// PTX is parsed when it is loaded; errors go to the error log buffer of the JIT
// options and to the log, with line and text. Machine code cannot be run:
// cubins, and fat binaries without PTX, are refused and the message says what to
// build instead. Linking several texts is not supported.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Engine.h"
#include "runtime/emulator/driver/Graph.h"
#include "runtime/emulator/driver/Modules.h"
#include "runtime/emulator/driver/PtxVersion.h"
#include "runtime/emulator/ptx/Parser.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace moert::emulator {

/// JIT options as the API passes them.
struct JitOptions {
  unsigned count = 0;
  const int *names = nullptr;
  void *const *values = nullptr;
};

/// Writes `text` to the error log buffer, if the options have one, and empties the info log.
static void writeLogs(const JitOptions &options, const std::string &text) {
  enum { infoBuffer = 3, infoSize = 4, errorBuffer = 5, errorSize = 6 };
  char *info = nullptr, *error = nullptr;
  size_t infoBytes = 0, errorBytes = 0;
  for (unsigned i = 0; i < options.count; ++i) {
    void *value = options.values[i];
    info = options.names[i] == infoBuffer ? static_cast<char *>(value) : info;
    error = options.names[i] == errorBuffer ? static_cast<char *>(value) : error;
    infoBytes = options.names[i] == infoSize ? uint32_t(reinterpret_cast<uintptr_t>(value)) : infoBytes;
    errorBytes = options.names[i] == errorSize ? uint32_t(reinterpret_cast<uintptr_t>(value)) : errorBytes;
  }
  if (info && infoBytes) {
    info[0] = 0;
  }
  if (error && errorBytes) {
    std::snprintf(error, errorBytes, "%s", text.c_str());
  }
}

/// What the first bytes say that an image is; PTX when they say nothing else.
static const char *refusedKind(const void *image) {
  uint32_t magic = 0;
  std::memcpy(&magic, image, 4);
  if (magic == 0x464C457F) {
    return "a cubin";
  }
  if (magic == 0xBA55ED50 || magic == 0x466243B1) {
    return "a fat binary";
  }
  return nullptr;
}

static CUresult parse(const Call &call, CUlib_st *&library, const void *image, const JitOptions &options) {
  if (!image) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "the image is null");
  }
  if (const char *kind = refusedKind(image)) {
    const std::string message = concat("the image is ", kind,
                                       ": the emulator runs PTX text only; give it PTX (nvcc -ptx, or "
                                       "-gencode arch=compute_90,code=compute_90 and the text itself)");
    writeLogs(options, message);
    return refuse(CUDA_ERROR_NO_BINARY_FOR_GPU, message);
  }
  const Device &device = call.context ? *call.context->device : *driver()->devices[0];
  ptx::DeviceTarget target;
  target.sm = uint16_t(device.model->major * 10 + device.model->minor);
  target.suffix = device.model->clusters ? 'a' : 0;
  auto parsed = ptx::parseModule(static_cast<const char *>(image), target);
  if (const auto *error = std::get_if<ptx::ParseError>(&parsed)) {
    writeLogs(options, error->str());
    return refuse(CUDA_ERROR_INVALID_PTX, error->str());
  }
  const int version = driver()->settings.version;
  if (const unsigned ptx = std::get<ptx::Module>(parsed).target.version; version && ptx > newestPtx(version)) {
    const std::string message =
        concat("the PTX is of version ", ptx / 10, ".", ptx % 10, ", MOE_EMU_DRIVER=", version / 1000, ".",
               version % 1000 / 10, " takes it up to ", newestPtx(version) / 10, ".", newestPtx(version) % 10);
    writeLogs(options, message);
    return refuse(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, message);
  }
  writeLogs(options, "");
  library = driver()->libraries.add(new CUlib_st);
  library->source = std::make_unique<ptx::Module>(std::move(std::get<ptx::Module>(parsed)));
  for (const ptx::Function &function : library->source->functions) {
    if (function.isKernel && function.isDefined) {
      auto kernel = std::make_unique<CUkern_st>();
      kernel->library = library;
      kernel->name = function.name;
      kernel->index = uint32_t(library->kernels.size());
      library->kernels.push_back(std::move(kernel));
      driver()->kernels.add(library->kernels.back().get());
    }
  }
  return CUDA_SUCCESS;
}

static void destroyLibrary(CUlib_st *library) {
  for (const auto &entry : std::map<CUctx_st *, CUmod_st *>(library->modules)) {
    destroyModule(entry.second);
  }
  for (const std::unique_ptr<CUkern_st> &kernel : library->kernels) {
    driver()->kernels.remove(kernel.get());
  }
  driver()->libraries.remove(library);
  delete library;
}

void destroyModule(CUmod_st *module) {
  Driver &all = *driver();
  if (all.contexts.has(module->context)) {
    all.engine->waitAll(module->context);
  }
  for (const std::unique_ptr<CUfunc_st> &function : module->functions) {
    all.functions.remove(function.get());
  }
  all.modules.remove(module);
  CUlib_st *library = module->library;
  library->modules.erase(module->context);
  const bool last = module->ownsLibrary;
  delete module;
  if (last) {
    destroyLibrary(library);
  }
}

CUresult moduleOf(CUlib_st *library, CUctx_st *context, CUmod_st *&module) {
  const auto known = library->modules.find(context);
  if (known != library->modules.end()) {
    module = known->second;
    return CUDA_SUCCESS;
  }
  Driver &all = *driver();
  const DeviceModel &model = *context->device->model;
  const ptx::Target &target = library->source->target;
  const int sm = model.major * 10 + model.minor;
  if (target.sm > sm || (target.suffix && target.sm != sm)) {
    return refuse(CUDA_ERROR_NO_BINARY_FOR_GPU, "the PTX is for sm_", int(target.sm),
                  target.suffix ? std::string(1, target.suffix) : std::string(), ", the device is ", model.name);
  }
  auto program = Program::load(*library->source, *all.memory, uint32_t(context->device->ordinal));
  if (!program.ok()) {
    const bool full = program.status().code() == moert::Code::OutOfMemory;
    return refuse(full ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_PTX, program.status().message());
  }
  module = all.modules.add(new CUmod_st);
  module->context = context;
  module->library = library;
  module->program = std::move(*program);
  for (const std::unique_ptr<CUkern_st> &kernel : library->kernels) {
    auto function = std::make_unique<CUfunc_st>();
    function->module = module;
    function->kernel = module->program->kernel(kernel->name);
    function->name = kernel->name;
    function->source = kernel.get();
    if (!function->kernel) {
      const std::string name = kernel->name;
      destroyModule(module);
      return refuse(CUDA_ERROR_INVALID_PTX, "kernel ", name, " was not translated");
    }
    all.functions.add(function.get());
    module->functions.push_back(std::move(function));
  }
  library->modules[context] = module;
  return CUDA_SUCCESS;
}

CUfunc_st *functionOf(const Call &call, CUfunction handle) {
  if (driver()->functions.has(handle)) {
    return handle;
  }
  auto *kernel = reinterpret_cast<CUkern_st *>(handle);
  CUmod_st *module = nullptr;
  if (driver()->kernels.has(kernel) && moduleOf(kernel->library, call.context, module) == CUDA_SUCCESS) {
    return module->functions[kernel->index].get();
  }
  if (!driver()->kernels.has(kernel)) {
    refuse(CUDA_ERROR_INVALID_HANDLE, "neither a live function nor a live kernel");
  }
  return nullptr;
}

static CUresult loadModule(const Call &call, CUmodule *module, const void *image, const JitOptions &options) {
  MOE_OUT(module);
  CUlib_st *library = nullptr;
  MOE_CHECK(parse(call, library, image, options));
  CUmod_st *loaded = nullptr;
  if (const CUresult result = moduleOf(library, call.context, loaded); result != CUDA_SUCCESS) {
    writeLogs(options, threadState().lastError);
    destroyLibrary(library);
    return result;
  }
  loaded->ownsLibrary = true;
  *module = loaded;
  return CUDA_SUCCESS;
}

/// A whole file, with a zero at its end.
static CUresult readFile(const char *path, std::string &bytes) {
  FILE *file = path ? std::fopen(path, "rb") : nullptr;
  if (!file) {
    return refuse(CUDA_ERROR_FILE_NOT_FOUND, "cannot open ", path ? path : "(null)");
  }
  char buffer[65536];
  for (size_t count; (count = std::fread(buffer, 1, sizeof(buffer), file)) > 0;) {
    bytes.append(buffer, count);
  }
  std::fclose(file);
  return bytes.size() >= 4 ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_IMAGE, path, " has ", bytes.size(), " bytes");
}

CU_API cuModuleLoad(CUmodule *module, const char *path) {
  MOE_CALL(Need::Context);
  std::string bytes;
  MOE_CHECK(readFile(path, bytes));
  return loadModule(call, module, bytes.c_str(), {});
}

CU_API cuModuleLoadData(CUmodule *module, const void *image) {
  MOE_CALL(Need::Context);
  return loadModule(call, module, image, {});
}

CU_API cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count, int *options, void **values) {
  MOE_CALL(Need::Context);
  if (count && (!options || !values)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, count, " options at a null pointer");
  }
  return loadModule(call, module, image, {count, options, values});
}

CU_API cuModuleLoadFatBinary(CUmodule *module, const void *image) {
  MOE_CALL(Need::Context);
  return loadModule(call, module, image, {});
}

static CUresult checkModule(CUmodule module) {
  return driver()->modules.has(module) ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_HANDLE, "not a live module");
}

CU_API cuModuleUnload(CUmodule module) {
  MOE_CALL(Need::Init);
  MOE_CHECK(checkModule(module));
  if (!module->ownsLibrary) {
    return refuse(CUDA_ERROR_NOT_PERMITTED, "the module belongs to a library: unload that");
  }
  destroyModule(module);
  return CUDA_SUCCESS;
}

CU_API cuModuleGetLoadingMode(int *mode) {
  MOE_CALL(Need::Init);
  MOE_OUT(mode);
  *mode = 1; // eager
  return CUDA_SUCCESS;
}

CU_API cuModuleGetFunction(CUfunction *result, CUmodule module, const char *name) {
  MOE_CALL(Need::Context);
  MOE_OUT(result);
  MOE_OUT(name);
  MOE_CHECK(checkModule(module));
  for (const std::unique_ptr<CUfunc_st> &function : module->functions) {
    if (function->name == name) {
      *result = function.get();
      return CUDA_SUCCESS;
    }
  }
  return refuse(CUDA_ERROR_NOT_FOUND, "the module has no kernel ", name);
}

CU_API cuModuleGetFunctionCount(unsigned *count, CUmodule module) {
  MOE_CALL(Need::Context);
  MOE_OUT(count);
  MOE_CHECK(checkModule(module));
  *count = unsigned(module->functions.size());
  return CUDA_SUCCESS;
}

CU_API cuModuleEnumerateFunctions(CUfunction *functions, unsigned count, CUmodule module) {
  MOE_CALL(Need::Context);
  MOE_OUT(functions);
  MOE_CHECK(checkModule(module));
  for (unsigned i = 0; i < std::min<size_t>(count, module->functions.size()); ++i) {
    functions[i] = module->functions[i].get();
  }
  return CUDA_SUCCESS;
}

static CUresult global(CUdeviceptr *address, size_t *bytes, CUmod_st *module, const char *name) {
  MOE_OUT(name);
  const ProgramVariable *variable = module->program->variable(name);
  if (!variable) {
    return refuse(CUDA_ERROR_NOT_FOUND, "the module has no variable ", name);
  }
  if (address) {
    *address = variable->address;
  }
  if (bytes) {
    *bytes = variable->size;
  }
  return CUDA_SUCCESS;
}

CU_API cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *bytes, CUmodule module, const char *name) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkModule(module));
  return global(address, bytes, module, name);
}

static CUresult checkLibrary(CUlibrary library) {
  return driver()->libraries.has(library) ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_HANDLE, "not a live library");
}

CU_API cuLibraryLoadData(CUlibrary *library, const void *image, int *options, void **values, unsigned count, int *,
                         void **, unsigned) {
  MOE_CALL(Need::Init);
  MOE_OUT(library);
  return parse(call, *library, image, {count, options, values});
}

CU_API cuLibraryLoadFromFile(CUlibrary *library, const char *path, int *options, void **values, unsigned count, int *,
                             void **, unsigned) {
  MOE_CALL(Need::Init);
  MOE_OUT(library);
  std::string bytes;
  MOE_CHECK(readFile(path, bytes));
  return parse(call, *library, bytes.c_str(), {count, options, values});
}

CU_API cuLibraryUnload(CUlibrary library) {
  MOE_CALL(Need::Init);
  MOE_CHECK(checkLibrary(library));
  destroyLibrary(library);
  return CUDA_SUCCESS;
}

CU_API cuLibraryGetKernel(CUkernel *result, CUlibrary library, const char *name) {
  MOE_CALL(Need::Init);
  MOE_OUT(result);
  MOE_OUT(name);
  MOE_CHECK(checkLibrary(library));
  for (const std::unique_ptr<CUkern_st> &kernel : library->kernels) {
    if (kernel->name == name) {
      *result = kernel.get();
      return CUDA_SUCCESS;
    }
  }
  return refuse(CUDA_ERROR_NOT_FOUND, "the library has no kernel ", name);
}

CU_API cuLibraryGetKernelCount(unsigned *count, CUlibrary library) {
  MOE_CALL(Need::Init);
  MOE_OUT(count);
  MOE_CHECK(checkLibrary(library));
  *count = unsigned(library->kernels.size());
  return CUDA_SUCCESS;
}

CU_API cuLibraryEnumerateKernels(CUkernel *kernels, unsigned count, CUlibrary library) {
  MOE_CALL(Need::Init);
  MOE_OUT(kernels);
  MOE_CHECK(checkLibrary(library));
  for (unsigned i = 0; i < std::min<size_t>(count, library->kernels.size()); ++i) {
    kernels[i] = library->kernels[i].get();
  }
  return CUDA_SUCCESS;
}

CU_API cuLibraryGetModule(CUmodule *module, CUlibrary library) {
  MOE_CALL(Need::Context);
  MOE_OUT(module);
  MOE_CHECK(checkLibrary(library));
  return moduleOf(library, call.context, *module);
}

CU_API cuLibraryGetGlobal(CUdeviceptr *address, size_t *bytes, CUlibrary library, const char *name) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkLibrary(library));
  CUmod_st *module = nullptr;
  MOE_CHECK(moduleOf(library, call.context, module));
  return global(address, bytes, module, name);
}

CU_API cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
  MOE_CALL(Need::Context);
  MOE_OUT(function);
  if (!driver()->kernels.has(kernel)) {
    return refuse(CUDA_ERROR_INVALID_HANDLE, "not a live kernel");
  }
  CUmod_st *module = nullptr;
  MOE_CHECK(moduleOf(kernel->library, call.context, module));
  *function = module->functions[kernel->index].get();
  return CUDA_SUCCESS;
}

CU_API cuKernelGetLibrary(CUlibrary *library, CUkernel kernel) {
  MOE_CALL(Need::Init);
  MOE_OUT(library);
  if (!driver()->kernels.has(kernel)) {
    return refuse(CUDA_ERROR_INVALID_HANDLE, "not a live kernel");
  }
  *library = kernel->library;
  return CUDA_SUCCESS;
}

CU_API cuKernelGetName(const char **name, CUkernel kernel) {
  MOE_CALL(Need::Init);
  MOE_OUT(name);
  if (!driver()->kernels.has(kernel)) {
    return refuse(CUDA_ERROR_INVALID_HANDLE, "not a live kernel");
  }
  *name = kernel->name.c_str();
  return CUDA_SUCCESS;
}

} // namespace moert::emulator
