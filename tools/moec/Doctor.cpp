//===- Doctor.cpp - moec doctor: is this machine fit, and what is missing ---===//
//
// Every line is a finding: ok, missing (something does not work without it) or
// absent (optional, or a feature that this CPU does not have).
//
//===----------------------------------------------------------------------===//

#include "lowering/CPU/CpuTarget.h"
#include "tools/moec/Console.h"
#include "tools/moec/RuntimeLibrary.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/TargetParser/Host.h"
#include <asm/prctl.h>
#include <dlfcn.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace moec;
using llvm::StringRef;

namespace {

enum class Verdict { Ok, Missing, Absent };

struct Finding {
  std::string name;
  Verdict verdict;
  std::string detail;
};

} // namespace

static StringRef verdictName(Verdict verdict) {
  return verdict == Verdict::Ok ? "ok" : verdict == Verdict::Missing ? "missing" : "absent";
}

/// Whether the kernel lets this process use AMX tiles; asking is also what enables them.
static bool requestAmx() {
  constexpr unsigned long kRequestPermission = 0x1023, kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

static void checkCpu(std::vector<Finding> &findings) {
  llvm::StringMap<bool> features = llvm::sys::getHostCPUFeatures();
  findings.push_back({"cpu", Verdict::Ok, llvm::sys::getHostCPUName().str()});
  struct Variant {
    StringRef finding, target, otherwise;
    Verdict without;
  };
  for (const Variant &variant :
       {Variant{"avx2", "x86-64-v3", "packages will not run here", Verdict::Missing},
        Variant{"avx512", "x86-64-v4", "AVX2 kernels are used", Verdict::Absent},
        Variant{"avx512-bf16", "avx512bf16", "bf16 is widened to f32 in registers", Verdict::Absent}}) {
    const mlir::moe::cpu::CpuTarget *target = mlir::moe::cpu::findTarget(variant.target);
    std::string lacking = llvm::join(mlir::moe::cpu::missingFeatures(*target), ", ");
    findings.push_back({variant.finding.str(), lacking.empty() ? Verdict::Ok : variant.without,
                        lacking.empty() ? ("variant " + variant.target + " runs").str()
                                        : (variant.otherwise + " (no " + lacking + ")").str()});
  }
  bool amx = features.lookup("amx-tile") && features.lookup("amx-bf16");
  bool permitted = amx && requestAmx();
  findings.push_back({"amx", permitted ? Verdict::Ok : Verdict::Absent,
                      permitted ? "present, and the kernel permits tiles (no kernel of this version uses them)"
                      : amx     ? "the CPU has it, but the kernel denies tile data (arch_prctl)"
                                : "not a feature of this CPU"});
}

/// The value of a line "Key:   123 kB" of /proc/meminfo, in bytes; 0 if not found.
static uint64_t readMeminfo(StringRef key) {
  auto buffer = llvm::MemoryBuffer::getFileAsStream("/proc/meminfo");
  if (!buffer) {
    return 0;
  }
  for (StringRef line : llvm::split((*buffer)->getBuffer(), '\n')) {
    uint64_t kilobytes;
    if (line.consume_front(key) && line.consume_front(":") &&
        !line.trim().split(' ').first.getAsInteger(10, kilobytes)) {
      return kilobytes * 1024;
    }
  }
  return 0;
}

static void checkMachine(std::vector<Finding> &findings) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  int count = ::sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
  findings.push_back({"cores", Verdict::Ok, llvm::formatv("{0} usable", count).str()});
  double gib = 1024.0 * 1024 * 1024;
  findings.push_back({"memory", Verdict::Ok,
                      llvm::formatv("{0:F1} GiB, {1:F1} GiB available", double(readMeminfo("MemTotal")) / gib,
                                    double(readMeminfo("MemAvailable")) / gib)
                          .str()});
}

static void checkPrograms(std::vector<Finding> &findings) {
  findings.push_back({"llvm", Verdict::Ok, LLVM_VERSION_STRING});
  std::string linker;
  for (StringRef name : {"ld.lld-22", "ld.lld"}) {
    if (auto found = llvm::sys::findProgramByName(name); found && linker.empty()) {
      linker = *found;
    } else if (auto packaged = llvm::sys::findProgramByName(name, {"/usr/lib/llvm-22/bin"});
               packaged && linker.empty()) {
      linker = *packaged;
    }
  }
  findings.push_back({"ld.lld", linker.empty() ? Verdict::Missing : Verdict::Ok,
                      linker.empty() ? "'moec compile' cannot link kernels; install lld-22" : linker});
  if (llvm::Expected<RuntimeLibrary> runtime = RuntimeLibrary::open()) {
    findings.push_back({"runtime", Verdict::Ok, "libmoert " + runtime->getVersion() + " at " + runtime->getPath()});
  } else {
    findings.push_back({"runtime", Verdict::Missing, llvm::toString(runtime.takeError())});
  }
  void *driver = ::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  findings.push_back({"gpu", driver ? Verdict::Ok : Verdict::Absent,
                      driver ? "an NVIDIA driver is here: packages of --target cuda:sm_80 run on its GPUs"
                             : "no NVIDIA driver; packages run on the CPU, those for GPUs on the emulator"});
  auto iree = llvm::sys::findProgramByName("iree-compile");
  findings.push_back({"iree-compile", iree ? Verdict::Ok : Verdict::Absent,
                      iree ? *iree : "optional: pip install iree-base-compiler iree-base-runtime"});
}

ExitCode moec::runDoctor(const DoctorCommand &command) {
  std::vector<Finding> findings;
  checkCpu(findings);
  checkMachine(findings);
  checkPrograms(findings);
  bool fit = llvm::none_of(findings, [](const Finding &finding) { return finding.verdict == Verdict::Missing; });
  if (command.json) {
    llvm::json::Array list;
    for (const Finding &finding : findings) {
      list.push_back(llvm::json::Object{
          {"name", finding.name}, {"verdict", verdictName(finding.verdict)}, {"detail", finding.detail}});
    }
    printJson(llvm::json::Object{{"version", getVersionString()}, {"fit", fit}, {"findings", std::move(list)}});
  } else {
    llvm::outs() << getVersionString() << '\n';
    for (const Finding &finding : findings) {
      llvm::outs() << llvm::formatv("  {0,-8} {1,-13} {2}\n", verdictName(finding.verdict), finding.name,
                                    finding.detail);
    }
  }
  if (!fit) {
    printError("something that is needed is missing; see above");
  }
  return fit ? kSuccess : kUserError;
}
