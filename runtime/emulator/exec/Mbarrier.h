//===- Mbarrier.h - What completes on an mbarrier ---------------*- C++ -*-===//
//
// For asynchronous work that reports to an mbarrier: finding it and counting
// bytes. The instructions themselves are in Mbarrier.cpp.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_EXEC_MBARRIER_H
#define MOERT_EMULATOR_EXEC_MBARRIER_H

#include "runtime/emulator/exec/Access.h"

namespace moert::emulator {

/// The mbarrier at `address` of one lane: whose shared memory and where. Failed after a report.
Step findMbarrier(Warp &w, const Op &op, unsigned lane, uint64_t address, ptx::Space space, Block *&owner,
                  uint32_t &offset, bool mustExist);
/// `bytes` have arrived, moved by `agent` since `time`.
void completeBytes(Block &owner, uint32_t offset, uint64_t bytes, Actor agent, Time time);
void completePhaseIfDone(Block &owner, Mbarrier &bar);
/// Asynchronous work of `lane` will complete on `bar`: its initialisation must be visible to the asynchronous proxy. A
/// missing proxy fence is a note only: compilers are known to leave it out.
void judgeCompletion(Warp &w, const Op &op, unsigned lane, const Mbarrier &bar);

} // namespace moert::emulator

#endif // MOERT_EMULATOR_EXEC_MBARRIER_H
