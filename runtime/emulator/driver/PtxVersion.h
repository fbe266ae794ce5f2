//===- PtxVersion.h - Which PTX a driver takes --------------------*- C++ -*-===//
//
// A driver assembles PTX up to the version of its own CUDA release, and refuses newer text whatever is in it. The
// numbers are those of the PTX ISA's release notes. Knows nothing of machine code, for which other rules hold.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_DRIVER_PTXVERSION_H
#define MOERT_EMULATOR_DRIVER_PTXVERSION_H

#include <cctype>
#include <string_view>

namespace moert {

/// 83 of a text with ".version 8.3"; 0: there is none, which the driver will say.
inline unsigned ptxVersionOf(std::string_view text) {
  const std::string_view directive = ".version ";
  const size_t at = text.find(directive);
  const std::string_view number = at == text.npos ? "" : text.substr(at + directive.size(), 3);
  const bool isOne = number.size() == 3 && std::isdigit(number[0]) && number[1] == '.' && std::isdigit(number[2]);
  return isOne ? unsigned(10 * (number[0] - '0') + number[2] - '0') : 0;
}

/// The newest PTX (83 of 8.3) that a driver of that CUDA release (12030 of 12.3) takes: CUDA 11 came with PTX 7 and so
/// on, minor with minor, but for 12.6, which had none of its own.
constexpr unsigned newestPtx(int cudaVersion) {
  const unsigned major = unsigned(cudaVersion) / 1000, minor = unsigned(cudaVersion) % 1000 / 10;
  return 10 * (major - 4) + (major == 12 && minor >= 6 ? minor - 1 : minor);
}

/// The first CUDA release (12030) whose drivers take that PTX (83).
constexpr int firstCudaOfPtx(unsigned ptx) {
  int version = int(ptx / 10 + 4) * 1000;
  while (newestPtx(version) < ptx) {
    version += 10;
  }
  return version;
}

} // namespace moert

#endif // MOERT_EMULATOR_DRIVER_PTXVERSION_H
