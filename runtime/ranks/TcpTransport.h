//===- TcpTransport.h - Ranks that meet at an address -------------*- C++ -*-===//
//
// A transport (Transport.h) over TCP, for processes that no MPI started: each is told its rank, how many there are, and
// where rank 0 is to be found, as torchrun and other launchers tell it in RANK, WORLD_SIZE, MASTER_ADDR and
// MASTER_PORT. It carries what ranks agree on, tokens and logits; between GPUs the data of a step goes through NCCL.
//
// Every pair of ranks has a connection. Nobody is authenticated: it is for networks whose machines trust each other, as
// NCCL's is.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_RANKS_TCPTRANSPORT_H
#define MOERT_RANKS_TCPTRANSPORT_H

#include "runtime/core/Status.h"
#include "runtime/ranks/Transport.h"

namespace moert {

/// A rank's place among others, and where to meet.
struct Rendezvous {
  std::string host;
  int port = 0; ///< of rank 0
  int rank = 0, ranks = 1;
  int localRank = 0, localRanks = 1; ///< on this machine
};

/// Meets the other ranks within `deadlineNs`. The transport is the caller's until its `close`.
Result<moert_transport> openTcpTransport(const Rendezvous &meeting, int64_t deadlineNs);

} // namespace moert

#endif // MOERT_RANKS_TCPTRANSPORT_H
