//===- Mbarrier.cpp - mbarrier objects -------------------------------------===//
//
// The state of an mbarrier is kept beside shared memory, by address; the 8 bytes
// in memory hold the phase and the pending count, for state tokens and for those
// who copy them. A phase completes when no arrival is pending and no byte is
// expected (complete_tx may come before expect_tx). Its clock is what all who
// arrived released and what completed on it.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Mbarrier.h"
#include "runtime/emulator/exec/Lanes.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Opcode;
using ptx::Sem;
using ptx::Space;

static constexpr uint32_t mostPending = (1U << 20) - 1;

/// A state token: the number of the phase and its pending count.
static uint64_t tokenOf(const Mbarrier &bar) { return bar.phase << 20 | (bar.pending & mostPending); }

void completePhaseIfDone(Block &owner, Mbarrier &bar) {
  if (bar.pending != 0 || bar.tx != 0) {
    return;
  }
  ++bar.phase;
  bar.pending = bar.expected;
  bar.completed = std::move(bar.current);
  bar.completedProxied = std::move(bar.currentProxied);
  bar.current = Clock();
  bar.currentProxied = Clock();
  bar.completedFenced = std::move(bar.currentFenced);
  bar.currentFenced = Fenced();
  ++owner.grid->changes;
}

void completeBytes(Block &owner, uint32_t offset, uint64_t bytes, Actor agent, Time time) {
  auto it = owner.mbarriers.find(offset);
  if (it == owner.mbarriers.end()) {
    return;
  }
  Mbarrier &bar = it->second;
  bar.tx -= int64_t(bytes);
  if (owner.grid->options.checks) {
    bar.current.learn(Clock::warpKey(agent), time);
  }
  completePhaseIfDone(owner, bar);
}

Step findMbarrier(Warp &w, const Op &op, unsigned lane, uint64_t address, Space space, Block *&owner, uint32_t &offset,
                  bool mustExist) {
  uint8_t *pointer = nullptr;
  Shadow *shadow = nullptr;
  uint64_t at = 0;
  Step step = resolveOne(w, op, lane, address, space, 8, true, 8, pointer, shadow, at, owner);
  if (step != Step::Next) {
    return step;
  }
  if (!owner) {
    return w.fault(FindingKind::Barrier, LaunchError::IllegalAddress, op, lane, "an mbarrier outside of shared memory");
  }
  offset = uint32_t(at);
  if (mustExist && !owner->mbarriers.count(offset)) {
    return w.fault(FindingKind::Barrier, LaunchError::IllegalInstruction, op, lane,
                   "no mbarrier was initialised at shared offset " + std::to_string(offset));
  }
  return Step::Next;
}

static Space spaceOf(const Op &op) { return op.inst->mods.space; }

static AccessMode barrierAccess() {
  AccessMode mode;
  mode.kind = AtomicAccess;
  mode.scope = ScopeCluster;
  return mode;
}

/// How an operation accesses the bytes of its mbarrier.
enum class Touch { Write, Update, Look };

/// Shows an access to the barrier's own bytes to the shadow: operations on it are atomic among themselves. A test
/// leaves no trace: whoever goes on has its answer, so that the barrier may be invalidated behind anything that lanes
/// meet at (libcu++ does that behind match.sync, which orders no memory).
static void judgeBarrier(Warp &w, const Op &op, unsigned lane, Block *owner, uint32_t offset, Touch touch) {
  if (!w.checks || !owner->shadow) {
    return;
  }
  WarpJudge judge(w, op);
  judge.lane = lane;
  judge.shared = true;
  Access now;
  now.time = w.grid->memory->actors.now();
  now.actor = w.actor;
  AccessMode mode = barrierAccess();
  now.tag = Access::makeTag(lane, touch == Touch::Write ? Weak : mode.kind, mode.scope, op.site);
  if (touch == Touch::Look) {
    Access ordered;
    owner->shadow->judgeWrites(offset, 8, now, w.reach, judge, ordered);
    return;
  }
  owner->shadow->access(offset, 8, true, now, w.reach, judge);
  owner->shadow->setDefined(offset, 8, true);
}

void judgeCompletion(Warp &w, const Op &op, unsigned lane, const Mbarrier &bar) {
  WarpJudge judge(w, op, true);
  judge.lane = lane;
  if (!w.checks || bar.initFenced || judge.knows(bar.initialised, true)) {
    return;
  }
  const std::string who = w.grid->memory->describeSite(bar.initialised.site(), bar.initialised.actor);
  if (judge.knows(bar.initialised, false)) {
    w.report(FindingKind::ProxyFence, op, lane,
             "completes on an mbarrier that " + who +
                 " initialises, and neither fence.proxy.async nor fence.mbarrier_init is between",
             !w.grid->options.allProxyFences, bar.initialised.site());
  } else {
    w.report(FindingKind::Race, op, lane,
             "completes on an mbarrier that " + who + " initialises, and nothing orders the two", false,
             bar.initialised.site());
  }
}

static Step initialise(Warp &w, const Op &op, uint32_t m) {
  requireDefined(w, op, op.a, m, "an address");
  requireDefined(w, op, op.b, m, "how many arrivals an mbarrier expects");
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    Block *owner = nullptr;
    uint32_t offset = 0;
    Step step = findMbarrier(w, op, l, w.lane(op.a, l) + uint64_t(op.imm), spaceOf(op), owner, offset, false);
    if (step != Step::Next) {
      return step;
    }
    auto count = uint32_t(w.lane(op.b, l));
    if (count == 0 || count > mostPending) {
      return w.fault(FindingKind::Barrier, LaunchError::IllegalInstruction, op, l,
                     "an mbarrier of " + std::to_string(count) + " arrivals; 1 to " + std::to_string(mostPending));
    }
    judgeBarrier(w, op, l, owner, offset, Touch::Write);
    Mbarrier bar;
    bar.expected = count;
    bar.pending = count;
    bar.agent = w.checks ? w.grid->newAgent() : 0;
    bar.initialised.time = w.checks ? w.grid->memory->actors.now() : 0;
    bar.initialised.actor = w.actor;
    bar.initialised.tag = Access::makeTag(l, Weak, ScopeCluster, op.site);
    owner->mbarriers[offset] = bar;
    uint64_t word = tokenOf(bar);
    std::memcpy(&owner->shared[offset], &word, 8);
  }
  ++w.grid->changes;
  return Step::Next;
}

static Step invalidate(Warp &w, const Op &op, uint32_t m) {
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    Block *owner = nullptr;
    uint32_t offset = 0;
    Step step = findMbarrier(w, op, l, w.lane(op.a, l) + uint64_t(op.imm), spaceOf(op), owner, offset, true);
    if (step != Step::Next) {
      return step;
    }
    // An operation on the barrier like others: arrivals before it need no order that the shadow could see (libcu++
    // again).
    judgeBarrier(w, op, l, owner, offset, Touch::Update);
    owner->mbarriers.erase(offset);
    if (owner->shadow) {
      owner->shadow->setDefined(offset, 8, false);
    }
  }
  return Step::Next;
}

/// arrive, arrive_drop, expect_tx and complete_tx, in all their forms.
static Step arrive(Warp &w, const Op &op, uint32_t m) {
  const ptx::Modifiers &mods = op.inst->mods;
  const Opcode code = op.inst->op;
  requireDefined(w, op, op.a, m, "an address");
  if (op.b.bits) {
    requireDefined(w, op, op.b, m, "a count of an mbarrier");
  }
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    Block *owner = nullptr;
    uint32_t offset = 0;
    Step step = findMbarrier(w, op, l, w.lane(op.a, l) + uint64_t(op.imm), spaceOf(op), owner, offset, true);
    if (step != Step::Next) {
      return step;
    }
    judgeBarrier(w, op, l, owner, offset, Touch::Update);
    noteVisit(w, op, l, owner);
    Mbarrier &bar = owner->mbarriers[offset];
    uint64_t value = op.b.bits ? w.lane(op.b, l) : 1;
    uint64_t token = tokenOf(bar);
    bool arrives = code == Opcode::MbarrierArrive || code == Opcode::MbarrierArriveDrop;
    if (code == Opcode::MbarrierExpectTx || mods.expectTx) {
      bar.tx += int64_t(value);
    }
    if (code == Opcode::MbarrierCompleteTx) {
      bar.tx -= int64_t(value);
    }
    if (std::llabs(bar.tx) > int64_t(mostPending)) {
      return w.fault(FindingKind::Barrier, LaunchError::IllegalInstruction, op, l,
                     "the transaction count of an mbarrier is " + std::to_string(bar.tx) + ", beyond 2^20 - 1");
    }
    if (arrives) {
      uint32_t count = mods.expectTx ? 1 : uint32_t(value);
      if (count > bar.pending) {
        return w.fault(FindingKind::Barrier, LaunchError::IllegalInstruction, op, l,
                       std::to_string(count) + " arrivals at an mbarrier that waits for " +
                           std::to_string(bar.pending));
      }
      if (w.checks && mods.sem != Sem::Relaxed) {
        // A release in scope: remote waiters are in the cluster; a scope of cta covers the own block only.
        bar.current.join(w.exported(l));
        bar.currentProxied.join(w.exportedProxied(l));
        if (w.clocks[l].fenced.any) {
          bar.currentFenced.join(w.exportedFenced(l), owner == w.block ? 0 : 1);
        }
      }
      bar.pending -= count;
      if (code == Opcode::MbarrierArriveDrop) {
        bar.expected -= std::min(bar.expected, count);
      }
    }
    if (mods.noComplete && bar.pending == 0 && bar.tx == 0) {
      return w.fault(FindingKind::Barrier, LaunchError::IllegalInstruction, op, l,
                     "mbarrier.arrive.noComplete would complete the phase");
    }
    completePhaseIfDone(*owner, bar);
    uint64_t word = tokenOf(bar);
    std::memcpy(&owner->shared[offset], &word, 8);
    if (arrives && op.d.bits) {
      w.setLane(op.d, l, token);
    }
  }
  if (op.d.bits) {
    w.setUndefined(op.d, 0, m);
  }
  if (w.checks) {
    w.grid->memory->actors.tick();
  }
  ++w.grid->changes;
  w.spinning = false;
  return Step::Next;
}

static Step testWait(Warp &w, const Op &op, uint32_t m) {
  const ptx::Modifiers &mods = op.inst->mods;
  requireDefined(w, op, op.a, m, "an address");
  requireDefined(w, op, op.b, m, "which phase is waited for");
  uint32_t done = 0;
  bool learnt = false;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    Block *owner = nullptr;
    uint32_t offset = 0;
    Step step = findMbarrier(w, op, l, w.lane(op.a, l) + uint64_t(op.imm), spaceOf(op), owner, offset, true);
    if (step != Step::Next) {
      return step;
    }
    judgeBarrier(w, op, l, owner, offset, Touch::Look);
    Mbarrier &bar = owner->mbarriers[offset];
    uint64_t wanted = w.lane(op.b, l);
    // Parity p waits for the phase with that parity: done when the running phase has the other one.
    bool is = mods.parity ? (bar.phase & 1) != (wanted & 1) : bar.phase != wanted >> 20;
    done |= uint32_t(is) << l;
    if (is && w.checks && mods.sem != Sem::Relaxed && bar.phase) {
      LaneClocks &c = w.clocks[l];
      if (!c.known.sameAs(bar.completed)) {
        w.acquire(l, bar.completed, bar.completedProxied);
        c.fenced.join(bar.completedFenced, owner == w.block ? 0 : 1);
        learnt = true;
      }
    }
  }
  uint32_t &p = w.predicate(op.d);
  p = (p & ~m) | done;
  w.setUndefined(op.d, 0, m);
  if (learnt) {
    w.refreshReach();
  }
  w.spinning = done != m;
  w.yield = done != m;
  return Step::Next;
}

static Step pendingCount(Warp &w, const Op &op, uint32_t m) {
  for (unsigned l = 0; l < 32; ++l) {
    if (m >> l & 1) {
      w.setLane(op.d, l, w.lane(op.a, l) & mostPending);
    }
  }
  return Step::Next;
}

/// cp.async.mbarrier.arrive: an arrival when all cp.async of the lane so far have landed.
static Step copyArrive(Warp &w, const Op &op, uint32_t m) {
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    Block *owner = nullptr;
    uint32_t offset = 0;
    Step step = findMbarrier(w, op, l, w.lane(op.a, l) + uint64_t(op.imm), spaceOf(op), owner, offset, true);
    if (step != Step::Next) {
      return step;
    }
    Mbarrier &bar = owner->mbarriers[offset];
    bool noInc = op.inst->mods.noInc;
    if (!noInc) {
      ++bar.pending;
    }
    Time last = w.asyncKnown[AgentCopy][l];
    for (Time time : w.copyTime[l]) {
      last = std::max(last, time);
    }
    uint32_t before = w.copyGroup[l] + 1;
    PendingWork work;
    work.warp = &w;
    work.lane = l;
    work.kind = PendingWork::Arrive;
    Warp *warp = &w;
    uint64_t phase = bar.phase;
    (void)phase;
    work.land = [warp, l, owner, offset, before, last] {
      landCopies(*warp, l, before);
      auto it = owner->mbarriers.find(offset);
      if (it == owner->mbarriers.end()) {
        return;
      }
      Mbarrier &target = it->second;
      if (warp->checks && last) {
        target.current.learn(Clock::laneKey(warp->actor + AgentCopy, l), last);
      }
      target.pending -= target.pending != 0;
      completePhaseIfDone(*owner, target);
    };
    // What is issued from here on belongs to a later group.
    ++w.copyGroup[l];
    w.copyTime[l][w.copyGroup[l] % Warp::keptGroups] = 0;
    if (w.grid->options.timing == Timing::Early) {
      work.land();
    } else {
      w.block->work.push_back(std::move(work));
    }
  }
  if (w.checks) {
    w.grid->memory->actors.tick();
  }
  return Step::Next;
}

bool selectMbarrier(Builder &b, const ptx::Instruction &inst, Op &op) {
  const ptx::Function &f = b.function;
  auto address = [&](unsigned i) { return b.address(f.operand(inst, i), op.a, op); };
  switch (inst.op) {
  case Opcode::MbarrierInit:
    op.b = b.ref(inst, 1, 32);
    op.run = initialise;
    return address(0);
  case Opcode::MbarrierInval:
    op.run = invalidate;
    return address(0);
  case Opcode::MbarrierExpectTx:
  case Opcode::MbarrierCompleteTx:
    op.b = b.ref(inst, 1, 32);
    op.run = arrive;
    return address(0);
  case Opcode::MbarrierArrive:
  case Opcode::MbarrierArriveDrop: {
    const ptx::Operand &to = f.operand(inst, 0);
    if (to.kind == ptx::OperandKind::Register) {
      op.d = b.ref(to, 64);
    }
    if (inst.operandCount > 2 && f.operand(inst, 2).kind != ptx::OperandKind::None) {
      op.b = b.ref(inst, 2, 32);
    }
    op.run = arrive;
    return address(1);
  }
  case Opcode::MbarrierTestWait:
  case Opcode::MbarrierTryWait:
    op.d = b.ref(inst, 0, 1);
    op.b = b.ref(inst, 2, inst.mods.parity ? 32 : 64);
    op.run = testWait;
    return address(1);
  case Opcode::MbarrierPendingCount:
    op.flags |= OpPure;
    op.d = b.ref(inst, 0, 32);
    op.a = b.ref(inst, 1, 64);
    op.run = pendingCount;
    return true;
  case Opcode::CpAsyncMbarrierArrive:
    op.run = copyArrive;
    return address(0);
  default:
    return false;
  }
}

} // namespace moert::emulator
