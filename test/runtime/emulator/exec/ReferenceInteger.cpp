//===- ReferenceInteger.cpp - Integer arithmetic and bits, once more -------===//
//
// PTX ISA 9.7.1 (integers), 9.7.2 (extended precision), 9.7.8 (logic and shifts)
// and the SIMD forms of 9.7.12, on integers of 128 bits. See Reference.h.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Reference.h"

#include <algorithm>

namespace moert::emulator::testing {

using ptx::Half;
using ptx::Instruction;
using ptx::Mode;
using ptx::Modifiers;
using ptx::Opcode;
using ptx::Type;
using Int = __int128;

uint64_t low(uint64_t bits, unsigned width) { return width >= 64 ? bits : bits & ((uint64_t(1) << width) - 1); }

Int valueOf(uint64_t bits, unsigned width, bool isSigned) {
  bits = low(bits, width);
  return isSigned && bits >> (width - 1) & 1 ? Int(bits) - (Int(1) << width) : Int(bits);
}

namespace {
Int clamped(Int v, unsigned width, bool isSigned) {
  const Int least = isSigned ? -(Int(1) << (width - 1)) : 0;
  const Int most = (Int(1) << (isSigned ? width - 1 : width)) - 1;
  return std::min(std::max(v, least), most);
}

bool isInteger(Type t) { return t >= Type::U8 && t <= Type::S64; }

/// The upper half of the product of two 64-bit numbers needs more than Int: u64 by u64 has 128 bits without a sign.
uint64_t highPart(Int a, Int b, unsigned width) {
  if (width < 64) {
    return static_cast<uint64_t>(a * b >> width);
  }
  const bool negative = (a < 0) != (b < 0);
  auto x = static_cast<unsigned __int128>(a < 0 ? -a : a), y = static_cast<unsigned __int128>(b < 0 ? -b : b);
  unsigned __int128 product = x * y;
  if (negative) {
    product = -product;
  }
  return static_cast<uint64_t>(product >> 64);
}
uint64_t lowPart(Int a, Int b) { return static_cast<uint64_t>(a) * static_cast<uint64_t>(b); }

/// min, max and add of two halves.
bool pairs(const Instruction &i, const Given &g, Wanted &w) {
  const bool isSigned = i.types[0] == Type::S16x2;
  for (unsigned half = 0; half < 2; ++half) {
    const Int a = valueOf(g.s[0] >> 16 * half, 16, isSigned), b = valueOf(g.s[1] >> 16 * half, 16, isSigned);
    Int r = i.op == Opcode::Add ? a + b : i.op == Opcode::Min ? std::min(a, b) : std::max(a, b);
    r = i.mods.relu ? std::max<Int>(r, 0) : r;
    w.d.push_back({16 * half, 16, Allowed::only(low(static_cast<uint64_t>(r), 16))});
  }
  return true;
}

/// Extended precision: one bit in, perhaps one bit out.
bool carried(const Instruction &i, const Given &g, Wanted &w) {
  const unsigned width = ptx::bitsOf(i.types[0]);
  const bool isSigned = ptx::isSigned(i.types[0]);
  const bool uses = i.op == Opcode::Addc || i.op == Opcode::Subc || i.op == Opcode::Madc;
  const bool subtracts = i.op == Opcode::Sub || i.op == Opcode::Subc;
  uint64_t x = low(g.s[0], width), y = low(g.s[1], width);
  if (i.op == Opcode::Mad || i.op == Opcode::Madc) {
    const Int a = valueOf(x, width, isSigned), b = valueOf(y, width, isSigned);
    x = low(i.mods.half == Half::Hi ? highPart(a, b, width) : lowPart(a, b), width);
    y = low(g.s[2], width);
  }
  const Int extra = uses && g.carry ? 1 : 0;
  const Int r = subtracts ? Int(x) - y - extra : Int(x) + y + extra;
  w.all(Allowed::only(low(static_cast<uint64_t>(r), width)));
  if (i.mods.cc) {
    w.carry = subtracts ? r < 0 : (r >> width & 1) != 0;
  }
  return true;
}

bool dotProduct(const Instruction &i, const Given &g, Wanted &w) {
  const bool signedA = ptx::isSigned(i.types[0]), signedB = ptx::isSigned(i.types[1]);
  Int r = valueOf(g.s[2], 32, signedA || signedB);
  if (i.op == Opcode::Dp4a) {
    for (unsigned k = 0; k < 4; ++k) {
      r += valueOf(g.s[0] >> 8 * k, 8, signedA) * valueOf(g.s[1] >> 8 * k, 8, signedB);
    }
  } else {
    for (unsigned k = 0; k < 2; ++k) {
      const unsigned byte = k + (i.mods.half == Half::Hi ? 2 : 0);
      r += valueOf(g.s[0] >> 16 * k, 16, signedA) * valueOf(g.s[1] >> 8 * byte, 8, signedB);
    }
  }
  w.all(Allowed::only(low(static_cast<uint64_t>(r), 32)));
  return true;
}

/// vadd4 and relatives: four bytes of each operand.
bool quads(const Instruction &i, const Given &g, Wanted &w) {
  const bool signedD = ptx::isSigned(i.types[0]), signedA = ptx::isSigned(i.types[1]),
             signedB = ptx::isSigned(i.types[2]);
  const bool accumulates = i.mods.reduce == ptx::Reduce::Add;
  Int total = valueOf(g.s[2], 32, signedD);
  for (unsigned k = 0; k < 4; ++k) {
    const Int a = valueOf(g.s[0] >> 8 * k, 8, signedA), b = valueOf(g.s[1] >> 8 * k, 8, signedB);
    Int r = i.op == Opcode::Vadd4   ? a + b
            : i.op == Opcode::Vsub4 ? a - b
            : i.op == Opcode::Vmin4 ? std::min(a, b)
            : i.op == Opcode::Vmax4 ? std::max(a, b)
                                    : (a > b ? a - b : b - a);
    r = i.mods.sat ? clamped(r, 8, signedD) : r;
    total += r;
    if (!accumulates) {
      w.d.push_back({8 * k, 8, Allowed::only(low(static_cast<uint64_t>(r), 8))});
    }
  }
  if (accumulates) {
    w.all(Allowed::only(low(static_cast<uint64_t>(total), 32)));
  }
  return true;
}
} // namespace

bool integerReference(const Instruction &i, const Given &g, Wanted &w) {
  const Type type = i.types[0];
  const Modifiers &mods = i.mods;
  switch (i.op) {
  case Opcode::Dp4a:
  case Opcode::Dp2a:
    return dotProduct(i, g, w);
  case Opcode::Vabsdiff4:
  case Opcode::Vadd4:
  case Opcode::Vsub4:
  case Opcode::Vmin4:
  case Opcode::Vmax4:
    return quads(i, g, w);
  case Opcode::Addc:
  case Opcode::Subc:
  case Opcode::Madc:
    return carried(i, g, w);
  default:
    break;
  }
  if (type == Type::U16x2 || type == Type::S16x2) {
    return pairs(i, g, w);
  }
  if (!isInteger(type)) {
    return false;
  }
  if (mods.cc) {
    return carried(i, g, w);
  }
  const unsigned width = ptx::bitsOf(type);
  const bool isSigned = ptx::isSigned(type);
  const Int a = valueOf(g.s[0], width, isSigned), b = valueOf(g.s[1], width, isSigned);
  const bool wide = mods.half == Half::Wide;
  const Int c = valueOf(g.s[2], wide ? 2 * width : width, isSigned);
  uint64_t r = 0;
  auto put = [&](Int v) { r = static_cast<uint64_t>(v); };
  switch (i.op) {
  case Opcode::Add:
    put(mods.sat ? clamped(a + b, width, isSigned) : a + b);
    break;
  case Opcode::Sub:
    put(mods.sat ? clamped(a - b, width, isSigned) : a - b);
    break;
  case Opcode::Mul:
    r = mods.half == Half::Hi ? highPart(a, b, width) : lowPart(a, b);
    break;
  case Opcode::Mad:
    if (mods.half == Half::Hi) {
      const uint64_t high = highPart(a, b, width);
      put(mods.sat ? clamped(valueOf(high, width, isSigned) + c, width, isSigned) : Int(high) + c);
    } else {
      r = lowPart(a, b) + static_cast<uint64_t>(c);
    }
    break;
  case Opcode::Mul24:
  case Opcode::Mad24: {
    const Int x = valueOf(g.s[0], 24, isSigned), y = valueOf(g.s[1], 24, isSigned);
    Int v = mods.half == Half::Hi ? x * y >> 16 : x * y;
    if (i.op == Opcode::Mad24) {
      v = valueOf(static_cast<uint64_t>(v), 32, isSigned) + c;
      v = mods.sat ? clamped(v, 32, isSigned) : v;
    }
    put(v);
    break;
  }
  case Opcode::Sad:
    put(c + (a > b ? a - b : b - a));
    break;
  case Opcode::Div:
  case Opcode::Rem:
    if (b == 0) { // "yields an unspecified, machine-specific value"
      w.all(Allowed::anything());
      return true;
    }
    put(i.op == Opcode::Div ? a / b : a % b);
    break;
  case Opcode::Abs:
    put(a < 0 ? -a : a);
    break;
  case Opcode::Neg:
    put(-a);
    break;
  case Opcode::Min:
    put(mods.relu ? std::max<Int>(std::min(a, b), 0) : std::min(a, b));
    break;
  case Opcode::Max:
    put(mods.relu ? std::max<Int>(std::max(a, b), 0) : std::max(a, b));
    break;
  default:
    return false;
  }
  w.all(Allowed::only(low(r, wide ? 2 * width : width)));
  return true;
}

namespace {
/// Byte `index` of the two words.
uint64_t byteOf(const Given &g, unsigned index) { return low((index < 4 ? g.s[0] : g.s[1]) >> 8 * (index & 3), 8); }

uint64_t permuted(const Instruction &i, const Given &g) {
  // The tables of prmt, most significant byte first.
  static const char *const tables[6][4] = {
      {"3210", "4321", "5432", "6543"}, // f4e
      {"5670", "6701", "7012", "0123"}, // b4e
      {"0000", "1111", "2222", "3333"}, // rc8
      {"3210", "3211", "3222", "3333"}, // ecl
      {"0000", "1110", "2210", "3210"}, // ecr
      {"1010", "3232", "1010", "3232"}, // rc16
  };
  uint64_t r = 0;
  for (unsigned k = 0; k < 4; ++k) {
    uint64_t byte;
    if (i.mods.mode == Mode::None) {
      const unsigned selector = g.s[2] >> 4 * k & 15;
      byte = byteOf(g, selector & 7);
      if (selector & 8) {
        byte = byte & 128 ? 255 : 0;
      }
    } else {
      const auto table = static_cast<unsigned>(i.mods.mode) - static_cast<unsigned>(Mode::F4e);
      byte = byteOf(g, static_cast<unsigned>(tables[table][g.s[2] & 3][3 - k] - '0'));
    }
    r |= byte << 8 * k;
  }
  return r;
}

uint64_t nthSet(uint64_t mask, uint64_t base, Int offset) {
  if (offset == 0) {
    return mask >> base & 1 ? base : 0xFFFFFFFF;
  }
  Int left = (offset < 0 ? -offset : offset) - 1;
  for (int at = static_cast<int>(base); at >= 0 && at < 32; at += offset > 0 ? 1 : -1) {
    if (mask >> at & 1) {
      if (left == 0) {
        return static_cast<uint64_t>(at);
      }
      --left;
    }
  }
  return 0xFFFFFFFF;
}
} // namespace

bool bitReference(const Instruction &i, const Given &g, Wanted &w) {
  const Type type = i.types[0];
  const Modifiers &mods = i.mods;
  if (type == Type::Pred) {
    const bool a = g.s[0] & 1, b = g.s[1] & 1;
    w.p = i.op == Opcode::And ? a && b : i.op == Opcode::Or ? a || b : i.op == Opcode::Xor ? a != b : !a;
    return i.op == Opcode::And || i.op == Opcode::Or || i.op == Opcode::Xor || i.op == Opcode::Not;
  }
  const unsigned width = ptx::bitsOf(type);
  const bool isSigned = ptx::isSigned(type);
  const uint64_t a = low(g.s[0], width), b = low(g.s[1], width), c = low(g.s[2], width);
  uint64_t r = 0;
  auto bit = [](uint64_t of, unsigned at) { return of >> at & 1; };
  switch (i.op) {
  case Opcode::And:
    r = a & b;
    break;
  case Opcode::Or:
    r = a | b;
    break;
  case Opcode::Xor:
    r = a ^ b;
    break;
  case Opcode::Not:
    r = ~a;
    break;
  case Opcode::Cnot:
    r = a == 0;
    break;
  case Opcode::Lop3:
    for (unsigned k = 0; k < 32; ++k) {
      r |= bit(g.s[3], static_cast<unsigned>(bit(a, k) * 4 + bit(b, k) * 2 + bit(c, k))) << k;
    }
    if (mods.boolOp != ptx::BoolOp::None) {
      w.p = mods.boolOp == ptx::BoolOp::And ? r != 0 && (g.s[4] & 1) : r != 0 || (g.s[4] & 1);
    }
    break;
  case Opcode::Shl:
    r = low(g.s[1], 32) >= width ? 0 : a << low(g.s[1], 32);
    break;
  case Opcode::Shr: {
    const auto by = static_cast<unsigned>(std::min<uint64_t>(low(g.s[1], 32), width));
    r = static_cast<uint64_t>(valueOf(a, width, isSigned) >> by);
    break;
  }
  case Opcode::Shf: {
    const auto by = static_cast<unsigned>(mods.wrap ? c & 31 : std::min<uint64_t>(c, 32));
    const uint64_t both = b << 32 | a;
    r = mods.mode == Mode::Left ? static_cast<uint64_t>(static_cast<unsigned __int128>(both) << by >> 32) : both >> by;
    r = low(r, 32);
    break;
  }
  case Opcode::Popc:
    for (unsigned k = 0; k < width; ++k) {
      r += bit(a, k);
    }
    break;
  case Opcode::Clz:
    while (r < width && !bit(a, width - 1 - static_cast<unsigned>(r))) {
      ++r;
    }
    break;
  case Opcode::Bfind: {
    const uint64_t x = isSigned && bit(a, width - 1) ? low(~a, width) : a;
    r = 0xFFFFFFFF;
    for (unsigned k = 0; k < width; ++k) {
      r = bit(x, k) ? (mods.shiftAmount ? width - 1 - k : k) : r;
    }
    break;
  }
  case Opcode::Brev:
    for (unsigned k = 0; k < width; ++k) {
      r |= bit(a, k) << (width - 1 - k);
    }
    break;
  case Opcode::Bfe: {
    const unsigned at = g.s[1] & 255, length = g.s[2] & 255, last = width - 1;
    const uint64_t fill = isSigned && length ? bit(a, std::min(at + length - 1, last)) : 0;
    for (unsigned k = 0; k < width; ++k) {
      r |= (k < length && at + k <= last ? bit(a, at + k) : fill) << k;
    }
    break;
  }
  case Opcode::Bfi: {
    const unsigned at = g.s[2] & 255, length = g.s[3] & 255;
    r = b;
    for (unsigned k = 0; k < length && at + k < width; ++k) {
      r = (r & ~(uint64_t(1) << (at + k))) | bit(a, k) << (at + k);
    }
    break;
  }
  case Opcode::Bmsk: {
    // From bit a, b bits long.
    const bool clamp = !mods.wrap;
    const uint64_t from = a & 31, length = b & 31;
    for (unsigned k = 0; k < 32; ++k) {
      const bool behind = k >= from && !(clamp && a >= 32);
      const bool before = from + length >= 32 || (clamp && (a >= 32 || b >= 32)) || k < from + length;
      r |= uint64_t(behind && before) << k;
    }
    break;
  }
  case Opcode::Szext: {
    const uint64_t n = low(g.s[1], 32);
    if (!mods.wrap && n >= 32) {
      r = a;
    } else {
      const auto bits = static_cast<unsigned>(n & 31);
      r = bits == 0 ? 0 : static_cast<uint64_t>(valueOf(a, bits, isSigned));
    }
    break;
  }
  case Opcode::Fns:
    if (b > 31) { // "undefined if base is outside of 0 to 31"
      w.all(Allowed::anything());
      return true;
    }
    r = nthSet(a, b, valueOf(g.s[2], 32, true));
    break;
  case Opcode::Prmt:
    r = permuted(i, g);
    break;
  default:
    return false;
  }
  const bool counts = i.op == Opcode::Popc || i.op == Opcode::Clz || i.op == Opcode::Bfind;
  w.all(Allowed::only(low(r, counts ? 32 : width)));
  return true;
}

} // namespace moert::emulator::testing
