//===- GraphTest.cpp - Capture and graphs -----------------------*- C++ -*-===//
//
// What capture records, what spoils it (each rule with its error), and what
// executable graphs do: order, copies of parameters, updates, buffers that are
// gone.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/driver/DriverTest.h"

#include <cstring>
#include <thread>

namespace {

class GraphTest : public DriverTest {
protected:
  /// Captures `work` on the first stream.
  template <typename Work> CUgraph capture(const Work &work, CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL) {
    CUgraph graph = nullptr;
    EXPECT_EQ(cuStreamBeginCapture(first, mode), CUDA_SUCCESS);
    work();
    EXPECT_EQ(cuStreamEndCapture(first, &graph), CUDA_SUCCESS) << moeEmulatorLastError();
    return graph;
  }

  CUgraphExec instantiate(CUgraph graph) {
    CUgraphExec exec = nullptr;
    EXPECT_EQ(cuGraphInstantiate(&exec, graph, 0), CUDA_SUCCESS) << moeEmulatorLastError();
    return exec;
  }

  int read(CUdeviceptr address, CUstream stream) {
    int value = -1;
    EXPECT_EQ(cuMemcpyDtoHAsync(&value, address, 4, stream), CUDA_SUCCESS) << moeEmulatorLastError();
    return value;
  }

  /// The capture that is going on in the first stream is spoiled.
  void expectSpoiled() {
    CUstreamCaptureStatus status = 0;
    EXPECT_EQ(cuStreamIsCapturing(first, &status), CUDA_SUCCESS);
    EXPECT_EQ(status, CU_STREAM_CAPTURE_STATUS_INVALIDATED);
    CUgraph graph = reinterpret_cast<CUgraph>(1);
    REFUSED(cuStreamEndCapture(first, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "spoiled");
    EXPECT_EQ(graph, nullptr);
    EXPECT_EQ(cuStreamIsCapturing(first, &status), CUDA_SUCCESS);
    EXPECT_EQ(status, CU_STREAM_CAPTURE_STATUS_NONE);
  }
};

TEST_F(GraphTest, CapturedWorkRunsWhenLaunched) {
  const CUdeviceptr address = buffer(4);
  CHECKED(cuMemsetD32Async(address, 1, 1, first));
  CHECKED(cuStreamSynchronize(first));
  const CUgraph graph = capture([&] { CHECKED(cuMemsetD32Async(address, 2, 1, first)); });
  EXPECT_EQ(read(address, first), 1);
  const CUgraphExec exec = instantiate(graph);
  CHECKED(cuGraphDestroy(graph)); // the executable lives on
  CHECKED(cuGraphLaunch(exec, first));
  EXPECT_EQ(read(address, first), 2);
  CHECKED(cuGraphExecDestroy(exec));
}

TEST_F(GraphTest, ForkAndJoin) {
  const CUdeviceptr one = buffer(4), two = buffer(4);
  CUevent fork = nullptr, join = nullptr;
  CHECKED(cuEventCreate(&fork, 0));
  CHECKED(cuEventCreate(&join, 0));
  const CUgraph graph = capture([&] {
    CHECKED(cuMemsetD32Async(one, 5, 1, first));
    CHECKED(cuEventRecord(fork, first));
    CHECKED(cuStreamWaitEvent(second, fork, 0));
    CHECKED(cuMemcpyDtoDAsync(two, one, 4, second));
    CHECKED(cuEventRecord(join, second));
    CHECKED(cuStreamWaitEvent(first, join, 0));
    CHECKED(cuMemsetD32Async(one, 6, 1, first));
  });
  size_t nodes = 0, edges = 0;
  CHECKED(cuGraphGetNodes(graph, nullptr, &nodes));
  CHECKED(cuGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges));
  EXPECT_EQ(nodes, 3u);
  EXPECT_EQ(edges, 3u); // memset to copy; memset and copy to memset
  const CUgraphExec exec = instantiate(graph);
  CHECKED(cuGraphLaunch(exec, second));
  EXPECT_EQ(read(two, second), 5);
  EXPECT_EQ(read(one, second), 6);
}

TEST_F(GraphTest, MissingEdgeIsFound) {
  const CUdeviceptr address = buffer(4);
  CUDA_MEMSET_NODE_PARAMS fill{address, 4, 1, 4, 1, 1};
  CUgraph graph = nullptr;
  CUgraphNode one = nullptr, two = nullptr;
  CHECKED(cuGraphCreate(&graph, 0));
  CHECKED(cuGraphAddMemsetNode(&one, graph, nullptr, 0, &fill, context));
  fill.value = 2;
  CHECKED(cuGraphAddMemsetNode(&two, graph, nullptr, 0, &fill, context));
  CHECKED(cuGraphLaunch(instantiate(graph), first));
  CHECKED(cuStreamSynchronize(first));
  expectRace();
  CHECKED(cuGraphAddDependencies(graph, &one, &two, nullptr, 1));
  CHECKED(cuGraphLaunch(instantiate(graph), first));
  EXPECT_EQ(read(address, first), 2);
}

TEST_F(GraphTest, CapturedBufferThatWasFreedIsFound) {
  const CUdeviceptr address = buffer(4);
  const CUgraph graph = capture([&] { CHECKED(cuMemsetD32Async(address, 2, 1, first)); });
  const CUgraphExec exec = instantiate(graph);
  CHECKED(cuGraphLaunch(exec, first));
  CHECKED(cuStreamSynchronize(first));
  CHECKED(cuMemFree(address));
  CHECKED(cuGraphLaunch(exec, first));
  EXPECT_EQ(cuStreamSynchronize(first), CUDA_ERROR_ILLEGAL_ADDRESS);
  expectFinding("out of bounds");
}

TEST_F(GraphTest, LaunchesOfOneExecutableDoNotOverlap) {
  const CUdeviceptr address = buffer(4);
  const CUgraphExec exec = instantiate(capture([&] { CHECKED(cuMemsetD32Async(address, 2, 1, first)); }));
  CHECKED(cuGraphLaunch(exec, first));
  CHECKED(cuGraphLaunch(exec, second));
  CHECKED(cuCtxSynchronize());
}

TEST_F(GraphTest, ChildGraphsAreCopies) {
  const CUdeviceptr address = buffer(4);
  const CUgraph child = capture([&] { CHECKED(cuMemsetD32Async(address, 8, 1, first)); });
  CUgraph graph = nullptr;
  CUgraphNode before = nullptr, node = nullptr, after = nullptr;
  CUDA_MEMSET_NODE_PARAMS fill{address, 4, 1, 4, 1, 1};
  CHECKED(cuGraphCreate(&graph, 0));
  CHECKED(cuGraphAddMemsetNode(&before, graph, nullptr, 0, &fill, context));
  CHECKED(cuGraphAddChildGraphNode(&node, graph, &before, 1, child));
  CHECKED(cuGraphAddEmptyNode(&after, graph, &node, 1));
  CHECKED(cuGraphDestroy(child));
  CHECKED(cuGraphLaunch(instantiate(graph), first));
  EXPECT_EQ(read(address, first), 8);
}

TEST_F(GraphTest, CyclesAreRefused) {
  CUgraph graph = nullptr;
  CUgraphNode one = nullptr, two = nullptr;
  CHECKED(cuGraphCreate(&graph, 0));
  CHECKED(cuGraphAddEmptyNode(&one, graph, nullptr, 0));
  CHECKED(cuGraphAddEmptyNode(&two, graph, &one, 1));
  CHECKED(cuGraphAddDependencies(graph, &two, &one, nullptr, 1));
  CUgraphExec exec = nullptr;
  REFUSED(cuGraphInstantiate(&exec, graph, 0), CUDA_ERROR_INVALID_VALUE, "cycle");
  REFUSED(cuGraphAddDependencies(graph, &one, &two, nullptr, 1), CUDA_ERROR_INVALID_VALUE, "there already");
}

TEST_F(GraphTest, Updates) {
  const CUdeviceptr address = buffer(16);
  const auto graphOf = [&](unsigned value, int copies) {
    return capture([&] {
      CHECKED(cuMemsetD32Async(address, value, 1, first));
      for (int i = 0; i < copies; ++i) {
        CHECKED(cuMemcpyDtoDAsync(address + 8, address, 4, first));
      }
    });
  };
  const CUgraphExec exec = instantiate(graphOf(1, 1));
  CUgraphExecUpdateResultInfo info{};
  CHECKED(cuGraphExecUpdate(exec, graphOf(2, 1), &info));
  EXPECT_EQ(info.result, CU_GRAPH_EXEC_UPDATE_SUCCESS);
  CHECKED(cuGraphLaunch(exec, first));
  EXPECT_EQ(read(address + 8, first), 2);
  EXPECT_EQ(cuGraphExecUpdate(exec, graphOf(3, 2), &info), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
  EXPECT_EQ(info.result, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
  const CUgraph other = capture([&] {
    CHECKED(cuMemcpyDtoDAsync(address + 8, address, 4, first));
    CHECKED(cuMemsetD32Async(address, 3, 1, first));
  });
  EXPECT_EQ(cuGraphExecUpdate(exec, other, &info), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
  EXPECT_EQ(info.result, CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED);
  CHECKED(cuGraphLaunch(exec, first));
  EXPECT_EQ(read(address + 8, first), 2); // a failed update changes nothing
}

TEST_F(GraphTest, NodesOfAnExecutableChange) {
  const CUdeviceptr address = buffer(4);
  CUDA_MEMSET_NODE_PARAMS fill{address, 4, 1, 4, 1, 1};
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  CHECKED(cuGraphCreate(&graph, 0));
  CHECKED(cuGraphAddMemsetNode(&node, graph, nullptr, 0, &fill, context));
  const CUgraphExec exec = instantiate(graph);
  fill.value = 9;
  CHECKED(cuGraphExecMemsetNodeSetParams(exec, node, &fill, context));
  CHECKED(cuGraphLaunch(exec, first));
  EXPECT_EQ(read(address, first), 9);
  CHECKED(cuMemsetD32Async(address, 3, 1, first));
  CHECKED(cuGraphNodeSetEnabled(exec, node, 0));
  CHECKED(cuGraphLaunch(exec, first));
  EXPECT_EQ(read(address, first), 3);
}

void count(void *data) { ++*static_cast<int *>(data); }

TEST_F(GraphTest, HostNodes) {
  int calls = 0;
  const CUgraphExec exec = instantiate(capture([&] { CHECKED(cuLaunchHostFunc(first, count, &calls)); }));
  CHECKED(cuGraphLaunch(exec, first));
  CHECKED(cuGraphLaunch(exec, first));
  CHECKED(cuStreamSynchronize(first));
  EXPECT_EQ(calls, 2);
}

// What spoils a capture.

TEST_F(GraphTest, DefaultStreamCannotCapture) {
  REFUSED(cuStreamBeginCapture(nullptr, 0), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "default stream");
  CHECKED(cuStreamBeginCapture(first, 0));
  REFUSED(cuStreamBeginCapture(first, 0), CUDA_ERROR_ILLEGAL_STATE, "captures already");
  CUgraph graph = nullptr;
  CHECKED(cuStreamEndCapture(first, &graph));
  REFUSED(cuStreamEndCapture(first, &graph), CUDA_ERROR_ILLEGAL_STATE, "does not capture");
}

TEST_F(GraphTest, WaitingSpoils) {
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_RELAXED));
  REFUSED(cuStreamSynchronize(first), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the stream captures");
  expectSpoiled();
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_RELAXED));
  REFUSED(cuCtxSynchronize(), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "waiting for the context");
  expectSpoiled();
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_RELAXED));
  CUevent event = nullptr;
  CHECKED(cuEventCreate(&event, 0));
  CHECKED(cuEventRecord(event, first));
  REFUSED(cuEventSynchronize(event), CUDA_ERROR_CAPTURED_EVENT, "last recorded in a capture");
  expectSpoiled();
}

TEST_F(GraphTest, UnsafeCallsSpoil) {
  CUdeviceptr address = 0;
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL));
  REFUSED(cuMemAlloc(&address, 4), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "cuMemAlloc is not safe during a capture");
  expectSpoiled();
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_RELAXED));
  CHECKED(cuMemAlloc(&address, 4)); // allowed here
  CUgraph graph = nullptr;
  CHECKED(cuStreamEndCapture(first, &graph));
  // Another thread: spoils a global capture, not a thread-local one.
  const auto allocateElsewhere = [&] {
    CUresult result = CUDA_SUCCESS;
    std::thread([&] {
      CUdeviceptr other = 0;
      cuCtxSetCurrent(context);
      result = cuMemAlloc(&other, 4);
    }).join();
    return result;
  };
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL));
  EXPECT_EQ(allocateElsewhere(), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  expectSpoiled();
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  EXPECT_EQ(allocateElsewhere(), CUDA_SUCCESS);
  CHECKED(cuStreamEndCapture(first, &graph));
}

TEST_F(GraphTest, ImplicitDependencySpoils) {
  CUstream blocking = nullptr;
  CHECKED(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
  const CUdeviceptr address = buffer(4);
  CHECKED(cuStreamBeginCapture(blocking, CU_STREAM_CAPTURE_MODE_RELAXED));
  REFUSED(cuMemsetD8Async(address, 0, 4, nullptr), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "default stream");
  CUgraph graph = nullptr;
  EXPECT_EQ(cuStreamEndCapture(blocking, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

TEST_F(GraphTest, UnjoinedWorkIsRefused) {
  const CUdeviceptr address = buffer(4);
  CUevent fork = nullptr;
  CHECKED(cuEventCreate(&fork, 0));
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECKED(cuEventRecord(fork, first));
  CHECKED(cuStreamWaitEvent(second, fork, 0));
  CHECKED(cuMemsetD8Async(address, 0, 4, second));
  CUgraph graph = nullptr;
  REFUSED(cuStreamEndCapture(second, &graph), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "began in another stream");
  EXPECT_EQ(cuStreamEndCapture(first, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECKED(cuEventRecord(fork, first));
  CHECKED(cuStreamWaitEvent(second, fork, 0));
  CHECKED(cuMemsetD8Async(address, 0, 4, second));
  REFUSED(cuStreamEndCapture(first, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "not joined");
}

TEST_F(GraphTest, WorkOutsideSpoils) {
  CUevent event = nullptr;
  CHECKED(cuEventCreate(&event, 0));
  CHECKED(cuEventRecord(event, second));
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL));
  REFUSED(cuStreamWaitEvent(first, event, 0), CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "outside of the capture");
  expectSpoiled();
}

TEST_F(GraphTest, TwoCapturesDoNotMerge) {
  CUevent event = nullptr;
  CHECKED(cuEventCreate(&event, 0));
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECKED(cuStreamBeginCapture(second, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECKED(cuEventRecord(event, second));
  REFUSED(cuStreamWaitEvent(first, event, 0), CUDA_ERROR_STREAM_CAPTURE_MERGE, "another capture");
  expectSpoiled();
  CUgraph graph = nullptr;
  EXPECT_EQ(cuStreamEndCapture(second, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

TEST_F(GraphTest, OtherThreadsCannotEndACapture) {
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  std::thread([&] {
    cuCtxSetCurrent(context);
    CUgraph graph = nullptr;
    REFUSED(cuStreamEndCapture(first, &graph), CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "another thread");
  }).join();
  CUgraph graph = nullptr;
  CHECKED(cuStreamEndCapture(first, &graph));
}

} // namespace
