// The choice of a device; see DeviceChoice.h.
#include "runtime/core/DeviceChoice.h"

namespace moert {
namespace {

/// `text` as the number of a device; -1: it is none.
int ordinalOf(const std::string &text) {
  const bool isNumber = !text.empty() && text.size() <= 3 && text.find_first_not_of("0123456789") == std::string::npos;
  return isNumber ? std::stoi(text) : -1;
}

} // namespace

Result<DeviceChoice> chooseDevice(const Program &program, const char *asked) {
  bool hasCpu = program.variantCount() == 0, hasGpu = false;
  std::string targets;
  for (size_t v = 0; v < program.variantCount(); ++v) {
    const bool isCpu = isForCpu(program.variant(v));
    (isCpu ? hasCpu : hasGpu) = true;
    targets += (targets.empty() ? "" : ", ") + program.variant(v).target()->str();
  }
  DeviceChoice choice;
  if (!asked) {
    choice.kind = hasCpu ? DeviceKind::Cpu : DeviceKind::Cuda;
    return choice;
  }
  const std::string text = asked;
  const std::string prefix = "cuda:";
  if (text == "emulator") {
    choice.kind = DeviceKind::Emulator;
  } else if (text == "cuda") {
    choice.kind = DeviceKind::Cuda;
  } else if (text.compare(0, prefix.size(), prefix) == 0 && ordinalOf(text.substr(prefix.size())) >= 0) {
    choice = {DeviceKind::Cuda, ordinalOf(text.substr(prefix.size()))};
  } else if (text != "cpu") {
    return error(Code::InvalidArgument, "device '", text, "' is not known: use cpu, cuda, cuda:N or emulator");
  }
  const bool isCpu = choice.kind == DeviceKind::Cpu;
  if (isCpu ? !hasCpu : !hasGpu) {
    return error(Code::Unsupported, program.package(), ": was compiled for ", targets, ", device '", text, "' needs a ",
                 isCpu ? "variant for CPUs: compile with --target cpu, or use --device cuda or --device emulator"
                       : "variant for CUDA: compile with --target cuda:sm_80");
  }
  return choice;
}

} // namespace moert
