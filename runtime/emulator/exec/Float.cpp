//===- Float.cpp - Floating-point arithmetic -------------------------------===//
//
// f32 and f64 on the host's units with its rounding mode and flush-to-zero
// switched for the loop; f16 and bf16 in f32 (sums and products round the same
// from there) and in double for fma. NaN results are the canonical 0x7fffffff
// (f32) and 0x7fff (narrow), as PTX says. The `.approx` functions are computed in
// double and rounded, so they are within any error that PTX allows them.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Formats.h"
#include "runtime/emulator/exec/Lanes.h"

#include <cmath>
#include <immintrin.h>

namespace moert::emulator {

using ptx::Opcode;
using ptx::Round;
using ptx::Type;

namespace {
/// Sets rounding and flushing for its life. The memory clobbers keep the arithmetic between them: its operands are
/// loaded and its results stored in between.
class Mode {
public:
  Mode(Round round, bool ftz) : saved(_mm_getcsr()) {
    unsigned mode = saved & ~0xE040U;
    mode |= round == Round::RZ ? 0x6000U : round == Round::RM ? 0x2000U : round == Round::RP ? 0x4000U : 0U;
    mode |= ftz ? 0x8040U : 0U;
    changed = mode != saved;
    if (changed) {
      _mm_setcsr(mode);
      asm volatile("" ::: "memory");
    }
  }
  ~Mode() {
    if (changed) {
      asm volatile("" ::: "memory");
      _mm_setcsr(saved);
    }
  }

private:
  unsigned saved;
  bool changed;
};

template <typename T> T canonical(T v) { return v; }
template <> float canonical(float v) { return v == v ? v : floatOfBits(0x7FFFFFFF); }

float saturated(float v) { return v >= 0 ? (v > 1 ? 1.0F : v) : 0.0F; } // NaN: +0
double saturated(double v) { return v; }

enum Kind { KAdd, KSub, KMul, KFma, KDiv, KRcp, KSqrt, KMin, KMax, KAbs, KNeg };

template <typename T> T smaller(T a, T b, bool propagateNaN) {
  if (a != a || b != b) {
    if (propagateNaN || (a != a && b != b)) {
      return canonical(T(NAN));
    }
    return a != a ? b : a;
  }
  return a < b || (a == b && std::signbit(a)) ? a : b;
}
template <typename T> T larger(T a, T b, bool propagateNaN) {
  if (a != a || b != b) {
    if (propagateNaN || (a != a && b != b)) {
      return canonical(T(NAN));
    }
    return a != a ? b : a;
  }
  return a > b || (a == b && std::signbit(b)) ? a : b;
}

/// One lane of one operation.
template <Kind K, typename T> inline T compute(T a, T b, T c) {
  switch (K) {
  case KAdd:
    return canonical(T(a + b));
  case KSub:
    return canonical(T(a - b));
  case KMul:
    return canonical(T(a * b));
  case KFma:
    return canonical(T(sizeof(T) == 4 ? __builtin_fmaf(float(a), float(b), float(c)) : __builtin_fma(a, b, c)));
  case KDiv:
    return canonical(T(a / b));
  case KRcp:
    return canonical(T(T(1) / a));
  case KSqrt:
    return canonical(T(sizeof(T) == 4 ? __builtin_sqrtf(float(a)) : __builtin_sqrt(a)));
  default:
    return a;
  }
}

template <Kind K, typename T> Step plain(Warp &w, const Op &op, uint32_t m) {
  using S = Stored<T>;
  const S *a = w.at<S>(op.a), *b = op.b.bits ? w.at<S>(op.b) : a, *c = op.c.bits ? w.at<S>(op.c) : a;
  storeLanes(w.at<S>(op.d), m, [&](unsigned l) {
    return toStored<T>(compute<K, T>(fromStored<T>(a[l]), fromStored<T>(b[l]), fromStored<T>(c[l])));
  });
  return Step::Next;
}

/// With rounding, flushing or saturation.
template <Kind K, typename T> Step moded(Warp &w, const Op &op, uint32_t m) {
  using S = Stored<T>;
  const ptx::Modifiers &mods = op.inst->mods;
  const S *a = w.at<S>(op.a), *b = op.b.bits ? w.at<S>(op.b) : a, *c = op.c.bits ? w.at<S>(op.c) : a;
  alignas(64) S out[32];
  {
    Mode mode(mods.round, mods.ftz);
    for (unsigned l = 0; l < 32; ++l) {
      out[l] = toStored<T>(compute<K, T>(fromStored<T>(a[l]), fromStored<T>(b[l]), fromStored<T>(c[l])));
    }
    asm volatile("" : : "r"(out) : "memory");
  }
  if (mods.sat) {
    for (unsigned l = 0; l < 32; ++l) {
      out[l] = toStored<T>(T(saturated(fromStored<T>(out[l]))));
    }
  }
  storeLanes(w.at<S>(op.d), m, [&](unsigned l) { return out[l]; });
  return Step::Next;
}

float flush(float v) { return std::fabs(v) < floatOfBits(0x00800000) ? std::copysign(0.0F, v) : v; }

/// min, max, abs, neg and copysign.
template <typename T> Step selecting(Warp &w, const Op &op, uint32_t m) {
  using S = Stored<T>;
  const ptx::Modifiers &mods = op.inst->mods;
  const Opcode code = op.inst->op;
  const S *a = w.at<S>(op.a), *b = op.b.bits ? w.at<S>(op.b) : a;
  storeLanes(w.at<S>(op.d), m, [&](unsigned l) {
    T x = fromStored<T>(a[l]), y = fromStored<T>(b[l]);
    if constexpr (sizeof(T) == 4) {
      if (mods.ftz) {
        x = flush(x);
        y = flush(y);
      }
    }
    switch (code) {
    case Opcode::Abs:
      return toStored<T>(x == x ? std::fabs(x) : canonical(x));
    case Opcode::Neg:
      return toStored<T>(x == x ? -x : canonical(x));
    case Opcode::Copysign:
      return toStored<T>(std::copysign(y, x));
    default:
      break;
    }
    bool negative = std::signbit(x) != std::signbit(y);
    if (mods.xorsignAbs) {
      x = std::fabs(x);
      y = std::fabs(y);
    }
    T r = code == Opcode::Min ? smaller(x, y, mods.nan) : larger(x, y, mods.nan);
    if (mods.xorsignAbs && r == r) {
      r = std::copysign(r, negative ? T(-1) : T(1));
    }
    return toStored<T>(r);
  });
  return Step::Next;
}

double upperHalf(double v) { return doubleOfBits(bitsOfDouble(v) & ~uint64_t(0xFFFFFFFF)); }

/// The functions that PTX calls approximate.
template <typename T> Step approximate(Warp &w, const Op &op, uint32_t m) {
  using S = Stored<T>;
  const ptx::Modifiers &mods = op.inst->mods;
  const Opcode code = op.inst->op;
  const S *a = w.at<S>(op.a), *b = op.b.bits ? w.at<S>(op.b) : a;
  storeLanes(w.at<S>(op.d), m, [&](unsigned l) {
    T x = fromStored<T>(a[l]), y = fromStored<T>(b[l]);
    if constexpr (sizeof(T) == 4) {
      // sin to tanh handle subnormals as the .ftz spelling says.
      if (mods.ftz) {
        x = flush(x);
        y = flush(y);
      }
    }
    double v = double(x);
    // rcp and rsqrt of f64 with .ftz read and write upper halves only.
    const bool coarse = sizeof(T) == 8 && mods.ftz;
    if (coarse) {
      v = upperHalf(std::fabs(v) < 0x1p-1022 ? std::copysign(0.0, v) : v);
    }
    switch (code) {
    case Opcode::Div:
      v = double(x) / double(y);
      if (mods.approx && std::fabs(double(y)) > 0x1p126 && std::isfinite(double(y)) && sizeof(T) == 4) {
        v = std::isinf(double(x)) ? NAN : std::copysign(0.0, v); // PTX: 0 (or NaN for inf / y) beyond 2^126
      }
      break;
    case Opcode::Rcp:
      v = 1.0 / v;
      break;
    case Opcode::Sqrt:
      v = std::sqrt(v);
      break;
    case Opcode::Rsqrt:
      v = 1.0 / std::sqrt(v);
      break;
    case Opcode::Sin:
      v = std::sin(v);
      break;
    case Opcode::Cos:
      v = std::cos(v);
      break;
    case Opcode::Lg2:
      v = std::log2(v);
      break;
    case Opcode::Ex2:
      v = std::exp2(v);
      break;
    case Opcode::Tanh:
      v = std::tanh(v);
      break;
    default:
      break;
    }
    if (coarse) {
      v = upperHalf(std::fabs(v) < 0x1p-1022 ? std::copysign(0.0, v) : v);
    }
    T r = canonical(T(v));
    if constexpr (sizeof(T) == 4) {
      r = mods.ftz ? flush(r) : r;
    }
    return toStored<T>(r);
  });
  return Step::Next;
}

/// f16 and bf16, alone or in pairs.
template <bool Bf16> float widen(uint32_t h) { return Bf16 ? bf16ToFloat(h) : f16ToFloat(h); }
template <bool Bf16> uint32_t narrow(double v) {
  return Bf16 ? encode(v, formatBF16, Round::RN, false) : encode(v, formatF16, Round::RN, false);
}
template <bool Bf16> uint32_t narrowOp(const ptx::Instruction &inst, uint32_t ab, uint32_t bb, uint32_t cb) {
  const ptx::Modifiers &mods = inst.mods;
  const uint32_t outside = Bf16 ? outOfBoundsBF16 : outOfBoundsF16;
  if (mods.oob && (ab == outside || bb == outside || cb == outside)) {
    return 0;
  }
  auto flushNarrow = [&](uint32_t h) { return mods.ftz && !Bf16 && (h & 0x7C00) == 0 ? h & 0x8000 : h; };
  if (inst.op == Opcode::Neg || inst.op == Opcode::Abs) {
    ab = flushNarrow(ab);
    bool nan = widen<Bf16>(ab) != widen<Bf16>(ab);
    return nan ? 0x7FFF : inst.op == Opcode::Neg ? ab ^ 0x8000 : ab & 0x7FFF;
  }
  double a = widen<Bf16>(flushNarrow(ab)), b = widen<Bf16>(flushNarrow(bb)), c = widen<Bf16>(flushNarrow(cb));
  double r = 0;
  switch (inst.op) {
  case Opcode::Add:
    r = fmaOdd(1.0, a, b);
    break;
  case Opcode::Sub:
    r = fmaOdd(1.0, a, -b);
    break;
  case Opcode::Mul:
    r = a * b;
    break;
  case Opcode::Fma:
    r = fmaOdd(a, b, c);
    break;
  case Opcode::Ex2:
    r = std::exp2(a);
    break;
  case Opcode::Tanh:
    r = std::tanh(a);
    break;
  case Opcode::Min:
  case Opcode::Max: {
    bool negative = std::signbit(a) != std::signbit(b);
    if (mods.xorsignAbs) {
      a = std::fabs(a);
      b = std::fabs(b);
    }
    r = inst.op == Opcode::Min ? smaller(a, b, mods.nan) : larger(a, b, mods.nan);
    if (mods.xorsignAbs && r == r) {
      r = std::copysign(r, negative ? -1.0 : 1.0);
    }
    break;
  }
  default:
    break;
  }
  if (mods.sat) {
    r = r >= 0 ? (r > 1 ? 1.0 : r) : 0.0;
  }
  if (mods.relu && r == r) {
    r = r > 0 ? r : 0.0;
  }
  return flushNarrow(narrow<Bf16>(r));
}
template <bool Bf16, bool Pair> Step narrowStep(Warp &w, const Op &op, uint32_t m) {
  const uint32_t *a = w.at<uint32_t>(op.a), *b = op.b.bits ? w.at<uint32_t>(op.b) : a,
                 *c = op.c.bits ? w.at<uint32_t>(op.c) : a;
  const ptx::Instruction &inst = *op.inst;
  uint32_t *d = w.at<uint32_t>(op.d);
  for (unsigned l = 0; l < 32; ++l) {
    if (m >> l & 1) {
      uint32_t r = narrowOp<Bf16>(inst, a[l] & 0xFFFF, b[l] & 0xFFFF, c[l] & 0xFFFF);
      if (Pair) {
        r |= narrowOp<Bf16>(inst, a[l] >> 16, b[l] >> 16, c[l] >> 16) << 16;
      }
      d[l] = r;
    }
  }
  return Step::Next;
}

template <typename T> Step testProperty(Warp &w, const Op &op, uint32_t m) {
  const auto *a = w.at<Stored<T>>(op.a);
  uint32_t r = 0;
  for (unsigned l = 0; l < 32; ++l) {
    T v = fromStored<T>(a[l]);
    bool is = false;
    switch (op.inst->mods.mode) {
    case ptx::Mode::Finite:
      is = std::isfinite(v);
      break;
    case ptx::Mode::Infinite:
      is = std::isinf(v);
      break;
    case ptx::Mode::Number:
      is = v == v;
      break;
    case ptx::Mode::NotANumber:
      is = v != v;
      break;
    case ptx::Mode::Normal: // zero is a normal number to PTX
      is = std::isnormal(v) || v == 0;
      break;
    default:
      is = std::isfinite(v) && !std::isnormal(v) && v != 0;
      break;
    }
    r |= uint32_t(is) << l;
  }
  uint32_t &d = w.predicate(op.d);
  d = (d & ~m) | (r & m);
  return Step::Next;
}
} // namespace

template <Kind K> static Handler pick(Type type, const ptx::Modifiers &mods) {
  bool needsMode =
      mods.ftz || mods.sat || mods.round == Round::RZ || mods.round == Round::RM || mods.round == Round::RP;
  if (type == Type::F64) {
    return needsMode ? Handler(moded<K, double>) : Handler(plain<K, double>);
  }
  return needsMode ? Handler(moded<K, float>) : Handler(plain<K, float>);
}

bool selectFloat(Builder &b, const ptx::Instruction &inst, Op &op) {
  const Type type = inst.types[0];
  const ptx::Modifiers &mods = inst.mods;
  const bool half = type == Type::F16 || type == Type::F16x2, brain = type == Type::BF16 || type == Type::BF16x2;
  const bool pair = type == Type::F16x2 || type == Type::BF16x2;
  const bool single = type == Type::F32 || type == Type::F64;
  if (!half && !brain && !single) {
    return false;
  }
  const unsigned bits = type == Type::F64 ? 64 : 32;
  unsigned sources = 0;
  switch (inst.op) {
  case Opcode::Add:
  case Opcode::Sub:
  case Opcode::Mul:
  case Opcode::Div:
  case Opcode::Min:
  case Opcode::Max:
  case Opcode::Copysign:
    sources = 2;
    break;
  case Opcode::Mad:
  case Opcode::Fma:
    sources = 3;
    break;
  case Opcode::Abs:
  case Opcode::Neg:
  case Opcode::Rcp:
  case Opcode::Sqrt:
  case Opcode::Rsqrt:
  case Opcode::Sin:
  case Opcode::Cos:
  case Opcode::Lg2:
  case Opcode::Ex2:
  case Opcode::Tanh:
    sources = 1;
    break;
  case Opcode::Testp:
    plainOperands(b, inst, op, 1, 1, bits);
    op.run = type == Type::F64 ? testProperty<double> : testProperty<float>;
    return true;
  default:
    return false;
  }
  plainOperands(b, inst, op, sources, bits, bits);
  if (!single) {
    op.run = half ? (pair ? narrowStep<false, true> : narrowStep<false, false>)
                  : (pair ? narrowStep<true, true> : narrowStep<true, false>);
    return true;
  }
  const bool wide = type == Type::F64;
  switch (inst.op) {
  case Opcode::Add:
    op.run = pick<KAdd>(type, mods);
    return true;
  case Opcode::Sub:
    op.run = pick<KSub>(type, mods);
    return true;
  case Opcode::Mul:
    op.run = pick<KMul>(type, mods);
    return true;
  case Opcode::Mad:
  case Opcode::Fma:
    op.run = pick<KFma>(type, mods);
    return true;
  case Opcode::Div:
    op.run = mods.approx || mods.full ? Handler(approximate<float>) : pick<KDiv>(type, mods);
    return true;
  case Opcode::Rcp:
    op.run = mods.approx ? (wide ? Handler(approximate<double>) : Handler(approximate<float>)) : pick<KRcp>(type, mods);
    return true;
  case Opcode::Sqrt:
    op.run = mods.approx ? Handler(approximate<float>) : pick<KSqrt>(type, mods);
    return true;
  case Opcode::Min:
  case Opcode::Max:
  case Opcode::Abs:
  case Opcode::Neg:
  case Opcode::Copysign:
    op.run = wide ? selecting<double> : selecting<float>;
    return true;
  default:
    op.run = wide ? approximate<double> : approximate<float>;
    return true;
  }
}

} // namespace moert::emulator
