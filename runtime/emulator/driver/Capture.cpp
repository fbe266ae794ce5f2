//===- Capture.cpp - Stream capture -----------------------------*- C++ -*-===//
//
// Begins, follows and ends captures, with the rules that spoil one: unsafe
// calls, waiting for a stream that captures, mixing captures, dependencies on
// work outside, streams that were not joined. A spoiled capture stays spoiled
// until cuStreamEndCapture, which then returns no graph.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Graph.h"

#include <algorithm>

namespace moert::emulator {

void invalidate(const std::shared_ptr<Capture> &capture) { capture->invalid = true; }

void leaveCapture(CUstream_st *stream) {
  stream->capture.reset();
  stream->tips.clear();
}

/// Refuses when the capture of `stream` is spoiled.
static CUresult checkValid(const CUstream_st *stream) {
  return stream->capture->invalid ? refuse(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was spoiled before")
                                  : CUDA_SUCCESS;
}

CUresult captureOperation(CUstream_st *stream, Operation operation) {
  MOE_CHECK(checkValid(stream));
  const CUgraphNodeType type = typeOf(operation);
  if (type < 0) {
    invalidate(stream->capture);
    return refuse(CUDA_ERROR_NOT_SUPPORTED, describe(operation), " cannot be captured");
  }
  bool programmatic = false;
  if (auto *kernel = std::get_if<KernelOperation>(&operation)) {
    programmatic = kernel->programmatic;
  }
  CUgraphNode_st *node = appendNode(stream->capture->graph, type, std::move(operation), stream->context);
  node->after = stream->tips;
  if (programmatic && node->after.size() == 1 && node->after[0].node->type == CU_GRAPH_NODE_TYPE_KERNEL) {
    node->after[0].data.type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC;
    node->after[0].data.from_port = CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC;
  }
  stream->tips = {CaptureTip{node, {}}};
  return CUDA_SUCCESS;
}

CUresult captureRecord(CUstream_st *stream, CUevent event, bool external) {
  MOE_CHECK(checkValid(stream));
  if (external) {
    EmptyOperation operation;
    operation.record = event;
    return captureOperation(stream, operation);
  }
  event->capture = stream->capture;
  event->captured = stream->tips;
  event->work.reset();
  return CUDA_SUCCESS;
}

CUresult captureWait(CUstream_st *stream, CUevent event, bool external) {
  if (external && stream->capture) {
    EmptyOperation operation;
    operation.wait = event;
    return captureOperation(stream, operation);
  }
  if (stream->capture) {
    MOE_CHECK(checkValid(stream));
    if (!event->capture || event->capture->ended) {
      if (!event->work && !event->capture) {
        return CUDA_SUCCESS; // never recorded
      }
      invalidate(stream->capture);
      return refuse(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "the event was recorded outside of the capture");
    }
    if (event->capture != stream->capture) {
      invalidate(stream->capture);
      invalidate(event->capture);
      return refuse(CUDA_ERROR_STREAM_CAPTURE_MERGE, "the event belongs to another capture");
    }
  } else {
    if (event->capture->ended) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "the event was last recorded in a capture that has ended");
    }
    if (stream->legacy) {
      invalidate(event->capture);
      return refuse(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "the default stream cannot take part in a capture");
    }
    if (event->capture->invalid) {
      return refuse(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was spoiled before");
    }
    stream->capture = event->capture; // joins the capture
    stream->tips.clear();
  }
  for (const CaptureTip &tip : event->captured) {
    const bool known = std::any_of(stream->tips.begin(), stream->tips.end(),
                                   [&](const CaptureTip &other) { return other.node == tip.node; });
    if (!known) {
      stream->tips.push_back(tip);
    }
  }
  return CUDA_SUCCESS;
}

/// Captures in progress, each once.
static std::vector<std::shared_ptr<Capture>> captures() {
  std::vector<std::shared_ptr<Capture>> all;
  for (CUstream_st *stream : driver()->streams.all()) {
    if (stream->capture && std::find(all.begin(), all.end(), stream->capture) == all.end()) {
      all.push_back(stream->capture);
    }
  }
  return all;
}

CUresult refuseUnsafe(const char *what) {
  const CUstreamCaptureMode mode = threadState().captureMode;
  if (mode == CU_STREAM_CAPTURE_MODE_RELAXED) {
    return CUDA_SUCCESS;
  }
  CUresult result = CUDA_SUCCESS;
  for (const std::shared_ptr<Capture> &capture : captures()) {
    const bool own = capture->thread == std::this_thread::get_id() && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
    const bool global = mode == CU_STREAM_CAPTURE_MODE_GLOBAL && capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (own || global) {
      invalidate(capture);
      result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
  }
  return result == CUDA_SUCCESS ? result : refuse(result, what, " is not safe during a capture, which is now invalid");
}

CUresult refuseCapture(CUctx_st *context, const char *what) {
  CUresult result = CUDA_SUCCESS;
  for (CUstream_st *stream : driver()->streams.all()) {
    if (stream->context == context && stream->capture) {
      invalidate(stream->capture);
      result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
  }
  return result == CUDA_SUCCESS ? result : refuse(result, what, " during a capture, which is now invalid");
}

CUresult refuseImplicit(CUstream_st *stream) {
  if (!stream->legacy) {
    return CUDA_SUCCESS;
  }
  CUresult result = CUDA_SUCCESS;
  for (CUstream_st *other : driver()->streams.all()) {
    if (other->context == stream->context && other->capture && !(other->flags & CU_STREAM_NON_BLOCKING)) {
      invalidate(other->capture);
      result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
  }
  return result == CUDA_SUCCESS
             ? result
             : refuse(result,
                      "the default stream would wait for a blocking stream that captures; the capture is invalid");
}

static CUresult begin(const Call &call, CUstream handle, bool perThread, CUstreamCaptureMode mode, CUgraph graph,
                      const CUgraphNode *after, const CUgraphEdgeData *data, size_t count) {
  CUstream_st *stream = streamOf(call, handle, perThread);
  if (!stream) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (mode < CU_STREAM_CAPTURE_MODE_GLOBAL || mode > CU_STREAM_CAPTURE_MODE_RELAXED) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "mode (", mode, ") must be 0, 1 or 2");
  }
  if (stream->legacy) {
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the default stream cannot be captured");
  }
  if (stream->capture) {
    return refuse(CUDA_ERROR_ILLEGAL_STATE, "the stream captures already");
  }
  auto capture = std::make_shared<Capture>();
  capture->ownsGraph = graph == nullptr;
  capture->graph = graph ? graph : newGraph();
  capture->graph->capturing = true;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->origin = stream;
  capture->id = driver()->nextId++;
  stream->tips.clear();
  for (size_t i = 0; i < count; ++i) {
    stream->tips.push_back({after[i], data ? data[i] : CUgraphEdgeData{}});
  }
  stream->capture = std::move(capture);
  return CUDA_SUCCESS;
}

/// Whether every node that streams of the capture ended with comes before what the origin ended with.
static bool joined(const Capture &capture) {
  std::unordered_set<const CUgraphNode_st *> before;
  std::vector<const CUgraphNode_st *> open;
  for (const CaptureTip &tip : capture.origin->tips) {
    open.push_back(tip.node);
  }
  while (!open.empty()) {
    const CUgraphNode_st *node = open.back();
    open.pop_back();
    if (before.insert(node).second) {
      for (const CaptureTip &edge : node->after) {
        open.push_back(edge.node);
      }
    }
  }
  for (CUstream_st *stream : driver()->streams.all()) {
    for (const CaptureTip &tip : stream->capture.get() == &capture ? stream->tips : std::vector<CaptureTip>()) {
      if (!before.count(tip.node)) {
        return false;
      }
    }
  }
  return true;
}

static CUresult end(const Call &call, CUstream handle, bool perThread, CUgraph *graph) {
  MOE_OUT(graph);
  *graph = nullptr;
  CUstream_st *stream = streamOf(call, handle, perThread);
  if (!stream) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (!stream->capture) {
    return refuse(CUDA_ERROR_ILLEGAL_STATE, "the stream does not capture");
  }
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture->origin != stream) {
    invalidate(capture);
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "the capture began in another stream");
  }
  if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != std::this_thread::get_id()) {
    return refuse(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "the capture began in another thread");
  }
  const bool complete = joined(*capture);
  for (CUstream_st *other : driver()->streams.all()) {
    if (other->capture == capture) {
      leaveCapture(other);
    }
  }
  capture->ended = true;
  capture->graph->capturing = false;
  if (capture->invalid || !complete) {
    if (capture->ownsGraph) {
      forgetGraph(capture->graph);
      delete capture->graph;
    }
    return capture->invalid
               ? refuse(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was spoiled by an earlier call")
               : refuse(CUDA_ERROR_STREAM_CAPTURE_UNJOINED,
                        "another stream took part, and its work is not joined to the stream where the capture began");
  }
  *graph = capture->graph;
  return CUDA_SUCCESS;
}

#define BOTH(name, parameters, ...)                                                                                    \
  CU_API name parameters {                                                                                             \
    MOE_CALL(Need::Context);                                                                                           \
    constexpr bool perThread = false;                                                                                  \
    __VA_ARGS__                                                                                                        \
  }                                                                                                                    \
  CU_API name##_ptsz parameters {                                                                                      \
    MOE_CALL(Need::Context);                                                                                           \
    constexpr bool perThread = true;                                                                                   \
    __VA_ARGS__                                                                                                        \
  }

BOTH(cuStreamBeginCapture, (CUstream stream),
     return begin(call, stream, perThread, CU_STREAM_CAPTURE_MODE_GLOBAL, nullptr, nullptr, nullptr, 0);)
BOTH(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode),
     return begin(call, stream, perThread, mode, nullptr, nullptr, nullptr, 0);)
BOTH(cuStreamBeginCaptureToGraph,
     (CUstream stream, CUgraph graph, const CUgraphNode *after, const CUgraphEdgeData *data, size_t count,
      CUstreamCaptureMode mode),
     {
       MOE_CHECK(checkGraph(graph));
       for (size_t i = 0; i < count; ++i) {
         MOE_CHECK(checkNode(after[i], -1));
       }
       return begin(call, stream, perThread, mode, graph, after, data, count);
     })
BOTH(cuStreamEndCapture, (CUstream stream, CUgraph *graph), return end(call, stream, perThread, graph);)

static CUresult statusOf(CUstream_st *stream, CUstreamCaptureStatus *status) {
  MOE_OUT(status);
  MOE_CHECK(refuseImplicit(stream));
  *status = !stream->capture           ? CU_STREAM_CAPTURE_STATUS_NONE
            : stream->capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                       : CU_STREAM_CAPTURE_STATUS_ACTIVE;
  return CUDA_SUCCESS;
}

BOTH(cuStreamIsCapturing, (CUstream handle, CUstreamCaptureStatus *status), {
  CUstream_st *stream = streamOf(call, handle, perThread);
  return stream ? statusOf(stream, status) : CUDA_ERROR_INVALID_HANDLE;
})

static CUresult info(const Call &call, CUstream handle, bool perThread, CUstreamCaptureStatus *status, uint64_t *id,
                     CUgraph *graph, const CUgraphNode **nodes, const CUgraphEdgeData **data, size_t *count) {
  CUstream_st *stream = streamOf(call, handle, perThread);
  if (!stream) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  MOE_CHECK(statusOf(stream, status));
  if (*status != CU_STREAM_CAPTURE_STATUS_ACTIVE) {
    return CUDA_SUCCESS;
  }
  Capture &capture = *stream->capture;
  capture.tipsShown.clear();
  capture.tipDataShown.clear();
  for (const CaptureTip &tip : stream->tips) {
    capture.tipsShown.push_back(tip.node);
    capture.tipDataShown.push_back(tip.data);
  }
  if (id) {
    *id = capture.id;
  }
  if (graph) {
    *graph = capture.graph;
  }
  if (nodes) {
    *nodes = capture.tipsShown.data();
  }
  if (data) {
    *data = capture.tipDataShown.data();
  }
  if (count) {
    *count = stream->tips.size();
  }
  return CUDA_SUCCESS;
}

BOTH(cuStreamGetCaptureInfo, (CUstream stream, CUstreamCaptureStatus *status, uint64_t *id),
     return info(call, stream, perThread, status, id, nullptr, nullptr, nullptr, nullptr);)
BOTH(cuStreamGetCaptureInfo_v2,
     (CUstream stream, CUstreamCaptureStatus *status, uint64_t *id, CUgraph *graph, const CUgraphNode **nodes,
      size_t *count),
     return info(call, stream, perThread, status, id, graph, nodes, nullptr, count);)
BOTH(cuStreamGetCaptureInfo_v3,
     (CUstream stream, CUstreamCaptureStatus *status, uint64_t *id, CUgraph *graph, const CUgraphNode **nodes,
      const CUgraphEdgeData **data, size_t *count),
     return info(call, stream, perThread, status, id, graph, nodes, data, count);)

static CUresult update(const Call &call, CUstream handle, bool perThread, const CUgraphNode *nodes,
                       const CUgraphEdgeData *data, size_t count, unsigned flags) {
  CUstream_st *stream = streamOf(call, handle, perThread);
  if (!stream) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (!stream->capture) {
    return refuse(CUDA_ERROR_ILLEGAL_STATE, "the stream does not capture");
  }
  MOE_CHECK(checkValid(stream));
  for (size_t i = 0; i < count; ++i) {
    MOE_CHECK(checkNode(nodes[i], -1));
    if (nodes[i]->graph != stream->capture->graph) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "dependency ", i, " is a node of another graph");
    }
  }
  if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES) {
    stream->tips.clear();
  } else if (flags != CU_STREAM_ADD_CAPTURE_DEPENDENCIES) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags (", flags, ") must be 0 or 1");
  }
  for (size_t i = 0; i < count; ++i) {
    stream->tips.push_back({nodes[i], data ? data[i] : CUgraphEdgeData{}});
  }
  return CUDA_SUCCESS;
}

BOTH(cuStreamUpdateCaptureDependencies, (CUstream stream, CUgraphNode *nodes, size_t count, unsigned flags),
     return update(call, stream, perThread, nodes, nullptr, count, flags);)
BOTH(cuStreamUpdateCaptureDependencies_v2,
     (CUstream stream, CUgraphNode *nodes, const CUgraphEdgeData *data, size_t count, unsigned flags),
     return update(call, stream, perThread, nodes, data, count, flags);)

CU_API cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
  MOE_CALL(Need::Init);
  MOE_OUT(mode);
  if (*mode < CU_STREAM_CAPTURE_MODE_GLOBAL || *mode > CU_STREAM_CAPTURE_MODE_RELAXED) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "mode (", *mode, ") must be 0, 1 or 2");
  }
  std::swap(*mode, threadState().captureMode);
  return CUDA_SUCCESS;
}

} // namespace moert::emulator
