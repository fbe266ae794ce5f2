//===- CopyApi.cpp - cuMemcpy* and cuMemset* --------------------*- C++ -*-===//
//
// Every copy becomes one CopyOperation in a stream; what differs is when the
// host goes on. As the API states it: a pageable source is read before the call
// returns (and nothing says that the copy has arrived by then); a copy to
// pageable memory, or a synchronous one with pinned memory, is complete on
// return; all else is only queued, and pinned memory is read when the copy runs.
// Memsets are queued, unless they are synchronous and write pinned memory.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Engine.h"
#include "runtime/emulator/driver/Graph.h"

#include <cstring>

namespace moert::emulator {

/// Which stream, and whether the call is one of the synchronous forms.
struct Where {
  CUstream stream = nullptr;
  bool perThread = false;
  bool synchronous = false;
};

/// Host memory that devices may access too.
static bool isPinned(CUmemorytype type, const void *host, CUdeviceptr device) {
  const uint64_t address = type == CU_MEMORYTYPE_HOST ? reinterpret_cast<uint64_t>(host) : device;
  const Allocation *allocation = driver()->memory->find(address);
  return allocation && allocation->kind == AllocationKind::Pinned;
}

static CUresult copy(const Call &call, CopyOperation operation, const Where &where) {
  CUstream_st *stream = streamOf(call, where.stream, where.perThread);
  if (!stream) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (where.synchronous) {
    MOE_CHECK(refuseUnsafe("a synchronous copy"));
  }
  const CUDA_MEMCPY3D_PEER &what = operation.copy;
  if (!what.WidthInBytes || !what.Height || !what.Depth) {
    return CUDA_SUCCESS;
  }
  MOE_CHECK(checkCopy(call, operation));
  const bool toHost = destinationIsPageable(what), fromHost = sourceIsPageable(what);
  const bool pinned = isPinned(what.srcMemoryType, what.srcHost, what.srcDevice) ||
                      isPinned(what.dstMemoryType, what.dstHost, what.dstDevice);
  if (stream->capture) {
    return submit(stream, std::move(operation)); // a graph reads the source whenever it is launched
  }
  if (fromHost) {
    if (where.synchronous) {
      MOE_CHECK(synchronize(stream)); // stated for synchronous copies from pageable memory
    }
    takeSnapshot(operation);
  }
  WorkPtr work;
  MOE_CHECK(submit(stream, std::move(operation), &work));
  if (toHost || (where.synchronous && pinned)) {
    return driver()->engine->wait(work);
  }
  return CUDA_SUCCESS;
}

static CUresult copyTyped(const Call &call, CUdeviceptr to, CUmemorytype toType, CUdeviceptr from,
                          CUmemorytype fromType, size_t bytes, const Where &where) {
  CopyOperation operation = linearCopy(to, from, bytes);
  operation.copy.srcMemoryType = fromType;
  operation.copy.dstMemoryType = toType;
  operation.copy.srcHost = reinterpret_cast<const void *>(from);
  operation.copy.dstHost = reinterpret_cast<void *>(to);
  return copy(call, std::move(operation), where);
}

static CUdeviceptr raw(const void *pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

static CUresult copy3D(const Call &call, const CUDA_MEMCPY3D_PEER &what, const Where &where) {
  CopyOperation operation;
  operation.copy = what;
  return copy(call, std::move(operation), where);
}

static CUresult copy3D(const Call &call, const CUDA_MEMCPY3D *what, const Where &where) {
  MOE_OUT(what);
  CUDA_MEMCPY3D_PEER peer;
  static_assert(sizeof(peer) == sizeof(*what), "the peer form has contexts in the reserved places");
  std::memcpy(&peer, what, sizeof(peer));
  return copy3D(call, peer, where);
}

static CUresult copy2D(const Call &call, const CUDA_MEMCPY2D *what, const Where &where) {
  MOE_OUT(what);
  return copy3D(call, as3D(*what), where);
}

constexpr CUmemorytype hostSide = CU_MEMORYTYPE_HOST, deviceSide = CU_MEMORYTYPE_DEVICE,
                       anySide = CU_MEMORYTYPE_UNIFIED;

// Each synchronous function has a variant for the per-thread default stream (_ptds), each asynchronous one too (_ptsz).
#define SYNCHRONOUS(name, perThreadName, parameters, expression)                                                       \
  CU_API name parameters {                                                                                             \
    MOE_CALL(Need::Context);                                                                                           \
    const Where where{nullptr, false, true};                                                                           \
    return expression;                                                                                                 \
  }                                                                                                                    \
  CU_API perThreadName parameters {                                                                                    \
    MOE_CALL(Need::Context);                                                                                           \
    const Where where{nullptr, true, true};                                                                            \
    return expression;                                                                                                 \
  }
#define PARAMETERS(...) (__VA_ARGS__, CUstream stream)
#define ASYNCHRONOUS(name, parameters, expression)                                                                     \
  CU_API name PARAMETERS parameters {                                                                                  \
    MOE_CALL(Need::Context);                                                                                           \
    const Where where{stream, false, false};                                                                           \
    return expression;                                                                                                 \
  }                                                                                                                    \
  CU_API name##_ptsz PARAMETERS parameters {                                                                           \
    MOE_CALL(Need::Context);                                                                                           \
    const Where where{stream, true, false};                                                                            \
    return expression;                                                                                                 \
  }

SYNCHRONOUS(cuMemcpy, cuMemcpy_ptds, (CUdeviceptr to, CUdeviceptr from, size_t bytes),
            copyTyped(call, to, anySide, from, anySide, bytes, where))
SYNCHRONOUS(cuMemcpyHtoD_v2, cuMemcpyHtoD_v2_ptds, (CUdeviceptr to, const void *from, size_t bytes),
            copyTyped(call, to, deviceSide, raw(from), hostSide, bytes, where))
SYNCHRONOUS(cuMemcpyDtoH_v2, cuMemcpyDtoH_v2_ptds, (void *to, CUdeviceptr from, size_t bytes),
            copyTyped(call, raw(to), hostSide, from, deviceSide, bytes, where))
SYNCHRONOUS(cuMemcpyDtoD_v2, cuMemcpyDtoD_v2_ptds, (CUdeviceptr to, CUdeviceptr from, size_t bytes),
            copyTyped(call, to, deviceSide, from, deviceSide, bytes, where))
SYNCHRONOUS(cuMemcpyPeer, cuMemcpyPeer_ptds, (CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t bytes),
            copyTyped(call, to, deviceSide, from, deviceSide, bytes, where))
SYNCHRONOUS(cuMemcpy2D_v2, cuMemcpy2D_v2_ptds, (const CUDA_MEMCPY2D *what), copy2D(call, what, where))
SYNCHRONOUS(cuMemcpy2DUnaligned_v2, cuMemcpy2DUnaligned_v2_ptds, (const CUDA_MEMCPY2D *what), copy2D(call, what, where))
SYNCHRONOUS(cuMemcpy3D_v2, cuMemcpy3D_v2_ptds, (const CUDA_MEMCPY3D *what), copy3D(call, what, where))
SYNCHRONOUS(cuMemcpy3DPeer, cuMemcpy3DPeer_ptds, (const CUDA_MEMCPY3D_PEER *what),
            what ? copy3D(call, *what, where) : refuse(CUDA_ERROR_INVALID_VALUE, "the copy is null"))

ASYNCHRONOUS(cuMemcpyAsync, (CUdeviceptr to, CUdeviceptr from, size_t bytes),
             copyTyped(call, to, anySide, from, anySide, bytes, where))
ASYNCHRONOUS(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes),
             copyTyped(call, to, deviceSide, raw(from), hostSide, bytes, where))
ASYNCHRONOUS(cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes),
             copyTyped(call, raw(to), hostSide, from, deviceSide, bytes, where))
ASYNCHRONOUS(cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes),
             copyTyped(call, to, deviceSide, from, deviceSide, bytes, where))
ASYNCHRONOUS(cuMemcpyPeerAsync, (CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t bytes),
             copyTyped(call, to, deviceSide, from, deviceSide, bytes, where))
ASYNCHRONOUS(cuMemcpy2DAsync_v2, (const CUDA_MEMCPY2D *what), copy2D(call, what, where))
ASYNCHRONOUS(cuMemcpy3DAsync_v2, (const CUDA_MEMCPY3D *what), copy3D(call, what, where))
ASYNCHRONOUS(cuMemcpy3DPeerAsync, (const CUDA_MEMCPY3D_PEER *what),
             what ? copy3D(call, *what, where) : refuse(CUDA_ERROR_INVALID_VALUE, "the copy is null"))

static CUresult fill(const Call &call, const FillOperation &operation, const Where &where) {
  CUstream_st *stream = streamOf(call, where.stream, where.perThread);
  if (!stream) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (where.synchronous) {
    MOE_CHECK(refuseUnsafe("a synchronous memset"));
  }
  MOE_CHECK(checkFill(operation));
  if (!operation.width || !operation.height) {
    return CUDA_SUCCESS;
  }
  WorkPtr work;
  MOE_CHECK(submit(stream, operation, &work));
  if (where.synchronous && isPinned(CU_MEMORYTYPE_DEVICE, nullptr, operation.address)) {
    return driver()->engine->wait(work);
  }
  return CUDA_SUCCESS;
}

SYNCHRONOUS(cuMemsetD8_v2, cuMemsetD8_v2_ptds, (CUdeviceptr to, unsigned char value, size_t count),
            fill(call, FillOperation{to, count, count, 1, value, 1}, where))
SYNCHRONOUS(cuMemsetD16_v2, cuMemsetD16_v2_ptds, (CUdeviceptr to, unsigned short value, size_t count),
            fill(call, FillOperation{to, count * 2, count, 1, value, 2}, where))
SYNCHRONOUS(cuMemsetD32_v2, cuMemsetD32_v2_ptds, (CUdeviceptr to, unsigned value, size_t count),
            fill(call, FillOperation{to, count * 4, count, 1, value, 4}, where))
SYNCHRONOUS(cuMemsetD2D8_v2, cuMemsetD2D8_v2_ptds,
            (CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height),
            fill(call, FillOperation{to, pitch, width, height, value, 1}, where))
SYNCHRONOUS(cuMemsetD2D16_v2, cuMemsetD2D16_v2_ptds,
            (CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height),
            fill(call, FillOperation{to, pitch, width, height, value, 2}, where))
SYNCHRONOUS(cuMemsetD2D32_v2, cuMemsetD2D32_v2_ptds,
            (CUdeviceptr to, size_t pitch, unsigned value, size_t width, size_t height),
            fill(call, FillOperation{to, pitch, width, height, value, 4}, where))

ASYNCHRONOUS(cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t count),
             fill(call, FillOperation{to, count, count, 1, value, 1}, where))
ASYNCHRONOUS(cuMemsetD16Async, (CUdeviceptr to, unsigned short value, size_t count),
             fill(call, FillOperation{to, count * 2, count, 1, value, 2}, where))
ASYNCHRONOUS(cuMemsetD32Async, (CUdeviceptr to, unsigned value, size_t count),
             fill(call, FillOperation{to, count * 4, count, 1, value, 4}, where))
ASYNCHRONOUS(cuMemsetD2D8Async, (CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height),
             fill(call, FillOperation{to, pitch, width, height, value, 1}, where))
ASYNCHRONOUS(cuMemsetD2D16Async, (CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height),
             fill(call, FillOperation{to, pitch, width, height, value, 2}, where))
ASYNCHRONOUS(cuMemsetD2D32Async, (CUdeviceptr to, size_t pitch, unsigned value, size_t width, size_t height),
             fill(call, FillOperation{to, pitch, width, height, value, 4}, where))

} // namespace moert::emulator
