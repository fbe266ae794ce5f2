//===- Ranges.h - Names for NVIDIA's profilers -------------------*- C++ -*-===//
//
// NVTX ranges around stages of a session, if NVIDIA's library of them is on the machine (libnvToolsExt, or in later
// toolkits libnvtx3interop): Nsight Systems then shows which step a kernel belongs to. Without the library nothing is
// done.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_BACKENDS_CUDA_RANGES_H
#define MOERT_BACKENDS_CUDA_RANGES_H

#include <cstdint>

namespace moert::cuda {

class Ranges {
public:
  /// Looks for the library.
  Ranges();
  /// Begins "`what` T=`tokens` M=`rows`".
  void begin(const char *what, int64_t tokens, int64_t rows) const;
  void end() const;

private:
  int (*push)(const char *text) = nullptr;
  int (*pop)() = nullptr;
};

} // namespace moert::cuda

#endif // MOERT_BACKENDS_CUDA_RANGES_H
