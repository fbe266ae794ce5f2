/*===- kernel_abi.h - What a generated CPU kernel sees -----------------------===
 *
 * The shared object of a CPU variant exports one function per kernel. `args`
 * holds one 64-bit word per operand of the launch, in order: a pointer for
 * slices, weight spans and weight tables (a pointer to an array of pointers), an
 * integer or float bits for sizes and constants. `workgroup` counts from 0 to
 * the grid's size; workgroups run in any order on any worker. `scratch` is 64
 * byte aligned memory of MOERT_KERNEL_SCRATCH bytes that belongs to the worker
 * and holds nothing at entry. A kernel calls nothing and allocates nothing.
 *
 *===-----------------------------------------------------------------------===*/
#ifndef MOERT_KERNEL_ABI_H
#define MOERT_KERNEL_ABI_H

#include <stdint.h>

#define MOERT_KERNEL_ABI_VERSION 1
#define MOERT_KERNEL_SCRATCH (2u << 20)

typedef void (*moert_cpu_kernel)(const uint64_t *args, int64_t workgroup, void *scratch);

/* The shared object also exports `const uint32_t moert_kernel_abi` == MOERT_KERNEL_ABI_VERSION. */

#endif /* MOERT_KERNEL_ABI_H */
