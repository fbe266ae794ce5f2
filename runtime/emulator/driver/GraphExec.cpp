//===- GraphExec.cpp - Executable graphs ------------------------*- C++ -*-===//
//
// Instantiation flattens a graph, child graphs included, into an order that
// respects the edges; launching queues one work per node. Updates replace what
// nodes do and refuse what the API refuses: another topology, another kind of
// node, a kernel of another context, copies of another shape.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Graph.h"
#include "runtime/emulator/driver/Modules.h"

#include <algorithm>
#include <map>

namespace moert::emulator {

/// Appends the nodes of `graph` after `before`; gives back the last ones.
static CUresult flattenInto(const CUgraph_st &graph, CUctx_st *context,
                            const std::vector<std::pair<size_t, bool>> &before, std::vector<ExecNode> &nodes,
                            std::vector<size_t> &leaves) {
  const std::vector<const CUgraphNode_st *> order = sortedNodes(graph);
  if (order.empty() && !graph.nodes.empty()) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "the graph has a cycle");
  }
  std::map<const CUgraphNode_st *, std::vector<size_t>> ends;
  std::unordered_set<const CUgraphNode_st *> followed;
  for (const CUgraphNode_st *node : order) {
    std::vector<std::pair<size_t, bool>> after = node->after.empty() ? before : std::vector<std::pair<size_t, bool>>();
    for (const CaptureTip &edge : node->after) {
      const bool programmatic = edge.data.type == CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC;
      for (size_t end : ends[edge.node]) {
        after.push_back({end, programmatic});
      }
      followed.insert(edge.node);
    }
    if (node->child) {
      // A node at each side keeps its edges few, and an empty child orders too.
      nodes.emplace_back();
      nodes.back().context = context;
      nodes.back().after = after;
      std::vector<size_t> inner;
      const size_t entry = nodes.size() - 1;
      MOE_CHECK(flattenInto(*node->child, context, {{entry, false}}, nodes, inner));
      ends[node] = inner.empty() ? std::vector<size_t>{entry} : inner;
      continue;
    }
    ExecNode entry;
    entry.type = node->type;
    entry.operation = node->operation;
    entry.context = node->context ? node->context : context;
    entry.source = node;
    entry.after = std::move(after);
    nodes.push_back(std::move(entry));
    ends[node] = {nodes.size() - 1};
  }
  for (const CUgraphNode_st *node : order) {
    if (!followed.count(node)) {
      leaves.insert(leaves.end(), ends[node].begin(), ends[node].end());
    }
  }
  return CUDA_SUCCESS;
}

CUresult flatten(const CUgraph_st &graph, CUctx_st *context, std::vector<ExecNode> &nodes) {
  std::vector<size_t> leaves;
  return flattenInto(graph, context, {}, nodes, leaves);
}

static CUresult instantiate(const Call &call, CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  MOE_OUT(exec);
  MOE_CHECK(checkGraph(graph));
  constexpr unsigned long long known = 1 | 2 | 8; // auto free (nothing to free), upload, node priority
  if (flags & ~known) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "instantiation flags ", hex(flags), ": device launch is not supported");
  }
  auto result = std::make_unique<CUgraphExec_st>();
  MOE_CHECK(flatten(*graph, call.context, result->nodes));
  result->context = call.context;
  result->flags = flags;
  *exec = driver()->execs.add(result.release());
  return CUDA_SUCCESS;
}

CU_API cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, CUgraphNode *error, char *log, size_t size) {
  MOE_CALL(Need::Context);
  if (error) {
    *error = nullptr;
  }
  if (log && size) {
    *log = 0;
  }
  return instantiate(call, exec, graph, 0);
}

CU_API cuGraphInstantiate_v2(CUgraphExec *exec, CUgraph graph, CUgraphNode *error, char *log, size_t size) {
  MOE_CALL(Need::Context);
  if (error) {
    *error = nullptr;
  }
  if (log && size) {
    *log = 0;
  }
  return instantiate(call, exec, graph, 0);
}

CU_API cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  MOE_CALL(Need::Context);
  return instantiate(call, exec, graph, flags);
}

CU_API cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters) {
  MOE_CALL(Need::Context);
  MOE_OUT(parameters);
  const CUresult result = instantiate(call, exec, graph, parameters->flags);
  parameters->hErrNode_out = nullptr;
  parameters->result_out = result == CUDA_SUCCESS ? 0 : 1;
  return result;
}

CU_API cuGraphInstantiateWithParams_ptsz(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters) {
  return cuGraphInstantiateWithParams(exec, graph, parameters);
}

static CUresult checkExec(CUgraphExec exec) {
  return driver()->execs.has(exec) ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_HANDLE, "not a live executable graph");
}

CU_API cuGraphExecDestroy(CUgraphExec exec) {
  MOE_CALL(Need::Init);
  MOE_CHECK(checkExec(exec));
  driver()->execs.remove(exec); // launches that are queued hold copies
  delete exec;
  return CUDA_SUCCESS;
}

CU_API cuGraphExecGetFlags(CUgraphExec exec, uint64_t *flags) {
  MOE_CALL(Need::Init);
  MOE_OUT(flags);
  MOE_CHECK(checkExec(exec));
  *flags = exec->flags;
  return CUDA_SUCCESS;
}

/// Queues every node; the stream goes on after the last ones.
static CUresult launchGraph(CUgraphExec exec, CUstream_st *stream) {
  MOE_CHECK(checkExec(exec));
  if (stream->capture) {
    invalidate(stream->capture);
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "launching a graph cannot be captured; add it as a child");
  }
  MOE_CHECK(refuseImplicit(stream));
  Driver &all = *driver();
  Engine &engine = *all.engine;
  std::vector<Dependency> before = orderOf(stream);
  if (exec->last) {
    before.push_back({exec->last, false});
  }
  for (const ExecNode &node : exec->nodes) {
    const auto *kernel = std::get_if<KernelOperation>(&node.operation);
    if (kernel && !all.functions.has(kernel->function)) {
      return refuse(CUDA_ERROR_INVALID_HANDLE, "a kernel node's module has been unloaded");
    }
    if (node.context && !all.contexts.has(node.context)) {
      return refuse(CUDA_ERROR_CONTEXT_IS_DESTROYED, "a node's context has been destroyed");
    }
    const auto *empty = std::get_if<EmptyOperation>(&node.operation);
    if (empty && ((empty->record && !all.events.has(empty->record)) || (empty->wait && !all.events.has(empty->wait)))) {
      return refuse(CUDA_ERROR_INVALID_HANDLE, "a node's event has been destroyed");
    }
  }
  std::vector<WorkPtr> works;
  std::vector<bool> followed(exec->nodes.size());
  for (const ExecNode &node : exec->nodes) {
    std::vector<Dependency> after = node.after.empty() ? before : std::vector<Dependency>();
    const bool kernel = std::holds_alternative<KernelOperation>(node.operation) && node.enabled;
    for (const auto &[index, programmatic] : node.after) {
      const bool fromKernel = std::holds_alternative<KernelOperation>(works[index]->operation);
      after.push_back({works[index], programmatic && kernel && fromKernel});
      followed[index] = true;
    }
    const auto *empty = std::get_if<EmptyOperation>(&node.operation);
    if (empty && empty->wait && empty->wait->work) {
      after.push_back({empty->wait->work, false});
    }
    works.push_back(engine.enqueue(node.context, stream, node.enabled ? node.operation : Operation(EmptyOperation{}),
                                   std::move(after)));
    if (empty && empty->record) {
      empty->record->work = works.back();
      empty->record->capture.reset();
    }
  }
  std::vector<Dependency> last;
  for (size_t i = 0; i < works.size(); ++i) {
    if (!followed[i]) {
      last.push_back({works[i], false});
    }
  }
  stream->last = engine.enqueue(stream->context, stream, EmptyOperation{}, last.empty() ? before : last);
  exec->last = stream->last;
  engine.pump();
  return CUDA_SUCCESS;
}

#define ON_STREAM(name, perThread, body)                                                                               \
  CU_API name(CUgraphExec exec, CUstream handle) {                                                                     \
    MOE_CALL(Need::Context);                                                                                           \
    CUstream_st *stream = streamOf(call, handle, perThread);                                                           \
    return stream ? body : CUDA_ERROR_INVALID_HANDLE;                                                                  \
  }
ON_STREAM(cuGraphLaunch, false, launchGraph(exec, stream))
ON_STREAM(cuGraphLaunch_ptsz, true, launchGraph(exec, stream))
ON_STREAM(cuGraphUpload, false, checkExec(exec))
ON_STREAM(cuGraphUpload_ptsz, true, checkExec(exec))

CUresult replaceOperation(ExecNode &to, const Operation &from, int *reason) {
  *reason = CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  if (const auto *kernel = std::get_if<KernelOperation>(&from)) {
    auto &old = std::get<KernelOperation>(to.operation);
    if (kernel->function->module->context != old.function->module->context) {
      *reason = CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE;
      return refuse(CUDA_ERROR_INVALID_VALUE, "kernel ", kernel->function->name, " belongs to another context than ",
                    old.function->name);
    }
    KernelOperation replaced = *kernel;
    if (!kernel->clusterGiven) {
      replaced.config.cluster = old.config.cluster;
      replaced.clusterGiven = old.clusterGiven;
    }
    replaced.config.cooperative = old.config.cooperative;
    to.operation = std::move(replaced);
  } else if (const auto *copy = std::get_if<CopyOperation>(&from)) {
    const CUDA_MEMCPY3D_PEER &now = copy->copy, &was = std::get<CopyOperation>(to.operation).copy;
    if (now.srcMemoryType != was.srcMemoryType || now.dstMemoryType != was.dstMemoryType) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "the copy's memory types were ", was.srcMemoryType, " and ",
                    was.dstMemoryType, ", now ", now.srcMemoryType, " and ", now.dstMemoryType);
    }
    if ((now.Height > 1) != (was.Height > 1) || (now.Depth > 1) != (was.Depth > 1)) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "the copy's number of dimensions changed");
    }
    to.operation = from;
  } else if (const auto *fill = std::get_if<FillOperation>(&from)) {
    if ((fill->height > 1) != (std::get<FillOperation>(to.operation).height > 1)) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "the memset's number of dimensions changed");
    }
    to.operation = from;
  } else {
    to.operation = from;
  }
  *reason = CU_GRAPH_EXEC_UPDATE_SUCCESS;
  return CUDA_SUCCESS;
}

/// Updates `exec` to what `graph` says; all or nothing.
static CUresult updateExec(CUgraphExec exec, CUgraph graph, int *result, CUgraphNode *errorNode) {
  MOE_CHECK(checkExec(exec));
  MOE_CHECK(checkGraph(graph));
  *result = CU_GRAPH_EXEC_UPDATE_ERROR;
  std::vector<ExecNode> wanted;
  MOE_CHECK(flatten(*graph, exec->context, wanted));
  const auto fail = [&](int reason, const ExecNode *node) {
    *result = reason;
    *errorNode = node ? const_cast<CUgraphNode>(node->source) : nullptr;
    return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
  };
  if (wanted.size() != exec->nodes.size()) {
    refuse(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "the graph has ", wanted.size(), " nodes, the executable ",
           exec->nodes.size());
    return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, nullptr);
  }
  std::vector<ExecNode> updated = exec->nodes;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].type != updated[i].type) {
      refuse(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "node ", i, " has type ", wanted[i].type, ", was ", updated[i].type);
      return fail(CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED, &wanted[i]);
    }
    if (wanted[i].after != updated[i].after) {
      refuse(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "the edges that end at node ", i, " changed");
      return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, &wanted[i]);
    }
    int reason = 0;
    if (replaceOperation(updated[i], wanted[i].operation, &reason) != CUDA_SUCCESS) {
      return fail(reason, &wanted[i]);
    }
  }
  exec->nodes = std::move(updated);
  *result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
  return CUDA_SUCCESS;
}

CU_API cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode *errorNode, int *result) {
  MOE_CALL(Need::Context);
  MOE_OUT(result);
  CUgraphNode node = nullptr;
  const CUresult code = updateExec(exec, graph, result, &node);
  if (errorNode) {
    *errorNode = node;
  }
  return code;
}

CU_API cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *info) {
  MOE_CALL(Need::Context);
  MOE_OUT(info);
  *info = CUgraphExecUpdateResultInfo{};
  return updateExec(exec, graph, &info->result, &info->errorNode);
}

CU_API cuGraphExecChildGraphNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraph child) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkExec(exec));
  MOE_CHECK(checkNode(node, CU_GRAPH_NODE_TYPE_GRAPH));
  MOE_CHECK(checkGraph(child));
  std::vector<ExecNode> wanted, former;
  MOE_CHECK(flatten(*child, exec->context, wanted));
  MOE_CHECK(flatten(*node->child, exec->context, former));
  if (wanted.size() != former.size()) {
    return refuse(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "the child has ", wanted.size(), " nodes, was ", former.size());
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    for (ExecNode &entry : exec->nodes) {
      if (former[i].source && entry.source == former[i].source) {
        int reason = 0;
        if (wanted[i].type != entry.type || replaceOperation(entry, wanted[i].operation, &reason) != CUDA_SUCCESS) {
          return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
        }
      }
    }
  }
  return CUDA_SUCCESS;
}

/// The node of `exec` that was made from `node`, or null after refusing.
static ExecNode *execNode(CUgraphExec exec, CUgraphNode node) {
  if (checkExec(exec) != CUDA_SUCCESS) {
    return nullptr;
  }
  for (ExecNode &entry : exec->nodes) {
    if (entry.source == node) {
      return &entry;
    }
  }
  refuse(CUDA_ERROR_INVALID_VALUE, "the executable graph was not made from that node");
  return nullptr;
}

CU_API cuGraphNodeSetEnabled(CUgraphExec exec, CUgraphNode node, unsigned enabled) {
  MOE_CALL(Need::Context);
  ExecNode *entry = execNode(exec, node);
  if (!entry) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (entry->type > CU_GRAPH_NODE_TYPE_MEMSET) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "only kernel, memcpy and memset nodes can be disabled");
  }
  entry->enabled = enabled != 0;
  return CUDA_SUCCESS;
}

CU_API cuGraphNodeGetEnabled(CUgraphExec exec, CUgraphNode node, unsigned *enabled) {
  MOE_CALL(Need::Context);
  MOE_OUT(enabled);
  const ExecNode *entry = execNode(exec, node);
  if (!entry) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *enabled = entry->enabled;
  return CUDA_SUCCESS;
}

} // namespace moert::emulator
