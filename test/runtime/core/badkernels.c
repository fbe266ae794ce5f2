/* Shared objects that the ELF check must refuse, one per DEFECT_*; see ElfCheckTest.cpp. */
#include "runtime/include/moert/kernel_abi.h"

#ifndef DEFECT_ABI_MISSING
#ifdef DEFECT_ABI_OTHER
const uint32_t moert_kernel_abi = 99;
#else
const uint32_t moert_kernel_abi = MOERT_KERNEL_ABI_VERSION;
#endif
#endif

#ifdef DEFECT_UNDEFINED
extern int puts(const char *);
void kernel(const uint64_t *args, int64_t workgroup, void *scratch) { puts("called"); }
#else
void kernel(const uint64_t *args, int64_t workgroup, void *scratch) {}
#endif

#ifdef DEFECT_CONSTRUCTOR
__attribute__((constructor)) static void begin(void) { *(volatile int *)0 = 0; }
#endif
#ifdef DEFECT_DESTRUCTOR
__attribute__((destructor)) static void end(void) { *(volatile int *)0 = 0; }
#endif
#ifdef DEFECT_TLS
__thread int counter;
#endif
#ifdef DEFECT_IFUNC
static void (*resolve(void))(void) { return 0; }
void indirect(void) __attribute__((ifunc("resolve")));
#endif
