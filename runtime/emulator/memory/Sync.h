//===- Sync.h - What a flag in memory hands over ----------------*- C++ -*-===//
//
// Release and acquire through memory: a location that was written with release
// (or relaxed after a fence) carries the clock of the writer; whoever reads it
// with acquire (or relaxed before a fence) learns that clock, when the scopes of
// both include each other. A read-modify-write keeps what the location carried
// (release sequence), a plain strong store replaces it.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_MEMORY_SYNC_H
#define MOERT_EMULATOR_MEMORY_SYNC_H

#include "runtime/emulator/memory/Clock.h"
#include "runtime/emulator/memory/Shadow.h"

#include <unordered_map>
#include <vector>

namespace moert::emulator {

/// Where a thread stands, for scopes.
struct Place {
  Actor block = 0; ///< first actor of its block
  Actor cluster = 0;
  uint32_t device = 0;
};

/// Does `scope`, seen from a thread at `a`, include a thread at `b`?
inline bool includes(AccessScope scope, const Place &a, const Place &b) {
  switch (scope) {
  case ScopeCta:
    return a.block == b.block;
  case ScopeCluster:
    return a.cluster == b.cluster;
  case ScopeGpu:
    return a.device == b.device;
  case ScopeSys:
    return true;
  }
  return false;
}

/// Clocks that locations carry, by address.
class SyncTable {
public:
  /// A strong write; `keep` for read-modify-writes. `clock` may be empty (relaxed without a fence).
  void write(uint64_t address, const Clock &clock, const Clock &proxied, AccessScope scope, const Place &place,
             bool keep) {
    std::vector<Carried> &all = table[address];
    if (!keep) {
      all.clear();
    }
    if (clock.empty()) {
      return;
    }
    for (Carried &carried : all) {
      if (carried.scope == scope && includes(scope, carried.place, place) && includes(scope, place, carried.place)) {
        carried.clock.join(clock);
        carried.proxied.join(proxied);
        return;
      }
    }
    all.push_back({scope, place, clock, proxied});
  }
  /// A strong read: joins what the location carries into `clock` and `proxied`. False when there is nothing.
  bool read(uint64_t address, AccessScope scope, const Place &place, Clock &clock, Clock &proxied) const {
    auto it = table.find(address);
    if (it == table.end()) {
      return false;
    }
    bool any = false;
    for (const Carried &carried : it->second) {
      if (includes(carried.scope, carried.place, place) && includes(scope, place, carried.place)) {
        clock.join(carried.clock);
        proxied.join(carried.proxied);
        any = true;
      }
    }
    return any;
  }
  void forget(uint64_t address) { table.erase(address); }

private:
  struct Carried {
    AccessScope scope;
    Place place;
    Clock clock;
    Clock proxied;
  };
  std::unordered_map<uint64_t, std::vector<Carried>> table;
};

} // namespace moert::emulator

#endif // MOERT_EMULATOR_MEMORY_SYNC_H
