//===- Compare.cpp - Comparison, selection and movement --------------------===//
//
// set, setp, selp, slct, mov (with packing and unpacking of vectors), alloca and
// the registers that change while a kernel runs (clocks). Clocks are virtual:
// they count the warp instructions of the grid.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Formats.h"
#include "runtime/emulator/exec/Lanes.h"

#include <cmath>

namespace moert::emulator {

using ptx::BoolOp;
using ptx::Cmp;
using ptx::Opcode;
using ptx::OperandKind;
using ptx::SpecialRegister;
using ptx::Type;

template <Cmp C, typename T> static inline bool holds(T a, T b) {
  const bool unordered = a != a || b != b;
  switch (C) {
  case Cmp::Eq:
    return a == b;
  case Cmp::Ne:
    return a != b && !unordered;
  case Cmp::Lt:
  case Cmp::Lo:
    return a < b;
  case Cmp::Le:
  case Cmp::Ls:
    return a <= b;
  case Cmp::Gt:
  case Cmp::Hi:
    return a > b;
  case Cmp::Ge:
  case Cmp::Hs:
    return a >= b;
  case Cmp::Equ:
    return a == b || unordered;
  case Cmp::Neu:
    return a != b || unordered;
  case Cmp::Ltu:
    return a < b || unordered;
  case Cmp::Leu:
    return a <= b || unordered;
  case Cmp::Gtu:
    return a > b || unordered;
  case Cmp::Geu:
    return a >= b || unordered;
  case Cmp::Num:
    return !unordered;
  case Cmp::Nan:
    return unordered;
  default:
    return false;
  }
}

template <Cmp C, typename T> static uint32_t compareLanes(Warp &w, const Op &op) {
  const auto *a = w.at<Stored<T>>(op.a);
  const auto *b = w.at<Stored<T>>(op.b);
  alignas(64) uint32_t bit[32];
  for (unsigned l = 0; l < 32; ++l) {
    bit[l] = uint32_t(holds<C, T>(fromStored<T>(a[l]), fromStored<T>(b[l]))) << l;
  }
  uint32_t r = 0;
  for (uint32_t x : bit) {
    r |= x;
  }
  return r;
}

using LaneCompare = uint32_t (*)(Warp &, const Op &);

template <typename T> static LaneCompare pickCompare(Cmp cmp) {
  switch (cmp) {
#define EMU_CASE(C)                                                                                                    \
  case Cmp::C:                                                                                                         \
    return compareLanes<Cmp::C, T>;
    EMU_CASE(Eq)
    EMU_CASE(Ne)
    EMU_CASE(Lt)
    EMU_CASE(Le)
    EMU_CASE(Gt)
    EMU_CASE(Ge)
    EMU_CASE(Lo)
    EMU_CASE(Ls)
    EMU_CASE(Hi)
    EMU_CASE(Hs)
    EMU_CASE(Equ)
    EMU_CASE(Neu)
    EMU_CASE(Ltu)
    EMU_CASE(Leu)
    EMU_CASE(Gtu)
    EMU_CASE(Geu)
    EMU_CASE(Num)
    EMU_CASE(Nan)
#undef EMU_CASE
  default:
    return nullptr;
  }
}

template <typename T> static bool orderedAs(Cmp cmp, T a, T b) {
  bool unordered = a != a || b != b;
  switch (cmp) {
  case Cmp::Eq:
    return a == b;
  case Cmp::Ne:
    return a != b && !unordered;
  case Cmp::Lt:
    return a < b;
  case Cmp::Le:
    return a <= b;
  case Cmp::Gt:
    return a > b;
  case Cmp::Ge:
    return a >= b;
  case Cmp::Equ:
    return a == b || unordered;
  case Cmp::Neu:
    return a != b || unordered;
  case Cmp::Ltu:
    return a < b || unordered;
  case Cmp::Leu:
    return a <= b || unordered;
  case Cmp::Gtu:
    return a > b || unordered;
  case Cmp::Geu:
    return a >= b || unordered;
  case Cmp::Num:
    return !unordered;
  case Cmp::Nan:
    return unordered;
  default:
    return false;
  }
}

/// Narrow floats; `shift` selects the half of a pair.
static uint32_t compareNarrow(Warp &w, const Op &op, Type type, Cmp cmp, unsigned shift) {
  bool brain = type == Type::BF16 || type == Type::BF16x2;
  const uint32_t *a = w.at<uint32_t>(op.a), *b = w.at<uint32_t>(op.b);
  bool ftz = op.inst->mods.ftz && !brain;
  auto value = [&](uint32_t h) {
    h = h >> shift & 0xFFFF;
    if (ftz && !(h & 0x7C00)) {
      h &= 0x8000;
    }
    return brain ? bf16ToFloat(h) : f16ToFloat(h);
  };
  uint32_t r = 0;
  for (unsigned l = 0; l < 32; ++l) {
    r |= uint32_t(orderedAs(cmp, value(a[l]), value(b[l]))) << l;
  }
  return r;
}

static uint32_t compareFlushed(Warp &w, const Op &op) {
  const uint32_t *a = w.at<uint32_t>(op.a), *b = w.at<uint32_t>(op.b);
  auto value = [](uint32_t v) { return floatOfBits(v & 0x7F800000 ? v : v & 0x80000000); };
  uint32_t r = 0;
  for (unsigned l = 0; l < 32; ++l) {
    r |= uint32_t(orderedAs(op.inst->mods.cmp, value(a[l]), value(b[l]))) << l;
  }
  return r;
}

static LaneCompare compareFor(Type type, const ptx::Modifiers &mods) {
  switch (type) {
  case Type::B16:
  case Type::U16:
    return pickCompare<uint16_t>(mods.cmp);
  case Type::S16:
    return pickCompare<int16_t>(mods.cmp);
  case Type::B32:
  case Type::U32:
    return pickCompare<uint32_t>(mods.cmp);
  case Type::S32:
    return pickCompare<int32_t>(mods.cmp);
  case Type::B64:
  case Type::U64:
    return pickCompare<uint64_t>(mods.cmp);
  case Type::S64:
    return pickCompare<int64_t>(mods.cmp);
  case Type::F32:
    return mods.ftz ? compareFlushed : pickCompare<float>(mods.cmp);
  case Type::F64:
    return pickCompare<double>(mods.cmp);
  case Type::F16:
  case Type::F16x2:
  case Type::BF16:
  case Type::BF16x2:
    return [](Warp &w, const Op &op) {
      const ptx::Instruction &inst = *op.inst;
      return compareNarrow(w, op, inst.op == Opcode::Set ? inst.types[1] : inst.types[0], inst.mods.cmp, 0);
    };
  default:
    return nullptr;
  }
}

static uint32_t combine(BoolOp op, uint32_t r, uint32_t c) {
  return op == BoolOp::And ? r & c : op == BoolOp::Or ? r | c : op == BoolOp::Xor ? r ^ c : r;
}

static LaneCompare compareOf(const Op &op) { return reinterpret_cast<LaneCompare>(op.imm); }

static Step setPredicate(Warp &w, const Op &op, uint32_t m) {
  uint32_t r = compareOf(op)(w, op);
  if (op.inst->mods.boolOp == BoolOp::None) {
    uint32_t &d = w.predicate(op.d);
    d = (d & ~m) | (r & m);
    if (op.d2.bits) {
      uint32_t &q = w.predicate(op.d2);
      q = (q & ~m) | (~r & m);
    }
    return Step::Next;
  }
  const BoolOp boolOp = op.inst->mods.boolOp;
  uint32_t c = w.predicateValue(op.c);
  uint32_t p = combine(boolOp, r, c), n = combine(boolOp, ~r, c);
  if (w.checks) {
    // As in and.pred and or.pred, a side that decides alone leaves nothing to the other.
    const uint32_t badR = w.undefined(op.a) | w.undefined(op.b), badC = w.undefined(op.c);
    auto undecided = [&](uint32_t result) {
      return boolOp == BoolOp::And  ? (badR | badC) & (badR | result) & (badC | c)
             : boolOp == BoolOp::Or ? (badR | badC) & (badR | ~result) & (badC | ~c)
                                    : badR | badC;
    };
    w.setUndefined(op.d, undecided(r), m);
    w.setUndefined(op.d2, undecided(~r), m);
    w.undef[0] = 0; // of a destination that is none
    w.undef[1] = 0;
  }
  uint32_t &d = w.predicate(op.d);
  d = (d & ~m) | (p & m);
  if (op.d2.bits) {
    uint32_t &q = w.predicate(op.d2);
    q = (q & ~m) | (n & m);
  }
  return Step::Next;
}

/// setp of packed pairs: p is the lower half's result, q the upper's.
static Step setPredicatePair(Warp &w, const Op &op, uint32_t m) {
  const ptx::Modifiers &mods = op.inst->mods;
  uint32_t c = op.c.bits ? w.predicateValue(op.c) : 0;
  for (unsigned half = 0; half < 2; ++half) {
    uint32_t r = combine(mods.boolOp, compareNarrow(w, op, op.inst->types[0], mods.cmp, half * 16), c);
    uint32_t &d = w.predicate(half ? op.d2 : op.d);
    d = (d & ~m) | (r & m);
  }
  return Step::Next;
}

static Step setValue(Warp &w, const Op &op, uint32_t m) {
  const Type to = op.inst->types[0], from = op.inst->types[1];
  const ptx::Modifiers &mods = op.inst->mods;
  uint32_t c = op.c.bits ? w.predicateValue(op.c) : 0;
  uint32_t *d = w.at<uint32_t>(op.d);
  if (from == Type::F16x2 || from == Type::BF16x2) {
    uint32_t low = combine(mods.boolOp, compareNarrow(w, op, from, mods.cmp, 0), c);
    uint32_t high = combine(mods.boolOp, compareNarrow(w, op, from, mods.cmp, 16), c);
    uint32_t one = to == Type::F16x2 ? 0x3C00 : to == Type::BF16x2 ? 0x3F80 : 0xFFFF;
    storeLanes(d, m, [&](unsigned l) { return (low >> l & 1 ? one : 0) | (high >> l & 1 ? one << 16 : 0); });
    return Step::Next;
  }
  uint32_t r = combine(mods.boolOp, compareOf(op)(w, op), c);
  uint32_t one = to == Type::F32         ? 0x3F800000
                 : to == Type::F16       ? 0x3C00
                 : to == Type::BF16      ? 0x3F80
                 : ptx::bitsOf(to) == 16 ? 0xFFFF
                                         : ~0U;
  storeLanes(d, m, [&](unsigned l) { return r >> l & 1 ? one : 0; });
  return Step::Next;
}

template <typename S> static Step select(Warp &w, const Op &op, uint32_t m) {
  const S *a = w.at<S>(op.a), *b = w.at<S>(op.b);
  uint32_t c = w.predicateValue(op.c);
  storeLanes(w.at<S>(op.d), m, [&](unsigned l) { return (c >> l & 1) ? a[l] : b[l]; });
  if (w.checks) {
    // Only the chosen side counts.
    uint32_t bad = (w.undefined(op.a) & c) | (w.undefined(op.b) & ~c) | w.undefined(op.c);
    w.setUndefined(op.d, bad, m);
  }
  return Step::Next;
}

template <typename S> static Step selectBySign(Warp &w, const Op &op, uint32_t m) {
  const S *a = w.at<S>(op.a), *b = w.at<S>(op.b);
  const uint32_t *c = w.at<uint32_t>(op.c);
  bool isFloat = op.inst->types[1] == Type::F32, ftz = op.inst->mods.ftz;
  storeLanes(w.at<S>(op.d), m, [&](unsigned l) {
    bool first = isFloat ? (ftz && !(c[l] & 0x7F800000) ? true : floatOfBits(c[l]) >= 0) : int32_t(c[l]) >= 0;
    return first ? a[l] : b[l];
  });
  return Step::Next;
}

bool selectCompare(Builder &b, const ptx::Instruction &inst, Op &op) {
  const ptx::Modifiers &mods = inst.mods;
  switch (inst.op) {
  case Opcode::Setp: {
    const Type type = inst.types[0];
    unsigned bits = storedBits(type);
    op.flags |= OpPure;
    op.d = b.ref(inst, 0, 1);
    const ptx::Operand &second = b.function.operand(inst, 1);
    if (second.kind != OperandKind::None && second.kind != OperandKind::Sink) {
      op.d2 = b.ref(second, 1);
    }
    op.a = b.ref(inst, 2, bits);
    op.b = b.ref(inst, 3, bits);
    op.c = mods.boolOp == BoolOp::None ? Ref() : b.ref(inst, 4, 1);
    if (type == Type::F16x2 || type == Type::BF16x2) {
      op.d2 = b.ref(second, 1);
      op.run = setPredicatePair;
      return true;
    }
    LaneCompare compare = compareFor(type, mods);
    op.imm = reinterpret_cast<int64_t>(compare);
    op.run = compare ? setPredicate : nullptr;
    if (mods.boolOp != BoolOp::None) {
      op.flags &= uint16_t(~OpPure);
    }
    return true;
  }
  case Opcode::Set: {
    unsigned bits = storedBits(inst.types[1]);
    plainOperands(b, inst, op, 2, 32, bits);
    op.c = mods.boolOp == BoolOp::None ? Ref() : b.ref(inst, 3, 1);
    LaneCompare compare = compareFor(inst.types[1], mods);
    op.imm = reinterpret_cast<int64_t>(compare);
    op.run = compare ? setValue : nullptr;
    return true;
  }
  case Opcode::Selp: {
    unsigned bits = storedBits(inst.types[0]);
    plainOperands(b, inst, op, 2, bits, bits);
    op.c = b.ref(inst, 3, 1);
    op.flags &= uint16_t(~OpPure);
    op.run = bits == 64 ? select<uint64_t> : select<uint32_t>;
    return true;
  }
  case Opcode::Slct: {
    unsigned bits = storedBits(inst.types[0]);
    plainOperands(b, inst, op, 2, bits, bits);
    op.c = b.ref(inst, 3, 32);
    op.run = bits == 64 ? selectBySign<uint64_t> : selectBySign<uint32_t>;
    return true;
  }
  default:
    return false;
  }
}

template <typename S> static Step move(Warp &w, const Op &op, uint32_t m) {
  const S *a = w.at<S>(op.a);
  storeLanes(w.at<S>(op.d), m, [&](unsigned l) { return a[l]; });
  return Step::Next;
}
static Step movePredicate(Warp &w, const Op &op, uint32_t m) {
  uint32_t a = w.predicateValue(op.a);
  uint32_t &d = w.predicate(op.d);
  d = (d & ~m) | (a & m);
  return Step::Next;
}

static Step moveWide(Warp &w, const Op &op, uint32_t m) {
  uint64_t *d = w.at<uint64_t>(op.d);
  const uint64_t *a = w.at<uint64_t>(op.a);
  for (unsigned l = 0; l < 32; ++l) {
    if (m >> l & 1) {
      d[l] = a[l];
      d[32 + l] = a[32 + l];
    }
  }
  return Step::Next;
}

/// Reads up to 128 bits of a register's lane.
static void readBits(Warp &w, const Ref &r, unsigned l, uint64_t out[2]) {
  out[1] = 0;
  if (r.bits == 128) {
    out[0] = w.at<uint64_t>(r)[l];
    out[1] = w.at<uint64_t>(r)[32 + l];
  } else {
    out[0] = w.lane(r, l);
  }
}
static void writeBits(Warp &w, const Ref &r, unsigned l, const uint64_t in[2]) {
  if (r.bits == 128) {
    w.at<uint64_t>(r)[l] = in[0];
    w.at<uint64_t>(r)[32 + l] = in[1];
  } else {
    w.setLane(r, l, in[0]);
  }
}

/// mov d, {a, b, ...}: the first is the least significant. `size`: bits of a part.
static Step packParts(Warp &w, const Op &op, uint32_t m) {
  const Ref *parts = w.grid->code->refs.data() + op.list;
  uint32_t bad = 0;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    uint64_t out[2] = {0, 0};
    for (unsigned i = 0; i < op.listCount; ++i) {
      uint64_t value = w.lane(parts[i], l);
      unsigned at = i * op.size;
      if (op.size < 64) {
        value &= (uint64_t(1) << op.size) - 1;
      }
      out[at / 64] |= value << at % 64;
    }
    writeBits(w, op.d, l, out);
  }
  for (unsigned i = 0; i < op.listCount; ++i) {
    bad |= w.undefined(parts[i]);
  }
  w.setUndefined(op.d, bad, m);
  return Step::Next;
}
static Step unpackParts(Warp &w, const Op &op, uint32_t m) {
  const Ref *parts = w.grid->code->refs.data() + op.list;
  uint32_t bad = w.undefined(op.a);
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    uint64_t in[2];
    readBits(w, op.a, l, in);
    for (unsigned i = 0; i < op.listCount; ++i) {
      unsigned at = i * op.size;
      uint64_t value = in[at / 64] >> at % 64;
      if (op.size < 64) {
        value &= (uint64_t(1) << op.size) - 1;
      }
      w.setLane(parts[i], l, value);
    }
  }
  for (unsigned i = 0; i < op.listCount; ++i) {
    w.setUndefined(parts[i], bad, m);
  }
  return Step::Next;
}

static Step moveLocal(Warp &w, const Op &op, uint32_t m) {
  for (unsigned l = 0; l < 32; ++l) {
    if (m >> l & 1) {
      w.setLane(op.d, l, w.frame->localBase + uint64_t(op.imm));
    }
  }
  return Step::Next;
}

static Step moveClock(Warp &w, const Op &op, uint32_t m) {
  uint64_t now = w.grid->virtualTime + w.instructions;
  uint64_t value = now;
  switch (SpecialRegister(op.imm)) {
  case SpecialRegister::ClockHi:
  case SpecialRegister::GlobaltimerHi:
    value = now >> 32;
    break;
  case SpecialRegister::CurrentGraphExec:
    value = 0;
    break;
  case SpecialRegister::ReservedSmemOffsetBegin:
  case SpecialRegister::ReservedSmemOffset0:
    value = sharedStart + w.grid->reservedAt;
    break;
  case SpecialRegister::ReservedSmemOffset1: // each of the two has half of it
    value = sharedStart + w.grid->reservedAt + reservedBytes / 2;
    break;
  case SpecialRegister::ReservedSmemOffsetEnd:
    value = sharedStart + w.grid->reservedAt + reservedBytes;
    break;
  case SpecialRegister::ReservedSmemOffsetCap:
    value = reservedBytes;
    break;
  default:
    break;
  }
  for (unsigned l = 0; l < 32; ++l) {
    if (m >> l & 1) {
      w.setLane(op.d, l, value);
    }
  }
  // A loop that waits for time to pass lets others run.
  w.yield = true;
  return Step::Next;
}

bool selectMove(Builder &b, const ptx::Instruction &inst, Op &op) {
  if (inst.op != Opcode::Mov) {
    return false;
  }
  const Type type = inst.types[0];
  const ptx::Operand &to = b.function.operand(inst, 0), &from = b.function.operand(inst, 1);
  unsigned bits = ptx::bitsOf(type);
  op.flags |= OpPure;
  if (to.kind == OperandKind::Vector || from.kind == OperandKind::Vector) {
    op.flags = 0;
    bool packs = from.kind == OperandKind::Vector;
    b.list(packs ? from : to, 64, op.list, op.listCount);
    (packs ? op.d : op.a) = b.ref(packs ? to : from, bits > 32 ? 64 : 32);
    op.size = uint8_t(bits / op.listCount);
    op.run = packs ? packParts : unpackParts;
    return true;
  }
  op.d = b.ref(to, storedBits(type));
  if (from.kind == OperandKind::Special) {
    auto special = SpecialRegister(from.index);
    switch (special) {
    case SpecialRegister::Clock:
    case SpecialRegister::ClockHi:
    case SpecialRegister::Clock64:
    case SpecialRegister::Globaltimer:
    case SpecialRegister::GlobaltimerLo:
    case SpecialRegister::GlobaltimerHi:
    case SpecialRegister::CurrentGraphExec:
    case SpecialRegister::ReservedSmemOffsetBegin:
    case SpecialRegister::ReservedSmemOffsetEnd:
    case SpecialRegister::ReservedSmemOffsetCap:
    case SpecialRegister::ReservedSmemOffset0:
    case SpecialRegister::ReservedSmemOffset1:
      op.imm = from.index;
      op.run = moveClock;
      b.code.reservedShared |=
          special >= SpecialRegister::ReservedSmemOffsetBegin && special <= SpecialRegister::ReservedSmemOffset1;
      return true;
    default:
      break;
    }
  }
  if ((from.kind == OperandKind::Symbol || from.kind == OperandKind::Address) && from.base == ptx::Base::Local &&
      b.function.locals[from.index].space == ptx::Space::Local) {
    op.imm = int64_t(b.function.locals[from.index].offset) + from.offset;
    op.run = moveLocal;
    return true;
  }
  if ((from.kind == OperandKind::Symbol || from.kind == OperandKind::Address) && from.base == ptx::Base::Parameter &&
      !b.function.isKernel) {
    b.out.parametersInLocal = true;
    op.imm = int64_t(b.out.parametersAt()) + int64_t(b.out.parameterOffsets[from.index]) + from.offset;
    op.run = moveLocal;
    return true;
  }
  op.a = b.ref(from, storedBits(type));
  if (type == Type::Pred) {
    op.run = movePredicate;
  } else if (bits == 128) {
    op.run = moveWide;
  } else {
    op.run = op.d.bits == 64 ? move<uint64_t> : move<uint32_t>;
    if (op.a.bits != op.d.bits && op.d.bits) {
      // A special register or symbol of another width.
      op.run = [](Warp &w, const Op &o, uint32_t m) {
        for (unsigned l = 0; l < 32; ++l) {
          if (m >> l & 1) {
            w.setLane(o.d, l, w.lane(o.a, l));
          }
        }
        return Step::Next;
      };
    }
  }
  return true;
}

} // namespace moert::emulator
