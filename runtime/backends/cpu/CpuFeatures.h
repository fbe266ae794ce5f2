//===- CpuFeatures.h - What this CPU and system can run ----------*- C++ -*-===//
//
// A feature counts as present if CPUID says so and the operating system keeps its registers (XCR0, and for AMX the
// permission that a process must ask for). Names are LLVM's.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_BACKENDS_CPU_CPUFEATURES_H
#define MOERT_BACKENDS_CPU_CPUFEATURES_H

#include <string>
#include <vector>

namespace moert::cpu {

/// Whether `name` ("avx2", "avx512bf16", "amx-tile", ...) may be used. Asks for AMX permission when it is about that.
/// Unknown names are absent.
bool hasFeature(const std::string &name);

/// All known features that are present, in a fixed order.
std::vector<std::string> presentFeatures();

} // namespace moert::cpu

#endif // MOERT_BACKENDS_CPU_CPUFEATURES_H
