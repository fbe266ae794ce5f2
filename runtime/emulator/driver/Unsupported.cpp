//===- Unsupported.cpp - A definition for every exported name ---*- C++ -*-===//
//
// Symbols.inc lists every name. Each gets a weak definition here that returns
// CUDA_ERROR_NOT_SUPPORTED and says so once; functions that exist elsewhere are
// strong and win when the library is linked. So nothing is missing at load time,
// and nothing unsupported looks as if it worked.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Driver.h"
#include "runtime/emulator/driver/Symbols.h"

#include <set>

namespace moert::emulator {

static CUresult unsupported(const char *name) {
  static std::set<std::string> *said = new std::set<std::string>;
  std::lock_guard<std::mutex> lock(driverLock());
  threadState().function = name;
  if (said->insert(name).second) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "the emulator does not have this function");
  }
  return CUDA_ERROR_NOT_SUPPORTED;
}

} // namespace moert::emulator

// The parameters do not matter: callers pass them in registers and clean up the stack themselves.
#define CU_SYMBOL(function, symbol, version, perThread)                                                                \
  extern "C" __attribute__((visibility("default"), weak)) CUresult symbol() {                                          \
    return moert::emulator::unsupported(#symbol);                                                                      \
  }
#include "runtime/emulator/driver/Symbols.inc"
#undef CU_SYMBOL

namespace moert::emulator {

const Symbol symbols[] = {
#define CU_SYMBOL(function, symbol, version, perThread)                                                                \
  {#function, version, perThread != 0, reinterpret_cast<void *>(&symbol)},
#include "runtime/emulator/driver/Symbols.inc"
#undef CU_SYMBOL
};
const size_t symbolCount = sizeof(symbols) / sizeof(symbols[0]);

} // namespace moert::emulator
