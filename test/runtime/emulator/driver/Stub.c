/* A libcuda.so for linking: every name of Symbols.inc, none of which works, like the stub of a CUDA toolkit. */
#define CU_SYMBOL(function, symbol, version, perThread)                                                                \
  int symbol(void) { return 34; }
#include "runtime/emulator/driver/Symbols.inc"
