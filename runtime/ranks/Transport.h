/*===- Transport.h - What a plugin that moves bytes between processes gives ----===
 *
 * A shared library (libmoert-mpi.so is one) that exports moert_open_transport,
 * reached by dlopen, so that libmoert needs no MPI. Everything else, sums
 * included, is done over these calls by MessageRanks.cpp. Messages of one pair
 * of ranks and one tag keep their order. Calls come from one thread at a time.
 *
 *===-----------------------------------------------------------------------===*/
#ifndef MOERT_RANKS_TRANSPORT_H
#define MOERT_RANKS_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOERT_TRANSPORT_ABI 2
/* Most bytes of one message. */
#define MOERT_TRANSPORT_MESSAGE ((size_t)1 << 26)

/* A send or receive on its way; the plugin's own handle. */
typedef struct {
  uint64_t words[2];
} moert_transfer;

typedef struct moert_transport {
  uint32_t abi; /* MOERT_TRANSPORT_ABI */
  int rank, ranks;
  int local_rank, local_ranks; /* on this machine */
  void *state;                 /* the plugin's own */
  /* Begin a transfer; 0, or -1 with `error`. The memory stays until it is done. */
  int (*send)(struct moert_transport *, const void *data, size_t bytes, int to, int tag, moert_transfer *);
  int (*receive)(struct moert_transport *, void *data, size_t bytes, int from, int tag, moert_transfer *);
  /* 1: done, of a receive with the bytes that came; 0: not yet; -1 with `error` (more came than there is room for,
   * say). */
  int (*test)(struct moert_transport *, moert_transfer *, size_t *bytes);
  /* Gives up a transfer that was begun. */
  void (*cancel)(struct moert_transport *, moert_transfer *);
  /* The orderly end. Not called after a failure: it may wait for ranks that are gone. */
  void (*close)(struct moert_transport *);
  /* The end after a failure: waits for nobody. NULL where only the end of the process frees what there is. */
  void (*drop)(struct moert_transport *);
  /* Ends all processes of the job with this exit status, this one too. */
  void (*end_job)(struct moert_transport *, int status);
  char error[256];
} moert_transport;

/* Joins the ranks of this job; 0, or -1 with `error`. */
typedef int (*moert_open_transport_function)(moert_transport *);

#ifdef __cplusplus
}
#endif

#endif /* MOERT_RANKS_TRANSPORT_H */
