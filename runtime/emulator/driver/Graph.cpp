//===- Graph.cpp - Building graphs ------------------------------*- C++ -*-===//
//
// Graphs as data: nodes, edges, clones, topological order. What nodes do when
// launched: GraphExec.cpp; the functions that take parameters: GraphNodes.cpp.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Graph.h"

#include <algorithm>
#include <map>

CUgraph_st::~CUgraph_st() = default;

namespace moert::emulator {

CUresult checkGraph(CUgraph graph) {
  return driver()->graphs.has(graph) ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_HANDLE, "not a live graph");
}

CUresult checkNode(CUgraphNode node, CUgraphNodeType type) {
  if (!driver()->nodes.has(node)) {
    return refuse(CUDA_ERROR_INVALID_HANDLE, "not a live graph node");
  }
  return type < 0 || node->type == type
             ? CUDA_SUCCESS
             : refuse(CUDA_ERROR_INVALID_VALUE, "the node's type is ", node->type, ", this needs ", type);
}

CUgraph_st *newGraph() { return driver()->graphs.add(new CUgraph_st); }

void forgetGraph(CUgraph_st *graph) {
  Driver &all = *driver();
  for (const std::unique_ptr<CUgraphNode_st> &node : graph->nodes) {
    all.nodes.remove(node.get());
    if (node->child) {
      forgetGraph(node->child.get());
    }
  }
  all.graphs.remove(graph);
}

CUgraphNodeType typeOf(const Operation &operation) {
  if (std::holds_alternative<KernelOperation>(operation)) {
    return CU_GRAPH_NODE_TYPE_KERNEL;
  }
  if (std::holds_alternative<CopyOperation>(operation)) {
    return CU_GRAPH_NODE_TYPE_MEMCPY;
  }
  if (std::holds_alternative<FillOperation>(operation)) {
    return CU_GRAPH_NODE_TYPE_MEMSET;
  }
  if (std::holds_alternative<HostOperation>(operation)) {
    return CU_GRAPH_NODE_TYPE_HOST;
  }
  if (std::holds_alternative<ValueOperation>(operation)) {
    return CU_GRAPH_NODE_TYPE_BATCH_MEM_OP;
  }
  if (const auto *empty = std::get_if<EmptyOperation>(&operation)) {
    return empty->record ? CU_GRAPH_NODE_TYPE_EVENT_RECORD
           : empty->wait ? CU_GRAPH_NODE_TYPE_WAIT_EVENT
                         : CU_GRAPH_NODE_TYPE_EMPTY;
  }
  return -1;
}

CUgraphNode_st *appendNode(CUgraph_st *graph, CUgraphNodeType type, Operation operation, CUctx_st *context) {
  graph->nodes.push_back(std::make_unique<CUgraphNode_st>());
  CUgraphNode_st *node = graph->nodes.back().get();
  node->graph = graph;
  node->type = type;
  node->operation = std::move(operation);
  node->context = context;
  return driver()->nodes.add(node);
}

/// Checks that `from` may come before a node of `graph`.
static CUresult checkEdge(const CUgraph_st *graph, CUgraphNode from, const CUgraphEdgeData *data) {
  MOE_CHECK(checkNode(from, -1));
  if (from->graph != graph) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "a dependency is a node of another graph");
  }
  if (data && (data->type > CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC || data->from_port > 2 || data->to_port)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "edge type ", int(data->type), ", ports ", int(data->from_port), " and ",
                  int(data->to_port));
  }
  if (data && data->type == CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC && from->type != CU_GRAPH_NODE_TYPE_KERNEL) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "a programmatic edge must come from a kernel node");
  }
  return CUDA_SUCCESS;
}

CUresult addNode(CUgraphNode *result, CUgraph_st *graph, CUgraphNodeType type, Operation operation, CUctx_st *context,
                 const CUgraphNode *after, const CUgraphEdgeData *data, size_t count) {
  MOE_OUT(result);
  MOE_CHECK(checkGraph(graph));
  if (count && !after) {
    return refuse(CUDA_ERROR_INVALID_VALUE, count, " dependencies at a null pointer");
  }
  for (size_t i = 0; i < count; ++i) {
    MOE_CHECK(checkEdge(graph, after[i], data ? data + i : nullptr));
    if (std::find(after, after + i, after[i]) != after + i) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "dependency ", i, " is there twice");
    }
  }
  CUgraphNode_st *node = appendNode(graph, type, std::move(operation), context);
  for (size_t i = 0; i < count; ++i) {
    node->after.push_back({after[i], data ? data[i] : CUgraphEdgeData{}});
  }
  *result = node;
  return CUDA_SUCCESS;
}

std::unique_ptr<CUgraph_st> cloneGraph(const CUgraph_st &graph) {
  auto clone = std::make_unique<CUgraph_st>();
  clone->original = &graph;
  driver()->graphs.add(clone.get());
  std::map<const CUgraphNode_st *, CUgraphNode_st *> twin;
  for (const std::unique_ptr<CUgraphNode_st> &node : graph.nodes) {
    CUgraphNode_st *copy = appendNode(clone.get(), node->type, node->operation, node->context);
    copy->original = node.get();
    if (node->child) {
      copy->child = cloneGraph(*node->child);
      copy->child->owner = copy;
    }
    twin[node.get()] = copy;
  }
  for (const std::unique_ptr<CUgraphNode_st> &node : graph.nodes) {
    for (const CaptureTip &edge : node->after) {
      twin[node.get()]->after.push_back({twin[edge.node], edge.data});
    }
  }
  return clone;
}

std::vector<const CUgraphNode_st *> sortedNodes(const CUgraph_st &graph) {
  std::map<const CUgraphNode_st *, size_t> missing;
  std::vector<const CUgraphNode_st *> sorted;
  for (const std::unique_ptr<CUgraphNode_st> &node : graph.nodes) {
    missing[node.get()] = node->after.size();
  }
  // Nodes without open edges in the order of their creation, until none is left or the rest is a cycle.
  for (bool more = true; more;) {
    more = false;
    for (const std::unique_ptr<CUgraphNode_st> &node : graph.nodes) {
      const auto place = missing.find(node.get());
      if (place == missing.end() || place->second) {
        continue;
      }
      sorted.push_back(node.get());
      missing.erase(place);
      more = true;
      for (const std::unique_ptr<CUgraphNode_st> &other : graph.nodes) {
        for (const CaptureTip &edge : other->after) {
          if (edge.node == node.get()) {
            --missing[other.get()];
          }
        }
      }
    }
  }
  return missing.empty() ? sorted : std::vector<const CUgraphNode_st *>();
}

CU_API cuGraphCreate(CUgraph *graph, unsigned flags) {
  MOE_CALL(Need::Init);
  MOE_OUT(graph);
  if (flags) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags (", flags, ") must be 0");
  }
  *graph = newGraph();
  return CUDA_SUCCESS;
}

CU_API cuGraphDestroy(CUgraph graph) {
  MOE_CALL(Need::Init);
  MOE_CHECK(checkGraph(graph));
  if (graph->owner || graph->capturing) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "the graph belongs to a node, or a capture into it goes on");
  }
  forgetGraph(graph);
  delete graph;
  return CUDA_SUCCESS;
}

CU_API cuGraphClone(CUgraph *clone, CUgraph graph) {
  MOE_CALL(Need::Init);
  MOE_OUT(clone);
  MOE_CHECK(checkGraph(graph));
  *clone = cloneGraph(*graph).release();
  return CUDA_SUCCESS;
}

CU_API cuGraphNodeFindInClone(CUgraphNode *result, CUgraphNode original, CUgraph clone) {
  MOE_CALL(Need::Init);
  MOE_OUT(result);
  MOE_CHECK(checkGraph(clone));
  for (const std::unique_ptr<CUgraphNode_st> &node : clone->nodes) {
    if (node->original == original) {
      *result = node.get();
      return CUDA_SUCCESS;
    }
  }
  return refuse(CUDA_ERROR_INVALID_VALUE, "the graph has no clone of that node");
}

CU_API cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *type) {
  MOE_CALL(Need::Init);
  MOE_OUT(type);
  MOE_CHECK(checkNode(node, -1));
  *type = node->type;
  return CUDA_SUCCESS;
}

/// Fills an array of `*count` places with `all`, as every listing of the API does: the count alone when `out` is null,
/// otherwise null for places that are too many.
template <typename T> static CUresult list(const std::vector<T> &all, T *out, size_t *count) {
  MOE_OUT(count);
  if (!out) {
    *count = all.size();
    return CUDA_SUCCESS;
  }
  for (size_t i = 0; i < *count; ++i) {
    out[i] = i < all.size() ? all[i] : T{};
  }
  *count = std::min(*count, all.size());
  return CUDA_SUCCESS;
}

CU_API cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count) {
  MOE_CALL(Need::Init);
  MOE_CHECK(checkGraph(graph));
  std::vector<CUgraphNode> all;
  for (const std::unique_ptr<CUgraphNode_st> &node : graph->nodes) {
    all.push_back(node.get());
  }
  return list(all, nodes, count);
}

CU_API cuGraphGetRootNodes(CUgraph graph, CUgraphNode *nodes, size_t *count) {
  MOE_CALL(Need::Init);
  MOE_CHECK(checkGraph(graph));
  std::vector<CUgraphNode> all;
  for (const std::unique_ptr<CUgraphNode_st> &node : graph->nodes) {
    if (node->after.empty()) {
      all.push_back(node.get());
    }
  }
  return list(all, nodes, count);
}

static CUresult edges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, CUgraphEdgeData *data, size_t *count) {
  MOE_OUT(count);
  MOE_CHECK(checkGraph(graph));
  std::vector<CUgraphNode> froms, tos;
  std::vector<CUgraphEdgeData> datas;
  for (const std::unique_ptr<CUgraphNode_st> &node : graph->nodes) {
    for (const CaptureTip &edge : node->after) {
      froms.push_back(edge.node);
      tos.push_back(node.get());
      datas.push_back(edge.data);
    }
  }
  size_t sizes[2] = {*count, *count};
  if (data) {
    MOE_CHECK(list(datas, data, &sizes[0]));
  }
  MOE_CHECK(list(tos, to, &sizes[1]));
  return list(froms, from, count);
}

CU_API cuGraphGetEdges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, size_t *count) {
  MOE_CALL(Need::Init);
  return edges(graph, from, to, nullptr, count);
}

CU_API cuGraphGetEdges_v2(CUgraph graph, CUgraphNode *from, CUgraphNode *to, CUgraphEdgeData *data, size_t *count) {
  MOE_CALL(Need::Init);
  return edges(graph, from, to, data, count);
}

static CUresult dependencies(CUgraphNode node, CUgraphNode *nodes, CUgraphEdgeData *data, size_t *count) {
  MOE_OUT(count);
  MOE_CHECK(checkNode(node, -1));
  std::vector<CUgraphNode> all;
  std::vector<CUgraphEdgeData> datas;
  for (const CaptureTip &edge : node->after) {
    all.push_back(edge.node);
    datas.push_back(edge.data);
  }
  size_t size = *count;
  if (data) {
    MOE_CHECK(list(datas, data, &size));
  }
  return list(all, nodes, count);
}

static CUresult dependents(CUgraphNode node, CUgraphNode *nodes, CUgraphEdgeData *data, size_t *count) {
  MOE_OUT(count);
  MOE_CHECK(checkNode(node, -1));
  std::vector<CUgraphNode> all;
  std::vector<CUgraphEdgeData> datas;
  for (const std::unique_ptr<CUgraphNode_st> &other : node->graph->nodes) {
    for (const CaptureTip &edge : other->after) {
      if (edge.node == node) {
        all.push_back(other.get());
        datas.push_back(edge.data);
      }
    }
  }
  size_t size = *count;
  if (data) {
    MOE_CHECK(list(datas, data, &size));
  }
  return list(all, nodes, count);
}

CU_API cuGraphNodeGetDependencies(CUgraphNode node, CUgraphNode *nodes, size_t *count) {
  MOE_CALL(Need::Init);
  return dependencies(node, nodes, nullptr, count);
}

CU_API cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode *nodes, CUgraphEdgeData *data, size_t *count) {
  MOE_CALL(Need::Init);
  return dependencies(node, nodes, data, count);
}

CU_API cuGraphNodeGetDependentNodes(CUgraphNode node, CUgraphNode *nodes, size_t *count) {
  MOE_CALL(Need::Init);
  return dependents(node, nodes, nullptr, count);
}

CU_API cuGraphNodeGetDependentNodes_v2(CUgraphNode node, CUgraphNode *nodes, CUgraphEdgeData *data, size_t *count) {
  MOE_CALL(Need::Init);
  return dependents(node, nodes, data, count);
}

static CUresult addEdges(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, const CUgraphEdgeData *data,
                         size_t count) {
  MOE_CHECK(checkGraph(graph));
  for (size_t i = 0; i < count; ++i) {
    MOE_CHECK(checkEdge(graph, from[i], data ? data + i : nullptr));
    MOE_CHECK(checkEdge(graph, to[i], nullptr));
    const bool twice = std::any_of(to[i]->after.begin(), to[i]->after.end(),
                                   [&](const CaptureTip &edge) { return edge.node == from[i]; });
    if (from[i] == to[i] || twice) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "edge ", i,
                    from[i] == to[i] ? " ends where it starts" : " is there already");
    }
    to[i]->after.push_back({from[i], data ? data[i] : CUgraphEdgeData{}});
  }
  return CUDA_SUCCESS;
}

static CUresult removeEdges(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count) {
  MOE_CHECK(checkGraph(graph));
  for (size_t i = 0; i < count; ++i) {
    MOE_CHECK(checkNode(to[i], -1));
    auto &after = to[i]->after;
    const auto place =
        std::find_if(after.begin(), after.end(), [&](const CaptureTip &edge) { return edge.node == from[i]; });
    if (place == after.end()) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "edge ", i, " is not there");
    }
    after.erase(place);
  }
  return CUDA_SUCCESS;
}

CU_API cuGraphAddDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count) {
  MOE_CALL(Need::Init);
  return addEdges(graph, from, to, nullptr, count);
}

CU_API cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
                                 const CUgraphEdgeData *data, size_t count) {
  MOE_CALL(Need::Init);
  return addEdges(graph, from, to, data, count);
}

CU_API cuGraphRemoveDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count) {
  MOE_CALL(Need::Init);
  return removeEdges(graph, from, to, count);
}

CU_API cuGraphRemoveDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
                                    const CUgraphEdgeData *, size_t count) {
  MOE_CALL(Need::Init);
  return removeEdges(graph, from, to, count);
}

CU_API cuGraphDestroyNode(CUgraphNode node) {
  MOE_CALL(Need::Init);
  MOE_CHECK(checkNode(node, -1));
  CUgraph_st *graph = node->graph;
  for (const std::unique_ptr<CUgraphNode_st> &other : graph->nodes) {
    auto &after = other->after;
    after.erase(std::remove_if(after.begin(), after.end(), [&](const CaptureTip &edge) { return edge.node == node; }),
                after.end());
  }
  driver()->nodes.remove(node);
  if (node->child) {
    forgetGraph(node->child.get());
  }
  graph->nodes.erase(std::find_if(graph->nodes.begin(), graph->nodes.end(),
                                  [&](const std::unique_ptr<CUgraphNode_st> &other) { return other.get() == node; }));
  return CUDA_SUCCESS;
}

} // namespace moert::emulator
