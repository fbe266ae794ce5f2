// CPUID leaves 1, 7 and extended 1, XCR0 and the AMX permission; see CpuFeatures.h.
#include "runtime/backends/cpu/CpuFeatures.h"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace moert::cpu {
#if defined(__x86_64__)
namespace {

enum Register { EAX, EBX, ECX, EDX };

/// What the operating system must save for a feature.
enum class State { None, Avx, Avx512, Amx };

struct Feature {
  const char *name;
  uint32_t leaf, subleaf;
  Register reg;
  int bit;
  State state;
};

constexpr Feature kFeatures[] = {
    {"sse3", 1, 0, ECX, 0, State::None},
    {"ssse3", 1, 0, ECX, 9, State::None},
    {"fma", 1, 0, ECX, 12, State::Avx},
    {"cx16", 1, 0, ECX, 13, State::None},
    {"sse4.1", 1, 0, ECX, 19, State::None},
    {"sse4.2", 1, 0, ECX, 20, State::None},
    {"movbe", 1, 0, ECX, 22, State::None},
    {"popcnt", 1, 0, ECX, 23, State::None},
    {"xsave", 1, 0, ECX, 26, State::None},
    {"avx", 1, 0, ECX, 28, State::Avx},
    {"f16c", 1, 0, ECX, 29, State::Avx},
    {"sahf", 0x80000001, 0, ECX, 0, State::None},
    {"lzcnt", 0x80000001, 0, ECX, 5, State::None},
    {"bmi", 7, 0, EBX, 3, State::None},
    {"avx2", 7, 0, EBX, 5, State::Avx},
    {"bmi2", 7, 0, EBX, 8, State::None},
    {"avx512f", 7, 0, EBX, 16, State::Avx512},
    {"avx512dq", 7, 0, EBX, 17, State::Avx512},
    {"avx512ifma", 7, 0, EBX, 21, State::Avx512},
    {"avx512cd", 7, 0, EBX, 28, State::Avx512},
    {"avx512bw", 7, 0, EBX, 30, State::Avx512},
    {"avx512vl", 7, 0, EBX, 31, State::Avx512},
    {"avx512vbmi", 7, 0, ECX, 1, State::Avx512},
    {"avx512vbmi2", 7, 0, ECX, 6, State::Avx512},
    {"gfni", 7, 0, ECX, 8, State::None},
    {"avx512vnni", 7, 0, ECX, 11, State::Avx512},
    {"avx512bitalg", 7, 0, ECX, 12, State::Avx512},
    {"avx512vpopcntdq", 7, 0, ECX, 14, State::Avx512},
    {"amx-bf16", 7, 0, EDX, 22, State::Amx},
    {"avx512fp16", 7, 0, EDX, 23, State::Avx512},
    {"amx-tile", 7, 0, EDX, 24, State::Amx},
    {"amx-int8", 7, 0, EDX, 25, State::Amx},
    {"avxvnni", 7, 1, EAX, 4, State::Avx},
    {"avx512bf16", 7, 1, EAX, 5, State::Avx512},
    {"amx-fp16", 7, 1, EAX, 21, State::Amx},
};

uint64_t enabledStates() {
  unsigned a, b, c, d;
  constexpr unsigned osxsave = 1u << 27;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & osxsave)) {
    return 0;
  }
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t(high) << 32 | low;
}

/// The process must ask once before it may touch tile data; the kernel refuses if it does not know AMX.
bool mayUseTiles() {
  constexpr long requestPermission = 0x1023, tileData = 18;
  static const bool granted = syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
  return granted;
}

bool isPresent(const Feature &feature) {
  unsigned regs[4] = {};
  if (!__get_cpuid_count(feature.leaf, feature.subleaf, &regs[EAX], &regs[EBX], &regs[ECX], &regs[EDX]) ||
      !(regs[feature.reg] >> feature.bit & 1)) {
    return false;
  }
  static const uint64_t states = enabledStates();
  auto saves = [&](uint64_t mask) { return (states & mask) == mask; };
  switch (feature.state) {
  case State::None:
    return true;
  case State::Avx:
    return saves(0x6);
  case State::Avx512:
    return saves(0xe6);
  case State::Amx:
    return saves(0x60000) && mayUseTiles();
  }
  return false;
}

} // namespace

bool hasFeature(const std::string &name) {
  for (const Feature &feature : kFeatures) {
    if (name == feature.name) {
      return isPresent(feature);
    }
  }
  return false;
}

std::vector<std::string> presentFeatures() {
  std::vector<std::string> names;
  for (const Feature &feature : kFeatures) {
    if (isPresent(feature)) {
      names.push_back(feature.name);
    }
  }
  return names;
}
#else
bool hasFeature(const std::string &) { return false; }
std::vector<std::string> presentFeatures() { return {}; }
#endif

} // namespace moert::cpu
