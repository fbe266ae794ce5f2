//===- EventApi.cpp - Events ------------------------------------*- C++ -*-===//
//
// A recorded event holds the work that its record became; a wait is an edge to
// it. In a capture an event holds nodes instead. Times are virtual: they order,
// and say nothing of speed.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Engine.h"
#include "runtime/emulator/driver/Graph.h"

#include <algorithm>

namespace moert::emulator {

static CUresult checkEvent(CUevent event) {
  return driver()->events.has(event) ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_HANDLE, "not a live event");
}

CU_API cuEventCreate(CUevent *event, unsigned flags) {
  MOE_CALL(Need::Context);
  MOE_OUT(event);
  if (flags & ~7u) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags ", hex(flags), " has bits outside of 7");
  }
  if (flags & CU_EVENT_INTERPROCESS) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "events between processes");
  }
  *event = driver()->events.add(new CUevent_st);
  (*event)->context = call.context;
  (*event)->flags = flags;
  return CUDA_SUCCESS;
}

CU_API cuEventDestroy_v2(CUevent event) {
  MOE_CALL(Need::Init);
  MOE_CHECK(checkEvent(event));
  driver()->events.remove(event);
  delete event;
  return CUDA_SUCCESS;
}

static CUresult record(CUevent event, CUstream_st *stream, unsigned flags) {
  MOE_CHECK(checkEvent(event));
  if (flags & ~unsigned(CU_EVENT_RECORD_EXTERNAL)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags (", flags, ") must be 0 or 1");
  }
  if (event->context != stream->context) {
    return refuse(CUDA_ERROR_INVALID_HANDLE, "event and stream belong to different contexts");
  }
  if (stream->capture) {
    return captureRecord(stream, event, (flags & CU_EVENT_RECORD_EXTERNAL) != 0);
  }
  event->capture.reset();
  event->captured.clear();
  return submit(stream, EmptyOperation{}, &event->work);
}

#define RECORD(name, perThread, parameters, flags)                                                                     \
  CU_API name parameters {                                                                                             \
    MOE_CALL(Need::Context);                                                                                           \
    CUstream_st *stream = streamOf(call, handle, perThread);                                                           \
    return stream ? record(event, stream, flags) : CUDA_ERROR_INVALID_HANDLE;                                          \
  }
RECORD(cuEventRecord, false, (CUevent event, CUstream handle), 0)
RECORD(cuEventRecord_ptsz, true, (CUevent event, CUstream handle), 0)
RECORD(cuEventRecordWithFlags, false, (CUevent event, CUstream handle, unsigned flags), flags)
RECORD(cuEventRecordWithFlags_ptsz, true, (CUevent event, CUstream handle, unsigned flags), flags)

CUresult waitEvent(CUstream_st *stream, CUevent event, unsigned flags) {
  MOE_CHECK(checkEvent(event));
  if (flags & ~unsigned(CU_EVENT_WAIT_EXTERNAL)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags (", flags, ") must be 0 or 1");
  }
  if (stream->capture || event->capture) {
    return captureWait(stream, event, (flags & CU_EVENT_WAIT_EXTERNAL) != 0);
  }
  if (!event->work) {
    return CUDA_SUCCESS; // never recorded: nothing to wait for
  }
  MOE_CHECK(refuseImplicit(stream));
  std::vector<Dependency> order = orderOf(stream);
  order.push_back({event->work, false});
  stream->last = driver()->engine->enqueue(stream->context, stream, EmptyOperation{}, std::move(order));
  driver()->engine->pump();
  return CUDA_SUCCESS;
}

/// An event that was last recorded in a capture cannot be asked; asking spoils the capture.
static CUresult refuseCaptured(CUevent event) {
  if (!event->capture) {
    return CUDA_SUCCESS;
  }
  invalidate(event->capture);
  return refuse(CUDA_ERROR_CAPTURED_EVENT, "the event was last recorded in a capture");
}

CU_API cuEventQuery(CUevent event) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkEvent(event));
  MOE_CHECK(refuseCaptured(event));
  MOE_CHECK(refuseUnsafe("cuEventQuery"));
  if (event->work && !driver()->engine->query(event->work)) {
    return CUDA_ERROR_NOT_READY;
  }
  return call.context->sticky;
}

CU_API cuEventSynchronize(CUevent event) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkEvent(event));
  MOE_CHECK(refuseCaptured(event));
  const WorkPtr work = event->work;
  return work ? driver()->engine->wait(work) : CUDA_SUCCESS;
}

static CUresult elapsed(float *milliseconds, CUevent start, CUevent end) {
  MOE_OUT(milliseconds);
  MOE_CHECK(checkEvent(start));
  MOE_CHECK(checkEvent(end));
  if (!start->work || !end->work || (start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) {
    return refuse(CUDA_ERROR_INVALID_HANDLE, "an event was not recorded, or was created without timing");
  }
  Engine &engine = *driver()->engine;
  if (!engine.query(start->work) || !engine.query(end->work)) {
    return CUDA_ERROR_NOT_READY;
  }
  *milliseconds = float(end->work->finished - start->work->finished);
  return CUDA_SUCCESS;
}

CU_API cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end) {
  MOE_CALL(Need::Context);
  return elapsed(milliseconds, start, end);
}

CU_API cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end) {
  MOE_CALL(Need::Context);
  return elapsed(milliseconds, start, end);
}

} // namespace moert::emulator
