//===- ReferenceConvert.cpp - Conversion and comparison, once more ---------===//
//
// PTX ISA 9.7.6 and 9.7.7 (set, setp, selp, slct), 9.7.9 (mov, cvt, cvt.pack):
// every conversion is an exact number, rounded once. See Reference.h.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Reference.h"

#include <algorithm>

namespace moert::emulator::testing {

using ptx::BoolOp;
using ptx::Cmp;
using ptx::Instruction;
using ptx::Modifiers;
using ptx::Opcode;
using ptx::Round;
using ptx::Type;

namespace {

bool isInteger(Type t) { return t >= Type::U8 && t <= Type::S64; }

/// An integer into a register of `bits`, extended as its type says.
Allowed extended(__int128 v, unsigned bits) { return Allowed::only(low(static_cast<uint64_t>(v), bits)); }

Number numberOfInteger(uint64_t bits, Type type) {
  const __int128 v = valueOf(bits, ptx::bitsOf(type), ptx::isSigned(type));
  return integer(v < 0, static_cast<uint64_t>(v < 0 ? -v : v));
}

/// Floating point to integer: rounded, clamped. NaN becomes 0, but where f64 or 64 bits take part the top bit.
__int128 integerOf(const Number &n, Type type, Type from, Round round) {
  const unsigned width = ptx::bitsOf(type);
  const bool isSigned = ptx::isSigned(type);
  const __int128 least = isSigned ? -(static_cast<__int128>(1) << (width - 1)) : 0;
  const __int128 most = (static_cast<__int128>(1) << (isSigned ? width - 1 : width)) - 1;
  if (n.kind == Number::NaN) {
    return from == Type::F64 || width == 64 ? (isSigned ? least : static_cast<__int128>(1) << (width - 1)) : 0;
  }
  const Number whole = toInteger(n, round);
  // Magnitudes have 64 bits at most, so that a shift by up to 60 is exact and anything beyond is out of every range.
  if (whole.kind == Number::Infinite || whole.exponent > 60) {
    return whole.zero() ? 0 : whole.negative ? least : most;
  }
  __int128 v = static_cast<__int128>(whole.magnitude << std::max(whole.exponent, 0));
  v = whole.negative ? -v : v;
  return std::min(std::max(v, least), most);
}

/// A number to a format, with .ftz, .sat, .relu and .satfinite.
Allowed toFormat(Number n, Type type, const Modifiers &mods) {
  if (type == Type::TF32) {
    Modifiers plain = mods;
    plain.ftz = false;
    if (n.kind == Number::NaN) {
      return Allowed::only(0x7FFFFFFF, 0xFFFFE000); // the lower bits of tf32 mean nothing
    }
    uint64_t r = rounded(n, layoutTF32, mods.round, mods.satfinite);
    r = mods.relu && r >> 18 & 1 ? 0 : r;
    return mods.relu && n.negative && r == 0 ? Allowed::only(0, 0x7FFFE000) : Allowed::only(r << 13, 0xFFFFE000);
  }
  if (mods.satfinite && n.kind != Number::NaN) {
    const Layout layout = layoutOf(type);
    uint64_t r = rounded(n, layout, mods.round, true);
    const uint64_t sign = uint64_t(1) << (layout.width() - 1);
    return mods.relu && (r & sign) ? Allowed::either(0, r == sign ? sign : 0) : Allowed::only(r);
  }
  if (mods.satfinite) {
    return Allowed::only((uint64_t(1) << (layoutOf(type).width() - 1)) - 1);
  }
  return finished(n, type, mods);
}

bool convert(const Instruction &i, const Given &g, Wanted &w) {
  const Type to = i.types[0], from = i.types[1];
  const Modifiers &mods = i.mods;
  const bool roundsToInteger = mods.round >= Round::RNI && mods.round <= Round::RPI;
  if (isInteger(to)) {
    __int128 v;
    if (isInteger(from)) {
      v = valueOf(g.s[0], ptx::bitsOf(from), ptx::isSigned(from));
      if (mods.sat) {
        const unsigned width = ptx::bitsOf(to);
        const bool isSigned = ptx::isSigned(to);
        v = std::max(v, isSigned ? -(static_cast<__int128>(1) << (width - 1)) : 0);
        v = std::min(v, (static_cast<__int128>(1) << (isSigned ? width - 1 : width)) - 1);
      } else {
        v = valueOf(static_cast<uint64_t>(v), ptx::bitsOf(to), ptx::isSigned(to));
      }
    } else {
      v = integerOf(operandOf(g.s[0], from, mods.ftz && from == Type::F32), to, from, mods.round);
    }
    w.all(extended(v, g.resultBits));
    return true;
  }
  if (isInteger(from)) {
    w.all(toFormat(numberOfInteger(g.s[0], from), to, mods));
    return true;
  }
  const unsigned toLanes = lanesOf(to), fromLanes = lanesOf(from), width = ptx::bitsOf(elementOf(to));
  if (toLanes == 2 && fromLanes == 1) { // the first operand is the upper half
    w.d.push_back({0, width, toFormat(operandOf(g.s[1], from, false), elementOf(to), mods)});
    w.d.push_back({width, width, toFormat(operandOf(g.s[0], from, false), elementOf(to), mods)});
    return true;
  }
  if (toLanes == 2) {
    for (unsigned k = 0; k < 2; ++k) {
      const unsigned bits = ptx::bitsOf(elementOf(from));
      w.d.push_back({width * k, width,
                     toFormat(operandOf(low(g.s[0] >> bits * k, bits), elementOf(from), false), elementOf(to), mods)});
    }
    return true;
  }
  Number n = operandOf(g.s[0], from, mods.ftz && from == Type::F32);
  const bool same = to == from;
  if (roundsToInteger) {
    n = toInteger(n, mods.round);
  }
  Modifiers plain = mods;
  plain.round = roundsToInteger ? Round::RN : mods.round;
  plain.ftz = mods.ftz && to == Type::F32;
  if (same && n.kind == Number::NaN && !mods.sat) {
    w.all(Allowed::nan(layoutOf(to)));
  } else if (n.kind == Number::NaN && !mods.sat && to == Type::F32) {
    w.all(Allowed::nan(layoutF32)); // a wider format may keep the NaN's bits
  } else {
    w.all(toFormat(n, to, plain));
  }
  return true;
}

/// `a` compared with `b` as the type says.
bool holds(Cmp cmp, Type type, uint64_t a, uint64_t b, bool ftz) {
  int order = 0;
  if (ptx::isFloat(type)) {
    const bool flush = ftz && type != Type::F64 && type != Type::BF16;
    order = compared(operandOf(a, type, flush), operandOf(b, type, flush));
  } else {
    const unsigned width = ptx::bitsOf(type);
    const __int128 x = valueOf(a, width, ptx::isSigned(type)), y = valueOf(b, width, ptx::isSigned(type));
    order = x < y ? -1 : x > y ? 1 : 0;
  }
  const bool unordered = order == 2;
  switch (cmp) {
  case Cmp::Eq:
    return order == 0;
  case Cmp::Ne:
    return !unordered && order != 0;
  case Cmp::Lt:
  case Cmp::Lo:
    return order == -1;
  case Cmp::Le:
  case Cmp::Ls:
    return order == -1 || order == 0;
  case Cmp::Gt:
  case Cmp::Hi:
    return order == 1;
  case Cmp::Ge:
  case Cmp::Hs:
    return order == 1 || order == 0;
  case Cmp::Equ:
    return unordered || order == 0;
  case Cmp::Neu:
    return order != 0;
  case Cmp::Ltu:
    return unordered || order == -1;
  case Cmp::Leu:
    return unordered || order <= 0;
  case Cmp::Gtu:
    return unordered || order == 1;
  case Cmp::Geu:
    return unordered || order >= 0;
  case Cmp::Num:
    return !unordered;
  default:
    return unordered;
  }
}

bool combined(BoolOp op, bool a, bool b) {
  return op == BoolOp::And ? a && b : op == BoolOp::Or ? a || b : op == BoolOp::Xor ? a != b : a;
}

bool set(const Instruction &i, const Given &g, Wanted &w) {
  const Type to = i.types[0], type = elementOf(i.types[1]);
  const unsigned lanes = lanesOf(i.types[1]), width = lanes == 2 ? 16 : ptx::bitsOf(type);
  const bool third = g.s[2] & 1;
  for (unsigned k = 0; k < lanes; ++k) {
    const bool is = combined(
        i.mods.boolOp, holds(i.mods.cmp, type, low(g.s[0] >> 16 * k, width), low(g.s[1] >> 16 * k, width), i.mods.ftz),
        third);
    const Type single = elementOf(to);
    // Truth is 1.0 in a floating-point destination, all ones in an integer one.
    const unsigned bits = lanes == 2 ? 16 : ptx::bitsOf(single);
    const uint64_t yes =
        ptx::isFloat(single) ? uint64_t(layoutOf(single).bias()) << layoutOf(single).mantissa : low(~uint64_t(0), bits);
    w.d.push_back({bits * k, bits, Allowed::only(is ? yes : 0)});
  }
  return true;
}

bool setp(const Instruction &i, const Given &g, Wanted &w) {
  const Type type = elementOf(i.types[0]);
  const bool pair = lanesOf(i.types[0]) == 2, third = g.s[2] & 1;
  const unsigned width = pair ? 16 : ptx::bitsOf(type);
  auto at = [&](unsigned k) {
    return holds(i.mods.cmp, type, low(g.s[0] >> 16 * k, width), low(g.s[1] >> 16 * k, width), i.mods.ftz);
  };
  w.p = combined(i.mods.boolOp, at(0), third);
  w.q = pair ? combined(i.mods.boolOp, at(1), third) : combined(i.mods.boolOp, !at(0), third);
  return true;
}

/// cvt.pack: a above b, and what c held above both.
bool pack(const Instruction &i, const Given &g, Wanted &w) {
  const unsigned width = ptx::bitsOf(i.types[0]);
  const bool isSigned = ptx::isSigned(i.types[0]);
  auto clamp = [&](uint64_t bits) {
    __int128 v = valueOf(bits, 32, true);
    v = std::max(v, isSigned ? -(static_cast<__int128>(1) << (width - 1)) : 0);
    v = std::min(v, (static_cast<__int128>(1) << (isSigned ? width - 1 : width)) - 1);
    return low(static_cast<uint64_t>(v), width);
  };
  const uint64_t both = clamp(g.s[0]) << width | clamp(g.s[1]);
  w.all(Allowed::only(low(width == 8 ? g.s[2] << 16 | both : both, 32)));
  return true;
}
} // namespace

bool convertReference(const Instruction &i, const Given &g, Wanted &w) {
  switch (i.op) {
  case Opcode::Cvt:
    return convert(i, g, w);
  case Opcode::CvtPack:
    return pack(i, g, w);
  case Opcode::Mov:
    if (i.types[0] == Type::Pred) {
      w.p = g.s[0] & 1;
    } else {
      w.all(Allowed::only(low(g.s[0], ptx::bitsOf(i.types[0]))));
    }
    return i.types[0] != Type::B128; // which has a test of its own
  default:
    return false;
  }
}

bool compareReference(const Instruction &i, const Given &g, Wanted &w) {
  const unsigned width = ptx::bitsOf(i.types[0]);
  switch (i.op) {
  case Opcode::Set:
    return set(i, g, w);
  case Opcode::Setp:
    return setp(i, g, w);
  case Opcode::Selp:
    w.all(Allowed::only(low(g.s[2] & 1 ? g.s[0] : g.s[1], width)));
    return true;
  case Opcode::Slct: {
    bool first = valueOf(g.s[2], 32, true) >= 0;
    if (i.types[1] == Type::F32) {
      const int order = compared(operandOf(g.s[2], Type::F32, i.mods.ftz), integer(false, 0));
      first = order == 0 || order == 1; // -0 is 0; NaN selects the second
    }
    w.all(Allowed::only(low(first ? g.s[0] : g.s[1], width)));
    return true;
  }
  default:
    return false;
  }
}

} // namespace moert::emulator::testing
