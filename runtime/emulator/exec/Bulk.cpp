//===- Bulk.cpp - cp.async.bulk, its tensor form, st.async ------------------===//
//
// Copies that the TMA unit makes. Each is planned at issue into runs of bytes
// (source, destination, or fill), judged then as accesses of an agent: of the
// mbarrier that it completes on, or of the lane's bulk groups. What lands later
// only moves bytes. Earlier generic writes must be behind a fence.proxy.async.
//
// A tensor copy walks the box of its map; elements outside of the tensor are
// filled (loads) or skipped (stores). Shared memory holds the box densely, with
// 16-byte chunks exchanged by the swizzle: bits 4.. of the shared address are
// xored with bits 7.., one, two or three of them for 32, 64 and 128 bytes.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/TensorMap.h"
#include "runtime/emulator/exec/Combine.h"
#include "runtime/emulator/exec/Formats.h"
#include "runtime/emulator/exec/Indivisible.h"
#include "runtime/emulator/exec/Lanes.h"
#include "runtime/emulator/exec/Mbarrier.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Completion;
using ptx::Opcode;
using ptx::Reduce;
using ptx::Space;
using ptx::Type;

namespace {
/// Where a piece of memory is, for bytes and shadow alike.
struct Spot {
  uint8_t *pointer = nullptr;
  Shadow *shadow = nullptr;
  uint64_t offset = 0;
  bool shared = false;
};
/// One run of bytes. Without a source the destination is filled.
struct Piece {
  Spot to, from;
  uint32_t bytes = 0;
};
struct Plan {
  std::vector<Piece> pieces;
  uint64_t fill = 0; ///< pattern of one element
  unsigned fillBytes = 1;
  Reduce reduce = Reduce::None;
  Type type = Type::None;
};
} // namespace

static void movePieces(const Plan &plan) {
  for (const Piece &piece : plan.pieces) {
    if (!piece.from.pointer) {
      for (uint32_t i = 0; i < piece.bytes; i += plan.fillBytes) {
        std::memcpy(piece.to.pointer + i, &plan.fill, std::min(plan.fillBytes, piece.bytes - i));
      }
    } else if (plan.reduce == Reduce::None) {
      std::memmove(piece.to.pointer, piece.from.pointer, piece.bytes);
    } else {
      unsigned size = ptx::bytesOf(plan.type);
      for (uint32_t i = 0; i + size <= piece.bytes; i += size) {
        uint64_t b = 0;
        std::memcpy(&b, piece.from.pointer + i, size);
        std::lock_guard<std::mutex> turn(lockOf(piece.to.pointer + i));
        const uint64_t a = loadAtomic(piece.to.pointer + i, size);
        storeAtomic(piece.to.pointer + i, combineValues(plan.reduce, plan.type, a, b, 0, false), size);
      }
    }
    if (piece.to.shadow) {
      bool defined = !piece.from.shadow || piece.from.shadow->allDefined(piece.from.offset, piece.bytes);
      if (defined) {
        piece.to.shadow->setDefined(piece.to.offset, piece.bytes, true);
      } else {
        for (uint32_t i = 0; i < piece.bytes; ++i) {
          piece.to.shadow->setDefined(piece.to.offset + i, 1, piece.from.shadow->definedBits(piece.from.offset + i, 1));
        }
      }
    }
  }
}

static Time timeNow(const Warp &w) { return w.checks ? w.grid->memory->actors.now() : 0; }

/// Shows reads (of `reader`) and writes (of `writer`) of the plan to the shadows.
static void judgePlan(Warp &w, const Op &op, unsigned lane, Time issued, const Plan &plan, Actor reader, Actor writer,
                      unsigned agentLane) {
  if (!w.checks) {
    return;
  }
  WarpJudge judge(w, op, true);
  judge.lane = lane;
  Access now;
  now.time = issued;
  Reach reach = w.proxiedReach;
  AccessKind kind = plan.reduce == Reduce::None ? AsyncAccess : AtomicAccess;
  for (const Piece &piece : plan.pieces) {
    if (piece.from.shadow) {
      now.actor = reader;
      now.tag = Access::makeTag(agentLane, AsyncAccess, ScopeGpu, op.site);
      judge.shared = piece.from.shared;
      piece.from.shadow->access(piece.from.offset, piece.bytes, false, now, reach, judge);
    }
    if (piece.to.shadow) {
      now.actor = writer;
      now.tag = Access::makeTag(agentLane, kind, ScopeGpu, op.site);
      judge.shared = piece.to.shared;
      if (plan.reduce == Reduce::None) {
        judge.newBytes = piece.from.pointer; // none: a fill
        judge.oldBytes = piece.to.pointer;
        judge.size = piece.bytes;
      }
      piece.to.shadow->access(piece.to.offset, piece.bytes, true, now, reach, judge);
    }
  }
}

static Step spotOf(Warp &w, const Op &op, unsigned lane, uint64_t address, Space space, uint64_t bytes, bool write,
                   unsigned align, Spot &spot, Block *&owner) {
  Step step =
      resolveOne(w, op, lane, address, space, bytes, write, align, spot.pointer, spot.shadow, spot.offset, owner);
  spot.shared = owner != nullptr;
  return step;
}

/// A copy that completes on an mbarrier accesses shared memory of `owner`, which must not exit before it is complete.
static void noteCopy(Warp &w, const Op &op, unsigned lane, Block *owner, Actor agent) {
  if (w.checks && owner) {
    owner->visits[{agent, allLanes}] = {w.grid->memory->actors.now(), &w, &op, lane, true};
  }
}

/// Puts the plan among the pending work, completing on the mbarrier at `barrier` of `owner` or on the lane's group.
static void enqueue(Warp &w, const Op &op, unsigned lane, Time now, Plan plan, uint64_t bytes, Block *owner,
                    uint32_t barrier, bool group) {
  auto shared = std::make_shared<Plan>(std::move(plan));
  PendingWork work;
  work.warp = &w;
  work.lane = lane;
  if (group) {
    w.bulkReads[lane] = &op;
    w.bulkReadGroup[lane] = w.bulkGroup[lane];
    work.kind = PendingWork::BulkGroup;
    work.group = w.bulkGroup[lane];
    w.bulkTime[lane][w.bulkGroup[lane] % Warp::keptGroups] = now;
    work.land = [shared] { movePieces(*shared); };
  } else {
    Actor agent = owner->mbarriers[barrier].agent;
    work.land = [shared, owner, barrier, bytes, agent, now] {
      movePieces(*shared);
      completeBytes(*owner, barrier, bytes, agent, now);
    };
  }
  if (w.checks) {
    w.grid->memory->actors.tick();
  }
  if (w.grid->options.timing == Timing::Early) {
    work.land();
  } else {
    w.block->work.push_back(std::move(work));
  }
}

/// Blocks of the cluster that a multicast reaches, or the own one.
static std::vector<unsigned> targetsOf(Warp &w, const Op &op, unsigned lane, const Ref &maskRef) {
  std::vector<unsigned> ranks;
  if (!op.inst->mods.multicast) {
    return {UINT32_MAX};
  }
  auto mask = uint32_t(w.lane(maskRef, lane));
  for (unsigned r = 0; r < w.block->clusterBlocks.size(); ++r) {
    if (mask >> r & 1) {
      ranks.push_back(r);
    }
  }
  return ranks;
}

static uint64_t inBlock(uint64_t address, uint64_t window, unsigned rank) {
  if (rank == UINT32_MAX) {
    return address;
  }
  return window + (uint64_t(rank + 1) << rankShift) + ((address - window) & ((1U << rankShift) - 1));
}

static Step refuseSize(Warp &w, const Op &op, unsigned lane, uint64_t bytes) {
  return w.fault(FindingKind::Illegal, LaunchError::IllegalInstruction, op, lane,
                 "a bulk copy of " + std::to_string(bytes) + " bytes, which is no multiple of 16");
}

// Operands: d destination, a source, b size, c mbarrier, e multicast mask. imm, target, list: address offsets.
static Step bulkCopy(Warp &w, const Op &op, uint32_t m) {
  const ptx::Modifiers &mods = op.inst->mods;
  const bool group = mods.completion == Completion::BulkGroup;
  // Lanes that copy into groups do so at one time: the reads of all of them are known when each has waited for its own.
  const Time together = timeNow(w);
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    requireDefined(w, op, op.b, 1U << l, "how many bytes are copied");
    requireDefined(w, op, op.a, 1U << l, "an address");
    requireDefined(w, op, op.d, 1U << l, "an address");
    uint64_t bytes = w.lane(op.b, l);
    uint64_t to = w.lane(op.d, l) + uint64_t(op.imm);
    uint64_t from = w.lane(op.a, l) + uint64_t(int64_t(int32_t(op.target)));
    if (bytes % 16) {
      return refuseSize(w, op, l, bytes);
    }
    for (unsigned rank : targetsOf(w, op, l, op.e)) {
      Plan plan;
      plan.reduce = mods.reduce;
      plan.type = op.inst->types[0];
      Piece piece;
      piece.bytes = uint32_t(bytes);
      Block *owner = nullptr, *source = nullptr;
      uint64_t window = mods.space == Space::None ? w.grid->memory->sharedWindow() : 0;
      Step step = spotOf(w, op, l, inBlock(to, window, rank), mods.space, bytes, true, 16, piece.to, owner);
      if (step != Step::Next) {
        return step;
      }
      step = spotOf(w, op, l, from, mods.source, bytes, false, 16, piece.from, source);
      if (step != Step::Next) {
        return step;
      }
      plan.pieces.push_back(piece);
      Block *barrierOwner = nullptr;
      uint32_t barrier = 0;
      Actor reader = w.actor + AgentBulkRead, writer = w.actor + AgentBulkWrite;
      unsigned agentLane = l;
      if (!group) {
        uint64_t address = w.lane(op.c, l) + uint64_t(int64_t(int32_t(op.list2)));
        step = findMbarrier(w, op, l, inBlock(address, 0, rank),
                            mods.barrier == Space::None ? mods.space : mods.barrier, barrierOwner, barrier, true);
        if (step != Step::Next) {
          return step;
        }
        judgeCompletion(w, op, l, barrierOwner->mbarriers[barrier]);
        reader = writer = barrierOwner->mbarriers[barrier].agent;
        agentLane = allLanes;
      }
      const Time issued = group ? together : timeNow(w);
      judgePlan(w, op, l, issued, plan, reader, writer, agentLane);
      if (!group) {
        noteCopy(w, op, l, source, reader);
        noteCopy(w, op, l, owner == w.block ? nullptr : owner, writer);
      }
      enqueue(w, op, l, issued, std::move(plan), bytes, barrierOwner, barrier, group);
    }
  }
  return Step::Next;
}

// Operands: a source, b size. target: address offset. Reads nothing, but what it names must be there.
static Step bulkPrefetch(Warp &w, const Op &op, uint32_t m) {
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    requireDefined(w, op, op.b, 1U << l, "how many bytes are prefetched");
    requireDefined(w, op, op.a, 1U << l, "an address");
    const uint64_t bytes = w.lane(op.b, l);
    if (bytes % 16) {
      return refuseSize(w, op, l, bytes);
    }
    Spot from;
    Block *owner = nullptr;
    if (Step step = spotOf(w, op, l, w.lane(op.a, l) + uint64_t(int64_t(int32_t(op.target))), op.inst->mods.source,
                           bytes, false, 16, from, owner);
        step != Step::Next) {
      return step;
    }
  }
  return Step::Next;
}

static uint64_t swizzled(uint64_t address, unsigned mode) {
  unsigned bits = mode; // 1, 2, 3: 32, 64, 128 bytes
  return address ^ ((address >> 7 & ((1U << bits) - 1)) << 4);
}

/// Judges the read of a map at `address` in memory that a kernel can write. If one does, that is ordered before, with a
/// fence between that acquires the map or a fence.proxy.async; whoever wrote it, the block has acquired it before
/// (a note, unless all fences are asked for). That nobody writes it while it is read is not judged.
static void judgeMap(Warp &w, const Op &op, unsigned lane, uint64_t address, const Spot &map) {
  WarpJudge judge(w, op, true);
  judge.lane = lane;
  judge.shared = map.shared;
  const auto fences = w.block->mapFences.find(address);
  if (fences != w.block->mapFences.end()) {
    const auto known = std::find_if(fences->second.rbegin(), fences->second.rend(),
                                    [&](const Access &fence) { return judge.knows(fence, false); });
    judge.fencedUpTo = known == fences->second.rend() ? 0 : known->time;
  }
  Access now, ordered;
  now.time = w.grid->memory->actors.now();
  now.actor = w.actor + AgentBulkRead;
  now.tag = Access::makeTag(lane, Weak, ScopeSys, op.site);
  for (uint64_t at = 0; at < sizeof(TensorMapFields); at += 16) {
    map.shadow->judgeWrites(map.offset + at, 16, now, w.proxiedReach, judge, ordered);
  }
  if (!map.shadow->allDefined(map.offset, sizeof(TensorMapFields))) {
    w.report(FindingKind::Undefined, op, lane, "undefined bytes of a tensor map decide what is copied");
  }
  const bool all = w.grid->options.allProxyFences;
  if (judge.fencedUpTo == 0 && !map.shared && (all || w.grid->unfenced.insert({op.site, op.site}).second)) {
    w.report(FindingKind::ProxyFence, op, lane,
             "reads a tensor map in global memory, and no fence.proxy.tensormap of the block acquires it before", !all);
  }
}

// Operands: d shared address, a map, list: coordinates, c mbarrier, e multicast mask.
static Step tensorCopy(Warp &w, const Op &op, uint32_t m) {
  const ptx::Modifiers &mods = op.inst->mods;
  const bool group = mods.completion == Completion::BulkGroup;
  // Lanes that copy into groups do so at one time: the reads of all of them are known when each has waited for its own.
  const Time together = timeNow(w);
  const Ref *coordinates = w.grid->code->refs.data() + op.list;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    requireDefined(w, op, op.a, 1U << l, "the address of a tensor map");
    requireDefined(w, op, op.d, 1U << l, "an address");
    Spot map;
    Block *owner = nullptr;
    const uint64_t mapAddress = w.lane(op.a, l) + uint64_t(int64_t(int32_t(op.target)));
    Step step = spotOf(w, op, l, mapAddress, Space::None, 128, false, 64, map, owner);
    if (step != Step::Next) {
      return step;
    }
    if (map.shadow) {
      judgeMap(w, op, l, mapAddress, map);
    }
    TensorMapFields fields;
    std::memcpy(&fields, map.pointer, sizeof fields);
    const unsigned rank = fields.rank + 1U, element = tensorElementBytes(fields.elementType);
    if (rank != mods.dims || element == 0) {
      return w.fault(FindingKind::Illegal, LaunchError::IllegalInstruction, op, l,
                     "the tensor map has " + std::to_string(rank) + " dimensions, the instruction " +
                         std::to_string(mods.dims));
    }
    int64_t start[5] = {};
    uint64_t count = 1;
    for (unsigned i = 0; i < rank; ++i) {
      requireDefined(w, op, coordinates[i], 1U << l, "a coordinate of a tensor copy");
      start[i] = int32_t(w.lane(coordinates[i], l));
      count *= (fields.boxDim[i] + std::max<unsigned>(fields.elementStride[i], 1) - 1) /
               std::max<unsigned>(fields.elementStride[i], 1);
    }
    const uint64_t bytes = count * element;
    const uint64_t to = w.lane(op.d, l) + uint64_t(op.imm);
    for (unsigned target : targetsOf(w, op, l, op.e)) {
      Spot box;
      const unsigned align = fields.swizzle ? 128 : 128;
      const Space sharedSpace = group ? Space::Shared : mods.space;
      step = spotOf(w, op, l, inBlock(to, 0, target), sharedSpace, bytes, !group, align, box, owner);
      if (step != Step::Next) {
        return step;
      }
      Plan plan;
      plan.reduce = mods.reduce;
      static const Type types[] = {Type::None, Type::None, Type::U32,  Type::S32, Type::U64,  Type::S64, Type::F16,
                                   Type::F32,  Type::F64,  Type::BF16, Type::F32, Type::None, Type::None};
      plan.type = types[fields.elementType];
      plan.fillBytes = element;
      if (fields.fill && tensorElementIsFloat(fields.elementType)) {
        plan.fill = plan.type == Type::F16    ? outOfBoundsF16
                    : plan.type == Type::BF16 ? outOfBoundsBF16
                    : element == 8            ? uint64_t(INT64_MAX)
                                              : 0x7FFFFFFF;
      }
      // Rows of the innermost dimension; a run ends where the swizzle or the tensor's edge does.
      uint64_t index[5] = {};
      uint64_t at = 0;
      const uint64_t base = box.offset + sharedStart;
      const unsigned stride0 = std::max<unsigned>(fields.elementStride[0], 1);
      while (at < bytes) {
        int64_t inner = start[0] + int64_t(index[0]) * stride0;
        bool inside = inner >= 0 && uint64_t(inner) < fields.globalDim[0];
        uint64_t address = fields.globalAddress + uint64_t(inner) * element;
        for (unsigned i = 1; i < rank; ++i) {
          int64_t c = start[i] + int64_t(index[i]) * std::max<unsigned>(fields.elementStride[i], 1);
          inside &= c >= 0 && uint64_t(c) < fields.globalDim[i];
          address += uint64_t(c) * fields.globalStride[i - 1];
        }
        uint64_t shared = swizzled(base + at, fields.swizzle) - sharedStart;
        Piece piece;
        Spot cell{box.pointer + (shared - box.offset), box.shadow, shared, true};
        Spot outside;
        piece.bytes = element;
        if (inside) {
          Block *none = nullptr;
          step = spotOf(w, op, l, address, Space::Global, element, group, 1, outside, none);
          if (step != Step::Next) {
            return step;
          }
        }
        if (group) {
          piece.to = outside;
          piece.from = cell;
        } else {
          piece.to = cell;
          piece.from = outside;
        }
        if (inside || !group) {
          // Neighbours in both join into one run.
          Piece *last = plan.pieces.empty() ? nullptr : &plan.pieces.back();
          if (last && last->to.pointer + last->bytes == piece.to.pointer &&
              (piece.from.pointer ? last->from.pointer && last->from.pointer + last->bytes == piece.from.pointer
                                  : !last->from.pointer)) {
            last->bytes += element;
          } else {
            plan.pieces.push_back(piece);
          }
        }
        at += element;
        for (unsigned i = 0; i < rank; ++i) {
          unsigned step1 = std::max<unsigned>(fields.elementStride[i], 1);
          if (++index[i] * step1 < fields.boxDim[i]) {
            break;
          }
          index[i] = 0;
        }
      }
      Block *barrierOwner = nullptr;
      uint32_t barrier = 0;
      Actor reader = w.actor + AgentBulkRead, writer = w.actor + AgentBulkWrite;
      unsigned agentLane = l;
      if (!group) {
        uint64_t addressOf = w.lane(op.c, l) + uint64_t(int64_t(int32_t(op.list2)));
        step = findMbarrier(w, op, l, inBlock(addressOf, 0, target),
                            mods.barrier == Space::None ? mods.space : mods.barrier, barrierOwner, barrier, true);
        if (step != Step::Next) {
          return step;
        }
        judgeCompletion(w, op, l, barrierOwner->mbarriers[barrier]);
        reader = writer = barrierOwner->mbarriers[barrier].agent;
        agentLane = allLanes;
      }
      const Time issued = group ? together : timeNow(w);
      judgePlan(w, op, l, issued, plan, reader, writer, agentLane);
      if (!group && owner != w.block) {
        noteCopy(w, op, l, owner, writer);
      }
      enqueue(w, op, l, issued, std::move(plan), bytes, barrierOwner, barrier, group);
    }
  }
  return Step::Next;
}

static Step bulkCommit(Warp &w, const Op &, uint32_t m) {
  for (unsigned l = 0; l < 32; ++l) {
    if (m >> l & 1) {
      ++w.bulkGroup[l];
      w.bulkTime[l][w.bulkGroup[l] % Warp::keptGroups] = 0;
    }
  }
  if (w.checks) {
    w.grid->memory->actors.tick();
  }
  return Step::Next;
}

static Step bulkWait(Warp &w, const Op &op, uint32_t m) {
  const bool readOnly = op.inst->mods.read;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    uint32_t open = w.bulkGroup[l];
    uint32_t before = open > uint32_t(op.imm) ? open - uint32_t(op.imm) : 0;
    if (w.bulkReads[l] && w.bulkReadGroup[l] < before) {
      w.bulkReads[l] = nullptr;
    }
    auto &work = w.block->work;
    for (size_t i = 0; i < work.size();) {
      if (work[i].kind == PendingWork::BulkGroup && work[i].warp == &w && work[i].lane == l && work[i].group < before) {
        PendingWork done = std::move(work[i]);
        work.erase(work.begin() + long(i));
        done.land();
      } else {
        ++i;
      }
    }
    if (w.checks) {
      for (uint32_t g = Warp::oldestGroup(open); g < before; ++g) {
        w.asyncKnown[AgentBulkRead][l] = std::max(w.asyncKnown[AgentBulkRead][l], w.bulkTime[l][g % Warp::keptGroups]);
        if (!readOnly) {
          w.asyncKnown[AgentBulkWrite][l] =
              std::max(w.asyncKnown[AgentBulkWrite][l], w.bulkTime[l][g % Warp::keptGroups]);
        }
      }
    }
  }
  if (w.checks) {
    w.grid->memory->actors.tick();
  }
  return Step::Next;
}

/// st.async and red.async: a few bytes to a block of the cluster, completing on an mbarrier there.
static Step storeAsync(Warp &w, const Op &op, uint32_t m) {
  const ptx::Modifiers &mods = op.inst->mods;
  const Ref *values = w.grid->code->refs.data() + op.list;
  const unsigned bytes = unsigned(op.size) * op.listCount;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    requireDefined(w, op, op.a, 1U << l, "an address");
    Piece piece;
    Block *owner = nullptr, *barrierOwner = nullptr;
    uint32_t barrier = 0;
    Step step =
        spotOf(w, op, l, w.lane(op.a, l) + uint64_t(op.imm),
               mods.space == Space::None ? Space::None : Space::SharedCluster, bytes, true, bytes, piece.to, owner);
    if (step != Step::Next) {
      return step;
    }
    step = findMbarrier(w, op, l, w.lane(op.c, l) + uint64_t(int64_t(int32_t(op.list2))),
                        mods.space == Space::None ? Space::None : Space::SharedCluster, barrierOwner, barrier, true);
    if (step != Step::Next) {
      return step;
    }
    Mbarrier &bar = barrierOwner->mbarriers[barrier];
    uint8_t data[32] = {};
    bool defined = true;
    for (unsigned e = 0; e < op.listCount; ++e) {
      uint64_t value = w.lane(values[e], l);
      std::memcpy(data + e * op.size, &value, op.size);
      defined &= !(w.undefined(values[e]) >> l & 1);
    }
    Time now = 0;
    if (w.checks) {
      now = w.grid->memory->actors.now();
      WarpJudge judge(w, op);
      judge.lane = l;
      judge.shared = true;
      Access access;
      access.time = now;
      access.actor = bar.agent;
      access.tag =
          Access::makeTag(allLanes, mods.reduce == Reduce::None ? AsyncAccess : AtomicAccess, ScopeCluster, op.site);
      piece.to.shadow->access(piece.to.offset, bytes, true, access, w.reach, judge);
      noteCopy(w, op, l, owner == w.block ? nullptr : owner, bar.agent);
      w.grid->memory->actors.tick();
    }
    PendingWork work;
    work.warp = &w;
    work.lane = l;
    const Op *instruction = &op;
    Actor agent = bar.agent;
    std::vector<uint8_t> copy(data, data + bytes);
    work.land = [piece, copy, instruction, barrierOwner, barrier, agent, now, defined] {
      const ptx::Modifiers &mods = instruction->inst->mods;
      if (mods.reduce == Reduce::None) {
        std::memcpy(piece.to.pointer, copy.data(), copy.size());
      } else {
        uint64_t a = 0, b = 0;
        std::memcpy(&a, piece.to.pointer, copy.size());
        std::memcpy(&b, copy.data(), copy.size());
        uint64_t r = combineValues(mods.reduce, instruction->inst->types[0], a, b, 0, false);
        std::memcpy(piece.to.pointer, &r, copy.size());
      }
      if (piece.to.shadow) {
        piece.to.shadow->setDefined(piece.to.offset, copy.size(), defined);
      }
      completeBytes(*barrierOwner, barrier, copy.size(), agent, now);
    };
    if (w.grid->options.timing == Timing::Early) {
      work.land();
    } else {
      w.block->work.push_back(std::move(work));
    }
  }
  return Step::Next;
}

bool selectBulk(Builder &b, const ptx::Instruction &inst, Op &op) {
  const ptx::Function &f = b.function;
  const ptx::Modifiers &mods = inst.mods;
  Op other;
  auto address = [&](unsigned i, Ref &base, int64_t &offset) {
    bool ok = b.address(f.operand(inst, i), base, other);
    offset = other.imm;
    return ok;
  };
  const bool group = mods.completion == Completion::BulkGroup;
  int64_t offset = 0;
  switch (inst.op) {
  case Opcode::CpAsyncBulk:
  case Opcode::CpReduceAsyncBulk: {
    if (!address(0, op.d, op.imm) || !address(1, op.a, offset)) {
      return b.fail("this kind of address is not supported");
    }
    op.target = uint32_t(offset);
    op.b = b.ref(inst, 2, 32);
    if (!group) {
      if (!address(3, op.c, offset)) {
        return b.fail("this kind of address is not supported");
      }
      op.list2 = uint32_t(offset);
      if (mods.multicast) {
        op.e = b.ref(inst, 4, 32);
      }
    }
    op.run = bulkCopy;
    return true;
  }
  case Opcode::CpAsyncBulkPrefetch:
    if (!address(0, op.a, offset)) {
      return b.fail("this kind of address is not supported");
    }
    op.target = uint32_t(offset);
    op.b = b.ref(inst, 1, 32);
    op.run = bulkPrefetch;
    return true;
  case Opcode::CpAsyncBulkTensor:
  case Opcode::CpReduceAsyncBulkTensor: {
    if (mods.mode != ptx::Mode::None && mods.mode != ptx::Mode::Tile) {
      return b.fail("only the tile mode of tensor copies is supported");
    }
    const ptx::Operand &tensor = f.operand(inst, group ? 0 : 1);
    const ptx::Operand &map = f.elements[tensor.index], &coordinates = f.elements[tensor.index + 1];
    if (map.base == ptx::Base::Parameter) {
      op.a = b.ref(map, 64);
      offset = 0;
    } else {
      if (!b.address(map, op.a, other)) {
        return b.fail("this kind of tensor map address is not supported");
      }
      offset = other.imm;
    }
    op.target = uint32_t(offset);
    b.list(coordinates, 32, op.list, op.listCount);
    if (!address(group ? 1 : 0, op.d, op.imm)) {
      return b.fail("this kind of address is not supported");
    }
    if (!group) {
      if (!address(2, op.c, offset)) {
        return b.fail("this kind of address is not supported");
      }
      op.list2 = uint32_t(offset);
      if (mods.multicast) {
        op.e = b.ref(inst, 3, 32);
      }
    }
    op.run = tensorCopy;
    return true;
  }
  case Opcode::CpAsyncBulkCommitGroup:
    op.run = bulkCommit;
    return true;
  case Opcode::CpAsyncBulkWaitGroup:
    op.imm = int64_t(f.operand(inst, 0).bits);
    op.run = bulkWait;
    return true;
  case Opcode::StAsync:
  case Opcode::RedAsync:
    if (!address(0, op.a, op.imm) || !address(2, op.c, offset)) {
      return b.fail("this kind of address is not supported");
    }
    op.list2 = uint32_t(offset);
    op.size = uint8_t(ptx::bytesOf(inst.types[0]));
    b.list(f.operand(inst, 1), op.size == 8 ? 64 : 32, op.list, op.listCount);
    op.run = storeAsync;
    return true;
  default:
    return false;
  }
}

} // namespace moert::emulator
