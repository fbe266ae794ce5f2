//===- Tensormap.cpp - Tensor maps that kernels make -----------------------===//
//
// tensormap.replace writes one field of a map in shared or global memory;
// tensormap.cp_fenceproxy copies a map from shared to global memory and releases
// it. What a field means is TensorMap.h's; the fence that a reader needs is
// judged where tensor copies read their map (Bulk.cpp).
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/TensorMap.h"
#include "runtime/emulator/exec/Access.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Mode;
using ptx::Opcode;
using ptx::Space;

constexpr uint64_t mapBytes = sizeof(TensorMapFields);

namespace {
/// Where a field lies in the map.
struct Field {
  size_t offset, bytes;
};
} // namespace

/// The field that `mode` names; `ordinal` of those that there are several of.
static Field fieldOf(Mode mode, unsigned ordinal) {
  switch (mode) {
  case Mode::GlobalAddress:
    return {offsetof(TensorMapFields, globalAddress), 8};
  case Mode::Rank:
    return {offsetof(TensorMapFields, rank), 1};
  case Mode::BoxDim:
    return {offsetof(TensorMapFields, boxDim) + size_t(ordinal) * 2, 2};
  case Mode::GlobalDim:
    return {offsetof(TensorMapFields, globalDim) + size_t(ordinal) * 8, 8};
  case Mode::GlobalStride:
    return {offsetof(TensorMapFields, globalStride) + size_t(ordinal) * 8, 8};
  case Mode::ElementStride:
    return {offsetof(TensorMapFields, elementStride) + ordinal, 1};
  case Mode::Elemtype:
    return {offsetof(TensorMapFields, elementType), 1};
  case Mode::InterleaveLayout:
    return {offsetof(TensorMapFields, interleave), 1};
  case Mode::SwizzleMode:
    return {offsetof(TensorMapFields, swizzle), 1};
  default:
    return {offsetof(TensorMapFields, fill), 1};
  }
}

/// Element types as tensormap.replace numbers them (PTX ISA, tensormap.replace), in the driver API's numbers: f32.ftz,
/// f64 and bf16 differ.
constexpr uint8_t driverTypes[] = {0, 1, 2, 3, 4, 5, 6, 7, 10, 8, 9, 11, 12};

/// How many values a field with an enumeration has; 0: it has none.
static uint64_t choicesOf(Mode mode) {
  switch (mode) {
  case Mode::Elemtype:
    return sizeof driverTypes; // those behind them are for later architectures
  case Mode::InterleaveLayout:
    return 3;
  case Mode::SwizzleMode:
    return 4;
  case Mode::FillMode:
    return 2;
  default:
    return 0;
  }
}

/// The map at the address of one lane, shown to the shadow as read or written. Failed after a report.
static Step mapAt(Warp &w, const Op &op, unsigned lane, uint64_t address, Space space, bool write, uint8_t *&pointer,
                  Shadow *&shadow, uint64_t &offset) {
  Block *owner = nullptr;
  Step step = resolveOne(w, op, lane, address, space, mapBytes, write, 128, pointer, shadow, offset, owner);
  if (step == Step::Next && shadow) {
    WarpJudge judge(w, op);
    judge.lane = lane;
    judge.shared = owner != nullptr;
    Access now;
    now.time = w.grid->memory->actors.now();
    now.actor = w.actor;
    now.tag = Access::makeTag(lane, Weak, ScopeSys, op.site);
    shadow->access(offset, mapBytes, write, now, w.reach, judge);
  }
  return step;
}

// a: the map; extra: the ordinal; b: the new value.
static Step replace(Warp &w, const Op &op, uint32_t m) {
  requireDefined(w, op, op.a, m, "the address of a tensor map");
  const Field field = fieldOf(op.inst->mods.mode, op.extra);
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    uint8_t *pointer = nullptr;
    Shadow *shadow = nullptr;
    uint64_t offset = 0;
    Step step = mapAt(w, op, l, w.lane(op.a, l) + uint64_t(op.imm), op.inst->mods.space, true, pointer, shadow, offset);
    if (step != Step::Next) {
      return step;
    }
    uint64_t value = w.lane(op.b, l);
    const uint64_t choices = choicesOf(op.inst->mods.mode);
    if ((field.bytes < 8 && value >> (8 * field.bytes)) || (choices && value >= choices)) {
      return w.fault(FindingKind::Illegal, LaunchError::IllegalInstruction, op, l,
                     "tensormap.replace writes " + std::to_string(value) + ", which no such field holds");
    }
    value = op.inst->mods.mode == Mode::Elemtype ? driverTypes[value] : value;
    std::memcpy(pointer + field.offset, &value, field.bytes);
    if (shadow) {
      shadow->setDefined(offset + field.offset, field.bytes, !(w.undefined(op.b) >> l & 1));
    }
  }
  ++w.grid->changes;
  return Step::Next;
}

// d: the map in global memory, a: that in shared memory.
static Step copyAndRelease(Warp &w, const Op &op, uint32_t m) {
  if (m != ~0U) {
    return w.fault(FindingKind::Divergence, LaunchError::IllegalInstruction, op, unsigned(__builtin_ctz(m)),
                   "tensormap.cp_fenceproxy is executed by a part of the warp");
  }
  requireDefined(w, op, op.a, m, "the address of a tensor map");
  requireDefined(w, op, op.d, m, "the address of a tensor map");
  uint8_t *from = nullptr, *to = nullptr;
  Shadow *fromShadow = nullptr, *toShadow = nullptr;
  uint64_t fromOffset = 0, toOffset = 0;
  Step step = mapAt(w, op, 0, w.lane(op.a, 0) + uint64_t(int64_t(int32_t(op.target))), Space::Shared, false, from,
                    fromShadow, fromOffset);
  if (step != Step::Next) {
    return step;
  }
  step = mapAt(w, op, 0, w.lane(op.d, 0) + uint64_t(op.imm), Space::Global, true, to, toShadow, toOffset);
  if (step != Step::Next) {
    return step;
  }
  std::memcpy(to, from, mapBytes);
  if (w.checks) {
    for (uint64_t i = 0; i < mapBytes && toShadow; ++i) {
      toShadow->setDefined(toOffset + i, 1, !fromShadow || fromShadow->definedBits(fromOffset + i, 1));
    }
    // The warp copies as one: what its lanes do next comes behind the copy.
    for (LaneClocks &lane : w.clocks) {
      lane.warp = std::max(lane.warp, w.grid->memory->actors.now());
    }
    w.fence(m, scopeOf(op.inst->mods.scope, ScopeSys), false);
  }
  ++w.grid->changes;
  return Step::Next;
}

bool selectTensormap(Builder &b, const ptx::Instruction &inst, Op &op) {
  const ptx::Function &f = b.function;
  if (inst.op == Opcode::TensormapCpFenceproxy) {
    Op source;
    op.flags = OpSync;
    if (!b.address(f.operand(inst, 1), op.a, source) || !b.address(f.operand(inst, 0), op.d, op)) {
      return b.fail("this kind of address is not supported");
    }
    op.target = uint32_t(source.imm);
    op.run = copyAndRelease;
    return true;
  }
  if (inst.op != Opcode::TensormapReplace) {
    return false;
  }
  unsigned value = 1;
  switch (inst.mods.mode) {
  case Mode::BoxDim:
  case Mode::GlobalDim:
  case Mode::ElementStride:
  case Mode::GlobalStride: {
    const uint64_t ordinal = f.operand(inst, 1).bits;
    const unsigned most = inst.mods.mode == Mode::GlobalStride ? 3 : 4;
    if (ordinal > most) {
      return b.fail("ordinal " + std::to_string(ordinal) + " of a tensor map is above " + std::to_string(most));
    }
    op.extra = uint8_t(ordinal);
    value = 2;
    break;
  }
  default:
    break;
  }
  op.b = b.ref(inst, value, ptx::bitsOf(inst.types[0]));
  op.run = replace;
  return b.address(f.operand(inst, 0), op.a, op) || b.fail("this kind of address is not supported");
}

} // namespace moert::emulator
