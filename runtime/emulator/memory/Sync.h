//===- Sync.h - What a flag in memory hands over ----------------*- C++ -*-===//
//
// Release and acquire through memory: a location that was written with release
// (or relaxed after a fence) carries the clock of the writer; whoever reads it
// with acquire (or relaxed before a fence) learns that clock, when the scopes of
// both include each other. A read-modify-write keeps what the location carried
// (release sequence), a plain strong store replaces it.
//
// fence.sc hands over more (PTX ISA 8.9.3, 8.9.4, 8.10.2): fences that include each other are in one order, and that
// order agrees with what flags show. When every thread writes and executes fence.sc, and a barrier later one of them
// sets a flag without a fence of its own, whoever reads the flag and then executes fence.sc is behind all those fences:
// the other order would put its read before the write that it has seen. `Fenced` follows this, along barriers and
// flags.
//
// A location also keeps its value before the last strong write: a strong read
// that nothing orders after that write may still return it, as on a card whose
// stores become visible out of order (exec/Flags.cpp says when it does).
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

/// The smallest scope that holds both places.
inline AccessScope scopeBetween(const Place &a, const Place &b) {
  return a.block == b.block       ? ScopeCta
         : a.cluster == b.cluster ? ScopeCluster
         : a.device == b.device   ? ScopeGpu
                                  : ScopeSys;
}

/// What was ordered before the fence.sc operations that somebody is behind, by how far those fences reach: only threads
/// of the own block (0), of the device (1), everybody (2).
struct Fenced {
  static constexpr unsigned reaches = 3;
  Clock known[reaches], proxied[reaches];
  bool any = false;

  /// Joins `other`, from reach `first` on.
  void join(const Fenced &other, unsigned first = 0) {
    for (unsigned reach = first; other.any && reach < reaches; ++reach) {
      known[reach].join(other.known[reach]);
      proxied[reach].join(other.proxied[reach]);
      any = true;
    }
  }
};

/// A clock that a location carries, and from where.
struct Carried {
  AccessScope scope;
  Place place;
  Clock clock;
  Clock proxied;
  Fenced fenced;
};

/// The value before the last strong write. Who is not ordered after that write may still read it.
struct OldValue {
  Access write; ///< the write that replaced it
  uint8_t bytes[32];
  unsigned size = 0;
  unsigned budget = 0;          ///< how often it may still be read: every write arrives in the end
  std::vector<Carried> carried; ///< with the value
  std::vector<Access> seen;     ///< reads of the new value: who is ordered after one reads the new value too
};

/// What a location of strong accesses carries.
struct Location {
  std::vector<Carried> carried;
  OldValue old;

  /// A strong write; `keep` for read-modify-writes. `clock` may be empty (relaxed without a fence).
  void write(const Clock &clock, const Clock &proxied, AccessScope scope, const Place &place, bool keep) {
    if (!keep) {
      carried.clear();
    }
    if (!clock.empty()) {
      Carried &to = from(scope, place);
      to.clock.join(clock);
      to.proxied.join(proxied);
    }
  }
  /// Behind `write`: what fence.sc operations before it knew, with the scope of the write alone.
  void announce(const Fenced &fenced, AccessScope scope, const Place &place) {
    if (fenced.any) {
      from(scope, place).fenced.join(fenced);
    }
  }

private:
  /// What is carried from `place` with `scope`.
  Carried &from(AccessScope scope, const Place &place) {
    for (Carried &other : carried) {
      if (other.scope == scope && includes(scope, other.place, place) && includes(scope, place, other.place)) {
        return other;
      }
    }
    carried.push_back({scope, place, {}, {}, {}});
    return carried.back();
  }
};

/// Locations by address.
class SyncTable {
public:
  Location &at(uint64_t address) { return table[address]; }
  /// Null when nobody has written there strongly.
  Location *find(uint64_t address) {
    auto it = table.find(address);
    return it == table.end() ? nullptr : &it->second;
  }

private:
  std::unordered_map<uint64_t, Location> table;
};

} // namespace moert::emulator

#endif // MOERT_EMULATOR_MEMORY_SYNC_H
