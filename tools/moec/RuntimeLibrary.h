//===- RuntimeLibrary.h - libmoert, reached by dlopen -----------------------===//
//
// moec needs the runtime only to look at packages and to compute weights, so it does not link it: the
// library beside the tool (or of the system) is opened when it is there.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_RUNTIMELIBRARY_H
#define MOE_TOOLS_MOEC_RUNTIMELIBRARY_H

#include "runtime/include/moert/moert.h"
#include "llvm/Support/Error.h"
#include <memory>

namespace moec {

/// The tensors of a package, read and computed by the runtime.
class RuntimeWeights {
public:
  RuntimeWeights(const RuntimeWeights &) = delete;
  ~RuntimeWeights();
  /// The bytes of a tensor, which stay until the next call.
  llvm::Expected<llvm::StringRef> read(const std::string &name);

private:
  friend class RuntimeLibrary;
  explicit RuntimeWeights(const class RuntimeLibrary &library) : library(library) {}

  const RuntimeLibrary &library;
  moert_program *program = nullptr;
  moert_weights *weights = nullptr;
};

class RuntimeLibrary {
public:
  /// Looks in ../lib beside the executable, then where the system looks. The library stays open.
  static llvm::Expected<RuntimeLibrary> open();

  const std::string &getPath() const { return path; }
  std::string getVersion() const;
  /// Loads the package as a program would; touches no weight.
  llvm::Error checkPackage(const std::string &package) const;
  /// Opens the weights of a package, whose checkpoint is in `checkpoint`. The library must outlive them.
  llvm::Expected<std::unique_ptr<RuntimeWeights>> openWeights(const std::string &package,
                                                              const std::string &checkpoint) const;

private:
  friend class RuntimeWeights;
  /// What `status` says; frees it.
  llvm::Error take(moert_status *status) const;

  std::string path;
  decltype(&moert_version) version = nullptr;
  decltype(&moert_program_load) load = nullptr;
  decltype(&moert_program_free) release = nullptr;
  decltype(&moert_weights_open) weightsOpen = nullptr;
  decltype(&moert_weights_read) weightsRead = nullptr;
  decltype(&moert_weights_free) weightsFree = nullptr;
  decltype(&moert_status_message) message = nullptr;
  decltype(&moert_status_free) releaseStatus = nullptr;
};

} // namespace moec

#endif // MOE_TOOLS_MOEC_RUNTIMELIBRARY_H
