/* Prints the order in which host functions of four streams ran: capital letters for the stream, one per function. The
 * streams are independent but for one event, so that many orders are right; replay.py judges them. */
#include <cuda.h>
#include <stdio.h>

#define CHECK(call)                                                                                                    \
  if ((call) != CUDA_SUCCESS) {                                                                                        \
    fprintf(stderr, "failed: %s\n", #call);                                                                            \
    return 1;                                                                                                          \
  }

static char order[200];
static int length;

static void note(void *data) { order[length++] = *(const char *)data; }

int main(void) {
  static const char *const names[] = {"A", "B", "C", "D"};
  CUcontext context;
  CUstream streams[4];
  CUevent event;
  CHECK(cuInit(0));
  CHECK(cuDevicePrimaryCtxRetain(&context, 0));
  CHECK(cuCtxSetCurrent(context));
  CHECK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  for (int i = 0; i < 4; ++i) {
    CHECK(cuStreamCreate(&streams[i], CU_STREAM_NON_BLOCKING));
  }
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 4; ++i) {
      CHECK(cuLaunchHostFunc(streams[i], note, (void *)names[i]));
    }
    if (round == 4) { /* what D does from now on comes after five of A */
      CHECK(cuEventRecord(event, streams[0]));
      CHECK(cuStreamWaitEvent(streams[3], event, 0));
    }
  }
  CHECK(cuStreamSynchronize(streams[1]));
  note((void *)"|");
  CHECK(cuCtxSynchronize());
  printf("%s\n", order);
  return 0;
}
