//===- Barrier.cpp - Barriers and fences -----------------------------------===//
//
// bar/barrier of a block, bar.warp.sync, barrier.cluster, fences and elect.sync.
// A barrier joins the clocks of all who arrive; one that the whole block waits at
// makes "the block up to now" known, which is one number per thread.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"
#include "runtime/emulator/exec/Lanes.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Mode;
using ptx::Opcode;
using ptx::Reduce;

static void completeBarrier(Block &block, NamedBarrier &bar) {
  GridState &grid = *block.grid;
  if (grid.options.checks) {
    Actors &actors = grid.memory->actors;
    Time now = actors.now();
    uint32_t waiting = 0;
    for (const auto &waiter : bar.waiters) {
      waiting += unsigned(__builtin_popcount(waiter.mask));
    }
    bool whole = waiting == block.liveThreads && bar.arriveOnly == 0;
    for (const auto &waiter : bar.waiters) {
      if (!whole) {
        waiter.warp->contributeOwn(waiter.mask, bar.clock);
      }
    }
    if (whole) {
      bar.block = now;
      if (block.liveThreads == grid.config.block.count()) {
        // Everybody's accesses up to its last fence.proxy.async are known to the asynchronous proxy now.
        Time self = UINT32_MAX;
        for (const auto &waiter : bar.waiters) {
          for (unsigned l = 0; l < 32; ++l) {
            self = waiter.mask >> l & 1 ? std::min(self, waiter.warp->clocks[l].proxiedSelf) : self;
          }
        }
        bar.proxiedBlock = std::max(bar.proxiedBlock, self);
      }
      bar.clock.forgetBlock(block.actor, block.actor + grid.warpsPerBlock * actorsPerWarp, now);
    } else {
      bar.clock.learn(Clock::blockKey(block.actor), bar.block);
    }
    for (const auto &waiter : bar.waiters) {
      for (unsigned l = 0; l < 32; ++l) {
        if (waiter.mask >> l & 1) {
          LaneClocks &c = waiter.warp->clocks[l];
          c.known = bar.clock;
          c.proxied = bar.proxied;
          c.block = std::max(c.block, bar.block);
          c.proxiedBlock = std::max(c.proxiedBlock, bar.proxiedBlock);
          c.handOver(bar.fenced, bar.announced);
        }
      }
      waiter.warp->refreshReach();
    }
    actors.tick();
  }
  for (const auto &waiter : bar.waiters) {
    Split &split = waiter.warp->splits[waiter.split];
    split.state = Split::Ready;
    split.passed = true;
    split.barrierResult = uint64_t(bar.popc) << 2 | uint64_t(bar.any) << 1 | uint64_t(bar.all);
  }
  bar = NamedBarrier();
  ++grid.changes;
}

void barrierCheck(Block &block, unsigned number) {
  NamedBarrier &bar = block.barriers[number];
  if (!bar.active || (bar.expected == 0 && bar.arrived < block.liveThreads + bar.arriveOnly) ||
      (bar.expected != 0 && bar.counted < bar.expected)) {
    return;
  }
  if (bar.expected == 0 && bar.waiters.empty() && block.liveThreads != 0) {
    return;
  }
  completeBarrier(block, bar);
}

static Step blockBarrier(Warp &w, const Op &op, uint32_t m) {
  const ptx::Modifiers &mods = op.inst->mods;
  Split &self = w.splits[w.current];
  if (self.passed) {
    self.passed = false;
    if (mods.mode == Mode::Red) {
      uint64_t r = self.barrierResult;
      if (mods.reduce == Reduce::Popc) {
        storeLanes(w.at<uint32_t>(op.d), m, [&](unsigned) { return uint32_t(r >> 2); });
      } else {
        bool value = mods.reduce == Reduce::And ? r & 1 : r >> 1 & 1;
        uint32_t &d = w.predicate(op.d);
        d = (d & ~m) | (value ? m : 0);
      }
      w.setUndefined(op.d, 0, m);
    }
    return Step::Next;
  }
  requireDefined(w, op, op.a, m, "which barrier this is");
  const unsigned first = unsigned(__builtin_ctz(m));
  uint64_t number = w.lane(op.a, first);
  for (unsigned l = 0; l < 32; ++l) {
    if ((m >> l & 1) && w.lane(op.a, l) != number) {
      return w.fault(FindingKind::Barrier, LaunchError::IllegalInstruction, op, l,
                     "lanes of one warp name different barriers at once");
    }
  }
  if (number >= 16) {
    return w.fault(FindingKind::Barrier, LaunchError::IllegalInstruction, op, first,
                   "barrier " + std::to_string(number) + "; there are 16");
  }
  if (mods.aligned && m != w.live) {
    char text[128];
    std::snprintf(text, sizeof text,
                  "an .aligned barrier is executed by lanes 0x%08x of a warp whose live lanes are 0x%08x", m, w.live);
    w.report(FindingKind::Divergence, op, first, text);
  }
  uint32_t count = 0;
  if (op.b.bits) {
    requireDefined(w, op, op.b, m, "how many threads a barrier waits for");
    count = uint32_t(w.lane(op.b, first));
    if (count == 0 || count % 32 || count > 1024) {
      return w.fault(FindingKind::Barrier, LaunchError::IllegalInstruction, op, first,
                     "a barrier of " + std::to_string(count) + " threads; it must be a multiple of 32 up to 1024");
    }
  }
  NamedBarrier &bar = w.block->barriers[number];
  if (bar.active && bar.expected != count) {
    w.report(FindingKind::Barrier, op, first,
             "barrier " + std::to_string(number) + " is used with " + (count ? std::to_string(count) : "all") +
                 " threads while others wait there for " + (bar.expected ? std::to_string(bar.expected) : "all"));
  }
  for (const auto &waiter : bar.waiters) {
    if (waiter.warp == &w && (waiter.mask & m)) {
      return w.fault(FindingKind::Barrier, LaunchError::IllegalInstruction, op, first,
                     "the warp arrives twice at barrier " + std::to_string(number));
    }
  }
  bar.active = true;
  bar.expected = count;
  auto threads = unsigned(__builtin_popcount(m));
  bar.arrived += threads;
  bar.counted += mods.aligned ? 32 : threads;
  if (mods.mode == Mode::Red) {
    uint32_t p = w.predicateValue(op.c);
    if (w.checks && (w.undefined(op.c) & m)) {
      w.report(FindingKind::Undefined, op, unsigned(__builtin_ctz(w.undefined(op.c) & m)),
               "undefined bits are reduced by a barrier");
    }
    bar.popc += unsigned(__builtin_popcount(p & m));
    bar.all &= (p & m) == m;
    bar.any |= (p & m) != 0;
  }
  if (w.checks) {
    w.contribute(m, bar.clock, bar.proxied, bar.block, bar.proxiedBlock);
    w.contributeFenced(m, bar.fenced, bar.announced);
  }
  if (mods.mode == Mode::Arrive) {
    bar.arriveOnly += threads;
    if (w.checks) {
      w.contributeOwn(m, bar.clock);
      w.grid->memory->actors.tick();
    }
    barrierCheck(*w.block, unsigned(number));
    return Step::Next;
  }
  w.store();
  self.state = Split::AtBarrier;
  bar.waiters.push_back({&w, w.current, m});
  barrierCheck(*w.block, unsigned(number));
  return Step::Blocked;
}

static Step warpSync(Warp &w, const Op &op, uint32_t m) {
  requireDefined(w, op, op.a, m, "which lanes meet");
  uint32_t members = uint32_t(w.lane(op.a, unsigned(__builtin_ctz(m))));
  if (m & ~members) {
    return w.fault(FindingKind::Barrier, LaunchError::IllegalInstruction, op, unsigned(__builtin_ctz(m & ~members)),
                   "a lane is not among the members it names");
  }
  if (!w.meet(op, m, members, true)) {
    return Step::Blocked;
  }
  if (w.checks) {
    Actors &actors = w.grid->memory->actors;
    Time now = actors.now();
    Clock known, proxied;
    Time block = 0, proxiedBlock = 0;
    bool whole = (m & w.live) == w.live;
    w.contribute(m, known, proxied, block, proxiedBlock);
    Fenced fenced, announced;
    w.contributeFenced(m, fenced, announced);
    if (!whole) {
      w.contributeOwn(m, known);
    }
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        LaneClocks &c = w.clocks[l];
        c.known = known;
        c.proxied = proxied;
        c.block = std::max(c.block, block);
        c.proxiedBlock = std::max(c.proxiedBlock, proxiedBlock);
        c.handOver(fenced, announced);
        if (whole) {
          c.warp = now;
        }
      }
    }
    actors.tick();
    w.refreshReach();
  }
  return Step::Next;
}

void clusterCheck(Block &block) {
  Block &first = *block.clusterFirst;
  uint32_t live = 0;
  for (const Block *member : first.clusterBlocks) {
    live += member->liveThreads;
  }
  if (first.clusterWaiters.empty() && first.clusterArrived < live) {
    return;
  }
  if (first.clusterArrived == 0 || first.clusterArrived < live) {
    return;
  }
  ++first.clusterPhase;
  first.clusterArrived = 0;
  first.clusterDone = std::move(first.clusterClock);
  first.clusterDoneProxied = std::move(first.clusterProxied);
  first.clusterDoneFenced = std::move(first.clusterFenced);
  first.clusterFenced = Fenced();
  first.clusterClock = Clock();
  first.clusterProxied = Clock();
  for (const auto &[warp, split] : first.clusterWaiters) {
    warp->splits[split].state = Split::Ready;
  }
  first.clusterWaiters.clear();
  ++block.grid->changes;
}

static Step clusterBarrier(Warp &w, const Op &op, uint32_t m) {
  const ptx::Modifiers &mods = op.inst->mods;
  Block &first = *w.block->clusterFirst;
  if (mods.aligned && m != w.live) {
    w.report(FindingKind::Divergence, op, unsigned(__builtin_ctz(m)),
             "an .aligned barrier.cluster is executed by a part of the warp");
  }
  if (mods.mode == Mode::Arrive) {
    if (w.checks && mods.sem != ptx::Sem::Relaxed) {
      Time block = 0, proxiedBlock = 0;
      w.contribute(m, first.clusterClock, first.clusterProxied, block, proxiedBlock);
      first.clusterClock.learn(Clock::blockKey(w.block->actor), block);
      first.clusterProxied.learn(Clock::blockKey(w.block->actor), proxiedBlock);
      w.contributeOwn(m, first.clusterClock);
      Fenced fenced, announced;
      w.contributeFenced(m, fenced, announced);
      first.clusterFenced.join(fenced, 1); // of several blocks
      w.grid->memory->actors.tick();
    } else if (w.checks) {
      // A relaxed arrival hands over what a fence before it has released.
      for (unsigned l = 0; l < 32; ++l) {
        if ((m >> l & 1) && w.clocks[l].fenceScope >= ScopeCluster) {
          first.clusterClock.join(w.clocks[l].fence);
          first.clusterProxied.join(w.clocks[l].fenceProxied);
        }
      }
    }
    w.clusterTicket = first.clusterPhase;
    first.clusterArrived += unsigned(__builtin_popcount(m));
    clusterCheck(*w.block);
    return Step::Next;
  }
  if (first.clusterPhase == w.clusterTicket) {
    w.splits[w.current].state = Split::AtBarrier;
    first.clusterWaiters.emplace_back(&w, w.current);
    return Step::Blocked;
  }
  if (w.checks) {
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        w.acquire(l, first.clusterDone, first.clusterDoneProxied);
        for (const Block *member : first.clusterBlocks) { // relaxed arrivals tell that, too
          w.clocks[l].known.learn(Clock::blockKey(member->actor), member->started);
        }
        w.clocks[l].fenced.join(first.clusterDoneFenced);
      }
    }
    w.refreshReach();
  }
  return Step::Next;
}

static Step fenceOp(Warp &w, const Op &op, uint32_t m) {
  if (w.checks) {
    // membar is the older name of fence.sc.
    w.fence(m, AccessScope(op.extra), op.inst->op == Opcode::Membar || op.inst->mods.sem == ptx::Sem::SeqCst);
  }
  return Step::Next;
}

/// fence.mbarrier_init: mbarriers that the lane has initialised may be used by others of the cluster and by async
/// copies.
static Step fenceMbarriers(Warp &w, const Op &op, uint32_t m) {
  for (auto &[offset, bar] : w.block->mbarriers) {
    if (bar.initialised.actor == w.actor && (m >> bar.initialised.lane() & 1)) {
      bar.initFenced = true;
    }
  }
  return fenceOp(w, op, m);
}

/// fence.proxy.tensormap: what acquires is kept for the copies that read the map (Bulk.cpp). Asynchronous accesses are
/// of another proxy, which it orders nothing for.
static Step fenceTensormap(Warp &w, const Op &op, uint32_t m) {
  if (!w.checks) {
    return Step::Next;
  }
  w.fence(m, AccessScope(op.extra), false);
  if (op.inst->operandCount > 0) { // a release names no map
    requireDefined(w, op, op.a, m, "the address of a tensor map");
    Access fence;
    fence.time = w.grid->memory->actors.now();
    fence.actor = w.actor;
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        fence.tag = Access::makeTag(l, Weak, ScopeSys, op.site);
        w.block->mapFences[w.lane(op.a, l) + uint64_t(op.imm)].push_back(fence);
      }
    }
    w.grid->memory->actors.tick();
  }
  return Step::Next;
}

static Step fenceProxy(Warp &w, const Op &op, uint32_t m) {
  if (!w.checks) {
    return Step::Next;
  }
  if (op.inst->mods.mode != Mode::Alias) {
    Time now = w.grid->memory->actors.now();
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        LaneClocks &c = w.clocks[l];
        c.proxied.join(c.known);
        c.proxiedBlock = std::max(c.proxiedBlock, c.block);
        c.proxiedWarp = std::max(c.proxiedWarp, c.warp);
        c.proxiedSelf = now;
        c.proxiedCopies = w.asyncKnown[AgentCopy][l];
      }
    }
    w.grid->memory->actors.tick();
    w.refreshReach();
  }
  return Step::Next;
}

static Step elect(Warp &w, const Op &op, uint32_t m) {
  uint32_t members = uint32_t(w.lane(op.a, unsigned(__builtin_ctz(m))));
  if (!w.meet(op, m, members, false)) {
    return Step::Blocked;
  }
  uint32_t among = members & w.live ? members & w.live : m;
  unsigned leader = unsigned(__builtin_ctz(among));
  storeLanes(w.at<uint32_t>(op.d), m, [&](unsigned) { return leader; });
  uint32_t &p = w.predicate(op.d2);
  p = (p & ~m) | (1U << leader & m);
  w.setUndefined(op.d, 0, m);
  w.setUndefined(op.d2, 0, m);
  return Step::Next;
}

static Step active(Warp &w, const Op &op, uint32_t m) {
  storeLanes(w.at<uint32_t>(op.d), m, [&](unsigned) { return m; });
  w.setUndefined(op.d, 0, m);
  return Step::Next;
}

bool selectSync(Builder &b, const ptx::Instruction &inst, Op &op) {
  const ptx::Modifiers &mods = inst.mods;
  switch (inst.op) {
  case Opcode::Bar: {
    op.flags = OpSync;
    bool red = mods.mode == Mode::Red;
    if (red) {
      op.d = b.ref(inst, 0, 32);
    }
    op.a = b.ref(inst, red ? 1 : 0, 32);
    unsigned count = red ? 2 : 1;
    if (inst.operandCount > count + (red ? 1U : 0U)) {
      op.b = b.ref(inst, count, 32);
    }
    if (red) {
      op.c = b.ref(inst, inst.operandCount - 1U, 1);
    }
    op.run = blockBarrier;
    return true;
  }
  case Opcode::BarWarpSync:
    op.flags = OpSync;
    op.a = b.ref(inst, 0, 32);
    op.run = warpSync;
    return true;
  case Opcode::BarrierCluster:
    op.flags = OpSync;
    op.run = clusterBarrier;
    return true;
  case Opcode::Membar:
  case Opcode::Fence:
    op.extra = uint8_t(scopeOf(mods.scope, ScopeSys));
    op.run = fenceOp;
    return true;
  case Opcode::FenceMbarrierInit:
    op.extra = ScopeCluster;
    op.run = fenceMbarriers;
    return true;
  case Opcode::FenceProxy:
    op.extra = uint8_t(scopeOf(mods.scope, ScopeSys));
    op.run = mods.mode == Mode::Tensormap ? fenceTensormap : fenceProxy;
    if (mods.mode == Mode::Tensormap && inst.operandCount > 0) {
      return b.address(b.function.operand(inst, 0), op.a, op) || b.fail("this kind of address is not supported");
    }
    return true;
  case Opcode::ElectSync:
    op.flags = OpSync;
    op.d = b.ref(inst, 0, 32);
    op.d2 = b.ref(inst, 1, 1);
    op.a = b.ref(inst, 2, 32);
    op.run = elect;
    return true;
  case Opcode::Activemask:
    op.d = b.ref(inst, 0, 32);
    op.run = active;
    return true;
  default:
    return false;
  }
}

} // namespace moert::emulator
