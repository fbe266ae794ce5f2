// Fuzzes the check of kernel libraries (ELF) that runs before the dynamic loader sees them.
#include "runtime/backends/cpu/ElfCheck.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  (void)moert::cpu::checkKernelElf("fuzz", data, size, {"kernel"});
  return 0;
}
