//===- KernelLibrary.h - Loads a checked kernel blob -------------*- C++ -*-===//
//
// Copies the blob into a sealed memory file, so that what was checked is what runs, and opens that with dlopen. Kernels
// trust their arguments; the checks of the program are what makes them safe.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_BACKENDS_CPU_KERNELLIBRARY_H
#define MOERT_BACKENDS_CPU_KERNELLIBRARY_H

#include "runtime/core/Status.h"
#include "runtime/include/moert/kernel_abi.h"

#include <string>
#include <vector>

namespace moert::cpu {

/// An open kernel library; closed with the object.
class KernelLibrary {
public:
  /// Checks (see ElfCheck.h), loads and resolves one function per symbol.
  static Result<KernelLibrary> load(const std::string &path, const void *blob, size_t size,
                                    const std::vector<std::string> &symbols);
  KernelLibrary(KernelLibrary &&other) noexcept;
  KernelLibrary &operator=(KernelLibrary &&other) noexcept;
  ~KernelLibrary();

  const std::vector<moert_cpu_kernel> &kernels() const { return functions; }

private:
  KernelLibrary() = default;
  void *handle = nullptr;
  /// Stays open: the dynamic loader knows libraries by path, and the number is part of it.
  int fd = -1;
  std::vector<moert_cpu_kernel> functions;
};

} // namespace moert::cpu

#endif // MOERT_BACKENDS_CPU_KERNELLIBRARY_H
