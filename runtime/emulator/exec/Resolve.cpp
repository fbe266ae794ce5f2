//===- Resolve.cpp - Addresses, bounds and the judging of accesses ---------===//
//
// See Access.h.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"

#include <algorithm>
#include <cstring>

namespace moert::emulator {

using ptx::Sem;
using ptx::Space;

AccessScope scopeOf(ptx::Scope scope, AccessScope otherwise) {
  switch (scope) {
  case ptx::Scope::Cta:
    return ScopeCta;
  case ptx::Scope::Cluster:
    return ScopeCluster;
  case ptx::Scope::Gpu:
    return ScopeGpu;
  case ptx::Scope::Sys:
    return ScopeSys;
  default:
    return otherwise;
  }
}

AccessMode accessMode(const ptx::Modifiers &mods, bool atomic) {
  AccessMode mode;
  mode.kind = atomic ? AtomicAccess : Weak;
  mode.scope = scopeOf(mods.scope, atomic ? ScopeGpu : ScopeSys);
  switch (mods.sem) {
  case Sem::Volatile:
  case Sem::Mmio:
    mode.kind = atomic ? AtomicAccess : Strong;
    mode.scope = ScopeSys;
    break;
  case Sem::Relaxed:
  case Sem::Acquire:
  case Sem::Release:
  case Sem::AcqRel:
  case Sem::SeqCst:
    mode.kind = atomic ? AtomicAccess : Strong;
    mode.acquire = mods.sem != Sem::Relaxed && mods.sem != Sem::Release;
    mode.release = mods.sem != Sem::Relaxed && mods.sem != Sem::Acquire;
    break;
  default:
    break;
  }
  return mode;
}

void requireDefined(Warp &w, const Op &op, const Ref &ref, uint32_t mask, const char *what) {
  uint32_t bad = w.checks ? w.undefined(ref) & mask : 0;
  if (bad) {
    w.report(FindingKind::Undefined, op, unsigned(__builtin_ctz(bad)), std::string("undefined bits decide ") + what);
    w.undef[ref.undef] &= ~bad;
  }
}

static Step outOfBounds(Warp &w, const Op &op, unsigned lane, std::string what) {
  return w.fault(FindingKind::OutOfBounds, LaunchError::IllegalAddress, op, lane, std::move(what));
}

Step resolveOne(Warp &w, const Op &op, unsigned lane, uint64_t address, Space space, uint64_t bytes, bool write,
                unsigned align, uint8_t *&pointer, Shadow *&shadow, uint64_t &offset, Block *&owner) {
  const DeviceMemory &memory = *w.grid->memory;
  if (space == Space::None) {
    if (address - memory.sharedWindow() < (uint64_t(1) << 32)) {
      space = Space::SharedCluster;
      address -= memory.sharedWindow();
    } else if (address - memory.localWindow() < (uint64_t(1) << 32)) {
      space = Space::Local;
      address -= memory.localWindow();
    } else {
      space = Space::Global;
    }
  }
  if (align > 1 && (address & (align - 1))) {
    char text[96];
    std::snprintf(text, sizeof text, "address 0x%llx is no multiple of %u", (unsigned long long)address, align);
    return w.fault(FindingKind::Misaligned, LaunchError::MisalignedAddress, op, lane, text);
  }
  owner = w.block;
  if (space == Space::Shared || space == Space::SharedCluster) {
    uint64_t rank = address >> rankShift;
    Block &block = *w.block;
    if (rank) {
      if (rank - 1 >= block.clusterBlocks.size()) {
        return outOfBounds(w, op, lane,
                           "a shared address names block " + std::to_string(rank - 1) + " of the cluster, which has " +
                               std::to_string(block.clusterBlocks.size()));
      }
      owner = block.clusterBlocks[rank - 1];
      if (owner->liveThreads == 0 && owner != &block) {
        return outOfBounds(w, op, lane,
                           "shared memory of block " + std::to_string(rank - 1) + " of the cluster, which has exited");
      }
      if (w.checks && !w.knowsStarted(lane, *owner)) {
        w.report(FindingKind::Race, op, lane,
                 "accesses shared memory of block " + std::to_string(rank - 1) +
                     " of the cluster, and nothing says that it has started");
      }
    }
    uint64_t at = (address & ((1U << rankShift) - 1)) - sharedStart;
    uint32_t size = w.grid->sharedBytes;
    const uint64_t reserved = w.grid->reservedAt;
    const bool ofSystem = reserved && at >= reserved && at + bytes <= reserved + reservedBytes;
    if (!ofSystem && (at >= size || bytes > size - at)) {
      return outOfBounds(w, op, lane,
                         std::to_string(bytes) + " bytes at shared offset " + std::to_string(int64_t(at)) +
                             "; the block has " + std::to_string(size) + " bytes of shared memory");
    }
    pointer = owner->shared.data() + at;
    shadow = owner->shadow.get();
    offset = at;
    return Step::Next;
  }
  if (space == Space::Local) {
    if (address > w.local[lane].size() || bytes > w.local[lane].size() - address) {
      return outOfBounds(w, op, lane,
                         std::to_string(bytes) + " bytes at local offset " + std::to_string(address) +
                             "; the thread has " + std::to_string(w.local[lane].size()) + " bytes of local memory");
    }
    pointer = w.local[lane].data() + address;
    shadow = nullptr;
    offset = address;
    owner = nullptr;
    return Step::Next;
  }
  Allocation *found = memory.find(address);
  if (!found || !DeviceMemory::contains(*found, address, bytes)) {
    return outOfBounds(w, op, lane, memory.explain(address, bytes));
  }
  if (write && found->readOnly) {
    return outOfBounds(w, op, lane, "a write to " + found->describe() + ", which is constant");
  }
  pointer = found->data + (address - found->base);
  shadow = w.checks && !found->readOnly ? found->shadow.get() : nullptr;
  offset = address - found->base;
  owner = nullptr;
  return Step::Next;
}

void noteVisit(Warp &w, const Op &op, unsigned lane, Block *owner) {
  if (w.checks && owner && owner != w.block) {
    owner->visits[{w.actor, lane}] = {w.grid->memory->actors.now(), &w, &op, lane, false};
  }
}

Step resolve(Warp &w, const Op &op, uint32_t mask, const Ref &base, int64_t imm, Space space, unsigned bytes,
             bool write, Target &t, unsigned align, bool lazy) {
  requireDefined(w, op, base, mask, "an address");
  align = align ? align : bytes;
  uint64_t *address = t.address;
  if (base.bits == 64) {
    const uint64_t *from = w.at<uint64_t>(base);
    for (unsigned l = 0; l < 32; ++l) {
      address[l] = from[l] + uint64_t(imm);
    }
  } else {
    const uint32_t *from = w.at<uint32_t>(base);
    for (unsigned l = 0; l < 32; ++l) {
      address[l] = uint32_t(from[l] + uint32_t(imm));
    }
  }
  t.contiguous = false;
  const DeviceMemory &memory = *w.grid->memory;
  // The whole warp in one piece of memory.
  const unsigned first = unsigned(__builtin_ctz(mask));
  uint64_t low = address[first], high = address[first], bits = 0, apart = 0;
  for (unsigned l = 0; l < 32; ++l) {
    uint64_t a = (mask >> l & 1) ? address[l] : address[first];
    low = std::min(low, a);
    high = std::max(high, a);
    bits |= a;
    apart |= a ^ (address[0] + uint64_t(l) * bytes);
  }
  bool generic = space == Space::None;
  if (!(bits & (align - 1))) {
    if (space == Space::Global || space == Space::Const ||
        (generic && low >= memory.sharedWindow() + (uint64_t(8) << 30)) || (generic && high < memory.sharedWindow())) {
      Allocation *found = memory.find(low);
      if (found && DeviceMemory::contains(*found, low, bytes) && DeviceMemory::contains(*found, high, bytes) &&
          !(write && found->readOnly)) {
        Shadow *shadow = w.checks && !found->readOnly ? found->shadow.get() : nullptr;
        t.contiguous = mask == ~0U && apart == 0;
        for (unsigned l = 0; l < (lazy && t.contiguous ? 1U : 32U); ++l) {
          t.offset[l] = address[l] - found->base;
          // Lanes that do not take part have any address: no pointer arithmetic on theirs.
          t.pointer[l] = reinterpret_cast<uint8_t *>(uint64_t(found->data) + t.offset[l]);
          t.shadow[l] = shadow;
          t.where[l] = Target::Global;
          t.block[l] = nullptr;
        }
        return Step::Next;
      }
    } else {
      uint64_t window = generic ? memory.sharedWindow() : 0;
      uint64_t size = w.grid->sharedBytes;
      if ((space == Space::Shared || space == Space::SharedCluster || generic) && low - window >= sharedStart &&
          high - window + bytes <= sharedStart + size && high - window < (uint64_t(1) << rankShift)) {
        Shadow *shadow = w.block->shadow.get();
        uint8_t *data = w.block->shared.data();
        t.contiguous = mask == ~0U && apart == 0;
        for (unsigned l = 0; l < (lazy && t.contiguous ? 1U : 32U); ++l) {
          t.offset[l] = address[l] - window - sharedStart;
          t.pointer[l] = reinterpret_cast<uint8_t *>(uint64_t(data) + t.offset[l]);
          t.shadow[l] = shadow;
          t.where[l] = Target::Shared;
          t.block[l] = w.block;
        }
        return Step::Next;
      }
    }
  }
  for (unsigned l = 0; l < 32; ++l) {
    if (!(mask >> l & 1)) {
      t.pointer[l] = nullptr;
      t.shadow[l] = nullptr;
      continue;
    }
    Block *owner = nullptr;
    Step step =
        resolveOne(w, op, l, address[l], space, bytes, write, align, t.pointer[l], t.shadow[l], t.offset[l], owner);
    if (step != Step::Next) {
      return step;
    }
    t.block[l] = owner;
    noteVisit(w, op, l, owner);
    bool local = space == Space::Local || (generic && address[l] - memory.localWindow() < (uint64_t(1) << 32));
    t.where[l] = owner ? Target::Shared : local ? Target::Local : Target::Global;
  }
  return Step::Next;
}

void spread(Target &t, unsigned bytes) {
  for (unsigned l = 1; l < 32; ++l) {
    t.offset[l] = t.offset[0] + uint64_t(l) * bytes;
    t.pointer[l] = t.pointer[0] + size_t(l) * bytes;
    t.shadow[l] = t.shadow[0];
    t.where[l] = t.where[0];
    t.block[l] = t.block[0];
  }
}

bool WarpJudge::knows(const Access &earlier, bool proxiedView) const {
  const LaneClocks &c = w.clocks[lane];
  const Actors &actors = w.grid->memory->actors;
  const Clock &clock = proxiedView ? c.proxied : c.known;
  if (earlier.time <= clock.floor()) {
    return true;
  }
  if (earlier.actor == w.actor) {
    if (earlier.lane() == lane) {
      if (!proxiedView || earlier.time <= c.proxiedSelf) {
        return true;
      }
    } else if (earlier.lane() <= allLanes && earlier.lane() != wholeBlock &&
               earlier.time <= (proxiedView ? c.proxiedWarp : c.warp)) {
      return true;
    }
  }
  Actor own = w.block->actor;
  if (earlier.actor >= own && earlier.actor < own + w.grid->warpsPerBlock * actorsPerWarp) {
    unsigned agent = earlier.actor % actorsPerWarp;
    if (agent == AgentThreads) {
      if (earlier.time <= (proxiedView ? c.proxiedBlock : c.block)) {
        return true;
      }
    } else if (earlier.actor - agent == w.actor && agent <= AgentMma &&
               (earlier.lane() == lane || earlier.lane() == allLanes) &&
               earlier.time <= (proxiedView ? c.proxiedCopies : w.asyncKnown[agent][lane])) {
      return true;
    }
  }
  return clock.knows(actors, earlier.actor, earlier.lane(), earlier.time);
}

bool WarpJudge::isGeneric(const Access &earlier) const {
  if (earlier.kind() != AsyncAccess) {
    return true;
  }
  const ActorRange &range = w.grid->memory->actors.rangeOf(earlier.actor);
  return range.actorsPerBlock && (earlier.actor - range.first) % actorsPerWarp == AgentCopy;
}

bool WarpJudge::isSameStore(const Access &earlier, const Access &now) const {
  if (!allBytes || target->contiguous || earlier.actor != now.actor || earlier.site() != now.site() ||
      earlier.lane() >= 32 || earlier.lane() == now.lane()) {
    return false;
  }
  // Lanes that are run apart execute it at different times: there any execution counts, and those of different ones are
  // told apart where lanes are not.
  return w.grid->options.delayLanes ||
         (earlier.time == now.time && (allMask >> earlier.lane() & 1) && earlier.lane() < now.lane() &&
          target->shadow[earlier.lane()] == target->shadow[now.lane()] &&
          target->offset[earlier.lane()] == target->offset[now.lane()]);
}

bool WarpJudge::ordered(const Access &earlier, bool earlierWrites, const Access &now) {
  if (now.actor == w.actor) {
    lane = now.lane();
  }
  // A fence.proxy.async is needed between a generic write and an asynchronous access, not behind a read.
  bool view = proxied && earlierWrites && isGeneric(earlier) && earlier.time > fencedUpTo;
  return knows(earlier, view) ||
         (extra && extra->knows(w.grid->memory->actors, earlier.actor, earlier.lane(), earlier.time));
}

bool WarpJudge::stronglyRelated(const Access &earlier, const Access &now) {
  const Actors &actors = w.grid->memory->actors;
  const ActorRange &range = actors.rangeOf(earlier.actor);
  Place there, here = w.block->place;
  there.device = range.device;
  if (range.actorsPerBlock) {
    Actor in = earlier.actor - range.first;
    there.block = earlier.actor - in % range.actorsPerBlock;
    there.cluster = earlier.actor - in % (range.actorsPerBlock * range.blocksPerCluster);
  }
  return includes(earlier.scope(), there, here) && includes(now.scope(), here, there);
}

bool WarpJudge::sameBlock(const Access &a, const Access &b) {
  const ActorRange &range = w.grid->memory->actors.rangeOf(a.actor);
  return range.actorsPerBlock && a.actor >= range.first && b.actor >= range.first && b.actor < range.end &&
         (a.actor - range.first) / range.actorsPerBlock == (b.actor - range.first) / range.actorsPerBlock;
}

void WarpJudge::conflict(const Access &earlier, bool earlierWrites, const Access &now, bool nowWrites,
                         uint64_t offset) {
  const DeviceMemory &memory = *w.grid->memory;
  auto isBeside = [](const Access &plain, bool writes, const Access &other) {
    return !writes && plain.kind() == Weak && other.kind() == AtomicAccess;
  };
  const bool readsFirst = isBeside(earlier, earlierWrites, now), readsNow = isBeside(now, nowWrites, earlier);
  const std::pair<uint32_t, uint32_t> beside(readsNow ? now.site() : earlier.site(),
                                             readsNow ? earlier.site() : now.site());
  if ((readsFirst || readsNow) && w.grid->readsBesideAtomics.count(beside)) {
    return;
  }
  // Triton 3.5 and CUTLASS leave this fence out behind cp.async.
  const bool fenceOnly = proxied && earlierWrites && isGeneric(earlier) && knows(earlier, false);
  const bool usual = fenceOnly && earlier.kind() == AsyncAccess && !w.grid->options.allProxyFences;
  if (usual && !w.grid->unfenced.insert({earlier.site(), now.site()}).second) {
    return;
  }
  const ActorRange &range = memory.actors.rangeOf(earlier.actor);
  std::string who = memory.describeSite(earlier.site(), earlier.actor);
  if (range.actorsPerBlock) {
    Actor in = earlier.actor - range.first;
    who += ", block #" + std::to_string(in / range.actorsPerBlock) + " warp " +
           std::to_string(in % range.actorsPerBlock / actorsPerWarp);
    if (earlier.lane() < 32) {
      who += " lane " + std::to_string(earlier.lane());
    }
  }
  if (earlier.kind() == AsyncAccess) {
    who += " (asynchronous)";
  }
  // Lanes of one instruction are judged before any of them writes.
  const uint8_t *newBytes = this->newBytes, *oldBytes = this->oldBytes;
  if (allBytes && target->contiguous) { // of which only lane 0 is filled in
    newBytes = allBytes + size_t(now.lane()) * size;
    oldBytes = target->pointer[0] + size_t(now.lane()) * size;
  }
  const bool sameStore = earlierWrites && nowWrites && isSameStore(earlier, now);
  if (sameStore && (allMask >> earlier.lane() & 1)) {
    oldBytes = allBytes + size_t(earlier.lane()) * size;
  }
  bool comparable = earlierWrites && nowWrites && newBytes && !superseded && earlier.kind() != AtomicAccess;
  if (comparable && now.kind() == AsyncAccess) {
    while (w.grid->landOne(false)) { // the earlier bytes may be on their way
    }
  } else {
    comparable &= earlier.kind() != AsyncAccess;
  }
  bool equal = comparable && std::memcmp(newBytes, oldBytes, size) == 0;
  std::string what = std::string(nowWrites ? "writes" : "reads") + " " + (shared ? "shared" : "global") + " byte " +
                     std::to_string(offset) + ", which " + who + (earlierWrites ? " writes" : " reads");
  what += fenceOnly   ? " through the generic proxy, and no fence.proxy.async is between"
          : equal     ? " too, with an equal value"
          : sameStore ? " by the same store, with another value: one of the two stays"
                      : ", and nothing orders the two";
  if (readsFirst || readsNow) {
    w.grid->readsBesideAtomics.try_emplace(
        beside, w.describe(FindingKind::Race, op, lane, std::move(what), false, earlier.site()));
    return;
  }
  w.report(fenceOnly ? FindingKind::ProxyFence : FindingKind::Race, op, lane, std::move(what),
           equal || sameStore || usual, earlier.site());
}

void noteGuesses(Warp &w, uint32_t mask, const Target &t) {
  std::unordered_set<uint32_t> &sites = w.grid->memory->guessSites;
  for (unsigned l = 0; l < 32; ++l) {
    if ((mask >> l & 1) && t.shadow[l]) {
      t.shadow[l]->forEachRead(t.offset[l], [&](const Access &read) {
        // A record of a whole block does not say which warp.
        if (read.kind() == Weak && (read.actor == w.actor || read.lane() == wholeBlock)) {
          sites.insert(read.site());
        }
      });
    }
  }
}

void GridState::reportReadsBesideAtomics() {
  for (auto &[sites, finding] : readsBesideAtomics) {
    finding.note = memory->guessSites.count(sites.first) != 0;
    sink->report(std::move(finding));
  }
  readsBesideAtomics.clear();
}

/// Extra wavefronts of a shared access beyond what its size needs.
static unsigned conflictsOf(const Target &t, uint32_t mask, unsigned bytes) {
  unsigned perGroup = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  unsigned extra = 0;
  for (unsigned group = 0; group < 32; group += perGroup) {
    uint64_t words[32][32];
    unsigned count[32] = {}, most = 0;
    for (unsigned l = group; l < group + perGroup; ++l) {
      if (!(mask >> l & 1)) {
        continue;
      }
      for (unsigned b = 0; b < std::max(bytes, 4U); b += 4) {
        uint64_t word = (t.offset[l] + sharedStart + b) / 4;
        unsigned bank = word % 32;
        bool seen = false;
        for (unsigned i = 0; i < count[bank]; ++i) {
          seen |= words[bank][i] == word;
        }
        if (!seen && count[bank] < 32) {
          words[bank][count[bank]++] = word;
          most = std::max(most, count[bank]);
        }
      }
    }
    extra += most > 1 ? most - 1 : 0;
  }
  return extra;
}

void judge(Warp &w, const Op &op, uint32_t mask, const Target &t, unsigned bytes, bool write, const AccessMode &mode,
           const uint8_t *data) {
  const unsigned first = unsigned(__builtin_ctz(mask));
  AccessCounts &counts = w.block->counts;
  if (t.where[first] == Target::Shared) {
    ++counts.sharedAccesses;
    if (!t.contiguous) {
      counts.bankConflicts += conflictsOf(t, mask, bytes);
    }
  } else if (t.where[first] == Target::Global) {
    ++counts.globalAccesses;
    if (t.contiguous) {
      counts.globalSectors += (t.offset[0] % 32 + 32 * bytes + 31) / 32;
    } else {
      uint64_t sectors[64];
      unsigned count = 0;
      for (unsigned l = 0; l < 32; ++l) {
        if (mask >> l & 1) {
          sectors[count++] = t.address[l] / 32;
        }
      }
      std::sort(sectors, sectors + count);
      counts.globalSectors += uint64_t(std::unique(sectors, sectors + count) - sectors);
    }
  }
  WarpJudge judge(w, op);
  judge.size = bytes;
  judge.allBytes = data;
  judge.allMask = mask;
  judge.target = &t;
  Access now;
  now.time = w.grid->memory->actors.now();
  now.actor = w.actor;
  const uint32_t tag = Access::makeTag(0, mode.kind, mode.scope, op.site);
  if (t.contiguous && bytes == 4 && t.shadow[0]) {
    now.tag = tag;
    judge.shared = t.where[0] == Target::Shared;
    t.shadow[0]->accessWarp(t.offset[0], write, now, w.reach, judge);
    return;
  }
  for (unsigned l = 0; l < 32; ++l) {
    if (!(mask >> l & 1) || !t.shadow[l]) {
      continue;
    }
    now.tag = tag | l;
    judge.lane = l;
    judge.shared = t.where[l] == Target::Shared;
    judge.newBytes = data ? data + size_t(l) * bytes : nullptr;
    judge.oldBytes = t.pointer[l];
    t.shadow[l]->access(t.offset[l], bytes, write, now, w.reach, judge);
  }
}

} // namespace moert::emulator
