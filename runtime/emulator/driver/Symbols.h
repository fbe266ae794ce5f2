//===- Symbols.h - The table of exported names ------------------*- C++ -*-===//
//
// One entry per line of Symbols.inc. Says nothing of what a function does.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_DRIVER_SYMBOLS_H
#define MOERT_EMULATOR_DRIVER_SYMBOLS_H

#include <cstddef>

namespace moert::emulator {

struct Symbol {
  const char *function; ///< as cuGetProcAddress is asked: "cuMemAlloc"
  int version;          ///< of the driver that introduced it: 3020 is 3.2
  bool perThread;       ///< the variant whose stream 0 is the per-thread one
  void *address;
};

extern const Symbol symbols[];
extern const size_t symbolCount;

} // namespace moert::emulator

#endif // MOERT_EMULATOR_DRIVER_SYMBOLS_H
