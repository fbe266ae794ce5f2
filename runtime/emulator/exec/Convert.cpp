//===- Convert.cpp - Conversions and address spaces ------------------------===//
//
// cvt between all types, cvt.pack, cvta, isspacep. Integers go through 64 bits,
// floats through double, so every pair of types is one exact step and one
// rounding; the pairs that kernels are full of have loops of their own.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Formats.h"
#include "runtime/emulator/exec/Lanes.h"

#include <algorithm>
#include <cmath>

namespace moert::emulator {

using ptx::Opcode;
using ptx::Round;
using ptx::Space;
using ptx::Type;

static double decodeFloat(uint64_t bits, Type type) {
  switch (type) {
  case Type::F16:
    return f16ToFloat(uint32_t(bits & 0xFFFF));
  case Type::BF16:
    return bf16ToFloat(uint32_t(bits & 0xFFFF));
  case Type::F64:
    return doubleOfBits(bits);
  default:
    return floatOfBits(uint32_t(bits));
  }
}

static uint64_t encodeFloat(double v, Type type, Round round, bool satfinite) {
  if (round == Round::None) {
    round = Round::RN;
  }
  switch (type) {
  case Type::F16:
    return encode(v, formatF16, round, satfinite);
  case Type::BF16:
    return encode(v, formatBF16, round, satfinite);
  case Type::TF32:
    return uint64_t(encode(v, formatTF32, round, satfinite)) << 13;
  case Type::F64:
    return bitsOfDouble(v);
  default: {
    uint32_t bits = encode(v, formatF32, round, satfinite);
    return bits;
  }
  }
}

static double roundToInteger(double v, Round round) {
  switch (round) {
  case Round::RNI:
    return std::nearbyint(v);
  case Round::RZI:
    return std::trunc(v);
  case Round::RMI:
    return std::floor(v);
  case Round::RPI:
    return std::ceil(v);
  default:
    return v;
  }
}

/// A 64-bit integer (signed when `isSigned`) rounded once to a float type.
static uint64_t integerToFloat(uint64_t bits, bool isSigned, Type type, Round round) {
  bool negative = isSigned && int64_t(bits) < 0;
  uint64_t magnitude = negative ? 0 - bits : bits;
  // Keep 50 bits and fold the rest into a sticky bit: a double holds that exactly, and rounding sees what matters.
  int shift = magnitude >> 51 ? 64 - 50 - __builtin_clzll(magnitude) : 0;
  uint64_t kept = magnitude >> shift;
  if (shift && (magnitude & ((uint64_t(1) << shift) - 1))) {
    kept |= 1;
  }
  double v = std::ldexp(double(kept), shift);
  v = negative ? -v : v;
  if (type == Type::F64) {
    // 64 bits do not fit 53: round by the mode.
    double nearest = negative ? -double(magnitude) : double(magnitude);
    if (round == Round::RN || round == Round::None || magnitude < (uint64_t(1) << 53)) {
      return bitsOfDouble(nearest);
    }
    auto exact = static_cast<__int128>(negative ? -static_cast<__int128>(magnitude) : static_cast<__int128>(magnitude));
    auto back = static_cast<__int128>(nearest);
    bool down = round == Round::RM || (round == Round::RZ && !negative);
    if (down && back > exact) {
      nearest = std::nextafter(nearest, -HUGE_VAL);
    } else if (!down && back < exact) {
      nearest = std::nextafter(nearest, HUGE_VAL);
    }
    return bitsOfDouble(nearest);
  }
  return encodeFloat(v, type, round, false);
}

static bool isFloatType(Type t) {
  return t == Type::F16 || t == Type::BF16 || t == Type::F32 || t == Type::F64 || t == Type::TF32;
}

static uint64_t convertOne(uint64_t bits, Type from, Type to, const ptx::Modifiers &mods) {
  const unsigned fromBits = ptx::bitsOf(from), toBits = ptx::bitsOf(to);
  if (!isFloatType(from)) {
    bool isSigned = ptx::isSigned(from);
    if (fromBits < 64) {
      bits = isSigned ? uint64_t(int64_t(bits << (64 - fromBits)) >> (64 - fromBits))
                      : bits & ((uint64_t(1) << fromBits) - 1);
    }
    if (isFloatType(to)) {
      uint64_t r = integerToFloat(bits, isSigned, to, mods.round);
      if (mods.sat) {
        double v = decodeFloat(r, to);
        r = encodeFloat(v >= 0 ? std::min(v, 1.0) : 0.0, to, Round::RN, false);
      }
      return r;
    }
    if (mods.sat) {
      bool toSigned = ptx::isSigned(to);
      if (toSigned) {
        int64_t most = int64_t((uint64_t(1) << (toBits - 1)) - 1), least = -most - 1;
        if (!isSigned && bits > uint64_t(most)) {
          return uint64_t(most);
        }
        return uint64_t(std::min(std::max(int64_t(bits), least), most));
      }
      uint64_t most = toBits == 64 ? ~uint64_t(0) : (uint64_t(1) << toBits) - 1;
      if (isSigned && int64_t(bits) < 0) {
        return 0;
      }
      return std::min(bits, most);
    }
    return bits;
  }
  double v = decodeFloat(bits, from);
  if (mods.ftz && from == Type::F32 && std::fabs(v) < 0x1p-126) {
    v = std::copysign(0.0, v);
  }
  if (isFloatType(to)) {
    if (mods.relu && v == v) {
      v = v > 0 ? v : 0.0;
    }
    if (mods.round >= Round::RNI && mods.round <= Round::RPI) {
      v = roundToInteger(v, mods.round);
    }
    if (mods.sat) {
      v = v >= 0 ? std::min(v, 1.0) : 0.0;
    }
    uint64_t r = encodeFloat(v, to, mods.round, mods.satfinite);
    if (to == Type::F32) {
      if (v != v) {
        return 0x7FFFFFFF;
      }
      if (mods.ftz && (r & 0x7F800000) == 0) {
        r &= 0x80000000;
      }
    }
    if (from == to && to == Type::F64) {
      return bitsOfDouble(v);
    }
    return r;
  }
  // To an integer: out of range clamps, NaN is 0, but the top bit alone where f64, s64 or u64 takes part.
  v = roundToInteger(v, mods.round);
  bool toSigned = ptx::isSigned(to);
  if (v != v) {
    const bool top = toBits == 64 || from == Type::F64;
    return top ? (toSigned ? ~uint64_t(0) : uint64_t(1)) << (toBits - 1) : 0;
  }
  if (toSigned) {
    double bound = std::ldexp(1.0, int(toBits) - 1);
    if (v >= bound) {
      return (uint64_t(1) << (toBits - 1)) - 1;
    }
    if (v < -bound) {
      return uint64_t(-1) << (toBits - 1);
    }
    return uint64_t(int64_t(v));
  }
  if (v <= 0) {
    return 0;
  }
  if (v >= std::ldexp(1.0, int(toBits))) {
    return toBits == 64 ? ~uint64_t(0) : (uint64_t(1) << toBits) - 1;
  }
  return uint64_t(v);
}

/// Any pair, lane by lane. The destination register may be wider: it is sign- or zero-extended.
static Step convert(Warp &w, const Op &op, uint32_t m) {
  const Type to = op.inst->types[0], from = op.inst->types[1];
  const unsigned toBits = ptx::bitsOf(to);
  const bool extendSign = ptx::isSigned(to);
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    uint64_t r = convertOne(w.lane(op.a, l), from, to, op.inst->mods);
    if (toBits < 64) {
      r = extendSign ? uint64_t(int64_t(r << (64 - toBits)) >> (64 - toBits)) : r & ((uint64_t(1) << toBits) - 1);
    }
    if (op.d.width < 64) {
      r &= (uint64_t(1) << op.d.width) - 1;
    }
    w.setLane(op.d, l, r);
  }
  return Step::Next;
}

/// The two-source forms: d = {a in the upper half, b in the lower}.
static Step convertPair(Warp &w, const Op &op, uint32_t m) {
  const ptx::Modifiers &mods = op.inst->mods;
  const Type to = op.inst->types[0], from = op.inst->types[1];
  auto one = [&](double v) -> uint32_t {
    if (mods.relu && v == v) {
      v = v > 0 ? v : 0.0;
    }
    switch (to) {
    case Type::F16x2:
      return encode(v, formatF16, mods.round, mods.satfinite);
    case Type::BF16x2:
      return encode(v, formatBF16, mods.round, mods.satfinite);
    case Type::E4M3x2:
      return encode(v, formatE4M3, Round::RN, true);
    default:
      return encode(v, formatE5M2, Round::RN, true);
    }
  };
  const uint32_t *a = w.at<uint32_t>(op.a), *b = op.b.bits ? w.at<uint32_t>(op.b) : a;
  const bool eight = to == Type::E4M3x2 || to == Type::E5M2x2;
  storeLanes(w.at<uint32_t>(op.d), m, [&](unsigned l) -> uint32_t {
    if (from == Type::E4M3x2 || from == Type::E5M2x2) {
      const Format &f = from == Type::E4M3x2 ? formatE4M3 : formatE5M2;
      return one(decode(a[l] & 255, f)) | one(decode(a[l] >> 8 & 255, f)) << 16;
    }
    double high = from == Type::F16x2 ? f16ToFloat(a[l] >> 16) : floatOfBits(a[l]);
    double low = from == Type::F16x2 ? f16ToFloat(a[l] & 0xFFFF) : floatOfBits(b[l]);
    return one(low) | one(high) << (eight ? 8 : 16);
  });
  return Step::Next;
}

static Step floatToBrainPair(Warp &w, const Op &op, uint32_t m) {
  const uint32_t *a = w.at<uint32_t>(op.a), *b = w.at<uint32_t>(op.b);
  storeLanes(w.at<uint32_t>(op.d), m,
             [&](unsigned l) { return floatToBf16(floatOfBits(b[l])) | floatToBf16(floatOfBits(a[l])) << 16; });
  return Step::Next;
}
static Step floatToBrain(Warp &w, const Op &op, uint32_t m) {
  const uint32_t *a = w.at<uint32_t>(op.a);
  storeLanes(w.at<uint32_t>(op.d), m, [&](unsigned l) { return floatToBf16(floatOfBits(a[l])); });
  return Step::Next;
}
static Step halfToFloat(Warp &w, const Op &op, uint32_t m) {
  const uint32_t *a = w.at<uint32_t>(op.a);
  storeLanes(w.at<uint32_t>(op.d), m, [&](unsigned l) {
    float v = f16ToFloat(a[l]);
    return v == v ? bitsOfFloat(v) : 0x7FFFFFFFU;
  });
  return Step::Next;
}
static Step s32ToFloat(Warp &w, const Op &op, uint32_t m) {
  return unary<float, int32_t>(w, op, m, [](int32_t a) { return float(a); });
}
template <typename To, typename From> static Step plainCast(Warp &w, const Op &op, uint32_t m) {
  return unary<To, From>(w, op, m, [](From a) { return To(a); });
}

static Step pack(Warp &w, const Op &op, uint32_t m) {
  Type to = op.inst->types[0];
  unsigned bits = ptx::bitsOf(to);
  auto clamp = [&](uint32_t v) -> uint32_t {
    auto x = int64_t(int32_t(v));
    int64_t least = ptx::isSigned(to) ? -(int64_t(1) << (bits - 1)) : 0;
    int64_t most = ptx::isSigned(to) ? (int64_t(1) << (bits - 1)) - 1 : (int64_t(1) << bits) - 1;
    return uint32_t(std::min(std::max(x, least), most)) & ((1U << bits) - 1);
  };
  const uint32_t *a = w.at<uint32_t>(op.a), *b = w.at<uint32_t>(op.b);
  const uint32_t *c = op.c.bits ? w.at<uint32_t>(op.c) : nullptr;
  storeLanes(w.at<uint32_t>(op.d), m, [&](unsigned l) {
    uint32_t r = clamp(a[l]) << bits | clamp(b[l]);
    return bits == 8 && c ? r | c[l] << 16 : r;
  });
  return Step::Next;
}

/// Adds or subtracts the window of a space; global, const and param addresses are generic already.
static Step addressSpace(Warp &w, const Op &op, uint32_t m) {
  Space space = op.inst->mods.space;
  uint64_t window = space == Space::Shared || space == Space::SharedCluster ? w.grid->memory->sharedWindow()
                    : space == Space::Local                                 ? w.grid->memory->localWindow()
                                                                            : 0;
  uint64_t add = op.inst->mods.to ? 0 - window : window;
  for (unsigned l = 0; l < 32; ++l) {
    if (m >> l & 1) {
      uint64_t address = w.lane(op.a, l);
      w.setLane(op.d, l, address == 0 && window == 0 ? 0 : address + add);
    }
  }
  return Step::Next;
}

static Step isSpace(Warp &w, const Op &op, uint32_t m) {
  Space space = op.inst->mods.space;
  const DeviceMemory &memory = *w.grid->memory;
  uint32_t r = 0;
  for (unsigned l = 0; l < 32; ++l) {
    uint64_t address = w.lane(op.a, l);
    bool inShared = address - memory.sharedWindow() < (uint64_t(1) << 32);
    bool inLocal = address - memory.localWindow() < (uint64_t(1) << 32);
    uint64_t rank = (address - memory.sharedWindow()) >> rankShift;
    bool is = false;
    switch (space) {
    case Space::Shared:
      is = inShared && (rank == 0 || rank == w.block->rank + 1);
      break;
    case Space::SharedCluster:
      is = inShared;
      break;
    case Space::Local:
      is = inLocal;
      break;
    case Space::Param: {
      const Allocation *found = memory.find(address);
      is = w.grid->parameterAddress && found && found->base == w.grid->parameterAddress;
      break;
    }
    case Space::Const: {
      const Allocation *found = memory.find(address);
      is = found && found->readOnly && found->base != w.grid->parameterAddress;
      break;
    }
    default:
      is = !inShared && !inLocal;
      break;
    }
    r |= uint32_t(is) << l;
  }
  uint32_t &d = w.predicate(op.d);
  d = (d & ~m) | (r & m);
  return Step::Next;
}

// Arithmetic: compilers hoist it out of the condition that guards the access. A block that is not there becomes one
// that no cluster has, so that the access is what faults.
static Step mapShared(Warp &w, const Op &op, uint32_t m) {
  bool generic = op.inst->mods.space != Space::SharedCluster;
  uint64_t window = generic ? w.grid->memory->sharedWindow() : 0;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    constexpr uint64_t highest = (uint64_t(1) << (32 - rankShift)) - 2;
    uint64_t rank = std::min(w.lane(op.b, l), highest);
    uint64_t offset = (w.lane(op.a, l) - window) & ((1U << rankShift) - 1);
    w.setLane(op.d, l, window + ((rank + 1) << rankShift) + offset);
  }
  return Step::Next;
}

static Step clusterRank(Warp &w, const Op &op, uint32_t m) {
  bool generic = op.inst->mods.space != Space::SharedCluster;
  uint64_t window = generic ? w.grid->memory->sharedWindow() : 0;
  for (unsigned l = 0; l < 32; ++l) {
    if (m >> l & 1) {
      uint64_t rank = (w.lane(op.a, l) - window) >> rankShift;
      w.setLane(op.d, l, rank == 0 ? w.block->rank : rank - 1);
    }
  }
  return Step::Next;
}

bool selectConvert(Builder &b, const ptx::Instruction &inst, Op &op) {
  const Type to = inst.types[0], from = inst.types[1];
  const ptx::Modifiers &mods = inst.mods;
  switch (inst.op) {
  case Opcode::Cvt: {
    plainOperands(b, inst, op, 1, storedBits(to) > 32 ? 64 : 32, storedBits(from) > 32 ? 64 : 32);
    bool narrowPair = to == Type::E4M3x2 || to == Type::E5M2x2 || from == Type::E4M3x2 || from == Type::E5M2x2;
    if (to == Type::F16x2 || to == Type::BF16x2 || narrowPair) {
      if (inst.operandCount > 2) {
        op.b = b.ref(inst, 2, 32);
      }
      bool plain = to == Type::BF16x2 && mods.round == Round::RN && !mods.relu && !mods.satfinite;
      op.run = plain ? floatToBrainPair : convertPair;
      return true;
    }
    op.run = convert;
    bool exactWidths = op.d.width == ptx::bitsOf(to) && op.a.width == ptx::bitsOf(from) && !mods.sat;
    if (exactWidths) {
      if (to == Type::BF16 && from == Type::F32 && mods.round == Round::RN && !mods.relu && !mods.satfinite) {
        op.run = floatToBrain;
      } else if (to == Type::F32 && from == Type::F16 && !mods.ftz) {
        op.run = halfToFloat;
      } else if (to == Type::F32 && from == Type::S32 && mods.round == Round::RN) {
        op.run = s32ToFloat;
      } else if (to == Type::U64 && from == Type::U32) {
        op.run = plainCast<uint64_t, uint32_t>;
      } else if (to == Type::S64 && from == Type::S32) {
        op.run = plainCast<int64_t, int32_t>;
      } else if (to == Type::U32 && from == Type::U64) {
        op.run = plainCast<uint32_t, uint64_t>;
      } else if (to == Type::U32 && from == Type::U16) {
        op.run = plainCast<uint32_t, uint16_t>;
      }
    }
    return true;
  }
  case Opcode::CvtPack:
    plainOperands(b, inst, op, inst.operandCount - 1, 32, 32);
    op.run = pack;
    return true;
  case Opcode::Cvta:
    plainOperands(b, inst, op, 1, ptx::bitsOf(to), ptx::bitsOf(to));
    op.run = addressSpace;
    return true;
  case Opcode::Isspacep:
    plainOperands(b, inst, op, 1, 1, 64);
    op.run = isSpace;
    return true;
  case Opcode::Mapa:
    plainOperands(b, inst, op, 1, ptx::bitsOf(to), ptx::bitsOf(to));
    op.b = b.ref(inst, 2, 32);
    op.run = mapShared;
    return true;
  case Opcode::Getctarank:
    plainOperands(b, inst, op, 1, 32, ptx::bitsOf(to));
    op.run = clusterRank;
    return true;
  default:
    return false;
  }
}

} // namespace moert::emulator
