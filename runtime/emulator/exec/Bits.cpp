//===- Bits.cpp - Logic, shifts and bit fields -----------------------------===//
//
// and to prmt. Shift amounts clamp at the width of the type; predicates are
// whole masks.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Lanes.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Mode;
using ptx::Opcode;
using ptx::Type;

#define LOGIC(NAME, EXPRESSION)                                                                                        \
  template <typename T> static Step NAME(Warp &w, const Op &op, uint32_t m) {                                          \
    return binary<T, T, T>(w, op, m, [](T a, T b) -> T { return T(EXPRESSION); });                                     \
  }                                                                                                                    \
  static Step NAME##Predicate(Warp &w, const Op &op, uint32_t m) {                                                     \
    uint32_t a = w.predicateValue(op.a), b = w.predicateValue(op.b);                                                   \
    uint32_t &d = w.predicate(op.d);                                                                                   \
    d = (d & ~m) | ((EXPRESSION) & m);                                                                                 \
    return Step::Next;                                                                                                 \
  }
LOGIC(bitAnd, a &b)
LOGIC(bitOr, a | b)
LOGIC(bitXor, a ^ b)
#undef LOGIC

/// Lanes in which `ref`, a predicate if T is bool, has no bit or (`ones`) all bits.
template <typename T> static uint32_t lanesWith(Warp &w, const Ref &ref, bool ones) {
  if constexpr (std::is_same_v<T, bool>) {
    return w.predicateValue(ref) ^ (ones ? 0 : ~0U);
  } else {
    const auto *values = w.at<Stored<T>>(ref);
    const T wanted = ones ? T(~T(0)) : T(0);
    uint32_t lanes = 0;
    for (unsigned l = 0; l < 32; ++l) {
      lanes |= uint32_t(fromStored<T>(values[l]) == wanted) << l;
    }
    return lanes;
  }
}

/// `run`, an and (or an or): an operand of zeros (ones) decides alone, whatever is undefined in the other one.
/// Compilers that flatten `i < n && x[i] < y` evaluate both sides.
template <typename T, bool ones, Handler run> static Step deciding(Warp &w, const Op &op, uint32_t m) {
  if (!w.checks) {
    return run(w, op, m);
  }
  const uint32_t badA = w.undefined(op.a), badB = w.undefined(op.b);
  uint32_t bad = badA | badB;
  if (bad) {
    bad &= (badA | ~lanesWith<T>(w, op.a, ones)) & (badB | ~lanesWith<T>(w, op.b, ones));
  }
  run(w, op, m);
  w.setUndefined(op.d, bad, m);
  return Step::Next;
}

template <typename T> static Step bitNot(Warp &w, const Op &op, uint32_t m) {
  return unary<T, T>(w, op, m, [](T a) { return T(~a); });
}
static Step notPredicate(Warp &w, const Op &op, uint32_t m) {
  uint32_t a = w.predicateValue(op.a);
  uint32_t &d = w.predicate(op.d);
  d = (d & ~m) | (~a & m);
  return Step::Next;
}
template <typename T> static Step cnot(Warp &w, const Op &op, uint32_t m) {
  return unary<T, T>(w, op, m, [](T a) { return T(a == 0); });
}

static Step lop3(Warp &w, const Op &op, uint32_t m) {
  auto table = unsigned(op.imm);
  const uint32_t *a = w.at<uint32_t>(op.a), *b = w.at<uint32_t>(op.b), *c = w.at<uint32_t>(op.c);
  alignas(64) uint32_t out[32] = {};
  // Table by table bit, so that lanes stay vectors.
  for (unsigned i = 0; i < 8; ++i) {
    if (table >> i & 1) {
      uint32_t na = i & 4 ? 0 : ~0U, nb = i & 2 ? 0 : ~0U, nc = i & 1 ? 0 : ~0U;
      for (unsigned l = 0; l < 32; ++l) {
        out[l] |= (a[l] ^ na) & (b[l] ^ nb) & (c[l] ^ nc);
      }
    }
  }
  if (op.d2.bits) {
    uint32_t p = w.predicateValue(op.e), result = 0;
    for (unsigned l = 0; l < 32; ++l) {
      result |= uint32_t(out[l] != 0) << l;
    }
    result = op.inst->mods.boolOp == ptx::BoolOp::Or ? result | p : result & p;
    uint32_t &d = w.predicate(op.d2);
    d = (d & ~m) | (result & m);
  }
  storeLanes(w.at<uint32_t>(op.d), m, [&](unsigned l) { return out[l]; });
  return Step::Next;
}

template <typename T> static Step shiftLeft(Warp &w, const Op &op, uint32_t m) {
  constexpr unsigned bits = sizeof(T) * 8;
  return binary<T, T, uint32_t>(w, op, m, [](T a, uint32_t n) { return n >= bits ? T(0) : T(Stored<T>(a) << n); });
}
template <typename T> static Step shiftRight(Warp &w, const Op &op, uint32_t m) {
  constexpr unsigned bits = sizeof(T) * 8;
  return binary<T, T, uint32_t>(w, op, m, [](T a, uint32_t n) {
    if (n >= bits) {
      return std::is_signed_v<T> ? T(a < 0 ? -1 : 0) : T(0);
    }
    return T(a >> n);
  });
}
static Step funnel(Warp &w, const Op &op, uint32_t m) {
  bool left = op.inst->mods.mode == Mode::Left, wrap = op.inst->mods.wrap;
  return ternary<uint32_t, uint32_t, uint32_t, uint32_t>(w, op, m, [&](uint32_t a, uint32_t b, uint32_t c) {
    uint64_t both = uint64_t(b) << 32 | a;
    uint32_t n = wrap ? c & 31 : std::min(c, 32U);
    return left ? uint32_t(both << n >> 32) : uint32_t(n == 32 ? both >> 32 : both >> n);
  });
}
template <typename T> static Step countOnes(Warp &w, const Op &op, uint32_t m) {
  return unary<uint32_t, T>(w, op, m, [](T a) { return uint32_t(__builtin_popcountll(a)); });
}
template <typename T> static Step leadingZeros(Warp &w, const Op &op, uint32_t m) {
  return unary<uint32_t, T>(w, op, m, [](T a) {
    return a == 0 ? uint32_t(sizeof(T) * 8) : uint32_t(__builtin_clzll(a)) - (64 - uint32_t(sizeof(T) * 8));
  });
}
template <typename T> static Step findBit(Warp &w, const Op &op, uint32_t m) {
  bool amount = op.inst->mods.shiftAmount;
  return unary<uint32_t, T>(w, op, m, [amount](T a) {
    using U = std::make_unsigned_t<T>;
    U v = std::is_signed_v<T> && a < 0 ? U(~U(a)) : U(a);
    if (v == 0) {
      return ~0U;
    }
    uint32_t position = 63 - uint32_t(__builtin_clzll(v));
    return amount ? uint32_t(sizeof(T) * 8 - 1) - position : position;
  });
}
template <typename T> static Step reverse(Warp &w, const Op &op, uint32_t m) {
  return unary<T, T>(w, op, m, [](T a) -> T {
    if constexpr (sizeof(T) == 8) {
      return __builtin_bitreverse64(a);
    } else {
      return __builtin_bitreverse32(a);
    }
  });
}
template <typename T> static Step extract(Warp &w, const Op &op, uint32_t m) {
  return ternary<T, T, uint32_t, uint32_t>(w, op, m, [](T a, uint32_t position, uint32_t length) -> T {
    constexpr int bits = sizeof(T) * 8;
    using U = std::make_unsigned_t<T>;
    unsigned p = position & 255, n = length & 255;
    bool sign = false;
    if (std::is_signed_v<T> && n != 0) {
      sign = U(a) >> std::min<unsigned>(p + n - 1, bits - 1) & 1;
    }
    U shifted = p >= unsigned(bits) ? 0 : U(U(a) >> p);
    if (n == 0) {
      return 0;
    }
    unsigned kept = std::min<unsigned>(n, p >= unsigned(bits) ? 0 : bits - p);
    U mask = kept >= unsigned(bits) ? U(~U(0)) : U((U(1) << kept) - 1);
    return T((shifted & mask) | (sign ? U(~mask) : U(0)));
  });
}
template <typename T> static Step insert(Warp &w, const Op &op, uint32_t m) {
  const T *a = w.at<T>(op.a), *b = w.at<T>(op.b);
  const uint32_t *c = w.at<uint32_t>(op.c), *e = w.at<uint32_t>(op.e);
  constexpr unsigned bits = sizeof(T) * 8;
  storeLanes(w.at<T>(op.d), m, [&](unsigned l) -> T {
    unsigned p = c[l] & 255, n = e[l] & 255;
    if (p >= bits || n == 0) {
      return b[l];
    }
    n = std::min(n, bits - p);
    T mask = T((n >= bits ? ~T(0) : (T(1) << n) - 1) << p);
    return T((b[l] & ~mask) | (T(a[l] << p) & mask));
  });
  return Step::Next;
}
static Step bitMask(Warp &w, const Op &op, uint32_t m) {
  bool wrap = op.inst->mods.wrap;
  return binary<uint32_t, uint32_t, uint32_t>(w, op, m, [wrap](uint32_t a, uint32_t b) -> uint32_t {
    uint32_t start = wrap ? a & 31 : std::min(a, 32U), width = wrap ? b & 31 : std::min(b, 32U);
    uint64_t mask = ((uint64_t(1) << width) - 1) << start;
    return uint32_t(mask);
  });
}
static Step signExtend(Warp &w, const Op &op, uint32_t m) {
  bool wrap = op.inst->mods.wrap, isSigned = op.inst->types[0] == Type::S32;
  return binary<uint32_t, uint32_t, uint32_t>(w, op, m, [&](uint32_t a, uint32_t b) -> uint32_t {
    uint32_t n = wrap ? b & 31 : std::min(b, 32U);
    if (n == 0) {
      return 0;
    }
    uint32_t value = n == 32 ? a : a & ((1U << n) - 1);
    return isSigned && n < 32 && (a >> (n - 1) & 1) ? value | ~((1U << n) - 1) : value;
  });
}
static Step findNth(Warp &w, const Op &op, uint32_t m) {
  return ternary<uint32_t, uint32_t, uint32_t, int32_t>(w, op, m, [](uint32_t mask, uint32_t base, int32_t offset) {
    base &= 31;
    if (offset == 0) {
      return mask >> base & 1 ? base : ~0U;
    }
    const int step = offset > 0 ? 1 : -1;
    int64_t left = offset > 0 ? offset : -int64_t(offset);
    for (int i = int(base); i >= 0 && i < 32; i += step) {
      if ((mask >> i & 1) && --left == 0) {
        return uint32_t(i);
      }
    }
    return ~0U;
  });
}
static Step permute(Warp &w, const Op &op, uint32_t m) {
  Mode mode = op.inst->mods.mode;
  return ternary<uint32_t, uint32_t, uint32_t, uint32_t>(w, op, m, [mode](uint32_t a, uint32_t b, uint32_t c) {
    uint64_t both = uint64_t(b) << 32 | a;
    uint32_t r = 0;
    for (unsigned i = 0; i < 4; ++i) {
      unsigned s = c & 3, pick = 0;
      switch (mode) {
      case Mode::F4e:
        pick = s + i;
        break;
      case Mode::B4e:
        pick = (s - i) & 7;
        break;
      case Mode::Rc8:
        pick = s;
        break;
      case Mode::Ecl:
        pick = std::max(s, i);
        break;
      case Mode::Ecr:
        pick = std::min(s, i);
        break;
      case Mode::Rc16:
        pick = (s & 1) * 2 + (i & 1);
        break;
      default:
        pick = c >> i * 4 & 15;
        break;
      }
      auto byte = uint8_t(both >> (pick & 7) * 8);
      if (pick & 8) {
        byte = byte & 0x80 ? 0xFF : 0;
      }
      r |= uint32_t(byte) << i * 8;
    }
    return r;
  });
}

static Step video4(Warp &w, const Op &op, uint32_t m) {
  const ptx::Instruction &inst = *op.inst;
  bool signedD = inst.types[0] == Type::S32, signedA = inst.types[1] == Type::S32, signedB = inst.types[2] == Type::S32;
  bool sum = inst.mods.reduce == ptx::Reduce::Add;
  return ternary<uint32_t, uint32_t, uint32_t, uint32_t>(w, op, m, [&](uint32_t a, uint32_t b, uint32_t c) {
    uint32_t r = sum ? c : 0;
    for (unsigned i = 0; i < 4; ++i) {
      int x = signedA ? int8_t(a >> i * 8) : uint8_t(a >> i * 8);
      int y = signedB ? int8_t(b >> i * 8) : uint8_t(b >> i * 8);
      int v = 0;
      switch (inst.op) {
      case Opcode::Vadd4:
        v = x + y;
        break;
      case Opcode::Vsub4:
        v = x - y;
        break;
      case Opcode::Vmin4:
        v = std::min(x, y);
        break;
      case Opcode::Vmax4:
        v = std::max(x, y);
        break;
      default:
        v = x < y ? y - x : x - y;
        break;
      }
      if (inst.mods.sat) {
        v = std::min(std::max(v, signedD ? -128 : 0), signedD ? 127 : 255);
      }
      if (sum) {
        r += uint32_t(v);
      } else {
        r |= uint32_t(uint8_t(v)) << i * 8;
      }
    }
    return r;
  });
}

bool selectBits(Builder &b, const ptx::Instruction &inst, Op &op) {
  const Type type = inst.types[0];
  const unsigned bits = storedBits(type);
  const bool wide = bits == 64, half = ptx::bitsOf(type) == 16, predicate = type == Type::Pred;
#define SIZES(NAME) (wide ? NAME<uint64_t> : half ? NAME<uint16_t> : NAME<uint32_t>)
#define DECIDING(NAME, ONES)                                                                                           \
  (wide   ? deciding<uint64_t, ONES, NAME<uint64_t>>                                                                   \
   : half ? deciding<uint16_t, ONES, NAME<uint16_t>>                                                                   \
          : deciding<uint32_t, ONES, NAME<uint32_t>>)
  switch (inst.op) {
  case Opcode::And:
    plainOperands(b, inst, op, 2, bits, bits);
    op.flags &= uint16_t(~OpPure);
    op.run = predicate ? deciding<bool, false, bitAndPredicate> : DECIDING(bitAnd, false);
    return true;
  case Opcode::Or:
    plainOperands(b, inst, op, 2, bits, bits);
    op.flags &= uint16_t(~OpPure);
    op.run = predicate ? deciding<bool, true, bitOrPredicate> : DECIDING(bitOr, true);
    return true;
  case Opcode::Xor:
    plainOperands(b, inst, op, 2, bits, bits);
    op.run = predicate ? bitXorPredicate : SIZES(bitXor);
    return true;
  case Opcode::Not:
    plainOperands(b, inst, op, 1, bits, bits);
    op.run = predicate ? notPredicate : SIZES(bitNot);
    return true;
  case Opcode::Cnot:
    plainOperands(b, inst, op, 1, bits, bits);
    op.run = SIZES(cnot);
    return true;
  case Opcode::Lop3: {
    op.flags |= OpPure;
    unsigned at = inst.mods.boolOp == ptx::BoolOp::None ? 1 : 2;
    op.d = b.ref(inst, 0, 32);
    if (at == 2) {
      op.d2 = b.ref(inst, 1, 1);
      op.e = b.ref(inst, 6, 1);
    }
    op.a = b.ref(inst, at, 32);
    op.b = b.ref(inst, at + 1, 32);
    op.c = b.ref(inst, at + 2, 32);
    op.imm = int64_t(b.function.operand(inst, at + 3).bits & 255);
    op.run = lop3;
    return true;
  }
  case Opcode::Shl:
  case Opcode::Shr: {
    plainOperands(b, inst, op, 1, bits, bits);
    op.b = b.ref(inst, 2, 32);
    bool isSigned = ptx::isSigned(type);
    op.run = inst.op == Opcode::Shl ? SIZES(shiftLeft)
             : isSigned             ? (wide   ? shiftRight<int64_t>
                                       : half ? shiftRight<int16_t>
                                              : shiftRight<int32_t>)
                                    : SIZES(shiftRight);
    return true;
  }
  case Opcode::Shf:
    plainOperands(b, inst, op, 3, 32, 32);
    op.run = funnel;
    return true;
  case Opcode::Popc:
    plainOperands(b, inst, op, 1, 32, bits);
    op.run = wide ? countOnes<uint64_t> : countOnes<uint32_t>;
    return true;
  case Opcode::Clz:
    plainOperands(b, inst, op, 1, 32, bits);
    op.run = wide ? leadingZeros<uint64_t> : leadingZeros<uint32_t>;
    return true;
  case Opcode::Bfind:
    plainOperands(b, inst, op, 1, 32, bits);
    op.run = type == Type::U32   ? findBit<uint32_t>
             : type == Type::S32 ? findBit<int32_t>
             : type == Type::U64 ? findBit<uint64_t>
                                 : findBit<int64_t>;
    return true;
  case Opcode::Brev:
    plainOperands(b, inst, op, 1, bits, bits);
    op.run = wide ? reverse<uint64_t> : reverse<uint32_t>;
    return true;
  case Opcode::Bfe:
    plainOperands(b, inst, op, 1, bits, bits);
    op.b = b.ref(inst, 2, 32);
    op.c = b.ref(inst, 3, 32);
    op.run = type == Type::U32   ? extract<uint32_t>
             : type == Type::S32 ? extract<int32_t>
             : type == Type::U64 ? extract<uint64_t>
                                 : extract<int64_t>;
    return true;
  case Opcode::Bfi:
    plainOperands(b, inst, op, 2, bits, bits);
    op.c = b.ref(inst, 3, 32);
    op.e = b.ref(inst, 4, 32);
    op.run = wide ? insert<uint64_t> : insert<uint32_t>;
    return true;
  case Opcode::Bmsk:
    plainOperands(b, inst, op, 2, 32, 32);
    op.run = bitMask;
    return true;
  case Opcode::Szext:
    plainOperands(b, inst, op, 2, 32, 32);
    op.run = signExtend;
    return true;
  case Opcode::Fns:
    plainOperands(b, inst, op, 3, 32, 32);
    op.run = findNth;
    return true;
  case Opcode::Prmt:
    plainOperands(b, inst, op, 3, 32, 32);
    op.run = permute;
    return true;
  case Opcode::Vadd4:
  case Opcode::Vsub4:
  case Opcode::Vmin4:
  case Opcode::Vmax4:
  case Opcode::Vabsdiff4:
    plainOperands(b, inst, op, 3, 32, 32);
    op.run = video4;
    return true;
  default:
    return false;
  }
#undef SIZES
#undef DECIDING
}

} // namespace moert::emulator
