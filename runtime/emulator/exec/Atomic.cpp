//===- Atomic.cpp - atom and red -------------------------------------------===//
//
// Read-modify-writes of one lane after the other. Scopes matter to the judgement
// only: here each is indivisible for everybody. `combineValues` also serves the reductions of bulk copies.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"
#include "runtime/emulator/exec/Combine.h"
#include "runtime/emulator/exec/Formats.h"
#include "runtime/emulator/exec/Indivisible.h"
#include "runtime/emulator/exec/Lanes.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Opcode;
using ptx::Reduce;
using ptx::Type;

static float flushed(float v) { return std::fabs(v) < floatOfBits(0x00800000) ? std::copysign(0.0F, v) : v; }

static uint32_t combineNarrow(Reduce op, bool brain, uint32_t a, uint32_t b) {
  double x = brain ? bf16ToFloat(a) : f16ToFloat(a), y = brain ? bf16ToFloat(b) : f16ToFloat(b), r = 0;
  switch (op) {
  case Reduce::Add:
    r = fmaOdd(1.0, x, y);
    break;
  case Reduce::Min:
    r = x != x ? y : y != y ? x : x < y || (x == y && std::signbit(x)) ? x : y;
    break;
  case Reduce::Max:
    r = x != x ? y : y != y ? x : x > y || (x == y && std::signbit(y)) ? x : y;
    break;
  default:
    break;
  }
  return encode(r, brain ? formatBF16 : formatF16, ptx::Round::RN, false);
}

uint64_t combineValues(Reduce op, Type type, uint64_t a, uint64_t b, uint64_t c, bool flush) {
  switch (type) {
  case Type::F32: {
    if (op == Reduce::Exch) {
      return b;
    }
    float x = floatOfBits(uint32_t(a)), y = floatOfBits(uint32_t(b));
    if (flush) {
      x = flushed(x);
      y = flushed(y);
    }
    float r = x + y;
    r = r == r ? r : floatOfBits(0x7FFFFFFF);
    return bitsOfFloat(flush ? flushed(r) : r);
  }
  case Type::F64:
    return op == Reduce::Exch ? b : bitsOfDouble(doubleOfBits(a) + doubleOfBits(b));
  case Type::F16:
    return combineNarrow(op, false, a & 0xFFFF, b & 0xFFFF);
  case Type::BF16:
    return combineNarrow(op, true, a & 0xFFFF, b & 0xFFFF);
  case Type::F16x2:
  case Type::BF16x2:
    return combineNarrow(op, type == Type::BF16x2, a & 0xFFFF, b & 0xFFFF) |
           combineNarrow(op, type == Type::BF16x2, a >> 16 & 0xFFFF, b >> 16 & 0xFFFF) << 16;
  default:
    break;
  }
  const bool wide = ptx::bitsOf(type) == 64, isSigned = ptx::isSigned(type);
  auto less = [&](uint64_t x, uint64_t y) {
    if (isSigned) {
      return wide ? int64_t(x) < int64_t(y) : int32_t(x) < int32_t(y);
    }
    return wide ? x < y : uint32_t(x) < uint32_t(y);
  };
  switch (op) {
  case Reduce::Add:
    return a + b;
  case Reduce::Min:
    return less(b, a) ? b : a;
  case Reduce::Max:
    return less(a, b) ? b : a;
  case Reduce::And:
    return a & b;
  case Reduce::Or:
    return a | b;
  case Reduce::Xor:
    return a ^ b;
  case Reduce::Inc:
    return uint32_t(a) >= uint32_t(b) ? 0 : a + 1;
  case Reduce::Dec:
    return uint32_t(a) == 0 || uint32_t(a) > uint32_t(b) ? b : a - 1;
  case Reduce::Exch:
    return b;
  case Reduce::Cas: {
    unsigned bits = ptx::bitsOf(type);
    uint64_t mask = bits == 64 ? ~uint64_t(0) : (uint64_t(1) << bits) - 1;
    return (a & mask) == (b & mask) ? c : a;
  }
  default:
    return a;
  }
}

static Step atomic(Warp &w, const Op &op, uint32_t m) {
  const ptx::Instruction &inst = *op.inst;
  w.asked = true;
  Target t;
  const unsigned bytes = unsigned(op.size) * op.count;
  Step step = resolve(w, op, m, op.a, op.imm, inst.mods.space, bytes, true, t);
  if (step != Step::Next) {
    return step;
  }
  AccessMode mode = accessMode(inst.mods, true);
  if (w.checks) {
    if (inst.mods.reduce == Reduce::Cas) {
      noteGuesses(w, m, t);
    }
    judge(w, op, m, t, bytes, true, mode);
  }
  const Ref *to = w.grid->code->refs.data() + op.list, *from = w.grid->code->refs.data() + op.list2;
  const Type type = inst.types[0];
  uint32_t undefinedOld = 0;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    if (w.checks && t.where[l] != Target::Local) {
      readFlag(w, op, t, l, bytes, mode, true);
      writeFlag(w, op, t, l, bytes, mode, true);
    }
    const bool shared = w.grid->parallel() && t.where[l] == Target::Global; // with other host threads
    for (unsigned e = 0; e < op.count; ++e) {
      const Ref &d = op.count == 1 ? op.d : to[e];
      const Ref &s = op.count == 1 ? op.b : from[e];
      uint8_t *at = t.pointer[l] + size_t(e) * op.size;
      uint64_t old = 0;
      std::unique_lock<std::mutex> turn;
      if (shared) {
        turn = std::unique_lock<std::mutex>(lockOf(at));
      }
      if (op.size == 16) {
        const uint64_t low = loadAtomic(at, 8);
        const uint64_t high = loadAtomic(at + 8, 8);
        bool same = inst.mods.reduce == Reduce::Exch ||
                    (low == w.at<uint64_t>(op.b)[l] && high == w.at<uint64_t>(op.b)[32 + l]);
        const Ref &value = inst.mods.reduce == Reduce::Exch ? op.b : op.c;
        if (same) {
          storeAtomic(at, w.at<uint64_t>(value)[l], 8);
          storeAtomic(at + 8, w.at<uint64_t>(value)[32 + l], 8);
        }
        if (op.d.bits == 128) {
          w.at<uint64_t>(op.d)[l] = low;
          w.at<uint64_t>(op.d)[32 + l] = high;
        }
        continue;
      }
      if (shared) {
        old = loadAtomic(at, op.size);
      } else {
        std::memcpy(&old, at, op.size);
      }
      uint64_t made = combineValues(inst.mods.reduce, type, old, w.lane(s, l), op.c.bits ? w.lane(op.c, l) : 0,
                                    type == Type::F32 && t.where[l] == Target::Global);
      if (shared) {
        storeAtomic(at, made, op.size);
      } else {
        std::memcpy(at, &made, op.size);
      }
      if (inst.op == Opcode::Atom && d.bits) {
        w.setLane(d, l, old);
      }
    }
    if (w.checks && t.shadow[l]) {
      bool whole = t.shadow[l]->allDefined(t.offset[l], bytes);
      bool plain = inst.mods.reduce == Reduce::Exch;
      bool defined = (whole || plain) && !(w.undefined(op.b) >> l & 1);
      undefinedOld |= uint32_t(!whole) << l;
      t.shadow[l]->setDefined(t.offset[l], bytes, defined);
    }
  }
  if (w.checks) {
    for (unsigned e = 0; e < op.count && inst.op == Opcode::Atom; ++e) {
      w.setUndefined(op.count == 1 ? op.d : to[e], undefinedOld, m);
    }
    w.refreshReach();
  }
  ++w.grid->changes;
  w.yield = inst.mods.reduce == Reduce::Cas || inst.mods.reduce == Reduce::Exch; // perhaps a lock
  return Step::Next;
}

bool selectAtomic(Builder &b, const ptx::Instruction &inst, Op &op) {
  bool atom = inst.op == Opcode::Atom;
  if (!atom && inst.op != Opcode::Red) {
    return false;
  }
  const Type type = inst.types[0];
  unsigned bits = storedBits(type);
  bits = bits > 64 ? 64 : bits;
  op.size = uint8_t(ptx::bytesOf(type));
  op.count = inst.mods.vector;
  unsigned at = atom ? 1 : 0;
  if (op.count > 1) {
    if (atom) {
      b.list(b.function.operand(inst, 0), bits, op.list, op.listCount);
    }
    b.list(b.function.operand(inst, at + 1), bits, op.list2, op.list2Count);
    op.b = b.code.refs[op.list2];
  } else {
    if (atom) {
      op.d = b.ref(inst, 0, bits);
    }
    op.b = b.ref(inst, at + 1, bits);
    if (inst.mods.reduce == Reduce::Cas) {
      op.c = b.ref(inst, at + 2, bits);
    }
  }
  if (!b.address(b.function.operand(inst, at), op.a, op)) {
    return b.fail("this kind of address is not supported");
  }
  op.run = atomic;
  return true;
}

} // namespace moert::emulator
