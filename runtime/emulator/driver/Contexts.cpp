//===- Contexts.cpp - Contexts and primary contexts -------------*- C++ -*-===//
//
// A context holds streams, modules and a sticky error; memory is the device's
// and freed when the program or the context's device is done with it. The
// current context is the top of each thread's stack. Green contexts and
// execution affinity are not supported.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Driver.h"
#include "runtime/emulator/driver/Engine.h"
#include "runtime/emulator/driver/Graph.h"
#include "runtime/emulator/driver/Modules.h"

#include <algorithm>

namespace moert::emulator {

CUctx_st *createContext(Device &device, unsigned flags) {
  Driver &all = *driver();
  auto *context = all.contexts.add(new CUctx_st);
  context->device = &device;
  context->flags = flags;
  context->id = all.nextId++;
  context->finished = all.engine->hostClock();
  auto *stream = all.streams.add(new CUstream_st);
  stream->context = context;
  stream->legacy = true;
  stream->id = 1;
  context->legacy = stream;
  return context;
}

void destroyContext(CUctx_st *context) {
  Driver &all = *driver();
  all.engine->waitAll(context);
  for (CUstream_st *stream : std::unordered_set<CUstream_st *>(all.streams.all())) {
    if (stream->context == context) {
      all.streams.remove(stream);
      delete stream;
    }
  }
  for (CUevent_st *event : std::unordered_set<CUevent_st *>(all.events.all())) {
    if (event->context == context) {
      all.events.remove(event);
      delete event;
    }
  }
  for (CUmod_st *module : std::unordered_set<CUmod_st *>(all.modules.all())) {
    if (module->context == context) {
      destroyModule(module);
    }
  }
  for (CUctx_st *other : all.contexts.all()) {
    other->peers.erase(context);
  }
  for (const std::unique_ptr<Device> &device : all.devices) {
    if (device->primary == context) {
      device->primary = nullptr;
    }
  }
  // Memory that the context allocated goes with it.
  for (uint64_t address : std::unordered_set<uint64_t>(context->allocations)) {
    all.memory->free(address);
  }
  all.contexts.remove(context);
  delete context;
}

static bool live(CUcontext context) { return driver()->contexts.has(context); }

static CUresult createCommon(CUcontext *result, unsigned flags, CUdevice ordinal) {
  MOE_OUT(result);
  Device *device = deviceOf(ordinal);
  if (!device) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  if (flags & ~unsigned(CU_CTX_FLAGS_MASK)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags ", hex(flags), " has bits outside of 0xff");
  }
  *result = createContext(*device, flags);
  threadState().contexts.push_back(*result);
  return CUDA_SUCCESS;
}

CU_API cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device) {
  MOE_CALL(Need::Init);
  return createCommon(context, flags, device);
}

CU_API cuCtxCreate_v3(CUcontext *context, void *parameters, int count, unsigned flags, CUdevice device) {
  MOE_CALL(Need::Init);
  if (parameters || count) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "execution affinity is not supported");
  }
  return createCommon(context, flags, device);
}

CU_API cuCtxCreate_v4(CUcontext *context, void *parameters, unsigned flags, CUdevice device) {
  MOE_CALL(Need::Init);
  if (parameters) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "creation parameters (execution affinity, graphics) are not supported");
  }
  return createCommon(context, flags, device);
}

CU_API cuCtxDestroy_v2(CUcontext context) {
  MOE_CALL(Need::Init);
  if (!live(context) || context->primary) {
    return refuse(CUDA_ERROR_INVALID_CONTEXT, "the context is not live, or a primary one (release it instead)");
  }
  std::vector<CUctx_st *> &stack = threadState().contexts;
  if (!stack.empty() && stack.back() == context) {
    stack.pop_back();
  }
  destroyContext(context);
  return CUDA_SUCCESS;
}

CU_API cuCtxPushCurrent_v2(CUcontext context) {
  MOE_CALL(Need::Init);
  if (!live(context)) {
    return refuse(CUDA_ERROR_INVALID_CONTEXT, "not a live context");
  }
  threadState().contexts.push_back(context);
  return CUDA_SUCCESS;
}

CU_API cuCtxPopCurrent_v2(CUcontext *context) {
  MOE_CALL(Need::Init);
  std::vector<CUctx_st *> &stack = threadState().contexts;
  if (stack.empty()) {
    return refuse(CUDA_ERROR_INVALID_CONTEXT, "no context to pop");
  }
  if (context) {
    *context = stack.back();
  }
  stack.pop_back();
  return CUDA_SUCCESS;
}

CU_API cuCtxSetCurrent(CUcontext context) {
  MOE_CALL(Need::Init);
  if (context && !live(context)) {
    return refuse(CUDA_ERROR_INVALID_CONTEXT, "not a live context");
  }
  std::vector<CUctx_st *> &stack = threadState().contexts;
  if (!stack.empty()) {
    stack.pop_back();
  }
  if (context) {
    stack.push_back(context);
  }
  return CUDA_SUCCESS;
}

CU_API cuCtxGetCurrent(CUcontext *context) {
  MOE_CALL(Need::Init);
  MOE_OUT(context);
  *context = call.context;
  return CUDA_SUCCESS;
}

CU_API cuCtxGetDevice(CUdevice *device) {
  MOE_CALL(Need::Context);
  MOE_OUT(device);
  *device = call.context->device->ordinal;
  return CUDA_SUCCESS;
}

CU_API cuCtxGetDevice_v2(CUdevice *device, CUcontext context) {
  MOE_CALL(Need::Init);
  MOE_OUT(device);
  const CUcontext asked = context ? context : call.context;
  if (!live(asked)) {
    return refuse(CUDA_ERROR_INVALID_CONTEXT, "not a live context");
  }
  *device = asked->device->ordinal;
  return CUDA_SUCCESS;
}

CU_API cuCtxGetFlags(unsigned *flags) {
  MOE_CALL(Need::Context);
  MOE_OUT(flags);
  *flags = call.context->flags;
  return CUDA_SUCCESS;
}

CU_API cuCtxSetFlags(unsigned flags) {
  MOE_CALL(Need::Context);
  call.context->flags = flags & CU_CTX_FLAGS_MASK;
  return CUDA_SUCCESS;
}

CU_API cuCtxGetId(CUcontext context, unsigned long long *id) {
  MOE_CALL(Need::Init);
  MOE_OUT(id);
  const CUcontext asked = context ? context : call.context;
  if (!live(asked)) {
    return refuse(CUDA_ERROR_CONTEXT_IS_DESTROYED, "not a live context");
  }
  *id = asked->id;
  return CUDA_SUCCESS;
}

CU_API cuCtxGetApiVersion(CUcontext context, unsigned *version) {
  MOE_CALL(Need::Init);
  MOE_OUT(version);
  if (context && !live(context)) {
    return refuse(CUDA_ERROR_INVALID_CONTEXT, "not a live context");
  }
  *version = 3020;
  return CUDA_SUCCESS;
}

static CUresult synchronizeContext(CUctx_st *context) {
  MOE_CHECK(refuseCapture(context, "waiting for the context"));
  return driver()->engine->waitAll(context);
}

CU_API cuCtxSynchronize(void) {
  MOE_CALL(Need::Context);
  return synchronizeContext(call.context);
}

CU_API cuCtxSynchronize_v2(CUcontext context) {
  MOE_CALL(Need::Init);
  const CUcontext asked = context ? context : call.context;
  if (!live(asked)) {
    return refuse(CUDA_ERROR_INVALID_CONTEXT, "not a live context");
  }
  return synchronizeContext(asked);
}

CU_API cuCtxGetLimit(size_t *value, CUlimit limit) {
  MOE_CALL(Need::Context);
  MOE_OUT(value);
  if (limit < 0 || size_t(limit) >= call.context->limits.size()) {
    return refuse(CUDA_ERROR_UNSUPPORTED_LIMIT, "limit ", limit, " is not in 0 to 6");
  }
  *value = call.context->limits[size_t(limit)];
  return CUDA_SUCCESS;
}

CU_API cuCtxSetLimit(CUlimit limit, size_t value) {
  MOE_CALL(Need::Context);
  if (limit < 0 || size_t(limit) >= call.context->limits.size() || limit == CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH ||
      limit == CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT) {
    return refuse(CUDA_ERROR_UNSUPPORTED_LIMIT, "limit ", limit, " cannot be set");
  }
  call.context->limits[size_t(limit)] = value;
  return CUDA_SUCCESS;
}

CU_API cuCtxGetCacheConfig(int *config) {
  MOE_CALL(Need::Context);
  MOE_OUT(config);
  *config = 0;
  return CUDA_SUCCESS;
}

CU_API cuCtxSetCacheConfig(int config) {
  MOE_CALL(Need::Context);
  return config >= 0 && config <= 3 ? CUDA_SUCCESS
                                    : refuse(CUDA_ERROR_INVALID_VALUE, "config ", config, " is not in 0 to 3");
}

CU_API cuCtxResetPersistingL2Cache(void) {
  MOE_CALL(Need::Context);
  return CUDA_SUCCESS; // caches are not modelled
}

CU_API cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  MOE_CALL(Need::Context);
  if (least) {
    *least = 0;
  }
  if (greatest) {
    *greatest = -5;
  }
  return CUDA_SUCCESS;
}

CU_API cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice ordinal) {
  MOE_CALL(Need::Init);
  MOE_OUT(context);
  Device *device = deviceOf(ordinal);
  if (!device) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  if (!device->primary) {
    device->primary = createContext(*device, device->primaryFlags);
    device->primary->primary = true;
  }
  ++device->primaryReferences;
  *context = device->primary;
  return CUDA_SUCCESS;
}

/// Ends the primary context; the next retain makes another.
static void endPrimary(Device &device) {
  device.primaryReferences = 0;
  if (device.primary) {
    destroyContext(device.primary);
  }
}

CU_API cuDevicePrimaryCtxRelease_v2(CUdevice ordinal) {
  MOE_CALL(Need::Init);
  Device *device = deviceOf(ordinal);
  if (!device) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  if (!device->primaryReferences) {
    return refuse(CUDA_ERROR_INVALID_CONTEXT, "the primary context of device ", ordinal, " is not retained");
  }
  if (--device->primaryReferences == 0) {
    endPrimary(*device);
  }
  return CUDA_SUCCESS;
}

CU_API cuDevicePrimaryCtxReset_v2(CUdevice ordinal) {
  MOE_CALL(Need::Init);
  Device *device = deviceOf(ordinal);
  if (!device) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  endPrimary(*device);
  return CUDA_SUCCESS;
}

CU_API cuDevicePrimaryCtxSetFlags_v2(CUdevice ordinal, unsigned flags) {
  MOE_CALL(Need::Init);
  Device *device = deviceOf(ordinal);
  if (!device) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  device->primaryFlags = flags & CU_CTX_FLAGS_MASK;
  if (device->primary) {
    device->primary->flags = device->primaryFlags;
  }
  return CUDA_SUCCESS;
}

CU_API cuDevicePrimaryCtxGetState(CUdevice ordinal, unsigned *flags, int *active) {
  MOE_CALL(Need::Init);
  MOE_OUT(flags);
  MOE_OUT(active);
  Device *device = deviceOf(ordinal);
  if (!device) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *flags = device->primaryFlags;
  *active = device->primary != nullptr;
  return CUDA_SUCCESS;
}

// Versions that differ from the first in nothing that shows here.
CU_API cuDevicePrimaryCtxRelease(CUdevice device) { return cuDevicePrimaryCtxRelease_v2(device); }
CU_API cuDevicePrimaryCtxReset(CUdevice device) { return cuDevicePrimaryCtxReset_v2(device); }
CU_API cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned flags) {
  return cuDevicePrimaryCtxSetFlags_v2(device, flags);
}
CU_API cuCtxDestroy(CUcontext context) { return cuCtxDestroy_v2(context); }
CU_API cuCtxPushCurrent(CUcontext context) { return cuCtxPushCurrent_v2(context); }
CU_API cuCtxPopCurrent(CUcontext *context) { return cuCtxPopCurrent_v2(context); }

CU_API cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
  MOE_CALL(Need::Context);
  if (!live(peer)) {
    return refuse(CUDA_ERROR_INVALID_CONTEXT, "not a live context");
  }
  if (flags) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags (", flags, ") must be 0");
  }
  if (peer->device == call.context->device) {
    return refuse(CUDA_ERROR_INVALID_DEVICE, "the peer is on the same device");
  }
  if (!call.context->peers.insert(peer).second) {
    return refuse(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "access to this peer is on already");
  }
  return CUDA_SUCCESS;
}

CU_API cuCtxDisablePeerAccess(CUcontext peer) {
  MOE_CALL(Need::Context);
  if (!call.context->peers.erase(peer)) {
    return refuse(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "access to this peer is not on");
  }
  return CUDA_SUCCESS;
}

} // namespace moert::emulator
