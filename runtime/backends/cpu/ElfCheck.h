//===- ElfCheck.h - Is this blob a self-contained kernel library? -*- C++ -*-===//
//
// Reads the ELF file as the dynamic loader will (program headers and dynamic section, not section headers) and refuses
// whatever could run or reach something outside: needed libraries, undefined symbols, constructors, indirect functions,
// thread-local storage, writable code. Runs nothing.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_BACKENDS_CPU_ELFCHECK_H
#define MOERT_BACKENDS_CPU_ELFCHECK_H

#include "runtime/core/Status.h"

#include <string>
#include <vector>

namespace moert::cpu {

/// Checks `size` bytes of `path` (for messages) and that it defines every function in `kernels`.
Status checkKernelElf(const std::string &path, const void *blob, size_t size, const std::vector<std::string> &kernels);

} // namespace moert::cpu

#endif // MOERT_BACKENDS_CPU_ELFCHECK_H
