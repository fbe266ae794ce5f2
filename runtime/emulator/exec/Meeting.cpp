//===- Meeting.cpp - Lanes of a warp that wait for each other --------------===//
//
// Who takes part in a warp-wide operation, and lanes that give up waiting.
//
// Lanes that wait where paths meet do not wait for ever: when the others ask
// memory again and again, they may be waiting for what comes behind the meeting
// (`while (atomicCAS(lock, 0, 1)) {}` by every lane of a warp). Then the lanes that
// have arrived go on alone, up to the next .aligned operation. Behind a call they
// leave the same way: the lock may be taken in a function.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Warp.h"

namespace moert::emulator {

using ptx::Opcode;

bool Warp::meet(const Op &op, uint32_t &lanes, uint32_t members, bool anyPc) {
  members &= live;
  uint32_t together = lanes;
  if ((members & ~together) == 0) {
    return true;
  }
  for (const Split &s : splits) {
    if (&s != &splits[current] && s.mask && s.state == Split::AtSync &&
        (anyPc ? s.frame->code->ops[s.pc].inst->op == Opcode::BarWarpSync : s.pc == pc && s.frame == frame)) {
      together |= s.syncMask;
    }
  }
  if (members & ~together) {
    Split &mine = splits[current];
    mine.state = Split::AtSync;
    mine.syncMask = lanes;
    mine.members = members;
    return false;
  }
  for (Split &s : splits) {
    if (&s != &splits[current] && s.mask && s.state == Split::AtSync && (s.syncMask & members) &&
        (anyPc ? s.frame->code->ops[s.pc].inst->op == Opcode::BarWarpSync : s.pc == pc && s.frame == frame)) {
      s.state = Split::Ready;
      ++s.pc;
    }
  }
  lanes = together;
  return true;
}

/// Going on too early costs speed only: lanes meet again a little later.
constexpr uint64_t mostPatience = 512;

void Warp::losePatience(uint64_t count) {
  for (Entry &e : entries) {
    if (e.waits() && (e.patience += count) > mostPatience) {
      partMeeting(e);
    }
  }
}

void Warp::partMeeting(Entry &meeting) {
  const uint32_t lanes = meeting.arrived;
  meeting.expected &= ~lanes;
  meeting.arrived = 0;
  meeting.patience = 0;
  int32_t next = meeting.parent;
  if (meeting.isReturn) {
    // An indirect call of several targets: the lanes leave the meeting of all targets too.
    while (next >= 0 && entries[next].isReturn && !entries[next].call && entries[next].pc == meeting.pc) {
      entries[next].expected &= ~lanes;
      next = entries[next].parent;
    }
  }
  newSplit(meeting.pc, lanes, next, meeting.frame);
  apart = true;
}

bool Warp::regroup() {
  for (size_t i = 0; i < splits.size(); ++i) {
    Split &s = splits[i];
    if (int32_t(i) != current && s.mask && s.pc == pc && s.frame == frame && s.entry == entry &&
        (s.state == Split::Ready || s.state == Split::AtSync)) {
      mask |= s.mask;
      s.mask = 0;
    }
  }
  apart = mask != live;
  if (apart) {
    splits[current].state = Split::AtSync;
    splits[current].syncMask = 0; // for nobody's `meet`
  }
  return !apart;
}

} // namespace moert::emulator
