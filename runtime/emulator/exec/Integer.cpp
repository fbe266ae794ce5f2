//===- Integer.cpp - Integer arithmetic ------------------------------------===//
//
// add to sad, extended precision, mul24, dp4a and packed 16-bit pairs. Division
// by zero gives all ones, as cards do; PTX leaves it open.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Lanes.h"

#include <algorithm>
#include <limits>

namespace moert::emulator {

using ptx::Half;
using ptx::Opcode;
using ptx::Type;

template <typename T> using Unsigned = std::make_unsigned_t<T>;

#define OP2(NAME, EXPRESSION)                                                                                          \
  template <typename T> static Step NAME(Warp &w, const Op &op, uint32_t m) {                                          \
    return binary<T, T, T>(w, op, m, [](T a, T b) -> T { return EXPRESSION; });                                        \
  }
OP2(add, T(Unsigned<T>(a) + Unsigned<T>(b)))
OP2(sub, T(Unsigned<T>(a) - Unsigned<T>(b)))
OP2(minimum, std::min(a, b))
OP2(maximum, std::max(a, b))
OP2(minimumRelu, std::max(std::min(a, b), T(0)))
OP2(maximumRelu, std::max(std::max(a, b), T(0)))
#undef OP2

template <typename T> static T mulLow(T a, T b) {
  return T(Unsigned<T>(uint64_t(Unsigned<T>(a)) * uint64_t(Unsigned<T>(b))));
}

template <typename T> static T mulHigh(T a, T b) {
  if constexpr (sizeof(T) == 8) {
    if constexpr (std::is_signed_v<T>) {
      return T((__int128(a) * b) >> 64);
    } else {
      return T((static_cast<unsigned __int128>(a) * b) >> 64);
    }
  } else {
    using W = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
    return T((W(a) * W(b)) >> (sizeof(T) * 8));
  }
}

template <typename T> struct Wider;
template <> struct Wider<uint16_t> {
  using type = uint32_t;
};
template <> struct Wider<int16_t> {
  using type = int32_t;
};
template <> struct Wider<uint32_t> {
  using type = uint64_t;
};
template <> struct Wider<int32_t> {
  using type = int64_t;
};

template <typename T> static Step mulLo(Warp &w, const Op &op, uint32_t m) {
  return binary<T, T, T>(w, op, m, [](T a, T b) { return mulLow(a, b); });
}
template <typename T> static Step mulHi(Warp &w, const Op &op, uint32_t m) {
  return binary<T, T, T>(w, op, m, [](T a, T b) { return mulHigh(a, b); });
}
template <typename T> static Step mulWide(Warp &w, const Op &op, uint32_t m) {
  using W = typename Wider<T>::type;
  return binary<W, T, T>(w, op, m, [](T a, T b) { return W(W(a) * W(b)); });
}
template <typename T> static Step madLo(Warp &w, const Op &op, uint32_t m) {
  return ternary<T, T, T, T>(w, op, m, [](T a, T b, T c) { return T(Unsigned<T>(mulLow(a, b)) + Unsigned<T>(c)); });
}
template <typename T> static Step madHi(Warp &w, const Op &op, uint32_t m) {
  return ternary<T, T, T, T>(w, op, m, [](T a, T b, T c) { return T(Unsigned<T>(mulHigh(a, b)) + Unsigned<T>(c)); });
}
template <typename T> static Step madWide(Warp &w, const Op &op, uint32_t m) {
  using W = typename Wider<T>::type;
  return ternary<W, T, T, W>(w, op, m, [](T a, T b, W c) { return W(Unsigned<W>(W(a) * W(b)) + Unsigned<W>(c)); });
}
template <typename T> static Step divide(Warp &w, const Op &op, uint32_t m) {
  return binary<T, T, T>(w, op, m, [](T a, T b) -> T {
    if (b == 0) {
      return T(~T(0));
    }
    if (std::is_signed_v<T> && b == T(-1)) {
      return T(Unsigned<T>(0) - Unsigned<T>(a));
    }
    return T(a / b);
  });
}
template <typename T> static Step remainder(Warp &w, const Op &op, uint32_t m) {
  return binary<T, T, T>(w, op, m, [](T a, T b) -> T {
    if (b == 0) {
      return a;
    }
    if (std::is_signed_v<T> && b == T(-1)) {
      return T(0);
    }
    return T(a % b);
  });
}
template <typename T> static Step sad(Warp &w, const Op &op, uint32_t m) {
  return ternary<T, T, T, T>(w, op, m, [](T a, T b, T c) {
    return T(Unsigned<T>(c) + (a < b ? Unsigned<T>(b) - Unsigned<T>(a) : Unsigned<T>(a) - Unsigned<T>(b)));
  });
}
template <typename T> static Step absolute(Warp &w, const Op &op, uint32_t m) {
  return unary<T, T>(w, op, m, [](T a) { return a < 0 ? T(Unsigned<T>(0) - Unsigned<T>(a)) : a; });
}
template <typename T> static Step negate(Warp &w, const Op &op, uint32_t m) {
  return unary<T, T>(w, op, m, [](T a) { return T(Unsigned<T>(0) - Unsigned<T>(a)); });
}

static int32_t saturate(int64_t v) {
  return int32_t(std::min<int64_t>(std::max<int64_t>(v, std::numeric_limits<int32_t>::min()),
                                   std::numeric_limits<int32_t>::max()));
}
static Step addSat(Warp &w, const Op &op, uint32_t m) {
  return binary<int32_t, int32_t, int32_t>(w, op, m, [](int32_t a, int32_t b) { return saturate(int64_t(a) + b); });
}
static Step subSat(Warp &w, const Op &op, uint32_t m) {
  return binary<int32_t, int32_t, int32_t>(w, op, m, [](int32_t a, int32_t b) { return saturate(int64_t(a) - b); });
}
static Step madHiSat(Warp &w, const Op &op, uint32_t m) {
  return ternary<int32_t, int32_t, int32_t, int32_t>(
      w, op, m, [](int32_t a, int32_t b, int32_t c) { return saturate(int64_t(mulHigh(a, b)) + c); });
}

// Extended precision. `extra`: bit 0 reads the carry, bit 1 writes it, bit 2 subtracts, bits 3-4: mad lo (1), hi (2).
// The flag is a card's: a subtraction adds the complement, so its carry is set when nothing was borrowed. Sums behind
// differences see that; nvcc's division of 128 bits asks with `addc` whether a `subc.cc` borrowed.
template <typename T> static Step extended(Warp &w, const Op &op, uint32_t m) {
  using W = unsigned __int128;
  auto *carry = reinterpret_cast<uint32_t *>(w.base[0] + w.frame->code->carry);
  auto *d = w.at<T>(op.d);
  const T *a = w.at<T>(op.a), *b = w.at<T>(op.b), *c = op.c.bits ? w.at<T>(op.c) : nullptr;
  uint32_t out = *carry;
  constexpr unsigned bits = sizeof(T) * 8;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    W x = a[l], y = b[l];
    if (op.extra >> 3) {
      bool isSigned = ptx::isSigned(op.inst->types[0]);
      T product;
      if (op.extra >> 3 == 1) {
        product = T(a[l] * b[l]);
      } else if (isSigned) {
        product = T(mulHigh(std::make_signed_t<T>(a[l]), std::make_signed_t<T>(b[l])));
      } else {
        product = mulHigh(a[l], b[l]);
      }
      x = product;
      y = c[l];
    }
    const uint32_t complement = op.extra >> 2 & 1;
    W in = (op.extra & 1) ? (*carry >> l & 1) ^ complement : 0;
    W sum = (op.extra & 4) ? x - y - in : x + y + in;
    d[l] = T(sum);
    if (op.extra & 2) {
      out = (out & ~(1U << l)) | ((uint32_t(sum >> bits) & 1) ^ complement) << l;
    }
  }
  *carry = out;
  return Step::Next;
}

template <bool Signed> static int64_t bits24(uint32_t v) {
  return Signed ? int64_t(int32_t(v << 8) >> 8) : int64_t(v & 0xFFFFFF);
}
template <bool Signed, bool High> static Step mul24(Warp &w, const Op &op, uint32_t m) {
  const uint32_t *c = op.c.bits ? w.at<uint32_t>(op.c) : nullptr;
  const uint32_t *a = w.at<uint32_t>(op.a), *b = w.at<uint32_t>(op.b);
  bool sat = op.inst->mods.sat;
  storeLanes(w.at<uint32_t>(op.d), m, [&](unsigned l) {
    int64_t product = bits24<Signed>(a[l]) * bits24<Signed>(b[l]);
    auto part = uint32_t(High ? product >> 16 : product);
    if (sat) {
      return uint32_t(saturate(int64_t(int32_t(part)) + int32_t(c[l])));
    }
    return c ? part + c[l] : part;
  });
  return Step::Next;
}

static Step dotProduct(Warp &w, const Op &op, uint32_t m) {
  bool signedA = op.inst->types[0] == Type::S32, signedB = op.inst->types[1] == Type::S32;
  bool two = op.inst->op == Opcode::Dp2a;
  unsigned high = op.inst->mods.half == Half::Hi ? 2 : 0;
  return ternary<uint32_t, uint32_t, uint32_t, uint32_t>(w, op, m, [&](uint32_t a, uint32_t b, uint32_t c) {
    for (unsigned i = 0; i < (two ? 2U : 4U); ++i) {
      int32_t x = two ? (signedA ? int32_t(int16_t(a >> i * 16)) : int32_t(uint16_t(a >> i * 16)))
                      : (signedA ? int32_t(int8_t(a >> i * 8)) : int32_t(uint8_t(a >> i * 8)));
      unsigned shift = (two ? i + high : i) * 8;
      int32_t y = signedB ? int32_t(int8_t(b >> shift)) : int32_t(uint8_t(b >> shift));
      c += uint32_t(x * y);
    }
    return c;
  });
}

template <typename T, typename F> static Step packed(Warp &w, const Op &op, uint32_t m, F f) {
  return binary<uint32_t, uint32_t, uint32_t>(w, op, m, [&](uint32_t a, uint32_t b) {
    return uint32_t(uint16_t(f(T(a), T(b)))) | uint32_t(uint16_t(f(T(a >> 16), T(b >> 16)))) << 16;
  });
}
template <typename T> static Step packedOp(Warp &w, const Op &op, uint32_t m) {
  bool relu = op.inst->mods.relu;
  switch (op.inst->op) {
  case Opcode::Add:
    return packed<T>(w, op, m, [](T a, T b) { return T(a + b); });
  case Opcode::Min:
    return packed<T>(w, op, m, [relu](T a, T b) { return relu ? std::max(std::min(a, b), T(0)) : std::min(a, b); });
  default:
    return packed<T>(w, op, m, [relu](T a, T b) { return relu ? std::max(std::max(a, b), T(0)) : std::max(a, b); });
  }
}

#define ALL_INTS(NAME)                                                                                                 \
  [](Type t) -> Handler {                                                                                              \
    switch (t) {                                                                                                       \
    case Type::U16:                                                                                                    \
      return NAME<uint16_t>;                                                                                           \
    case Type::S16:                                                                                                    \
      return NAME<int16_t>;                                                                                            \
    case Type::U32:                                                                                                    \
      return NAME<uint32_t>;                                                                                           \
    case Type::S32:                                                                                                    \
      return NAME<int32_t>;                                                                                            \
    case Type::U64:                                                                                                    \
      return NAME<uint64_t>;                                                                                           \
    case Type::S64:                                                                                                    \
      return NAME<int64_t>;                                                                                            \
    default:                                                                                                           \
      return nullptr;                                                                                                  \
    }                                                                                                                  \
  }(inst.types[0])
#define SIGNED_INTS(NAME)                                                                                              \
  [](Type t) -> Handler {                                                                                              \
    return t == Type::S16 ? NAME<int16_t> : t == Type::S32 ? NAME<int32_t> : t == Type::S64 ? NAME<int64_t> : nullptr; \
  }(inst.types[0])
#define WIDE_INTS(NAME)                                                                                                \
  [](Type t) -> Handler {                                                                                              \
    return t == Type::U16   ? NAME<uint16_t>                                                                           \
           : t == Type::S16 ? NAME<int16_t>                                                                            \
           : t == Type::U32 ? NAME<uint32_t>                                                                           \
                            : NAME<int32_t>;                                                                           \
  }(inst.types[0])

bool selectInteger(Builder &b, const ptx::Instruction &inst, Op &op) {
  const Type type = inst.types[0];
  if (ptx::isFloat(type) || type == Type::F32x2) {
    return false;
  }
  const unsigned bits = storedBits(type);
  const ptx::Modifiers &mods = inst.mods;
  const bool pairs = type == Type::U16x2 || type == Type::S16x2;
  const Handler pairHandler = type == Type::U16x2 ? packedOp<uint16_t> : packedOp<int16_t>;
  auto extend = [&](unsigned flags, unsigned sources) {
    plainOperands(b, inst, op, sources, bits, bits);
    op.flags &= uint16_t(~OpPure);
    op.flags |= OpPure;
    op.extra = uint8_t(flags | (mods.cc ? 2 : 0));
    op.run = bits == 64 ? extended<uint64_t> : extended<uint32_t>;
    return true;
  };
  switch (inst.op) {
  case Opcode::Add:
    if (mods.cc) {
      return extend(0, 2);
    }
    plainOperands(b, inst, op, 2, bits, bits);
    op.run = pairs ? pairHandler : mods.sat ? addSat : ALL_INTS(add);
    return true;
  case Opcode::Addc:
    return extend(1, 2);
  case Opcode::Sub:
    if (mods.cc) {
      return extend(4, 2);
    }
    plainOperands(b, inst, op, 2, bits, bits);
    op.run = mods.sat ? subSat : ALL_INTS(sub);
    return true;
  case Opcode::Subc:
    return extend(5, 2);
  case Opcode::Mul:
    plainOperands(b, inst, op, 2, bits, bits);
    op.run = mods.half == Half::Wide ? WIDE_INTS(mulWide) : mods.half == Half::Hi ? ALL_INTS(mulHi) : ALL_INTS(mulLo);
    return true;
  case Opcode::Mad:
    if (mods.cc) {
      return extend(mods.half == Half::Hi ? 16 : 8, 3);
    }
    plainOperands(b, inst, op, 3, bits, bits);
    if (mods.half == Half::Wide) {
      op.c = b.ref(inst, 3, ptx::bitsOf(type) == 32 ? 64 : 32);
    }
    op.run = mods.sat                  ? madHiSat
             : mods.half == Half::Wide ? WIDE_INTS(madWide)
             : mods.half == Half::Hi   ? ALL_INTS(madHi)
                                       : ALL_INTS(madLo);
    return true;
  case Opcode::Madc:
    return extend(1 | (mods.half == Half::Hi ? 16 : 8), 3);
  case Opcode::Mul24:
  case Opcode::Mad24:
    plainOperands(b, inst, op, inst.op == Opcode::Mul24 ? 2 : 3, 32, 32);
    op.run = type == Type::S32 ? (mods.half == Half::Hi ? mul24<true, true> : mul24<true, false>)
                               : (mods.half == Half::Hi ? mul24<false, true> : mul24<false, false>);
    return true;
  case Opcode::Sad:
    plainOperands(b, inst, op, 3, bits, bits);
    op.run = ALL_INTS(sad);
    return true;
  case Opcode::Div:
    plainOperands(b, inst, op, 2, bits, bits);
    op.run = ALL_INTS(divide);
    return true;
  case Opcode::Rem:
    plainOperands(b, inst, op, 2, bits, bits);
    op.run = ALL_INTS(remainder);
    return true;
  case Opcode::Abs:
    plainOperands(b, inst, op, 1, bits, bits);
    op.run = SIGNED_INTS(absolute);
    return true;
  case Opcode::Neg:
    plainOperands(b, inst, op, 1, bits, bits);
    op.run = SIGNED_INTS(negate);
    return true;
  case Opcode::Min:
  case Opcode::Max: {
    bool least = inst.op == Opcode::Min;
    plainOperands(b, inst, op, 2, bits, bits);
    if (pairs) {
      op.run = pairHandler;
    } else if (mods.relu) {
      op.run = least ? minimumRelu<int32_t> : maximumRelu<int32_t>;
    } else {
      op.run = least ? ALL_INTS(minimum) : ALL_INTS(maximum);
    }
    return true;
  }
  case Opcode::Dp4a:
  case Opcode::Dp2a:
    plainOperands(b, inst, op, 3, 32, 32);
    op.run = dotProduct;
    return true;
  default:
    return false;
  }
}

} // namespace moert::emulator
