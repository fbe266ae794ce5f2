//===- Flags.cpp - What strong accesses hand over, and when they arrive ----===//
//
// Release and acquire through memory (memory/Sync.h), and the other half of the
// memory model: a strong write need not be visible at once. A strong read that is
// not ordered after the last write of its location may return the value before
// it, and then takes the clock which that value carried. So a program that
// passes a message without its fences reads an old message in some runs, though
// strong accesses do not race. Coherence is kept: who has read the new value, or
// is ordered after somebody who has, reads no older one. fence.sc makes what its
// threads know visible to those who execute one later; to order it takes a flag
// between them, too (Fenced in memory/Sync.h).
//
// When: late timing returns the old value as long as it may, random timing every
// other time, early never. A value is returned at most `patience` times, so loops
// that wait for a flag end.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"

#include <cstring>

namespace moert::emulator {

constexpr unsigned patience = 8;
/// Readers of a new value that are remembered; with more of them the write counts as arrived everywhere.
constexpr size_t mostSeen = 64;

static SyncTable &flagsOf(Warp &w, const Target &t, unsigned lane, uint64_t &key) {
  if (t.where[lane] == Target::Shared) {
    key = t.offset[lane];
    return t.block[lane]->flags;
  }
  key = t.address[lane];
  return w.grid->memory->flags();
}

static Access accessOf(Warp &w, const Op &op, unsigned lane, const AccessMode &mode) {
  Access access;
  access.time = w.grid->memory->actors.now();
  access.actor = w.actor;
  access.tag = Access::makeTag(lane, mode.kind, mode.scope, op.site);
  return access;
}

void writeFlag(Warp &w, const Op &op, const Target &t, unsigned lane, unsigned bytes, const AccessMode &mode,
               bool keep) {
  uint64_t key;
  Location &location = flagsOf(w, t, lane, key).at(key);
  if (w.grid->options.timing != Timing::Early && bytes <= sizeof location.old.bytes) {
    OldValue &old = location.old;
    old.write = accessOf(w, op, lane, mode);
    std::memcpy(old.bytes, t.pointer[lane], bytes);
    old.size = bytes;
    old.budget = patience;
    old.carried = location.carried;
    old.seen.clear();
  }
  LaneClocks &c = w.clocks[lane];
  if (mode.release) {
    location.write(w.exported(lane), w.exportedProxied(lane), mode.scope, w.block->place, keep);
    w.grid->memory->actors.tick();
  } else {
    location.write(c.fence, c.fenceProxied, std::min(mode.scope, c.fenceScope), w.block->place, keep);
  }
  if (c.fenced.any) {
    location.announce(w.exportedFenced(lane), mode.scope, w.block->place);
  }
}

/// May `lane` still read the value before the last write?
static bool mayReadOld(Warp &w, const Op &op, unsigned lane, unsigned bytes, const OldValue &old) {
  if (old.size != bytes || old.budget == 0) {
    return false;
  }
  WarpJudge judge(w, op);
  judge.lane = lane;
  auto visible = [&](const Access &access) {
    return judge.knows(access, false) ||
           w.clocks[lane].ordered.knows(w.grid->memory->actors, access.actor, access.lane(), access.time);
  };
  if (visible(old.write)) {
    return false;
  }
  for (const Access &read : old.seen) {
    if (visible(read)) {
      return false;
    }
  }
  return true;
}

const uint8_t *readFlag(Warp &w, const Op &op, const Target &t, unsigned lane, unsigned bytes, const AccessMode &mode,
                        bool latest) {
  uint64_t key;
  Location *location = flagsOf(w, t, lane, key).find(key);
  if (!location) {
    return nullptr;
  }
  OldValue &old = location->old;
  const uint8_t *value = nullptr;
  if (!latest && mayReadOld(w, op, lane, bytes, old) &&
      (w.grid->options.timing == Timing::Late || w.grid->random() % 2)) {
    --old.budget;
    value = old.bytes;
  } else if (old.budget) {
    old.seen.push_back(accessOf(w, op, lane, mode));
    old.budget = old.seen.size() > mostSeen ? 0 : old.budget;
  }
  LaneClocks &c = w.clocks[lane];
  const Place &here = w.block->place;
  for (const Carried &carried : value ? old.carried : location->carried) {
    if (!includes(carried.scope, carried.place, here) || !includes(mode.scope, here, carried.place)) {
      continue;
    }
    if (carried.fenced.any) {
      // Fences that reach only their block matter to that block only, those of the device to the device.
      const unsigned first = here.block == carried.place.block ? 0 : here.device == carried.place.device ? 1 : 2;
      c.announced.join(carried.fenced, first);
    }
    if (mode.acquire) {
      w.acquire(lane, carried.clock, carried.proxied);
    } else {
      AccessScope needed = scopeBetween(here, carried.place);
      c.pending[needed].join(carried.clock);
      c.pendingProxied[needed].join(carried.proxied);
    }
  }
  return value;
}

} // namespace moert::emulator
