//===- MpiTransport.cpp - libmoert-mpi.so: bytes over MPI -----------------===//
//
// The plugin behind Transport.h. It only begins and tests sends and receives: no MPI call in here waits for another
// rank, except when the job begins and when it ends in order. Compiled against one MPI's mpi.h, because MPIs have no
// common ABI; libmoert itself knows none.
//
//===----------------------------------------------------------------------===//
#include "runtime/ranks/Transport.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mpi.h>
#include <signal.h>
#include <unistd.h>

namespace {

static_assert(sizeof(MPI_Request) <= sizeof(moert_transfer), "a request fits a transfer");

/// Not the caller's communicator, so that its messages and ours do not meet.
MPI_Comm communicator = MPI_COMM_NULL;
bool initialisedHere = false;

int check(moert_transport *transport, int code, const char *doing) {
  if (code == MPI_SUCCESS) {
    return 0;
  }
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  snprintf(transport->error, sizeof(transport->error), "cannot %s: %.200s", doing, text);
  return -1;
}

MPI_Request load(const moert_transfer *transfer) {
  MPI_Request request;
  memcpy(&request, transfer, sizeof(request));
  return request;
}

void store(moert_transfer *transfer, MPI_Request request) { memcpy(transfer, &request, sizeof(request)); }

int send(moert_transport *transport, const void *data, size_t bytes, int to, int tag, moert_transfer *transfer) {
  MPI_Request request = MPI_REQUEST_NULL;
  const int code = MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, to, tag, communicator, &request);
  store(transfer, request);
  return check(transport, code, "send");
}

int receive(moert_transport *transport, void *data, size_t bytes, int from, int tag, moert_transfer *transfer) {
  MPI_Request request = MPI_REQUEST_NULL;
  const int code = MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, from, tag, communicator, &request);
  store(transfer, request);
  return check(transport, code, "receive");
}

int test(moert_transport *transport, moert_transfer *transfer, size_t *bytes) {
  MPI_Request request = load(transfer);
  MPI_Status status;
  int isDone = 0, count = 0;
  const int code = MPI_Test(&request, &isDone, &status);
  store(transfer, request);
  if (check(transport, code, "test a message") != 0) {
    return -1;
  }
  if (isDone && MPI_Get_count(&status, MPI_BYTE, &count) == MPI_SUCCESS && count >= 0) {
    *bytes = static_cast<size_t>(count);
  }
  return isDone ? 1 : 0;
}

void cancel(moert_transport *, moert_transfer *transfer) {
  MPI_Request request = load(transfer);
  MPI_Cancel(&request);
  MPI_Request_free(&request);
}

void leave(moert_transport *) {
  MPI_Comm_free(&communicator);
  if (initialisedHere) {
    MPI_Finalize();
  }
}

/// Open MPI's mpirun with --enable-recovery goes on without ranks that fail and reports success even after MPI_Abort. A
/// failure must not look like success, so that it is told to stop, which it reports.
void stopRecoveringLauncher() {
  const char *isRecovering = getenv("OMPI_MCA_orte_enable_recovery");
  char path[64], name[32] = "";
  snprintf(path, sizeof(path), "/proc/%d/comm", static_cast<int>(getppid()));
  FILE *file = isRecovering && strcmp(isRecovering, "0") != 0 ? fopen(path, "re") : nullptr;
  if (file == nullptr) {
    return;
  }
  const bool isLauncher =
      fscanf(file, "%31s", name) == 1 && (strcmp(name, "mpirun") == 0 || strcmp(name, "mpiexec") == 0 ||
                                          strcmp(name, "orterun") == 0 || strcmp(name, "orted") == 0);
  fclose(file);
  if (isLauncher) {
    kill(getppid(), SIGTERM);
  }
}

void endJob(moert_transport *, int status) {
  stopRecoveringLauncher();
  MPI_Abort(communicator, status);
}

} // namespace

extern "C" __attribute__((visibility("default"))) int moert_open_transport(moert_transport *transport) {
  int initialised = 0;
  MPI_Initialized(&initialised);
  if (communicator != MPI_COMM_NULL) {
    snprintf(transport->error, sizeof(transport->error), "this process has joined the job already");
    return -1;
  }
  if (!initialised) {
    int given = 0;
    if (check(transport, MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given), "start MPI") != 0) {
      return -1;
    }
    initialisedHere = true;
  }
  if (check(transport, MPI_Comm_dup(MPI_COMM_WORLD, &communicator), "copy the communicator") != 0) {
    return -1;
  }
  MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN);
  MPI_Comm local = MPI_COMM_NULL;
  int rank = 0, ranks = 1, localRank = 0, localRanks = 1;
  MPI_Comm_rank(communicator, &rank);
  MPI_Comm_size(communicator, &ranks);
  if (MPI_Comm_split_type(communicator, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &local) == MPI_SUCCESS) {
    MPI_Comm_rank(local, &localRank);
    MPI_Comm_size(local, &localRanks);
    MPI_Comm_free(&local);
  }
  *transport = {};
  transport->abi = MOERT_TRANSPORT_ABI;
  transport->rank = rank;
  transport->ranks = ranks;
  transport->local_rank = localRank;
  transport->local_ranks = localRanks;
  transport->send = send;
  transport->receive = receive;
  transport->test = test;
  transport->cancel = cancel;
  transport->close = leave;
  transport->end_job = endJob;
  return 0;
}
