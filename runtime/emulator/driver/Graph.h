//===- Graph.h - Graphs and stream capture ----------------------*- C++ -*-===//
//
// A graph owns nodes; a node owns its operation (parameters copied) and knows
// what it comes after. Capture turns stream operations into nodes: a stream that
// captures keeps the nodes its next one comes after. An executable graph is a
// flat copy in an order that respects the edges; launching it queues one work
// per node.
//
// Memory nodes, batch memory operations, external semaphores and conditional
// nodes are not supported.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_DRIVER_GRAPH_H
#define MOERT_EMULATOR_DRIVER_GRAPH_H

#include "runtime/emulator/driver/Engine.h"

struct CUgraphNode_st {
  CUgraph_st *graph = nullptr;
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
  moert::emulator::Operation operation;
  CUctx_st *context = nullptr;              ///< null: of whoever launches
  std::unique_ptr<CUgraph_st> child;        ///< of a child graph node
  std::vector<CaptureTip> after;            ///< edges that end here
  const CUgraphNode_st *original = nullptr; ///< in a clone: the node it was cloned from
  std::vector<void *> parameterPointers;    ///< what cuGraphKernelNodeGetParams hands out
};

struct CUgraph_st {
  std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
  CUgraphNode_st *owner = nullptr; ///< of a child graph
  bool capturing = false;          ///< cuStreamBeginCaptureToGraph has not ended
  const CUgraph_st *original = nullptr;

  CUgraph_st() = default;
  CUgraph_st(const CUgraph_st &) = delete;
  ~CUgraph_st();
};

/// One node of an executable graph.
struct ExecNode {
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
  moert::emulator::Operation operation;
  CUctx_st *context = nullptr;
  const CUgraphNode_st *source = nullptr;     ///< only compared, it may be gone
  std::vector<std::pair<size_t, bool>> after; ///< index, whether programmatic
  bool enabled = true;
};

struct CUgraphExec_st {
  CUctx_st *context = nullptr;
  unsigned long long flags = 0;
  std::vector<ExecNode> nodes;   ///< each after those it depends on
  moert::emulator::WorkPtr last; ///< the end of its latest launch: launches of one executable do not overlap
};

/// A capture in progress, shared by the streams that take part.
struct Capture {
  CUgraph_st *graph = nullptr;
  bool ownsGraph = true;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::thread::id thread;
  CUstream origin = nullptr;
  unsigned long long id = 0;
  bool invalid = false;
  bool ended = false;
  std::vector<CUgraphNode> tipsShown; ///< what cuStreamGetCaptureInfo hands out
  std::vector<CUgraphEdgeData> tipDataShown;
};

namespace moert::emulator {

/// Adds a node to `graph` after `after`; refuses nodes of other graphs.
CUresult addNode(CUgraphNode *result, CUgraph_st *graph, CUgraphNodeType type, Operation operation, CUctx_st *context,
                 const CUgraphNode *after, const CUgraphEdgeData *data, size_t count);
CUgraphNode_st *appendNode(CUgraph_st *graph, CUgraphNodeType type, Operation operation, CUctx_st *context);
/// The node type that an operation gets.
CUgraphNodeType typeOf(const Operation &operation);
/// A deep copy.
std::unique_ptr<CUgraph_st> cloneGraph(const CUgraph_st &graph);
/// Takes `graph` and its nodes out of the live handles.
void forgetGraph(CUgraph_st *graph);
/// Puts a new graph among the live handles.
CUgraph_st *newGraph();
/// Nodes in an order that respects the edges; empty when there is a cycle.
std::vector<const CUgraphNode_st *> sortedNodes(const CUgraph_st &graph);
/// Flattens `graph` into `nodes`.
CUresult flatten(const CUgraph_st &graph, CUctx_st *context, std::vector<ExecNode> &nodes);
/// Checks a node's parameters as a launch or copy would be.
CUresult checkGraph(CUgraph graph);
CUresult checkNode(CUgraphNode node, CUgraphNodeType type);
/// Replaces what `to` does by `from`, for updates; names what may not change.
CUresult replaceOperation(ExecNode &to, const Operation &from, int *reason);

// Kernel and memory parameters, shared by node functions.
CUresult kernelOperation(const Call &call, const CUDA_KERNEL_NODE_PARAMS &parameters, bool withKernel,
                         KernelOperation &operation);
FillOperation fillOperation(const CUDA_MEMSET_NODE_PARAMS &parameters);

// Capture.
CUresult captureOperation(CUstream_st *stream, Operation operation);
CUresult captureRecord(CUstream_st *stream, CUevent event, bool external);
CUresult captureWait(CUstream_st *stream, CUevent event, bool external);
void invalidate(const std::shared_ptr<Capture> &capture);
void leaveCapture(CUstream_st *stream);
/// Refuses, and spoils the captures concerned: a call that is unsafe while this thread or (global mode) another
/// captures.
CUresult refuseUnsafe(const char *what);
/// ... waiting for a context one of whose streams captures.
CUresult refuseCapture(CUctx_st *context, const char *what);
/// ... work in the default stream while a blocking stream of its context captures.
CUresult refuseImplicit(CUstream_st *stream);

} // namespace moert::emulator

#endif // MOERT_EMULATOR_DRIVER_GRAPH_H
