//===- ProcAddress.cpp - cuGetProcAddress -----------------------*- C++ -*-===//
//
// Finds a function by its plain name, the version that the caller was built for
// and the default stream that it wants. The table is in Symbols.inc; what the
// emulator lacks is found too (and says so when it is called), as a driver finds
// what a device cannot do.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Driver.h"
#include "runtime/emulator/driver/Symbols.h"

#include <cstring>

namespace moert::emulator {

/// The newest symbol of `name` that `version` may see; the per-thread one where there is one and it is wanted.
static int find(const char *name, int version, bool perThread, void **address) {
  const Symbol *best = nullptr, *bestPerThread = nullptr;
  bool known = false;
  for (size_t i = 0; i < symbolCount; ++i) {
    const Symbol &symbol = symbols[i];
    if (std::strcmp(symbol.function, name)) {
      continue;
    }
    known = true;
    const Symbol *&place = symbol.perThread ? bestPerThread : best;
    if (symbol.version <= version && (!place || symbol.version > place->version)) {
      place = &symbol;
    }
  }
  const Symbol *found = perThread && bestPerThread ? bestPerThread : best;
  *address = found ? found->address : nullptr;
  return found ? CU_GET_PROC_ADDRESS_SUCCESS
               : (known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
}

CU_API cuGetProcAddress_v2(const char *name, void **address, int version, uint64_t flags, int *status) {
  MOE_CALL(Need::Nothing);
  MOE_OUT(name);
  MOE_OUT(address);
  if (flags > 2) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags (", flags, ") must be 0, 1 or 2");
  }
  const int result = find(name, version, flags == CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, address);
  if (status) {
    *status = result;
  }
  return result == CU_GET_PROC_ADDRESS_SUCCESS ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CU_API cuGetProcAddress(const char *name, void **address, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, address, version, flags, nullptr);
}

CU_API cuProfilerStart() { return CUDA_SUCCESS; }
CU_API cuProfilerStop() { return CUDA_SUCCESS; }

} // namespace moert::emulator
