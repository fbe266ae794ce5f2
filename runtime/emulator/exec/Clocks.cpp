//===- Clocks.cpp - What the lanes of a warp know --------------------------===//
//
// Export, acquire and join of clocks for lanes (memory/Clock.h says what a
// clock is), and findings with their place.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Warp.h"

#include <algorithm>
#include <mutex>

namespace moert::emulator {

Clock Warp::exported(unsigned lane, bool own) {
  LaneClocks &c = clocks[lane];
  Clock out = c.known;
  if (c.block) {
    out.learn(Clock::blockKey(block->actor), c.block);
  }
  if (c.warp > c.block) {
    out.learn(Clock::warpKey(actor), c.warp);
  }
  if (own) {
    out.learn(Clock::laneKey(actor, lane), grid->memory->actors.now());
  }
  for (unsigned agent = 1; agent < 5; ++agent) {
    if (asyncKnown[agent][lane]) {
      // wgmma is done by the warp together: a lane that has waited for it knows the work of all.
      const auto key = agent == AgentMma ? Clock::warpKey(actor + agent) : Clock::laneKey(actor + agent, lane);
      out.learn(key, asyncKnown[agent][lane]);
    }
  }
  return out;
}

Clock Warp::exportedProxied(unsigned lane) {
  LaneClocks &c = clocks[lane];
  Clock out = c.proxied;
  if (c.proxiedBlock) {
    out.learn(Clock::blockKey(block->actor), c.proxiedBlock);
  }
  if (c.proxiedWarp > c.proxiedBlock) {
    out.learn(Clock::warpKey(actor), c.proxiedWarp);
  }
  if (c.proxiedSelf) {
    out.learn(Clock::laneKey(actor, lane), c.proxiedSelf);
  }
  if (c.proxiedCopies) {
    out.learn(Clock::laneKey(actor + AgentCopy, lane), c.proxiedCopies);
  }
  return out;
}

Fenced Warp::exportedFenced(unsigned lane) {
  const LaneClocks &c = clocks[lane];
  Fenced out = c.fenced;
  for (unsigned reach = 0; out.any && reach < Fenced::reaches; ++reach) {
    if (c.fencedSelf[reach]) {
      out.known[reach].learn(Clock::laneKey(actor, lane), c.fencedSelf[reach]);
    }
  }
  return out;
}

void Warp::acquire(unsigned lane, const Clock &clock, const Clock &proxied) {
  LaneClocks &c = clocks[lane];
  c.known.join(clock);
  c.proxied.join(proxied);
  c.block = std::max(c.block, clock.find(Clock::blockKey(block->actor)));
  c.proxiedBlock = std::max(c.proxiedBlock, proxied.find(Clock::blockKey(block->actor)));
}

bool Warp::knowsStarted(unsigned lane, const Block &other) const {
  return &other == block || clocks[lane].known.knows(grid->memory->actors, other.actor, 0, other.started);
}

void Warp::contribute(uint32_t lanes, Clock &clock, Clock &proxied, Time &blockTime, Time &proxiedBlock) {
  const Clock *lastKnown = nullptr, *lastProxied = nullptr;
  Time self = UINT32_MAX;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(lanes >> l & 1)) {
      continue;
    }
    LaneClocks &c = clocks[l];
    if (!lastKnown || !lastKnown->sameAs(c.known)) {
      clock.join(c.known);
      lastKnown = &c.known;
    }
    if (!lastProxied || !lastProxied->sameAs(c.proxied)) {
      proxied.join(c.proxied);
      lastProxied = &c.proxied;
    }
    blockTime = std::max(blockTime, c.block);
    proxiedBlock = std::max(proxiedBlock, c.proxiedBlock);
    if (c.proxiedWarp) {
      proxied.learn(Clock::warpKey(actor), c.proxiedWarp);
    }
    self = std::min(self, c.proxiedSelf);
  }
  if (self && lanes == live) {
    proxied.learn(Clock::warpKey(actor), self);
  }
  for (unsigned l = 0; l < 32; ++l) {
    if ((lanes >> l & 1) && clocks[l].proxiedSelf > self) {
      proxied.learn(Clock::laneKey(actor, l), clocks[l].proxiedSelf);
    }
  }
  // What an agent has done for each lane, up to a time of its own.
  auto tell = [&](Clock &to, Actor agent, auto timeOf) {
    Time least = UINT32_MAX, most = 0;
    for (unsigned l = 0; l < 32; ++l) {
      if (lanes >> l & 1) {
        least = std::min<Time>(least, timeOf(l));
        most = std::max<Time>(most, timeOf(l));
      }
    }
    if (most && least == most && lanes == live) {
      to.learn(Clock::warpKey(agent), most);
      return;
    }
    for (unsigned l = 0; most && l < 32; ++l) {
      if ((lanes >> l & 1) && timeOf(l)) {
        to.learn(Clock::laneKey(agent, l), timeOf(l));
      }
    }
  };
  for (unsigned agent = 1; agent < 5; ++agent) {
    tell(clock, actor + agent, [&](unsigned l) { return asyncKnown[agent][l]; });
  }
  tell(proxied, actor + AgentCopy, [&](unsigned l) { return clocks[l].proxiedCopies; });
}

void Warp::contributeOwn(uint32_t lanes, Clock &clock) {
  Time now = grid->memory->actors.now();
  if ((lanes & live) == live) {
    clock.learn(Clock::warpKey(actor), now);
    return;
  }
  for (unsigned l = 0; l < 32; ++l) {
    if (lanes >> l & 1) {
      clock.learn(Clock::laneKey(actor, l), now);
    }
  }
}

void Warp::contributeFenced(uint32_t lanes, Fenced &fenced, Fenced &announced) {
  for (unsigned l = 0; l < 32; ++l) {
    if (lanes >> l & 1) {
      fenced.join(clocks[l].fenced);
      announced.join(clocks[l].announced);
    }
  }
  for (unsigned reach = 0; fenced.any && reach < Fenced::reaches; ++reach) {
    Time least = UINT32_MAX;
    for (unsigned l = 0; l < 32; ++l) {
      least = lanes >> l & 1 ? std::min(least, clocks[l].fencedSelf[reach]) : least;
    }
    if (least && lanes == live) {
      fenced.known[reach].learn(Clock::warpKey(actor), least);
    }
    for (unsigned l = 0; l < 32; ++l) {
      if ((lanes >> l & 1) && (clocks[l].fencedSelf[reach] > least || (least && lanes != live))) {
        fenced.known[reach].learn(Clock::laneKey(actor, l), clocks[l].fencedSelf[reach]);
      }
    }
  }
}

void Warp::refreshReach() {
  Time floor = UINT32_MAX, blockTime = UINT32_MAX, pFloor = UINT32_MAX, pBlock = UINT32_MAX;
  for (unsigned l = 0; l < 32; ++l) {
    if (live >> l & 1) {
      floor = std::min(floor, clocks[l].known.floor());
      blockTime = std::min(blockTime, clocks[l].block);
      pFloor = std::min(pFloor, clocks[l].proxied.floor());
      pBlock = std::min(pBlock, clocks[l].proxiedBlock);
    }
  }
  Actor end = block->actor + grid->warpsPerBlock * actorsPerWarp;
  reach = {floor, blockTime, block->actor, end};
  proxiedReach = {pFloor, pBlock, block->actor, end};
}

void Warp::fence(uint32_t lanes, AccessScope scope, bool sequential) {
  for (unsigned l = 0; l < 32; ++l) {
    if (!(lanes >> l & 1)) {
      continue;
    }
    LaneClocks &c = clocks[l];
    for (unsigned reach = ScopeCta; reach <= scope; ++reach) {
      if (!c.pending[reach].empty()) {
        acquire(l, c.pending[reach], c.pendingProxied[reach]);
        c.pending[reach] = Clock();
        c.pendingProxied[reach] = Clock();
      }
    }
    if (sequential && c.announced.any) {
      // How far a fence must reach for the scopes of `announced`.
      const AccessScope needed[Fenced::reaches] = {ScopeCta, ScopeGpu, ScopeSys};
      for (unsigned reach = 0; reach < Fenced::reaches && needed[reach] <= scope; ++reach) {
        acquire(l, c.announced.known[reach], c.announced.proxied[reach]);
      }
    }
    c.fence = exported(l);
    c.fenceProxied = exportedProxied(l);
    c.fenceScope = scope;
    if (sequential) {
      // What earlier fences knew is known now too.
      const unsigned reaches = scope >= ScopeSys ? 3 : scope >= ScopeGpu ? 2 : 1;
      const Clock others = exported(l, false);
      for (unsigned reach = 0; reach < reaches; ++reach) {
        c.fenced.known[reach] = others;
        c.fenced.proxied[reach] = c.fenceProxied;
        c.fencedSelf[reach] = grid->memory->actors.now();
      }
      c.fenced.any = true;
      Clock &order = scope >= ScopeGpu ? grid->memory->sequential : block->sequential;
      c.ordered.join(order);
      order.join(c.fence);
    }
  }
  grid->memory->actors.tick();
  refreshReach();
  // What a fence orders shows when others come between it and the next access.
  yield = grid->options.timing == Timing::Random && grid->random() % 2;
}

Dim3 Warp::threadOf(unsigned lane) const {
  const Dim3 &size = grid->config.block;
  uint32_t linear = index * 32 + lane;
  return {linear % size.x, linear / size.x % size.y, linear / (size.x * size.y)};
}

Finding Warp::describe(FindingKind kind, const Op &op, unsigned lane, std::string what, bool note,
                       uint32_t partner) const {
  Finding finding;
  finding.kind = kind;
  finding.note = note;
  finding.kernel = grid->kernel->function->name;
  finding.line = op.inst->location.line;
  finding.block = block->index;
  finding.thread = threadOf(lane);
  finding.what = std::move(what);
  finding.partner = partner;
  return finding;
}

void Warp::report(FindingKind kind, const Op &op, unsigned lane, std::string what, bool note, uint32_t partner) {
  static std::mutex turn; // blocks may run on several host threads
  std::lock_guard<std::mutex> lock(turn);
  grid->sink->report(describe(kind, op, lane, std::move(what), note, partner));
}

Step Warp::fault(FindingKind kind, LaunchError error, const Op &op, unsigned lane, std::string what) {
  report(kind, op, lane, std::move(what));
  if (grid->failure == LaunchError::None) {
    grid->failure = error;
  }
  return Step::Failed;
}

} // namespace moert::emulator
