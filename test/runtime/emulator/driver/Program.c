/*===- Program.c - A plain C program of the driver API ----------------------===*\
 *
 * Linked with -lcuda against a link-time stub that has names and nothing else,
 * as programs are built, and run unchanged with the emulator. Uses the API as a
 * program does that knows nothing of it: memory, copies, two streams ordered by
 * an event, a captured graph, an update. Exit status 0 when all results are
 * right.
 *
\*===----------------------------------------------------------------------===*/
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT 4096

static void check(CUresult result, const char *what, int line) {
  const char *name = NULL;
  if (result != CUDA_SUCCESS) {
    cuGetErrorName(result, &name);
    fprintf(stderr, "line %d: %s: %s\n", line, what, name ? name : "unknown error");
    exit(1);
  }
}
#define CHECK(call) check(call, #call, __LINE__)

static void expect(const unsigned *got, unsigned first, unsigned step, const char *what) {
  for (unsigned i = 0; i < COUNT; ++i) {
    if (got[i] != first + i * step) {
      fprintf(stderr, "%s: element %u is %u, must be %u\n", what, i, got[i], first + i * step);
      exit(1);
    }
  }
}

int main(void) {
  CUdevice device;
  CUcontext context;
  CUdeviceptr one, two;
  CUstream copies, work;
  CUevent ready;
  CUgraph graph;
  CUgraphExec exec;
  unsigned *pinned = NULL, *back = NULL;
  char name[128];
  int count = 0;

  CHECK(cuInit(0));
  CHECK(cuDeviceGetCount(&count));
  CHECK(cuDeviceGet(&device, 0));
  CHECK(cuDeviceGetName(name, sizeof(name), device));
  printf("%d device(s), device 0 is %s\n", count, name);
  CHECK(cuDevicePrimaryCtxRetain(&context, device));
  CHECK(cuCtxSetCurrent(context));

  CHECK(cuMemAlloc(&one, COUNT * sizeof(unsigned)));
  CHECK(cuMemAlloc(&two, COUNT * sizeof(unsigned)));
  CHECK(cuMemAllocHost((void **)&pinned, COUNT * sizeof(unsigned)));
  CHECK(cuMemAllocHost((void **)&back, COUNT * sizeof(unsigned)));
  for (unsigned i = 0; i < COUNT; ++i) {
    pinned[i] = 3 + i * 5;
  }

  /* Two streams, ordered by an event. */
  CHECK(cuStreamCreate(&copies, CU_STREAM_NON_BLOCKING));
  CHECK(cuStreamCreate(&work, CU_STREAM_NON_BLOCKING));
  CHECK(cuEventCreate(&ready, CU_EVENT_DISABLE_TIMING));
  CHECK(cuMemcpyHtoDAsync(one, pinned, COUNT * sizeof(unsigned), copies));
  CHECK(cuEventRecord(ready, copies));
  CHECK(cuStreamWaitEvent(work, ready, 0));
  CHECK(cuMemcpyDtoDAsync(two, one, COUNT * sizeof(unsigned), work));
  CHECK(cuMemcpyDtoHAsync(back, two, COUNT * sizeof(unsigned), work));
  CHECK(cuStreamSynchronize(work));
  expect(back, 3, 5, "two streams");

  /* The same as a graph: recorded, run twice, with what the pinned buffer holds when it runs. */
  CHECK(cuStreamBeginCapture(work, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECK(cuMemcpyHtoDAsync(one, pinned, COUNT * sizeof(unsigned), work));
  CHECK(cuMemcpyDtoDAsync(two, one, COUNT * sizeof(unsigned), work));
  CHECK(cuMemcpyDtoHAsync(back, two, COUNT * sizeof(unsigned), work));
  CHECK(cuStreamEndCapture(work, &graph));
  CHECK(cuGraphInstantiate(&exec, graph, 0));
  CHECK(cuGraphDestroy(graph));
  for (unsigned run = 0; run < 2; ++run) {
    for (unsigned i = 0; i < COUNT; ++i) {
      pinned[i] = run + i;
    }
    CHECK(cuGraphLaunch(exec, work));
    CHECK(cuStreamSynchronize(work));
    expect(back, run, 1, "graph");
  }
  CHECK(cuMemsetD32Async(two, 77, COUNT, work));
  CHECK(cuMemcpyDtoH(pinned, one, COUNT * sizeof(unsigned)));
  expect(pinned, 1, 1, "copy back");

  CHECK(cuGraphExecDestroy(exec));
  CHECK(cuEventDestroy(ready));
  CHECK(cuStreamDestroy(copies));
  CHECK(cuStreamDestroy(work));
  CHECK(cuMemFreeHost(pinned));
  CHECK(cuMemFreeHost(back));
  CHECK(cuMemFree(one));
  CHECK(cuMemFree(two));
  CHECK(cuDevicePrimaryCtxRelease(device));
  printf("all results are right\n");
  return 0;
}
