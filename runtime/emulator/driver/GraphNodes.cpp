//===- GraphNodes.cpp - Nodes and their parameters --------------*- C++ -*-===//
//
// One function per kind of node to add it, and to get and set its parameters.
// Parameters are copied when they are given. Child graphs are cloned.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Graph.h"
#include "runtime/emulator/driver/Launch.h"
#include "runtime/emulator/driver/Modules.h"

#include <cstring>

namespace moert::emulator {

CUresult kernelOperation(const Call &call, const CUDA_KERNEL_NODE_PARAMS &what, bool withKernel,
                         KernelOperation &operation) {
  CUfunction function = what.func;
  if (!function && withKernel) {
    function = reinterpret_cast<CUfunction>(what.kern);
  }
  LaunchRequest request;
  request.function = functionOf(call, function);
  if (!request.function) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  request.grid = {what.gridDimX, what.gridDimY, what.gridDimZ};
  request.block = {what.blockDimX, what.blockDimY, what.blockDimZ};
  request.dynamicShared = what.sharedMemBytes;
  request.parameters = what.kernelParams;
  request.extra = what.extra;
  return makeLaunch(request, operation);
}

FillOperation fillOperation(const CUDA_MEMSET_NODE_PARAMS &what) {
  return FillOperation{what.dst, what.pitch, what.width, what.height, what.value, what.elementSize};
}

static CUresult checkFillNode(const CUDA_MEMSET_NODE_PARAMS *what) {
  MOE_OUT(what);
  if (what->elementSize != 1 && what->elementSize != 2 && what->elementSize != 4) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "element size (", what->elementSize, ") must be 1, 2 or 4");
  }
  return checkFill(fillOperation(*what));
}

static CUresult copyOperation(const Call &call, const CUDA_MEMCPY3D *what, CopyOperation &operation) {
  MOE_OUT(what);
  std::memcpy(&operation.copy, what, sizeof(operation.copy));
  return checkCopy(call, operation);
}

static CUresult checkContext(CUcontext context) {
  return !context || driver()->contexts.has(context) ? CUDA_SUCCESS
                                                     : refuse(CUDA_ERROR_INVALID_CONTEXT, "not a live context");
}

static CUresult addKernel(const Call &call, CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
                          const CUDA_KERNEL_NODE_PARAMS &what, bool withKernel) {
  KernelOperation operation;
  MOE_CHECK(kernelOperation(call, what, withKernel, operation));
  return addNode(node, graph, CU_GRAPH_NODE_TYPE_KERNEL, operation, operation.function->module->context, after, nullptr,
                 count);
}

CU_API cuGraphAddKernelNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
                            const CUDA_KERNEL_NODE_PARAMS_v1 *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  CUDA_KERNEL_NODE_PARAMS full{};
  std::memcpy(&full, what, sizeof(*what));
  return addKernel(call, node, graph, after, count, full, false);
}

CU_API cuGraphAddKernelNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
                               const CUDA_KERNEL_NODE_PARAMS *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  return addKernel(call, node, graph, after, count, *what, true);
}

/// The parameters back; kernelParams points into the node, one pointer per parameter.
static CUresult kernelParameters(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS *what) {
  MOE_OUT(what);
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_KERNEL));
  auto &operation = std::get<KernelOperation>(node->operation);
  *what = CUDA_KERNEL_NODE_PARAMS{};
  what->func = operation.function;
  what->gridDimX = operation.config.grid.x;
  what->gridDimY = operation.config.grid.y;
  what->gridDimZ = operation.config.grid.z;
  what->blockDimX = operation.config.block.x;
  what->blockDimY = operation.config.block.y;
  what->blockDimZ = operation.config.block.z;
  what->sharedMemBytes = operation.config.dynamicShared;
  node->parameterPointers.clear();
  for (const ptx::Variable &parameter : operation.function->kernel->function->parameters) {
    node->parameterPointers.push_back(operation.config.parameters.data() + parameter.offset);
  }
  what->kernelParams = node->parameterPointers.data();
  return CUDA_SUCCESS;
}

CU_API cuGraphKernelNodeGetParams(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS_v1 *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  CUDA_KERNEL_NODE_PARAMS full;
  MOE_CHECK(kernelParameters(node, &full));
  std::memcpy(what, &full, sizeof(*what));
  return CUDA_SUCCESS;
}

CU_API cuGraphKernelNodeGetParams_v2(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS *what) {
  MOE_CALL(Need::Context);
  return kernelParameters(node, what);
}

static CUresult setKernel(const Call &call, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS &what, bool withKernel) {
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_KERNEL));
  KernelOperation operation;
  MOE_CHECK(kernelOperation(call, what, withKernel, operation));
  const auto &old = std::get<KernelOperation>(node->operation);
  operation.config.cluster = old.config.cluster;
  operation.clusterGiven = old.clusterGiven;
  operation.config.cooperative = old.config.cooperative;
  operation.priority = old.priority;
  node->operation = std::move(operation);
  return CUDA_SUCCESS;
}

CU_API cuGraphKernelNodeSetParams(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1 *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  CUDA_KERNEL_NODE_PARAMS full{};
  std::memcpy(&full, what, sizeof(*what));
  return setKernel(call, node, full, false);
}

CU_API cuGraphKernelNodeSetParams_v2(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  return setKernel(call, node, *what, true);
}

CU_API cuGraphKernelNodeSetAttribute(CUgraphNode node, CUlaunchAttributeID attribute,
                                     const CUlaunchAttributeValue *value) {
  MOE_CALL(Need::Context);
  MOE_OUT(value);
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_KERNEL));
  return applyAttribute(std::get<KernelOperation>(node->operation), attribute, *value);
}

CU_API cuGraphKernelNodeGetAttribute(CUgraphNode node, CUlaunchAttributeID attribute, CUlaunchAttributeValue *value) {
  MOE_CALL(Need::Context);
  MOE_OUT(value);
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_KERNEL));
  const auto &operation = std::get<KernelOperation>(node->operation);
  *value = CUlaunchAttributeValue{};
  switch (attribute) {
  case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
    value->cooperative = operation.config.cooperative;
    return CUDA_SUCCESS;
  case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
    value->clusterDim = {operation.config.cluster.x, operation.config.cluster.y, operation.config.cluster.z};
    return CUDA_SUCCESS;
  case CU_LAUNCH_ATTRIBUTE_PRIORITY:
    value->priority = operation.priority;
    return CUDA_SUCCESS;
  default:
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "kernel node attribute ", attribute);
  }
}

CU_API cuGraphKernelNodeCopyAttributes(CUgraphNode to, CUgraphNode from) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkNode(to, CU_GRAPH_NODE_TYPE_KERNEL));
  MOE_CHECK(checkNode(from, CU_GRAPH_NODE_TYPE_KERNEL));
  auto &target = std::get<KernelOperation>(to->operation);
  const auto &source = std::get<KernelOperation>(from->operation);
  target.config.cluster = source.config.cluster;
  target.clusterGiven = source.clusterGiven;
  target.config.cooperative = source.config.cooperative;
  target.priority = source.priority;
  return CUDA_SUCCESS;
}

CU_API cuGraphAddMemcpyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
                            const CUDA_MEMCPY3D *what, CUcontext context) {
  MOE_CALL(Need::Context);
  CopyOperation operation;
  MOE_CHECK(copyOperation(call, what, operation));
  MOE_CHECK(checkContext(context));
  return addNode(node, graph, CU_GRAPH_NODE_TYPE_MEMCPY, std::move(operation), context, after, nullptr, count);
}

CU_API cuGraphMemcpyNodeGetParams(CUgraphNode node, CUDA_MEMCPY3D *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_MEMCPY));
  std::memcpy(what, &std::get<CopyOperation>(node->operation).copy, sizeof(*what));
  return CUDA_SUCCESS;
}

CU_API cuGraphMemcpyNodeSetParams(CUgraphNode node, const CUDA_MEMCPY3D *what) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_MEMCPY));
  CopyOperation operation;
  MOE_CHECK(copyOperation(call, what, operation));
  node->operation = std::move(operation);
  return CUDA_SUCCESS;
}

CU_API cuGraphAddMemsetNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
                            const CUDA_MEMSET_NODE_PARAMS *what, CUcontext context) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkFillNode(what));
  MOE_CHECK(checkContext(context));
  return addNode(node, graph, CU_GRAPH_NODE_TYPE_MEMSET, fillOperation(*what), context, after, nullptr, count);
}

CU_API cuGraphMemsetNodeGetParams(CUgraphNode node, CUDA_MEMSET_NODE_PARAMS *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_MEMSET));
  const auto &fill = std::get<FillOperation>(node->operation);
  *what = {fill.address, fill.pitch, fill.value, fill.elementSize, fill.width, fill.height};
  return CUDA_SUCCESS;
}

CU_API cuGraphMemsetNodeSetParams(CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS *what) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_MEMSET));
  MOE_CHECK(checkFillNode(what));
  node->operation = fillOperation(*what);
  return CUDA_SUCCESS;
}

CU_API cuGraphAddHostNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
                          const CUDA_HOST_NODE_PARAMS *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  MOE_OUT(what->fn);
  return addNode(node, graph, CU_GRAPH_NODE_TYPE_HOST, HostOperation{what->fn, nullptr, what->userData}, nullptr, after,
                 nullptr, count);
}

CU_API cuGraphHostNodeGetParams(CUgraphNode node, CUDA_HOST_NODE_PARAMS *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_HOST));
  const auto &host = std::get<HostOperation>(node->operation);
  *what = {host.function, host.data};
  return CUDA_SUCCESS;
}

CU_API cuGraphHostNodeSetParams(CUgraphNode node, const CUDA_HOST_NODE_PARAMS *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  MOE_OUT(what->fn);
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_HOST));
  node->operation = HostOperation{what->fn, nullptr, what->userData};
  return CUDA_SUCCESS;
}

CU_API cuGraphAddEmptyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count) {
  MOE_CALL(Need::Context);
  return addNode(node, graph, CU_GRAPH_NODE_TYPE_EMPTY, EmptyOperation{}, nullptr, after, nullptr, count);
}

static CUresult addChild(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, const CUgraphEdgeData *data,
                         size_t count, CUgraph child) {
  MOE_CHECK(checkGraph(child));
  if (child == graph) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "a graph cannot be its own child");
  }
  MOE_CHECK(addNode(node, graph, CU_GRAPH_NODE_TYPE_GRAPH, EmptyOperation{}, nullptr, after, data, count));
  (*node)->child = cloneGraph(*child);
  (*node)->child->owner = *node;
  return CUDA_SUCCESS;
}

CU_API cuGraphAddChildGraphNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
                                CUgraph child) {
  MOE_CALL(Need::Context);
  return addChild(node, graph, after, nullptr, count, child);
}

CU_API cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph *graph) {
  MOE_CALL(Need::Context);
  MOE_OUT(graph);
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_GRAPH));
  *graph = node->child.get();
  return CUDA_SUCCESS;
}

static CUresult checkEvent(CUevent event) {
  return driver()->events.has(event) ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_HANDLE, "not a live event");
}

CU_API cuGraphAddEventRecordNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
                                 CUevent event) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkEvent(event));
  return addNode(node, graph, CU_GRAPH_NODE_TYPE_EVENT_RECORD, EmptyOperation{event, nullptr}, nullptr, after, nullptr,
                 count);
}

CU_API cuGraphAddEventWaitNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
                               CUevent event) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkEvent(event));
  return addNode(node, graph, CU_GRAPH_NODE_TYPE_WAIT_EVENT, EmptyOperation{nullptr, event}, nullptr, after, nullptr,
                 count);
}

CU_API cuGraphEventRecordNodeGetEvent(CUgraphNode node, CUevent *event) {
  MOE_CALL(Need::Context);
  MOE_OUT(event);
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_EVENT_RECORD));
  *event = std::get<EmptyOperation>(node->operation).record;
  return CUDA_SUCCESS;
}

CU_API cuGraphEventWaitNodeGetEvent(CUgraphNode node, CUevent *event) {
  MOE_CALL(Need::Context);
  MOE_OUT(event);
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_WAIT_EVENT));
  *event = std::get<EmptyOperation>(node->operation).wait;
  return CUDA_SUCCESS;
}

CU_API cuGraphEventRecordNodeSetEvent(CUgraphNode node, CUevent event) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkEvent(event));
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_EVENT_RECORD));
  node->operation = EmptyOperation{event, nullptr};
  return CUDA_SUCCESS;
}

CU_API cuGraphEventWaitNodeSetEvent(CUgraphNode node, CUevent event) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkEvent(event));
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_WAIT_EVENT));
  node->operation = EmptyOperation{nullptr, event};
  return CUDA_SUCCESS;
}

/// The operation that the general form of parameters means.
static CUresult generalOperation(const Call &call, const CUgraphNodeParams &what, Operation &operation,
                                 CUctx_st *&context) {
  switch (what.type) {
  case CU_GRAPH_NODE_TYPE_KERNEL: {
    KernelOperation kernel;
    MOE_CHECK(kernelOperation(call, what.kernel, true, kernel));
    context = kernel.function->module->context;
    operation = std::move(kernel);
    return CUDA_SUCCESS;
  }
  case CU_GRAPH_NODE_TYPE_MEMCPY: {
    CopyOperation copy;
    MOE_CHECK(copyOperation(call, &what.memcpy.copyParams, copy));
    context = what.memcpy.copyCtx;
    operation = std::move(copy);
    return checkContext(context);
  }
  case CU_GRAPH_NODE_TYPE_MEMSET: {
    CUDA_MEMSET_NODE_PARAMS fill;
    std::memcpy(&fill, &what.memset, sizeof(fill));
    MOE_CHECK(checkFillNode(&fill));
    context = what.memset.ctx;
    operation = fillOperation(fill);
    return checkContext(context);
  }
  case CU_GRAPH_NODE_TYPE_HOST:
    MOE_OUT(what.host.fn);
    operation = HostOperation{what.host.fn, nullptr, what.host.userData};
    return CUDA_SUCCESS;
  case CU_GRAPH_NODE_TYPE_EMPTY:
    operation = EmptyOperation{};
    return CUDA_SUCCESS;
  case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
    operation = EmptyOperation{nullptr, what.eventWait.event};
    return checkEvent(what.eventWait.event);
  case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
    operation = EmptyOperation{what.eventRecord.event, nullptr};
    return checkEvent(what.eventRecord.event);
  default:
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "nodes of type ", what.type,
                  " (there are kernel, memcpy, memset, host, graph, empty and event nodes)");
  }
}

static CUresult addGeneral(const Call &call, CUgraphNode *node, CUgraph graph, const CUgraphNode *after,
                           const CUgraphEdgeData *data, size_t count, const CUgraphNodeParams *what) {
  MOE_OUT(what);
  if (what->type == CU_GRAPH_NODE_TYPE_GRAPH) {
    return addChild(node, graph, after, data, count, what->graph.graph);
  }
  Operation operation;
  CUctx_st *context = nullptr;
  MOE_CHECK(generalOperation(call, *what, operation, context));
  return addNode(node, graph, what->type, std::move(operation), context, after, data, count);
}

CU_API cuGraphAddNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
                      CUgraphNodeParams *what) {
  MOE_CALL(Need::Context);
  return addGeneral(call, node, graph, after, nullptr, count, what);
}

CU_API cuGraphAddNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, const CUgraphEdgeData *data,
                         size_t count, CUgraphNodeParams *what) {
  MOE_CALL(Need::Context);
  return addGeneral(call, node, graph, after, data, count, what);
}

CU_API cuGraphNodeSetParams(CUgraphNode node, CUgraphNodeParams *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  MOE_CHECK(checkNode(node, what->type));
  if (what->type == CU_GRAPH_NODE_TYPE_KERNEL) {
    return setKernel(call, node, what->kernel, true);
  }
  Operation operation;
  CUctx_st *context = nullptr;
  MOE_CHECK(generalOperation(call, *what, operation, context));
  node->operation = std::move(operation);
  return CUDA_SUCCESS;
}

static CUresult setExec(CUgraphExec exec, CUgraphNode node, CUgraphNodeType type, const Operation &operation) {
  MOE_CHECK(checkNode(node, type));
  if (!driver()->execs.has(exec)) {
    return refuse(CUDA_ERROR_INVALID_HANDLE, "not a live executable graph");
  }
  for (ExecNode &entry : exec->nodes) {
    if (entry.source == node) {
      int reason = 0;
      return replaceOperation(entry, operation, &reason);
    }
  }
  return refuse(CUDA_ERROR_INVALID_VALUE, "the executable graph was not made from that node");
}

CU_API cuGraphExecNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  Operation operation;
  CUctx_st *context = nullptr;
  MOE_CHECK(generalOperation(call, *what, operation, context));
  return setExec(exec, node, what->type, operation);
}

static CUresult setExecKernel(const Call &call, CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS &what,
                              bool withKernel) {
  KernelOperation operation;
  MOE_CHECK(kernelOperation(call, what, withKernel, operation));
  return setExec(exec, node, CU_GRAPH_NODE_TYPE_KERNEL, operation);
}

CU_API cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1 *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  CUDA_KERNEL_NODE_PARAMS full{};
  std::memcpy(&full, what, sizeof(*what));
  return setExecKernel(call, exec, node, full, false);
}

CU_API cuGraphExecKernelNodeSetParams_v2(CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  return setExecKernel(call, exec, node, *what, true);
}

CU_API cuGraphExecMemcpyNodeSetParams(CUgraphExec exec, CUgraphNode node, const CUDA_MEMCPY3D *what, CUcontext) {
  MOE_CALL(Need::Context);
  CopyOperation operation;
  MOE_CHECK(copyOperation(call, what, operation));
  return setExec(exec, node, CU_GRAPH_NODE_TYPE_MEMCPY, operation);
}

CU_API cuGraphExecMemsetNodeSetParams(CUgraphExec exec, CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS *what,
                                      CUcontext) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkFillNode(what));
  return setExec(exec, node, CU_GRAPH_NODE_TYPE_MEMSET, fillOperation(*what));
}

CU_API cuGraphExecHostNodeSetParams(CUgraphExec exec, CUgraphNode node, const CUDA_HOST_NODE_PARAMS *what) {
  MOE_CALL(Need::Context);
  MOE_OUT(what);
  MOE_OUT(what->fn);
  return setExec(exec, node, CU_GRAPH_NODE_TYPE_HOST, HostOperation{what->fn, nullptr, what->userData});
}

CU_API cuGraphExecEventRecordNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkEvent(event));
  return setExec(exec, node, CU_GRAPH_NODE_TYPE_EVENT_RECORD, EmptyOperation{event, nullptr});
}

CU_API cuGraphExecEventWaitNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkEvent(event));
  return setExec(exec, node, CU_GRAPH_NODE_TYPE_WAIT_EVENT, EmptyOperation{nullptr, event});
}

} // namespace moert::emulator
