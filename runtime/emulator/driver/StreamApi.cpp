//===- StreamApi.cpp - Streams and their order ------------------*- C++ -*-===//
//
// What the next operation of a stream must come after, and the functions on
// streams. The default stream waits for every blocking stream of its context
// and they for it; the per-thread default stream is an ordinary blocking one.
// Priorities are kept and change nothing: any order that they suggest is legal
// anyway.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Engine.h"
#include "runtime/emulator/driver/Graph.h"

#include <algorithm>

namespace moert::emulator {

static CUstream_st *addStream(CUctx_st *context, unsigned flags, int priority) {
  Driver &all = *driver();
  auto *stream = all.streams.add(new CUstream_st);
  stream->context = context;
  stream->flags = flags;
  stream->priority = std::clamp(priority, -5, 0);
  stream->id = all.nextId++;
  return stream;
}

CUstream_st *streamOf(const Call &call, CUstream handle, bool perThread) {
  if (handle == CU_STREAM_LEGACY || (!handle && !perThread)) {
    return call.context->legacy;
  }
  if (handle == CU_STREAM_PER_THREAD || !handle) {
    CUstream &own = call.context->perThread[std::this_thread::get_id()];
    if (!own) {
      own = addStream(call.context, CU_STREAM_DEFAULT, 0);
    }
    return own;
  }
  if (!driver()->streams.has(handle)) {
    refuse(CUDA_ERROR_INVALID_HANDLE, "not a live stream");
    return nullptr;
  }
  return handle;
}

std::vector<Dependency> orderOf(CUstream_st *stream) {
  std::vector<Dependency> order;
  const auto add = [&](const CUstream_st *other) {
    if (other && other->last) {
      order.push_back({other->last, false});
    }
  };
  add(stream);
  if (stream->legacy) {
    for (CUstream_st *other : driver()->streams.all()) {
      if (other->context == stream->context && other != stream && !(other->flags & CU_STREAM_NON_BLOCKING)) {
        add(other);
      }
    }
  } else if (!(stream->flags & CU_STREAM_NON_BLOCKING)) {
    add(stream->context->legacy);
  }
  return order;
}

CUresult submit(CUstream_st *stream, Operation operation, WorkPtr *work) {
  if (stream->capture) {
    return captureOperation(stream, std::move(operation));
  }
  MOE_CHECK(refuseImplicit(stream));
  std::vector<Dependency> order = orderOf(stream);
  if (const auto *kernel = std::get_if<KernelOperation>(&operation)) {
    // A programmatic secondary: the kernel just before it in the stream may still run.
    const bool afterKernel = stream->last && std::holds_alternative<KernelOperation>(stream->last->operation);
    if (kernel->programmatic && afterKernel) {
      order.front().programmatic = true;
    }
  }
  stream->last = driver()->engine->enqueue(stream->context, stream, std::move(operation), std::move(order));
  if (work) {
    *work = stream->last;
  }
  driver()->engine->pump();
  return CUDA_SUCCESS;
}

CUresult synchronize(CUstream_st *stream) {
  Engine &engine = *driver()->engine;
  for (const Dependency &dependency : stream->legacy ? orderOf(stream) : std::vector<Dependency>()) {
    engine.wait(dependency.work);
  }
  const WorkPtr last = stream->last;
  return last ? engine.wait(last) : stream->context->sticky;
}

static CUresult create(const Call &call, CUstream *stream, unsigned flags, int priority) {
  MOE_OUT(stream);
  if (flags & ~unsigned(CU_STREAM_NON_BLOCKING)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags (", flags, ") must be 0 or 1");
  }
  *stream = addStream(call.context, flags, priority);
  return CUDA_SUCCESS;
}

CU_API cuStreamCreate(CUstream *stream, unsigned flags) {
  MOE_CALL(Need::Context);
  return create(call, stream, flags, 0);
}

CU_API cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
  MOE_CALL(Need::Context);
  return create(call, stream, flags, priority);
}

CU_API cuStreamDestroy_v2(CUstream stream) {
  MOE_CALL(Need::Init);
  if (!driver()->streams.has(stream) || stream->legacy) {
    return refuse(CUDA_ERROR_INVALID_HANDLE, "not a live stream, or a default one");
  }
  if (stream->capture) {
    invalidate(stream->capture);
    leaveCapture(stream);
  }
  // Its work goes on; the default stream still has to wait for it.
  CUstream_st *legacy = stream->context->legacy;
  if (stream->last && !stream->last->done && !(stream->flags & CU_STREAM_NON_BLOCKING)) {
    legacy->last = driver()->engine->enqueue(stream->context, legacy, EmptyOperation{}, orderOf(legacy));
  }
  driver()->streams.remove(stream);
  delete stream;
  return CUDA_SUCCESS;
}

static CUresult synchronizeStream(CUstream_st *stream) {
  if (stream->capture) {
    invalidate(stream->capture);
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the stream captures, there is nothing to wait for");
  }
  if (stream->legacy) {
    MOE_CHECK(refuseImplicit(stream));
  }
  return synchronize(stream);
}

static CUresult queryStream(CUstream_st *stream) {
  if (stream->capture) {
    invalidate(stream->capture);
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the stream captures, there is nothing to ask for");
  }
  if (stream->legacy) {
    MOE_CHECK(refuseImplicit(stream));
  }
  for (const Dependency &dependency : orderOf(stream)) {
    const bool own = dependency.work == stream->last;
    if ((own || stream->legacy) && !driver()->engine->query(dependency.work)) {
      return CUDA_ERROR_NOT_READY;
    }
  }
  return stream->context->sticky;
}

/// Defines `name` and `name`_ptsz: the body sees `stream`, the CUstream_st.
#define ON_STREAM(name, parameters, ...)                                                                               \
  CU_API name parameters {                                                                                             \
    MOE_CALL(Need::Context);                                                                                           \
    CUstream_st *stream = streamOf(call, handle, false);                                                               \
    if (!stream) {                                                                                                     \
      return CUDA_ERROR_INVALID_HANDLE;                                                                                \
    }                                                                                                                  \
    __VA_ARGS__                                                                                                        \
  }                                                                                                                    \
  CU_API name##_ptsz parameters {                                                                                      \
    MOE_CALL(Need::Context);                                                                                           \
    CUstream_st *stream = streamOf(call, handle, true);                                                                \
    if (!stream) {                                                                                                     \
      return CUDA_ERROR_INVALID_HANDLE;                                                                                \
    }                                                                                                                  \
    __VA_ARGS__                                                                                                        \
  }

ON_STREAM(cuStreamSynchronize, (CUstream handle), return synchronizeStream(stream);)
ON_STREAM(cuStreamQuery, (CUstream handle), return queryStream(stream);)

ON_STREAM(cuStreamWaitEvent, (CUstream handle, CUevent event, unsigned flags), return waitEvent(stream, event, flags);)

ON_STREAM(cuStreamGetFlags, (CUstream handle, unsigned *flags), {
  MOE_OUT(flags);
  *flags = stream->flags;
  return CUDA_SUCCESS;
})

ON_STREAM(cuStreamGetPriority, (CUstream handle, int *priority), {
  MOE_OUT(priority);
  *priority = stream->priority;
  return CUDA_SUCCESS;
})

ON_STREAM(cuStreamGetId, (CUstream handle, unsigned long long *id), {
  MOE_OUT(id);
  *id = stream->id;
  return CUDA_SUCCESS;
})

ON_STREAM(cuStreamGetCtx, (CUstream handle, CUcontext *context), {
  MOE_OUT(context);
  *context = stream->context;
  return CUDA_SUCCESS;
})

ON_STREAM(cuStreamGetCtx_v2, (CUstream handle, CUcontext *context, CUgreenCtx *green), {
  MOE_OUT(context);
  *context = stream->context;
  if (green) {
    *green = nullptr;
  }
  return CUDA_SUCCESS;
})

ON_STREAM(cuStreamGetDevice, (CUstream handle, CUdevice *device), {
  MOE_OUT(device);
  *device = stream->context->device->ordinal;
  return CUDA_SUCCESS;
})

ON_STREAM(cuStreamGetAttribute, (CUstream handle, CUlaunchAttributeID attribute, CUlaunchAttributeValue *value), {
  MOE_OUT(value);
  if (attribute != CU_LAUNCH_ATTRIBUTE_PRIORITY) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "stream attribute ", attribute);
  }
  value->priority = stream->priority;
  return CUDA_SUCCESS;
})

ON_STREAM(cuStreamSetAttribute, (CUstream handle, CUlaunchAttributeID attribute, const CUlaunchAttributeValue *value), {
  MOE_OUT(value);
  switch (attribute) {
  case CU_LAUNCH_ATTRIBUTE_PRIORITY:
    stream->priority = std::clamp(value->priority, -5, 0);
    return CUDA_SUCCESS;
  case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
  case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
    return CUDA_SUCCESS; // about speed only
  default:
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "stream attribute ", attribute);
  }
})

ON_STREAM(cuLaunchHostFunc, (CUstream handle, CUhostFn function, void *data), {
  MOE_OUT(function);
  return submit(stream, HostOperation{function, nullptr, data});
})

ON_STREAM(cuStreamAddCallback, (CUstream handle, CUstreamCallback callback, void *data, unsigned flags), {
  MOE_OUT(callback);
  if (flags) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags (", flags, ") must be 0");
  }
  if (stream->capture) {
    invalidate(stream->capture);
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "a callback cannot be captured, use cuLaunchHostFunc");
  }
  return submit(stream, HostOperation{nullptr, callback, data});
})

ON_STREAM(cuStreamAttachMemAsync, (CUstream handle, CUdeviceptr, size_t, unsigned),
          return submit(stream, EmptyOperation{});)

/// A wait for or a write of a value, checked.
static CUresult submitValue(CUstream_st *stream, CUdeviceptr address, uint64_t value, unsigned flags, unsigned bytes,
                            bool write) {
  if (address % bytes || !driver()->memory->bytes(address, bytes)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, hex(address), " must be device memory aligned to ", bytes, " bytes");
  }
  return submit(stream, ValueOperation{address, value, flags, bytes, write});
}

ON_STREAM(cuStreamWaitValue32_v2, (CUstream handle, CUdeviceptr address, uint32_t value, unsigned flags),
          return submitValue(stream, address, value, flags, 4, false);)
ON_STREAM(cuStreamWaitValue64_v2, (CUstream handle, CUdeviceptr address, uint64_t value, unsigned flags),
          return submitValue(stream, address, value, flags, 8, false);)
ON_STREAM(cuStreamWriteValue32_v2, (CUstream handle, CUdeviceptr address, uint32_t value, unsigned flags),
          return submitValue(stream, address, value, flags, 4, true);)
ON_STREAM(cuStreamWriteValue64_v2, (CUstream handle, CUdeviceptr address, uint64_t value, unsigned flags),
          return submitValue(stream, address, value, flags, 8, true);)

} // namespace moert::emulator
