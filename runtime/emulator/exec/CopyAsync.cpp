//===- CopyAsync.cpp - cp.async and its groups -----------------------------===//
//
// A copy is remembered at issue and done when it lands: at once (early), when a
// wait forces it (late) or in between (random). The judgement does not depend on
// that: source and destination count as accessed by an agent of the lane from
// the issue on, and only a wait makes the agent known.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"
#include "runtime/emulator/exec/Lanes.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Opcode;
using ptx::Space;

static void landLane(PendingCopy &copy, unsigned l) {
  unsigned from = copy.sourceBytes[l];
  if (from) { // a source of size 0 may be anywhere, and is null here
    std::memcpy(copy.to[l], copy.from[l], from);
  }
  std::memset(copy.to[l] + from, 0, copy.bytes - from);
  if (copy.toShadow) {
    uint32_t bits = ~0U;
    if (copy.fromShadow[l] && from) {
      bits = copy.fromShadow[l]->definedBits(copy.fromOffset[l], from) | ~((1U << from) - 1);
    }
    copy.toShadow->setDefinedBits(copy.toOffset[l], copy.bytes, bits);
  }
  copy.mask &= ~(1U << l);
}

void landCopies(Warp &w, unsigned lane, uint32_t beforeGroup) {
  for (PendingCopy &copy : w.copies) {
    if ((copy.mask >> lane & 1) && copy.group[lane] < beforeGroup) {
      landLane(copy, lane);
    }
  }
  while (!w.copies.empty() && w.copies.front().mask == 0) {
    w.copies.pop_front();
  }
}

bool landSomeCopy(Warp &w) {
  size_t which = w.grid->options.timing == Timing::Random ? w.grid->random() % w.copies.size() : 0;
  PendingCopy &copy = w.copies[which];
  bool any = copy.mask != 0;
  for (unsigned l = 0; l < 32; ++l) {
    if (copy.mask >> l & 1) {
      landLane(copy, l);
    }
  }
  while (!w.copies.empty() && w.copies.front().mask == 0) {
    w.copies.pop_front();
  }
  return any;
}

static Step copyAsync(Warp &w, const Op &op, uint32_t m) {
  const unsigned bytes = op.size;
  Target to;
  Step step = resolve(w, op, m, op.a, op.imm, Space::Shared, bytes, true, to);
  if (step != Step::Next) {
    return step;
  }
  PendingCopy copy;
  copy.mask = m;
  copy.bytes = uint8_t(bytes);
  copy.toShadow = w.block->shadow.get();
  if (op.c.bits) {
    requireDefined(w, op, op.c, m, "how many bytes are copied");
  }
  WarpJudge judgeOf(w, op);
  Access now;
  now.time = w.grid->memory->actors.now();
  now.actor = w.actor + AgentCopy;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    uint64_t from = bytes;
    if (op.c.bits == 1) {
      from = w.predicateValue(op.c) >> l & 1 ? 0 : bytes;
    } else if (op.c.bits) {
      from = w.lane(op.c, l);
    }
    if (from > bytes) {
      return w.fault(FindingKind::Illegal, LaunchError::IllegalInstruction, op, l,
                     "source size " + std::to_string(from) + " of a cp.async of " + std::to_string(bytes) + " bytes");
    }
    copy.sourceBytes[l] = uint8_t(from);
    copy.to[l] = to.pointer[l];
    copy.toOffset[l] = to.offset[l];
    copy.group[l] = w.copyGroup[l];
    copy.from[l] = nullptr;
    copy.fromShadow[l] = nullptr;
    now.tag = Access::makeTag(l, AsyncAccess, ScopeCta, op.site);
    judgeOf.lane = l;
    // With nothing to read, the address may be anything.
    if (from) {
      uint8_t *pointer = nullptr;
      Shadow *shadow = nullptr;
      uint64_t offset = 0;
      Block *owner = nullptr;
      uint64_t address = w.lane(op.b, l) + uint64_t(int64_t(int32_t(op.target)));
      requireDefined(w, op, op.b, 1U << l, "an address");
      step = resolveOne(w, op, l, address, op.inst->mods.source == Space::Global ? Space::Global : Space::None, from,
                        false, bytes, pointer, shadow, offset, owner);
      if (step != Step::Next) {
        return step;
      }
      copy.from[l] = pointer;
      copy.fromShadow[l] = shadow;
      copy.fromOffset[l] = offset;
      if (shadow) {
        judgeOf.shared = owner != nullptr;
        shadow->access(offset, from, false, now, w.reach, judgeOf);
      }
    }
    if (copy.toShadow) {
      judgeOf.shared = true;
      copy.toShadow->access(to.offset[l], bytes, true, now, w.reach, judgeOf);
    }
    w.copyTime[l][w.copyGroup[l] % Warp::keptGroups] = now.time;
  }
  w.copies.push_back(copy);
  if (w.grid->options.timing == Timing::Early) {
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        landLane(w.copies.back(), l);
      }
    }
    w.copies.pop_back();
  }
  return Step::Next;
}

static Step commitGroup(Warp &w, const Op &, uint32_t m) {
  for (unsigned l = 0; l < 32; ++l) {
    if (m >> l & 1) {
      ++w.copyGroup[l];
      w.copyTime[l][w.copyGroup[l] % Warp::keptGroups] = 0;
    }
  }
  if (w.checks) {
    w.grid->memory->actors.tick();
  }
  return Step::Next;
}

static Step waitGroup(Warp &w, const Op &op, uint32_t m) {
  bool all = op.inst->op == Opcode::CpAsyncWaitAll;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    uint32_t open = w.copyGroup[l];
    uint32_t before = all ? open + 1 : open > uint32_t(op.imm) ? open - uint32_t(op.imm) : 0;
    landCopies(w, l, before);
    if (w.checks) {
      for (uint32_t g = Warp::oldestGroup(open); g < before; ++g) {
        w.asyncKnown[AgentCopy][l] = std::max(w.asyncKnown[AgentCopy][l], w.copyTime[l][g % Warp::keptGroups]);
      }
    }
  }
  if (w.checks) {
    // What is issued from here on is later than what is known.
    w.grid->memory->actors.tick();
  }
  return Step::Next;
}

bool selectCopy(Builder &b, const ptx::Instruction &inst, Op &op) {
  switch (inst.op) {
  case Opcode::CpAsync: {
    const ptx::Function &f = b.function;
    Op source;
    if (!b.address(f.operand(inst, 1), op.b, source) || !b.address(f.operand(inst, 0), op.a, op)) {
      return b.fail("this kind of address is not supported");
    }
    op.target = uint32_t(source.imm);
    op.size = uint8_t(f.operand(inst, 2).bits);
    if (inst.operandCount > 3 && f.operand(inst, 3).kind != ptx::OperandKind::None) {
      const ptx::Operand &last = f.operand(inst, 3);
      bool predicate = last.kind == ptx::OperandKind::Register && b.out.registers[last.index].bits == 1;
      bool policy = inst.mods.cacheHint && inst.operandCount == 4;
      if (!policy) {
        op.c = b.ref(last, predicate ? 1 : 32);
      }
    }
    op.run = copyAsync;
    return true;
  }
  case Opcode::CpAsyncCommitGroup:
    op.run = commitGroup;
    return true;
  case Opcode::CpAsyncWaitGroup:
    op.imm = int64_t(b.function.operand(inst, 0).bits);
    op.run = waitGroup;
    return true;
  case Opcode::CpAsyncWaitAll:
    op.run = waitGroup;
    return true;
  default:
    return false;
  }
}

} // namespace moert::emulator
