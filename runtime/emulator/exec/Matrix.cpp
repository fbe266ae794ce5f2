//===- Matrix.cpp - ldmatrix, stmatrix, movmatrix and mma.sync -------------===//
//
// Fragments follow the tables of the PTX ISA, which are one formula: with group
// g = lane / 4, t = lane % 4 and p elements per register, register i of A holds
// row g + 8 (i % 2), columns p t + 4 p (i / 2) + 0..p-1; register i of B column g
// and rows p t + 4 p i + 0..p-1; element i of C row g + 8 (i / 2), column
// 2 t + i % 2. Products are exact; sums are taken in f32 (f64, s32) in order of k.
//
// Undefined: a row of A makes a row of D undefined, a column of B a column.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"
#include "runtime/emulator/exec/Formats.h"
#include "runtime/emulator/exec/Lanes.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Opcode;
using ptx::Space;
using ptx::Type;

static Step needWholeWarp(Warp &w, const Op &op, uint32_t m) {
  if (m == ~0U) {
    return Step::Next;
  }
  char text[96];
  std::snprintf(text, sizeof text, "an .aligned operation of a whole warp is executed by lanes 0x%08x", m);
  return w.fault(FindingKind::Divergence, LaunchError::IllegalInstruction, op, unsigned(__builtin_ctz(m)), text);
}

static Step loadMatrix(Warp &w, const Op &op, uint32_t m) {
  if (Step step = needWholeWarp(w, op, m); step != Step::Next) {
    return step;
  }
  const unsigned tiles = op.listCount;
  const uint32_t rows = tiles == 4 ? ~0U : (1U << tiles * 8) - 1;
  Target t;
  Step step = resolve(w, op, rows, op.a, op.imm, op.inst->mods.space, 16, false, t);
  if (step != Step::Next) {
    return step;
  }
  const Ref *d = w.grid->code->refs.data() + op.list;
  uint32_t undefinedRows = 0;
  if (w.checks) {
    judge(w, op, rows, t, 16, false, AccessMode());
    for (unsigned l = 0; l < 8 * tiles; ++l) {
      undefinedRows |= uint32_t(t.shadow[l] && t.shadow[l]->definedBits(t.offset[l], 16) != 0xFFFF) << l;
    }
  }
  const bool transposed = op.inst->mods.transposed;
  for (unsigned i = 0; i < tiles; ++i) {
    uint16_t tile[8][8];
    for (unsigned r = 0; r < 8; ++r) {
      std::memcpy(tile[r], t.pointer[i * 8 + r], 16);
    }
    uint32_t *to = w.at<uint32_t>(d[i]);
    uint32_t bad = 0;
    for (unsigned l = 0; l < 32; ++l) {
      unsigned g = l / 4, c = l % 4 * 2;
      to[l] = transposed ? tile[c][g] | uint32_t(tile[c + 1][g]) << 16 : tile[g][c] | uint32_t(tile[g][c + 1]) << 16;
      bad |= uint32_t(transposed ? undefinedRows >> (i * 8 + c) & 3 : undefinedRows >> (i * 8 + g) & 1) ? 1U << l : 0;
    }
    w.setUndefined(d[i], bad, ~0U);
  }
  return Step::Next;
}

static Step storeMatrix(Warp &w, const Op &op, uint32_t m) {
  if (Step step = needWholeWarp(w, op, m); step != Step::Next) {
    return step;
  }
  const unsigned tiles = op.listCount;
  const uint32_t rows = tiles == 4 ? ~0U : (1U << tiles * 8) - 1;
  Target t;
  Step step = resolve(w, op, rows, op.a, op.imm, op.inst->mods.space, 16, true, t);
  if (step != Step::Next) {
    return step;
  }
  const Ref *s = w.grid->code->refs.data() + op.list;
  alignas(16) uint16_t data[32][8] = {};
  uint32_t badRows = 0;
  const bool transposed = op.inst->mods.transposed;
  for (unsigned i = 0; i < tiles; ++i) {
    const uint32_t *from = w.at<uint32_t>(s[i]);
    uint32_t bad = w.checks ? w.undefined(s[i]) : 0;
    for (unsigned l = 0; l < 32; ++l) {
      unsigned g = l / 4, c = l % 4 * 2;
      for (unsigned e = 0; e < 2; ++e) {
        auto value = uint16_t(from[l] >> e * 16);
        unsigned row = i * 8 + (transposed ? c + e : g);
        data[row][transposed ? g : c + e] = value;
        badRows |= (bad >> l & 1) << row;
      }
    }
  }
  if (w.checks) {
    judge(w, op, rows, t, 16, true, AccessMode(), reinterpret_cast<const uint8_t *>(data));
  }
  for (unsigned l = 0; l < 8 * tiles; ++l) {
    std::memcpy(t.pointer[l], data[l], 16);
    if (t.shadow[l]) {
      t.shadow[l]->setDefinedBits(t.offset[l], 16, badRows >> l & 1 ? 0 : ~0U);
    }
  }
  ++w.grid->changes;
  return Step::Next;
}

static Step moveMatrix(Warp &w, const Op &op, uint32_t m) {
  if (Step step = needWholeWarp(w, op, m); step != Step::Next) {
    return step;
  }
  uint16_t tile[8][8];
  const uint32_t *a = w.at<uint32_t>(op.a);
  for (unsigned l = 0; l < 32; ++l) {
    tile[l / 4][l % 4 * 2] = uint16_t(a[l]);
    tile[l / 4][l % 4 * 2 + 1] = uint16_t(a[l] >> 16);
  }
  uint32_t *d = w.at<uint32_t>(op.d);
  for (unsigned l = 0; l < 32; ++l) {
    d[l] = tile[l % 4 * 2][l / 4] | uint32_t(tile[l % 4 * 2 + 1][l / 4]) << 16;
  }
  w.setUndefined(op.d, w.undefined(op.a) ? ~0U : 0, ~0U);
  return Step::Next;
}

/// Element e of a 32-bit register as a float.
template <Type T> static inline float element(uint32_t bits, unsigned e) {
  switch (T) {
  case Type::F16:
    return f16ToFloat(bits >> e * 16 & 0xFFFF);
  case Type::BF16:
    return bf16ToFloat(bits >> e * 16 & 0xFFFF);
  case Type::TF32:
    return floatOfBits(bits & 0xFFFFE000);
  case Type::E4M3:
    return float(decode(bits >> e * 8 & 255, formatE4M3));
  default:
    return float(decode(bits >> e * 8 & 255, formatE5M2));
  }
}
template <Type T> constexpr unsigned perRegister() {
  return T == Type::TF32 ? 1 : T == Type::F16 || T == Type::BF16 ? 2 : 4;
}

/// Which rows of A, columns of B and elements of C are undefined; marks D.
static void taintMatrix(Warp &w, const Fragments &f, bool tall, bool packedC) {
  const Ref *refs = w.grid->code->refs.data();
  uint32_t rows = 0, columns = 0, any = 0;
  for (unsigned part = 1; part < 4; ++part) {
    for (unsigned i = 0; i < f.count[part]; ++i) {
      any |= w.undefined(refs[f.first[part] + i]);
    }
  }
  if (any) {
    for (unsigned i = 0; i < f.count[1]; ++i) {
      uint32_t bad = w.undefined(refs[f.first[1] + i]);
      for (unsigned l = 0; l < 32; ++l) {
        rows |= (bad >> l & 1) << (l / 4 + (tall ? 8 * (i & 1) : 0));
      }
    }
    for (unsigned i = 0; i < f.count[2]; ++i) {
      uint32_t bad = w.undefined(refs[f.first[2] + i]);
      for (unsigned l = 0; l < 32; ++l) {
        columns |= (bad >> l & 1) << l / 4;
      }
    }
  }
  for (unsigned i = 0; i < f.count[0]; ++i) {
    uint32_t bad = any && i < f.count[3] ? w.undefined(refs[f.first[3] + i]) : 0;
    for (unsigned l = 0; l < 32 && any; ++l) {
      unsigned row = l / 4 + 8 * (packedC ? i : i / 2);
      uint32_t both = packedC ? columns >> l % 4 * 2 & 3 : columns >> (l % 4 * 2 + (i & 1)) & 1;
      bad |= uint32_t((rows >> row & 1) || both) << l;
    }
    w.setUndefined(refs[f.first[0] + i], bad, ~0U);
  }
}

/// m16n8kK with f32 sums; fp8 operands may differ in type.
template <Type TA, Type TB, unsigned K> static Step mmaFloat(Warp &w, const Op &op, uint32_t m) {
  if (Step step = needWholeWarp(w, op, m); step != Step::Next) {
    return step;
  }
  const Fragments &f = w.grid->code->fragments[op.imm];
  const Ref *refs = w.grid->code->refs.data();
  constexpr unsigned p = perRegister<TA>();
  alignas(64) float a[16][K], b[K][8], c[16][8];
  for (unsigned i = 0; i < f.count[1]; ++i) {
    const uint32_t *from = w.at<uint32_t>(refs[f.first[1] + i]);
    for (unsigned l = 0; l < 32; ++l) {
      for (unsigned e = 0; e < p; ++e) {
        a[l / 4 + 8 * (i & 1)][p * (l % 4) + 4 * p * (i / 2) + e] = element<TA>(from[l], e);
      }
    }
  }
  for (unsigned i = 0; i < f.count[2]; ++i) {
    const uint32_t *from = w.at<uint32_t>(refs[f.first[2] + i]);
    for (unsigned l = 0; l < 32; ++l) {
      for (unsigned e = 0; e < p; ++e) {
        b[p * (l % 4) + 4 * p * i + e][l / 4] = element<TB>(from[l], e);
      }
    }
  }
  const bool halfC = op.inst->types[3] == Type::F16, halfD = op.inst->types[0] == Type::F16;
  for (unsigned i = 0; i < f.count[3]; ++i) {
    const uint32_t *from = w.at<uint32_t>(refs[f.first[3] + i]);
    for (unsigned l = 0; l < 32; ++l) {
      if (halfC) {
        c[l / 4 + 8 * i][l % 4 * 2] = f16ToFloat(from[l] & 0xFFFF);
        c[l / 4 + 8 * i][l % 4 * 2 + 1] = f16ToFloat(from[l] >> 16);
      } else {
        c[l / 4 + 8 * (i / 2)][l % 4 * 2 + (i & 1)] = floatOfBits(from[l]);
      }
    }
  }
  for (unsigned r = 0; r < 16; ++r) {
    float sum[8];
    std::memcpy(sum, c[r], sizeof sum);
    for (unsigned k = 0; k < K; ++k) {
      for (unsigned n = 0; n < 8; ++n) {
        sum[n] = __builtin_fmaf(a[r][k], b[k][n], sum[n]);
      }
    }
    std::memcpy(c[r], sum, sizeof sum);
  }
  for (unsigned i = 0; i < f.count[0]; ++i) {
    uint32_t *to = w.at<uint32_t>(refs[f.first[0] + i]);
    for (unsigned l = 0; l < 32; ++l) {
      if (halfD) {
        to[l] = floatToF16(c[l / 4 + 8 * i][l % 4 * 2]) | floatToF16(c[l / 4 + 8 * i][l % 4 * 2 + 1]) << 16;
      } else {
        float v = c[l / 4 + 8 * (i / 2)][l % 4 * 2 + (i & 1)];
        to[l] = v == v ? bitsOfFloat(v) : 0x7FFFFFFF;
      }
    }
  }
  if (w.checks) {
    taintMatrix(w, f, true, halfD);
  }
  return Step::Next;
}

/// m8n8k4 of f16: four products at once, each of lanes 4 q to 4 q + 3 and 16 more than those. The upper four lanes hold
/// the lower half of A and D by rows, and the right half of B by columns.
namespace {
struct Cell {
  unsigned row, column;
};
Cell quarterA(unsigned l, unsigned i, bool rowMajor) {
  const unsigned half = l < 16 ? 0 : 4;
  return rowMajor ? Cell{l % 4 + half, i} : Cell{i + half, l % 4};
}
Cell quarterB(unsigned l, unsigned i, bool rowMajor) {
  const unsigned half = l < 16 ? 0 : 4;
  return rowMajor ? Cell{l % 4, i + half} : Cell{i, l % 4 + half};
}
Cell quarterC(unsigned l, unsigned i, bool halves) {
  const unsigned half = l < 16 ? 0 : 4;
  return halves ? Cell{l % 4 + half, i} : Cell{(l & 1) + (i & 2) + half, (i & 4) + (l & 2) + (i & 1)};
}
} // namespace

static Step mmaQuarters(Warp &w, const Op &op, uint32_t m) {
  if (Step step = needWholeWarp(w, op, m); step != Step::Next) {
    return step;
  }
  const ptx::Instruction &inst = *op.inst;
  const Fragments &f = w.grid->code->fragments[op.imm];
  const Ref *refs = w.grid->code->refs.data();
  const bool rowA = inst.mods.majorA == ptx::Major::Row, rowB = inst.mods.majorB == ptx::Major::Row;
  const bool halfC = inst.types[3] == Type::F16, halfD = inst.types[0] == Type::F16;
  // By product, then row and column; `bad*`: which rows of A, columns of B and elements of C are undefined.
  float a[4][8][4], b[4][4][8], c[4][8][8];
  bool badA[4][8] = {}, badB[4][8] = {}, badC[4][8][8] = {};
  auto word = [&](unsigned part, unsigned i, unsigned l) { return w.at<uint32_t>(refs[f.first[part] + i])[l]; };
  auto bad = [&](unsigned part, unsigned i, unsigned l) {
    return w.checks && (w.undefined(refs[f.first[part] + i]) >> l & 1);
  };
  for (unsigned l = 0; l < 32; ++l) {
    const unsigned q = l % 16 / 4;
    for (unsigned i = 0; i < 4; ++i) {
      const Cell ca = quarterA(l, i, rowA), cb = quarterB(l, i, rowB);
      a[q][ca.row][ca.column] = f16ToFloat(word(1, i / 2, l) >> i % 2 * 16 & 0xFFFF);
      b[q][cb.row][cb.column] = f16ToFloat(word(2, i / 2, l) >> i % 2 * 16 & 0xFFFF);
      badA[q][ca.row] |= bad(1, i / 2, l);
      badB[q][cb.column] |= bad(2, i / 2, l);
    }
    for (unsigned i = 0; i < 8; ++i) {
      const Cell cell = quarterC(l, i, halfC);
      const unsigned reg = halfC ? i / 2 : i;
      c[q][cell.row][cell.column] =
          halfC ? f16ToFloat(word(3, reg, l) >> i % 2 * 16 & 0xFFFF) : floatOfBits(word(3, reg, l));
      badC[q][cell.row][cell.column] |= bad(3, reg, l);
    }
  }
  for (unsigned q = 0; q < 4; ++q) {
    for (unsigned r = 0; r < 8; ++r) {
      for (unsigned n = 0; n < 8; ++n) {
        for (unsigned k = 0; k < 4; ++k) {
          c[q][r][n] = __builtin_fmaf(a[q][r][k], b[q][k][n], c[q][r][n]);
        }
        badC[q][r][n] |= badA[q][r] || badB[q][n];
      }
    }
  }
  for (unsigned reg = 0; reg < f.count[0]; ++reg) {
    const Ref &d = refs[f.first[0] + reg];
    uint32_t undefined = 0;
    for (unsigned l = 0; l < 32; ++l) {
      const unsigned q = l % 16 / 4;
      uint32_t bits = 0;
      for (unsigned e = 0; e < (halfD ? 2U : 1U); ++e) {
        const Cell cell = quarterC(l, halfD ? reg * 2 + e : reg, halfD);
        const float v = c[q][cell.row][cell.column];
        bits |= halfD ? floatToF16(v) << e * 16 : v == v ? bitsOfFloat(v) : 0x7FFFFFFF;
        undefined |= uint32_t(badC[q][cell.row][cell.column]) << l;
      }
      w.at<uint32_t>(d)[l] = bits;
    }
    w.setUndefined(d, undefined, ~0U);
  }
  return Step::Next;
}

static Step mmaDouble(Warp &w, const Op &op, uint32_t m) {
  if (Step step = needWholeWarp(w, op, m); step != Step::Next) {
    return step;
  }
  const Fragments &f = w.grid->code->fragments[op.imm];
  const Ref *refs = w.grid->code->refs.data();
  const unsigned M = op.inst->mods.m, K = op.inst->mods.k;
  const bool tall = M == 16;
  double a[16][16], b[16][8], c[16][8];
  for (unsigned l = 0; l < 32; ++l) {
    unsigned g = l / 4, t = l % 4;
    for (unsigned i = 0; i < f.count[1]; ++i) {
      double v = doubleOfBits(w.at<uint64_t>(refs[f.first[1] + i])[l]);
      if (tall) {
        a[g + 8 * (i & 1)][t + 4 * (i / 2)] = v;
      } else {
        a[g][t] = v;
      }
    }
    for (unsigned i = 0; i < f.count[2]; ++i) {
      b[t + 4 * i][g] = doubleOfBits(w.at<uint64_t>(refs[f.first[2] + i])[l]);
    }
    for (unsigned i = 0; i < f.count[3]; ++i) {
      c[g + 8 * (i / 2)][t * 2 + (i & 1)] = doubleOfBits(w.at<uint64_t>(refs[f.first[3] + i])[l]);
    }
  }
  for (unsigned r = 0; r < M; ++r) {
    for (unsigned n = 0; n < 8; ++n) {
      for (unsigned k = 0; k < K; ++k) {
        c[r][n] = __builtin_fma(a[r][k], b[k][n], c[r][n]);
      }
    }
  }
  for (unsigned i = 0; i < f.count[0]; ++i) {
    for (unsigned l = 0; l < 32; ++l) {
      w.at<uint64_t>(refs[f.first[0] + i])[l] = bitsOfDouble(c[l / 4 + 8 * (i / 2)][l % 4 * 2 + (i & 1)]);
    }
  }
  if (w.checks) {
    taintMatrix(w, f, tall, false);
  }
  return Step::Next;
}

/// s8, u8, s4, u4 and b1 with s32 sums.
static Step mmaInteger(Warp &w, const Op &op, uint32_t m) {
  if (Step step = needWholeWarp(w, op, m); step != Step::Next) {
    return step;
  }
  const ptx::Instruction &inst = *op.inst;
  const Fragments &f = w.grid->code->fragments[op.imm];
  const Ref *refs = w.grid->code->refs.data();
  const unsigned bits = ptx::bitsOf(inst.types[1]), p = 32 / bits, M = inst.mods.m, K = inst.mods.k;
  const bool tall = M == 16;
  auto value = [&](uint32_t word, unsigned e, Type type) -> int32_t {
    uint32_t v = bits == 32 ? word : word >> e * bits & ((1U << bits) - 1);
    return ptx::isSigned(type) || type == Type::S4 ? int32_t(v << (32 - bits)) >> (32 - bits) : int32_t(v);
  };
  static thread_local int32_t a[16][256], b[256][8];
  int64_t c[16][8];
  for (unsigned l = 0; l < 32; ++l) {
    unsigned g = l / 4, t = l % 4;
    for (unsigned i = 0; i < f.count[1]; ++i) {
      for (unsigned e = 0; e < p; ++e) {
        unsigned row = tall ? g + 8 * (i & 1) : g, column = p * t + 4 * p * (tall ? i / 2 : i) + e;
        a[row][column] = value(w.at<uint32_t>(refs[f.first[1] + i])[l], e, inst.types[1]);
      }
    }
    for (unsigned i = 0; i < f.count[2]; ++i) {
      for (unsigned e = 0; e < p; ++e) {
        b[p * t + 4 * p * i + e][g] = value(w.at<uint32_t>(refs[f.first[2] + i])[l], e, inst.types[2]);
      }
    }
    for (unsigned i = 0; i < f.count[3]; ++i) {
      c[g + 8 * (i / 2)][t * 2 + (i & 1)] = int32_t(w.at<uint32_t>(refs[f.first[3] + i])[l]);
    }
  }
  const bool isXor = inst.mods.mode == ptx::Mode::XorPopc;
  for (unsigned r = 0; r < M; ++r) {
    for (unsigned n = 0; n < 8; ++n) {
      for (unsigned k = 0; k < K; ++k) {
        c[r][n] += isXor ? a[r][k] ^ b[k][n] : int64_t(a[r][k]) * b[k][n];
      }
    }
  }
  for (unsigned i = 0; i < f.count[0]; ++i) {
    for (unsigned l = 0; l < 32; ++l) {
      int64_t v = c[l / 4 + 8 * (i / 2)][l % 4 * 2 + (i & 1)];
      if (inst.mods.satfinite) {
        v = std::min<int64_t>(std::max<int64_t>(v, INT32_MIN), INT32_MAX);
      }
      w.at<uint32_t>(refs[f.first[0] + i])[l] = uint32_t(v);
    }
  }
  if (w.checks) {
    taintMatrix(w, f, tall, false);
  }
  return Step::Next;
}

template <Type T> static Handler floatFor(unsigned k) {
  switch (k) {
  case 4:
    return mmaFloat<T, T, 4>;
  case 8:
    return mmaFloat<T, T, 8>;
  case 16:
    return mmaFloat<T, T, 16>;
  default:
    return nullptr;
  }
}
template <Type TA, Type TB> static Handler eightFor(unsigned k) {
  return k == 32 ? mmaFloat<TA, TB, 32> : k == 16 ? mmaFloat<TA, TB, 16> : nullptr;
}

bool selectMatrix(Builder &b, const ptx::Instruction &inst, Op &op) {
  const ptx::Modifiers &mods = inst.mods;
  const ptx::Function &fn = b.function;
  switch (inst.op) {
  case Opcode::Ldmatrix:
  case Opcode::Stmatrix: {
    bool load = inst.op == Opcode::Ldmatrix;
    op.flags = OpSync;
    b.list(fn.operand(inst, load ? 0 : 1), 32, op.list, op.listCount);
    if (!b.address(fn.operand(inst, load ? 1 : 0), op.a, op)) {
      return b.fail("this kind of address is not supported");
    }
    op.run = load ? loadMatrix : storeMatrix;
    return true;
  }
  case Opcode::Movmatrix:
    op.flags = OpSync;
    op.d = b.ref(inst, 0, 32);
    op.a = b.ref(inst, 1, 32);
    op.run = moveMatrix;
    return true;
  case Opcode::Mma: {
    op.flags = OpSync;
    b.fragments(inst, op);
    const Type ta = inst.types[1], tb = inst.types[2];
    if (inst.types[0] == Type::F64) {
      op.run = mmaDouble;
    } else if (inst.types[0] == Type::S32) {
      op.run = mmaInteger;
    } else if (mods.m != 16) {
      op.run = mmaQuarters;
    } else if (ta == Type::F16) {
      op.run = floatFor<Type::F16>(mods.k);
    } else if (ta == Type::BF16) {
      op.run = floatFor<Type::BF16>(mods.k);
    } else if (ta == Type::TF32) {
      op.run = floatFor<Type::TF32>(mods.k);
    } else if (ta == Type::E4M3) {
      op.run = tb == Type::E4M3 ? eightFor<Type::E4M3, Type::E4M3>(mods.k) : eightFor<Type::E4M3, Type::E5M2>(mods.k);
    } else {
      op.run = tb == Type::E4M3 ? eightFor<Type::E5M2, Type::E4M3>(mods.k) : eightFor<Type::E5M2, Type::E5M2>(mods.k);
    }
    return op.run != nullptr;
  }
  default:
    return false;
  }
}

} // namespace moert::emulator
