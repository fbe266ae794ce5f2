//===- RuntimeLibrary.cpp - libmoert, reached by dlopen ---------------------===//

#include "tools/moec/RuntimeLibrary.h"
#include "lowering/HFToMoe/JsonFile.h"
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
  library.message = reinterpret_cast<decltype(library.message)>(::dlsym(handle, "moert_status_message"));
  library.releaseStatus = reinterpret_cast<decltype(library.releaseStatus)>(::dlsym(handle, "moert_status_free"));
  if (!library.version || !library.load || !library.release || !library.message || !library.releaseStatus) {
    return makeError(library.path + ": lacks functions of moert.h");
  }
  return library;
}

std::string RuntimeLibrary::getVersion() const { return version(); }

llvm::Error RuntimeLibrary::checkPackage(const std::string &package) const {
  moert_program *program = nullptr;
  if (moert_status *status = load(package.c_str(), &program)) {
    llvm::Error error = makeError(message(status));
    releaseStatus(status);
    return error;
  }
  release(program);
  return llvm::Error::success();
}
