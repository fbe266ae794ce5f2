//===- MessageRanks.h - Ranks as processes, over messages ---------*- C++ -*-===//
//
// Collectives of any kind out of sends and receives between pairs that are begun together and polled with a deadline.
// A small one is one message each way, header and payload in one; what is large follows its header in pieces. Sums are
// computed here, in rank order: large ones of all ranks by parts that are then gathered.
//
// A rank that fails sends every other a notice with the sentence that says why; waits look for notices too.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_RANKS_MESSAGERANKS_H
#define MOERT_RANKS_MESSAGERANKS_H

#include "runtime/ranks/Communicator.h"
#include "runtime/ranks/Transport.h"

namespace moert {

/// Takes over an open transport. `close` is called by the destructor unless something failed.
std::unique_ptr<Communicator> makeMessageRank(const moert_transport &transport);

} // namespace moert

#endif // MOERT_RANKS_MESSAGERANKS_H
