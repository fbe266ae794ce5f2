//===- RuntimeLibrary.cpp - libmoert, reached by dlopen ---------------------===//

#include "tools/moec/RuntimeLibrary.h"
#include "passes/Json/JsonFile.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include <dlfcn.h>

using namespace moec;
using llvm::Expected;
using mlir::moe::makeError;

Expected<RuntimeLibrary> RuntimeLibrary::open() {
  static int anchor;
  llvm::SmallString<256> beside(llvm::sys::path::parent_path(llvm::sys::fs::getMainExecutable("moec", &anchor)));
  llvm::sys::path::append(beside, "..", "lib", "libmoert.so");
  RuntimeLibrary library;
  void *handle = nullptr;
  for (std::string candidate : {std::string(beside), std::string("libmoert.so")}) {
    handle = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle) {
      library.path = std::move(candidate);
      break;
    }
  }
  if (!handle) {
    return makeError("libmoert.so was not found beside moec or by the system");
  }
  using AbiVersion = decltype(&moert_abi_version);
  auto abiVersion = reinterpret_cast<AbiVersion>(::dlsym(handle, "moert_abi_version"));
  if (!abiVersion || abiVersion() != MOERT_ABI_VERSION) {
    return makeError(library.path + ": has ABI version " + llvm::Twine(abiVersion ? abiVersion() : 0) +
                     ", but moec needs " + llvm::Twine(MOERT_ABI_VERSION) +
                     "; install moec and the runtime of one release");
  }
  library.version = reinterpret_cast<decltype(library.version)>(::dlsym(handle, "moert_version"));
  library.load = reinterpret_cast<decltype(library.load)>(::dlsym(handle, "moert_program_load"));
  library.release = reinterpret_cast<decltype(library.release)>(::dlsym(handle, "moert_program_free"));
  library.weightsOpen = reinterpret_cast<decltype(library.weightsOpen)>(::dlsym(handle, "moert_weights_open"));
  library.weightsRead = reinterpret_cast<decltype(library.weightsRead)>(::dlsym(handle, "moert_weights_read"));
  library.weightsFree = reinterpret_cast<decltype(library.weightsFree)>(::dlsym(handle, "moert_weights_free"));
  library.message = reinterpret_cast<decltype(library.message)>(::dlsym(handle, "moert_status_message"));
  library.releaseStatus = reinterpret_cast<decltype(library.releaseStatus)>(::dlsym(handle, "moert_status_free"));
  if (!library.version || !library.load || !library.release || !library.weightsOpen || !library.weightsRead ||
      !library.weightsFree || !library.message || !library.releaseStatus) {
    return makeError(library.path + ": lacks functions of moert.h");
  }
  return library;
}

std::string RuntimeLibrary::getVersion() const { return version(); }

llvm::Error RuntimeLibrary::take(moert_status *status) const {
  if (!status) {
    return llvm::Error::success();
  }
  llvm::Error error = makeError(message(status));
  releaseStatus(status);
  return error;
}

llvm::Error RuntimeLibrary::checkPackage(const std::string &package) const {
  moert_program *program = nullptr;
  if (llvm::Error error = take(load(package.c_str(), &program))) {
    return error;
  }
  release(program);
  return llvm::Error::success();
}

Expected<std::unique_ptr<RuntimeWeights>> RuntimeLibrary::openWeights(const std::string &package,
                                                                      const std::string &checkpoint) const {
  std::unique_ptr<RuntimeWeights> result(new RuntimeWeights(*this));
  if (llvm::Error error = take(load(package.c_str(), &result->program))) {
    return std::move(error);
  }
  moert_session_options options = {};
  options.struct_size = sizeof(options);
  options.weights = checkpoint.c_str();
  // A weight may be large, and nobody waits for it as for a step.
  options.deadline_seconds = 24 * 3600;
  if (llvm::Error error = take(weightsOpen(result->program, &options, &result->weights))) {
    return std::move(error);
  }
  return result;
}

RuntimeWeights::~RuntimeWeights() {
  library.weightsFree(weights);
  library.release(program);
}

Expected<llvm::StringRef> RuntimeWeights::read(const std::string &name) {
  const void *data = nullptr;
  size_t size = 0;
  if (llvm::Error error = library.take(library.weightsRead(weights, name.c_str(), &data, &size))) {
    return std::move(error);
  }
  return llvm::StringRef(static_cast<const char *>(data), size);
}
