//===- Wmma.cpp - wmma of a warp -------------------------------------------===//
//
// The layout of a fragment is not defined by PTX; here lane l holds elements
// l * n .. of the matrix in row order (A and B twice over).
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"
#include "runtime/emulator/exec/Formats.h"
#include "runtime/emulator/exec/Lanes.h"
#include "runtime/emulator/exec/SharedMatrix.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Opcode;
using ptx::Type;

namespace {
/// A fragment: its matrix and how elements are packed in registers.
struct WmmaShape {
  unsigned rows, columns, perRegister, bits;
};
} // namespace

static WmmaShape wmmaShape(const ptx::Instruction &inst, char which, Type type) {
  unsigned m = inst.mods.m, n = inst.mods.n, k = inst.mods.k;
  unsigned rows = which == 'b' ? k : m, columns = which == 'a' ? k : n;
  unsigned bits = ptx::bitsOf(type);
  return {rows, columns, bits >= 32 ? 1 : 32 / bits, bits};
}

static char fragmentOf(const ptx::Instruction &inst) {
  switch (inst.mods.mode) {
  case ptx::Mode::FragmentA:
    return 'a';
  case ptx::Mode::FragmentB:
    return 'b';
  default:
    return 'c';
  }
}

static Step wmmaAccess(Warp &w, const Op &op, uint32_t m) {
  if (m != ~0U) {
    return w.fault(FindingKind::Divergence, LaunchError::IllegalInstruction, op, unsigned(__builtin_ctz(m)),
                   "wmma is executed by a part of the warp");
  }
  const ptx::Instruction &inst = *op.inst;
  const bool load = inst.op == Opcode::WmmaLoad;
  const char which = fragmentOf(inst);
  const WmmaShape s = wmmaShape(inst, which, inst.types[0]);
  const Ref *refs = w.grid->code->refs.data() + op.list;
  const bool rowMajor = inst.mods.majorA == ptx::Major::Row;
  const uint64_t lead = op.b.bits ? w.lane(op.b, 0) : rowMajor ? s.columns : s.rows;
  requireDefined(w, op, op.a, m, "an address");
  const unsigned total = s.rows * s.columns, perLane = op.listCount * s.perRegister;
  const unsigned bytes = std::max(1U, s.bits / 8);
  WarpJudge judge(w, op);
  Access now;
  now.time = w.checks ? w.grid->memory->actors.now() : 0;
  now.actor = w.actor;
  for (unsigned l = 0; l < 32; ++l) {
    for (unsigned i = 0; i < op.listCount; ++i) {
      uint64_t value = load ? 0 : w.lane(refs[i], l);
      bool bad = !load && w.checks && (w.undefined(refs[i]) >> l & 1);
      for (unsigned e = 0; e < s.perRegister; ++e) {
        const unsigned element = (l * perLane + i * s.perRegister + e) % total;
        const unsigned r = element / s.columns, c = element % s.columns;
        // Elements of less than a byte are read only, each with the byte that it lies in.
        const uint64_t at = (rowMajor ? r * lead + c : c * lead + r) * s.bits;
        const uint64_t address = w.lane(op.a, l) + uint64_t(op.imm) + at / 8;
        uint8_t *pointer = nullptr;
        Shadow *shadow = nullptr;
        uint64_t offset = 0;
        Block *owner = nullptr;
        Step step = resolveOne(w, op, l, address, inst.mods.space, bytes, !load, bytes, pointer, shadow, offset, owner);
        if (step != Step::Next) {
          return step;
        }
        if (shadow) {
          judge.lane = l;
          judge.shared = owner != nullptr;
          now.tag = Access::makeTag(l, Weak, ScopeSys, op.site);
          shadow->access(offset, bytes, !load, now, w.reach, judge);
        }
        if (load) {
          uint64_t bits = 0;
          std::memcpy(&bits, pointer, bytes);
          bits = s.bits < 8 ? bits >> at % 8 & ((1U << s.bits) - 1) : bits;
          value |= bits << e * s.bits % 64;
          bad |= shadow && shadow->definedBits(offset, bytes) != (1U << bytes) - 1;
        } else {
          uint64_t bits = value >> e * s.bits % 64;
          std::memcpy(pointer, &bits, bytes);
          if (shadow) {
            shadow->setDefined(offset, bytes, !bad);
          }
        }
      }
      if (load) {
        w.setLane(refs[i], l, value);
        w.setUndefined(refs[i], bad ? ~0U : 0, 1U << l);
      }
    }
  }
  ++w.grid->changes;
  return Step::Next;
}

static double wmmaValue(uint64_t bits, Type type) {
  switch (type) {
  case Type::F64:
    return doubleOfBits(bits);
  case Type::F32:
    return floatOfBits(uint32_t(bits));
  case Type::S32:
    return double(int32_t(bits));
  case Type::S4:
    return double(int32_t(uint32_t(bits) << 28) >> 28);
  case Type::U4:
    return double(bits & 15);
  case Type::B1:
    return double(bits & 1);
  default:
    return elementOf(uint32_t(bits), type);
  }
}

static Step wmmaMultiply(Warp &w, const Op &op, uint32_t m) {
  if (m != ~0U) {
    return w.fault(FindingKind::Divergence, LaunchError::IllegalInstruction, op, unsigned(__builtin_ctz(m)),
                   "wmma is executed by a part of the warp");
  }
  const ptx::Instruction &inst = *op.inst;
  const Fragments &f = w.grid->code->fragments[op.imm];
  const Ref *refs = w.grid->code->refs.data();
  // The f16 form names the types of D and C only.
  const bool brief = inst.types[2] == Type::None;
  const Type types[4] = {inst.types[0], brief ? Type::F16 : inst.types[1], brief ? Type::F16 : inst.types[2],
                         brief ? inst.types[1] : inst.types[3]};
  const char names[] = {'d', 'a', 'b', 'c'};
  std::vector<double> values[4];
  uint32_t bad = 0;
  for (unsigned part = 1; part < 4; ++part) {
    WmmaShape s = wmmaShape(inst, names[part], types[part]);
    values[part].resize(size_t(s.rows) * s.columns);
    for (unsigned l = 0; l < 32; ++l) {
      for (unsigned i = 0; i < f.count[part]; ++i) {
        uint64_t bits = w.lane(refs[f.first[part] + i], l);
        for (unsigned e = 0; e < s.perRegister; ++e) {
          unsigned at = (l * f.count[part] + i) * s.perRegister + e;
          values[part][at % values[part].size()] = wmmaValue(bits >> e * s.bits % 64, types[part]);
        }
      }
    }
    for (unsigned i = 0; i < f.count[part]; ++i) {
      bad |= w.checks ? w.undefined(refs[f.first[part] + i]) : 0;
    }
  }
  const unsigned M = inst.mods.m, N = inst.mods.n, K = inst.mods.k;
  std::vector<double> sum = values[3];
  for (unsigned r = 0; r < M; ++r) {
    for (unsigned n = 0; n < N; ++n) {
      for (unsigned k = 0; k < K; ++k) {
        const double x = values[1][r * K + k], y = values[2][k * N + n];
        const double product = inst.mods.mode == ptx::Mode::XorPopc ? double(x != y) : x * y;
        sum[r * N + n] = types[0] == Type::F64 || types[0] == Type::S32 ? sum[r * N + n] + product
                                                                        : double(float(sum[r * N + n] + product));
      }
    }
  }
  WmmaShape s = wmmaShape(inst, 'd', types[0]);
  for (unsigned l = 0; l < 32; ++l) {
    for (unsigned i = 0; i < f.count[0]; ++i) {
      uint64_t bits = 0;
      for (unsigned e = 0; e < s.perRegister; ++e) {
        double v = sum[((l * f.count[0] + i) * s.perRegister + e) % sum.size()];
        uint64_t one = types[0] == Type::F64   ? bitsOfDouble(v)
                       : types[0] == Type::F32 ? bitsOfFloat(float(v))
                       : types[0] == Type::S32
                           ? uint32_t(inst.mods.satfinite ? int64_t(std::min(std::max(v, -2147483648.0), 2147483647.0))
                                                          : int64_t(v))
                           : encode(v, formatF16, ptx::Round::RN, false);
        bits |= one << e * s.bits % 64;
      }
      w.setLane(refs[f.first[0] + i], l, bits);
    }
  }
  for (unsigned i = 0; i < f.count[0]; ++i) {
    w.setUndefined(refs[f.first[0] + i], bad ? ~0U : 0, ~0U);
  }
  return Step::Next;
}

bool selectWmma(Builder &b, const ptx::Instruction &inst, Op &op) {
  const ptx::Function &fn = b.function;
  switch (inst.op) {
  case Opcode::WmmaLoad:
  case Opcode::WmmaStore: {
    op.flags = OpSync;
    bool load = inst.op == Opcode::WmmaLoad;
    unsigned bits = ptx::bitsOf(inst.types[0]);
    b.list(fn.operand(inst, load ? 0 : 1), bits == 64 ? 64 : 32, op.list, op.listCount);
    if (inst.operandCount > 2 && fn.operand(inst, 2).kind != ptx::OperandKind::None) {
      op.b = b.ref(inst, 2, 32);
    }
    op.run = wmmaAccess;
    return b.address(fn.operand(inst, load ? 1 : 0), op.a, op) || b.fail("this kind of address is not supported");
  }
  case Opcode::WmmaMma: {
    op.flags = OpSync;
    b.fragments(inst, op);
    op.run = wmmaMultiply;
    return true;
  }
  default:
    return false;
  }
}

} // namespace moert::emulator
