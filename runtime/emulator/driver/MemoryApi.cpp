//===- MemoryApi.cpp - cuMemAlloc and what asks about pointers --*- C++ -*-===//
//
// Allocation on devices, pinned and managed host memory, stream-ordered
// allocation, pointer attributes. cuMemFree waits for the context's work, as
// drivers do; a free of something captured or used later is found when it is
// used. Virtual memory management, pools of one's own and IPC are not supported.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Engine.h"
#include "runtime/emulator/driver/Graph.h"

#include <cstring>

struct CUmemPoolHandle_st {
  int device = 0;
  uint64_t releaseThreshold = 0;
  int reuse[3] = {1, 1, 1};
};

namespace moert::emulator {

/// Allocates for `call`'s context; refuses when the device is full.
static CUresult allocate(const Call &call, CUdeviceptr *address, size_t bytes, AllocationKind kind) {
  MOE_OUT(address);
  if (!bytes) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "0 bytes");
  }
  DeviceMemory &memory = *driver()->memory;
  const uint32_t device = uint32_t(call.context->device->ordinal);
  const uint64_t base =
      kind == AllocationKind::Device ? memory.allocate(device, bytes) : memory.addHost(nullptr, bytes, kind);
  if (!base) {
    return refuse(CUDA_ERROR_OUT_OF_MEMORY, bytes, " bytes on device ", device, ", which has ", memory.used(device),
                  " of ", call.context->device->memoryBytes, " in use");
  }
  call.context->allocations.insert(base);
  *address = base;
  return CUDA_SUCCESS;
}

/// Takes the allocation from the context that owns it; false: none does, as of device memory whose cuMemFreeAsync is
/// under way, and of registered memory.
static bool disown(CUdeviceptr address) {
  size_t owners = 0;
  for (CUctx_st *context : driver()->contexts.all()) {
    owners += context->allocations.erase(address);
  }
  return owners != 0;
}

/// Frees after the context's work.
static CUresult release(const Call &call, CUdeviceptr address, bool host) {
  if (!address) {
    return CUDA_SUCCESS;
  }
  DeviceMemory &memory = *driver()->memory;
  Allocation *allocation = memory.find(address);
  if (!allocation || allocation->freed || allocation->base != address || allocation->kind == AllocationKind::Module ||
      host != (allocation->kind == AllocationKind::Pinned)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, hex(address), " is not the start of an allocation of this kind",
                  allocation ? concat(", it lies in ", allocation->describe(), allocation->freed ? " (freed)" : "")
                             : std::string());
  }
  if (!disown(address) && allocation->kind == AllocationKind::Device) {
    return refuse(CUDA_ERROR_INVALID_VALUE, hex(address), " is freed by an earlier cuMemFreeAsync already");
  }
  // While this waits other threads may end contexts of theirs.
  const bool isOfAll = allocation->kind != AllocationKind::Device;
  for (CUctx_st *context : std::unordered_set<CUctx_st *>(driver()->contexts.all())) {
    if ((context == call.context || isOfAll) && driver()->contexts.has(context)) {
      driver()->engine->waitAll(context);
    }
  }
  memory.free(address);
  return call.context->sticky;
}

CU_API cuMemGetInfo_v2(size_t *freeBytes, size_t *total) {
  MOE_CALL(Need::Context);
  MOE_OUT(freeBytes);
  MOE_OUT(total);
  const Device &device = *call.context->device;
  *total = device.memoryBytes;
  *freeBytes = *total - driver()->memory->used(uint32_t(device.ordinal));
  return CUDA_SUCCESS;
}

CU_API cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  MOE_CALL(Need::Context);
  MOE_CHECK(refuseUnsafe("cuMemAlloc"));
  return allocate(call, address, bytes, AllocationKind::Device);
}

CU_API cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width, size_t height, unsigned elementBytes) {
  MOE_CALL(Need::Context);
  MOE_CHECK(refuseUnsafe("cuMemAllocPitch"));
  MOE_OUT(pitch);
  if (elementBytes != 4 && elementBytes != 8 && elementBytes != 16) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "element size (", elementBytes, ") must be 4, 8 or 16");
  }
  *pitch = (width + 511) / 512 * 512;
  return allocate(call, address, *pitch * height, AllocationKind::Device);
}

CU_API cuMemFree_v2(CUdeviceptr address) {
  MOE_CALL(Need::Context);
  MOE_CHECK(refuseUnsafe("cuMemFree"));
  return release(call, address, false);
}

CU_API cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr address) {
  MOE_CALL(Need::Context);
  const Allocation *allocation = driver()->memory->find(address);
  if (!allocation || !DeviceMemory::contains(*allocation, address, 1)) {
    return refuse(CUDA_ERROR_NOT_FOUND, hex(address), ": ", driver()->memory->explain(address, 1));
  }
  if (base) {
    *base = allocation->base;
  }
  if (size) {
    *size = allocation->size;
  }
  return CUDA_SUCCESS;
}

static CUresult allocateHost(const Call &call, void **pointer, size_t bytes, unsigned flags) {
  MOE_CHECK(refuseUnsafe("pinned allocation"));
  if (flags & ~7u) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags ", hex(flags), " has bits outside of 7");
  }
  CUdeviceptr address = 0;
  MOE_OUT(pointer);
  if (!bytes) {
    *pointer = nullptr;
    return CUDA_SUCCESS;
  }
  MOE_CHECK(allocate(call, &address, bytes, AllocationKind::Pinned));
  *pointer = reinterpret_cast<void *>(address);
  return CUDA_SUCCESS;
}

CU_API cuMemAllocHost_v2(void **pointer, size_t bytes) {
  MOE_CALL(Need::Context);
  return allocateHost(call, pointer, bytes, 0);
}

CU_API cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) {
  MOE_CALL(Need::Context);
  return allocateHost(call, pointer, bytes, flags);
}

CU_API cuMemFreeHost(void *pointer) {
  MOE_CALL(Need::Context);
  MOE_CHECK(refuseUnsafe("cuMemFreeHost"));
  return release(call, reinterpret_cast<CUdeviceptr>(pointer), true);
}

CU_API cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *pointer, unsigned flags) {
  MOE_CALL(Need::Context);
  MOE_OUT(address);
  const uint64_t host = reinterpret_cast<uint64_t>(pointer);
  const Allocation *allocation = driver()->memory->find(host);
  if (flags || !allocation || allocation->kind != AllocationKind::Pinned ||
      !DeviceMemory::contains(*allocation, host, 1)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, hex(host), " is not pinned memory, or flags (", flags, ") are not 0");
  }
  *address = host;
  return CUDA_SUCCESS;
}

CU_API cuMemHostGetFlags(unsigned *flags, void *pointer) {
  MOE_CALL(Need::Context);
  MOE_OUT(flags);
  const Allocation *allocation = driver()->memory->find(reinterpret_cast<uint64_t>(pointer));
  if (!allocation || allocation->kind != AllocationKind::Pinned || allocation->freed) {
    return refuse(CUDA_ERROR_INVALID_VALUE, hex(reinterpret_cast<uint64_t>(pointer)), " is not pinned memory");
  }
  *flags = CU_MEMHOSTALLOC_DEVICEMAP;
  return CUDA_SUCCESS;
}

CU_API cuMemHostRegister_v2(void *pointer, size_t bytes, unsigned flags) {
  MOE_CALL(Need::Context);
  MOE_CHECK(refuseUnsafe("cuMemHostRegister"));
  if (!pointer || !bytes || flags & ~15u) {
    return refuse(CUDA_ERROR_INVALID_VALUE, bytes, " bytes at ", hex(reinterpret_cast<uint64_t>(pointer)), ", flags ",
                  flags);
  }
  if (flags & CU_MEMHOSTREGISTER_IOMEMORY) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "registering I/O memory");
  }
  if (!driver()->memory->addHost(pointer, bytes)) {
    return refuse(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, bytes, " bytes at ",
                  hex(reinterpret_cast<uint64_t>(pointer)), " overlap a registration");
  }
  return CUDA_SUCCESS;
}

CU_API cuMemHostUnregister(void *pointer) {
  MOE_CALL(Need::Context);
  const uint64_t address = reinterpret_cast<uint64_t>(pointer);
  const Allocation *allocation = driver()->memory->find(address);
  if (!allocation || allocation->freed || allocation->base != address || allocation->ownsData) {
    return refuse(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, hex(address), " is not the start of a registration");
  }
  return release(call, address, true);
}

CU_API cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned flags) {
  MOE_CALL(Need::Context);
  MOE_CHECK(refuseUnsafe("cuMemAllocManaged"));
  if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags (", flags, ") must be 1 (global) or 2 (host)");
  }
  return allocate(call, address, bytes, AllocationKind::Managed);
}

CU_API cuMemAdvise(CUdeviceptr, size_t, int, CUdevice) {
  MOE_CALL(Need::Context);
  return CUDA_SUCCESS; // where managed memory lies makes no difference here
}

CU_API cuMemAdvise_v2(CUdeviceptr, size_t, int, CUmemLocation) {
  MOE_CALL(Need::Context);
  return CUDA_SUCCESS;
}

/// A prefetch only orders.
static CUresult prefetch(const Call &call, CUstream handle, bool perThread) {
  CUstream_st *stream = streamOf(call, handle, perThread);
  return stream ? submit(stream, EmptyOperation{}) : CUDA_ERROR_INVALID_HANDLE;
}

CU_API cuMemPrefetchAsync(CUdeviceptr, size_t, CUdevice, CUstream stream) {
  MOE_CALL(Need::Context);
  return prefetch(call, stream, false);
}

CU_API cuMemPrefetchAsync_v2(CUdeviceptr, size_t, CUmemLocation, unsigned, CUstream stream) {
  MOE_CALL(Need::Context);
  return prefetch(call, stream, false);
}

/// Allocates now, to be used after this point of `stream` only.
static CUresult allocateAsync(const Call &call, CUdeviceptr *address, size_t bytes, CUstream handle, bool perThread) {
  CUstream_st *stream = streamOf(call, handle, perThread);
  if (!stream) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (stream->capture) {
    invalidate(stream->capture);
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "memory nodes in graphs are not supported: allocate before the capture");
  }
  MOE_CHECK(allocate(call, address, bytes, AllocationKind::Device));
  return submit(stream, AllocationOperation{*address, false});
}

static CUresult freeAsync(const Call &call, CUdeviceptr address, CUstream handle, bool perThread) {
  CUstream_st *stream = streamOf(call, handle, perThread);
  if (!stream) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (stream->capture) {
    invalidate(stream->capture);
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "memory nodes in graphs are not supported: free after the capture");
  }
  if (!address) {
    return CUDA_SUCCESS;
  }
  const Allocation *allocation = driver()->memory->find(address);
  if (!allocation || allocation->freed || allocation->base != address || allocation->kind != AllocationKind::Device) {
    return refuse(CUDA_ERROR_INVALID_VALUE, hex(address), " is not the start of a device allocation");
  }
  if (!disown(address)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, hex(address), " is freed by an earlier cuMemFreeAsync already");
  }
  return submit(stream, AllocationOperation{address, true});
}

CU_API cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream) {
  MOE_CALL(Need::Context);
  return allocateAsync(call, address, bytes, stream, false);
}

CU_API cuMemAllocAsync_ptsz(CUdeviceptr *address, size_t bytes, CUstream stream) {
  MOE_CALL(Need::Context);
  return allocateAsync(call, address, bytes, stream, true);
}

CU_API cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  MOE_CALL(Need::Context);
  return freeAsync(call, address, stream, false);
}

CU_API cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream) {
  MOE_CALL(Need::Context);
  return freeAsync(call, address, stream, true);
}

/// The one pool that a device has.
static CUresult poolOf(CUmemoryPool *pool, CUdevice ordinal) {
  MOE_OUT(pool);
  if (!deviceOf(ordinal)) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  for (CUmemPoolHandle_st *known : driver()->pools.all()) {
    if (known->device == ordinal) {
      *pool = known;
      return CUDA_SUCCESS;
    }
  }
  *pool = driver()->pools.add(new CUmemPoolHandle_st{ordinal, 0, {1, 1, 1}});
  return CUDA_SUCCESS;
}

CU_API cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device) {
  MOE_CALL(Need::Init);
  return poolOf(pool, device);
}

CU_API cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device) {
  MOE_CALL(Need::Init);
  return poolOf(pool, device);
}

CU_API cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream stream) {
  MOE_CALL(Need::Context);
  if (!driver()->pools.has(pool) || pool->device != call.context->device->ordinal) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "not the pool of this context's device");
  }
  return allocateAsync(call, address, bytes, stream, false);
}

CU_API cuMemPoolTrimTo(CUmemoryPool pool, size_t) {
  MOE_CALL(Need::Init);
  return driver()->pools.has(pool) ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_VALUE, "not a pool");
}

CU_API cuMemPoolSetAttribute(CUmemoryPool pool, int attribute, void *value) {
  MOE_CALL(Need::Init);
  if (!driver()->pools.has(pool) || !value || attribute < 1 || attribute > 4) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "not a pool, or attribute ", attribute, " cannot be set");
  }
  if (attribute == 4) {
    std::memcpy(&pool->releaseThreshold, value, 8);
  } else {
    std::memcpy(&pool->reuse[attribute - 1], value, 4);
  }
  return CUDA_SUCCESS;
}

CU_API cuMemPoolGetAttribute(CUmemoryPool pool, int attribute, void *value) {
  MOE_CALL(Need::Init);
  if (!driver()->pools.has(pool) || !value || attribute < 1 || attribute > 8) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "not a pool, or attribute ", attribute, " is not in 1 to 8");
  }
  if (attribute < 4) {
    std::memcpy(value, &pool->reuse[attribute - 1], 4);
    return CUDA_SUCCESS;
  }
  const uint64_t used = driver()->memory->used(uint32_t(pool->device));
  std::memcpy(value, attribute == 4 ? &pool->releaseThreshold : &used, 8);
  return CUDA_SUCCESS;
}

/// One attribute of the memory at `address` into `data`; NOT_FOUND for an attribute that is not modelled.
static CUresult pointerAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr address,
                                 const Allocation *allocation) {
  const auto store = [data](auto value) {
    std::memcpy(data, &value, sizeof(value));
    return CUDA_SUCCESS;
  };
  const bool device =
      allocation && (allocation->kind == AllocationKind::Device || allocation->kind == AllocationKind::Module);
  const bool managed = allocation && allocation->kind == AllocationKind::Managed;
  switch (attribute) {
  case CU_POINTER_ATTRIBUTE_CONTEXT:
    for (CUctx_st *context : driver()->contexts.all()) {
      if (allocation && context->allocations.count(allocation->base)) {
        return store(context);
      }
    }
    return store(static_cast<CUctx_st *>(nullptr));
  case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    return store(device || managed ? CU_MEMORYTYPE_DEVICE + 0 : CU_MEMORYTYPE_HOST + 0);
  case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    return store(address);
  case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    return device ? CUDA_ERROR_INVALID_VALUE : store(address);
  case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    return store(unsigned(managed));
  case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    return store(uint64_t(allocation ? allocation->number : 0));
  case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
    return store(allocation ? int(allocation->device) : -2);
  case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    return store(allocation ? allocation->base : 0);
  case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    return store(size_t(allocation ? allocation->size : 0));
  case CU_POINTER_ATTRIBUTE_MAPPED:
    return store(unsigned(allocation != nullptr));
  case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
  case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
  case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
    return store(0);
  case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
    return store(3); // read and write
  default:
    return CUDA_ERROR_NOT_FOUND;
  }
}

CU_API cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr address) {
  MOE_CALL(Need::Init);
  MOE_OUT(data);
  const Allocation *allocation = driver()->memory->find(address);
  if (!allocation || !DeviceMemory::contains(*allocation, address, 1)) {
    return CUDA_ERROR_INVALID_VALUE; // how programs ask whether a pointer is the driver's: no message
  }
  const CUresult result = pointerAttribute(data, attribute, address, allocation);
  return result == CUDA_ERROR_NOT_FOUND
             ? refuse(CUDA_ERROR_NOT_SUPPORTED, "pointer attribute ", attribute, " is not modelled")
             : result;
}

CU_API cuPointerGetAttributes(unsigned count, CUpointer_attribute *attributes, void **data, CUdeviceptr address) {
  MOE_CALL(Need::Init);
  MOE_OUT(attributes);
  MOE_OUT(data);
  const Allocation *allocation = driver()->memory->find(address);
  if (allocation && !DeviceMemory::contains(*allocation, address, 1)) {
    allocation = nullptr;
  }
  for (unsigned i = 0; i < count; ++i) {
    if (!allocation && attributes[i] == CU_POINTER_ATTRIBUTE_MEMORY_TYPE) {
      std::memset(data[i], 0, 4); // unregistered host memory
    } else if (pointerAttribute(data[i], attributes[i], allocation ? address : 0, allocation) == CUDA_ERROR_NOT_FOUND) {
      return refuse(CUDA_ERROR_NOT_SUPPORTED, "pointer attribute ", attributes[i], " is not modelled");
    }
  }
  return CUDA_SUCCESS;
}

} // namespace moert::emulator
