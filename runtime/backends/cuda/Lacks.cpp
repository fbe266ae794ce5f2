// What the CUDA backend cannot do, asked of every program that is loaded: apart from the backend, which needs a driver.
#include "runtime/core/Backend.h"

namespace moert {

const char *cudaBackendLacks(const format::Variant &variant, const format::Command &command) {
  if (command.kind() == format::CommandKind::HostCall) {
    return "no host function is registered";
  }
  if (command.kind() == format::CommandKind::Collective) {
    const auto kind = format::CollectiveKind(command.target());
    if (variant.ranks() == 1 && kind == format::CollectiveKind::Exchange) {
      return "an exchange is for several ranks";
    }
    if (variant.ranks() > 1 && kind == format::CollectiveKind::AllToAll) {
      return "GPUs have no all-to-all of equal parts, only exchanges of rows";
    }
  }
  return nullptr;
}

} // namespace moert
