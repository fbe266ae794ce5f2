//===- RuntimeLibrary.h - libmoert, reached by dlopen -----------------------===//
//
// moec needs the runtime only to look at packages, so it does not link it: the
// library beside the tool (or of the system) is opened when it is there.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_RUNTIMELIBRARY_H
#define MOE_TOOLS_MOEC_RUNTIMELIBRARY_H

#include "runtime/include/moert/moert.h"
#include "llvm/Support/Error.h"

namespace moec {

class RuntimeLibrary {
public:
  /// Looks in ../lib beside the executable, then where the system looks. The library stays open.
  static llvm::Expected<RuntimeLibrary> open();

  const std::string &getPath() const { return path; }
  std::string getVersion() const;
  /// Loads the package as a program would; touches no weight.
  llvm::Error checkPackage(const std::string &package) const;

private:
  std::string path;
  decltype(&moert_version) version = nullptr;
  decltype(&moert_program_load) load = nullptr;
  decltype(&moert_program_free) release = nullptr;
  decltype(&moert_status_message) message = nullptr;
  decltype(&moert_status_free) releaseStatus = nullptr;
};

} // namespace moec

#endif // MOE_TOOLS_MOEC_RUNTIMELIBRARY_H
