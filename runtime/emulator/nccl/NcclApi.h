/*===- NcclApi.h - The part of NCCL's C ABI that we use and imitate ----------===*\
 *
 * Types, numbers and layouts, declared from what the interface is, so that
 * building needs no NCCL. Both sides include it: the runtime, which reaches
 * libnccl.so.2 by dlopen, and the emulator's libnccl.so.2.
 *
 * Not here: functions (see runtime/backends/cuda/NcclFunctions.inc).
 *
\*===----------------------------------------------------------------------===*/
#ifndef MOE_EMULATOR_NCCL_NCCLAPI_H
#define MOE_EMULATOR_NCCL_NCCLAPI_H

#include <stddef.h>

typedef struct ncclComm *ncclComm_t;

typedef struct {
  char internal[128];
} ncclUniqueId;

typedef int ncclResult_t;
enum {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1,
  ncclSystemError = 2,
  ncclInternalError = 3,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7
};

typedef int ncclDataType_t;
enum { ncclUint8 = 1, ncclFloat32 = 7, ncclBfloat16 = 9 };

typedef int ncclRedOp_t;
enum { ncclSum = 0 };

/* How a communicator is made: the fields of version 2.14, the first that need not block. A library takes what `size`
 * says and the rest as unset. */
typedef struct {
  size_t size;
  unsigned magic;
  unsigned version;
  int blocking;
} ncclConfig_t;
#define NCCL_CONFIG_MAGIC 0xcafebeefu
#define NCCL_CONFIG_VERSION 21400u

#endif /* MOE_EMULATOR_NCCL_NCCLAPI_H */
