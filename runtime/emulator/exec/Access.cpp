//===- Access.cpp - Loads and stores ---------------------------------------===//
//
// ld, st and their vectors, in every space; kernel parameters and the parameters
// of calls. Cache operators and hints have no effect.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"
#include "runtime/emulator/exec/Indivisible.h"
#include "runtime/emulator/exec/Lanes.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Base;
using ptx::Opcode;
using ptx::Space;
using ptx::Type;

/// A value of `size` bytes as the destination register holds it.
static inline uint64_t extended(uint64_t value, unsigned size, bool isSigned, unsigned width) {
  if (isSigned && size < 8) {
    value = uint64_t(int64_t(value << (64 - 8 * size)) >> (64 - 8 * size));
    if (width < 64) {
      value &= (uint64_t(1) << width) - 1;
    }
  }
  return value;
}

static inline uint64_t readBytes(const uint8_t *from, unsigned size) {
  uint64_t value = 0;
  switch (size) {
  case 1:
    return *from;
  case 2: {
    uint16_t v;
    std::memcpy(&v, from, 2);
    return v;
  }
  case 4: {
    uint32_t v;
    std::memcpy(&v, from, 4);
    return v;
  }
  default:
    std::memcpy(&value, from, 8);
    return value;
  }
}

static void loadElement(Warp &w, const Op &op, const Ref &d, uint32_t m, const Target &t, unsigned at) {
  const unsigned size = op.size;
  if (size == 4 && d.bits == 32) {
    uint32_t *to = w.at<uint32_t>(d);
    if (t.contiguous && op.count == 1) {
      std::memcpy(to, t.pointer[0], 128);
      return;
    }
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        std::memcpy(&to[l], t.pointer[l] + at, 4);
      }
    }
    return;
  }
  if (size == 8 && d.bits == 64) {
    uint64_t *to = w.at<uint64_t>(d);
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        std::memcpy(&to[l], t.pointer[l] + at, 8);
      }
    }
    return;
  }
  const bool isSigned = op.extra & 1;
  for (unsigned l = 0; l < 32; ++l) {
    if (m >> l & 1) {
      if (d.bits == 128) {
        w.at<uint64_t>(d)[l] = readBytes(t.pointer[l] + at, 8);
        w.at<uint64_t>(d)[32 + l] = readBytes(t.pointer[l] + at + 8, 8);
      } else {
        w.setLane(d, l, extended(readBytes(t.pointer[l] + at, size), size, isSigned, d.width));
      }
    }
  }
}

/// The same for strong accesses, with other host threads.
static void loadAtomicElement(Warp &w, const Op &op, const Ref &d, uint32_t m, const Target &t, unsigned at) {
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    const uint8_t *from = t.pointer[l] + at;
    if (d.bits == 128) {
      std::lock_guard<std::mutex> turn(lockOf(from));
      w.at<uint64_t>(d)[l] = loadAtomic(from, 8);
      w.at<uint64_t>(d)[32 + l] = loadAtomic(from + 8, 8);
    } else {
      w.setLane(d, l, extended(loadAtomic(from, op.size), op.size, op.extra & 1, d.width));
    }
  }
}

static void storeAtomicLane(uint8_t *to, const uint8_t *from, unsigned size, unsigned count) {
  const unsigned piece = std::min(size, 8U);
  for (unsigned e = 0; e < count; ++e) {
    std::lock_guard<std::mutex> turn(lockOf(to + size_t(e) * size));
    for (unsigned at = e * size; at < (e + 1) * size; at += piece) {
      storeAtomic(to + at, readBytes(from + at, piece), piece);
    }
  }
}

/// Lanes whose bytes at `at` are not all defined.
static uint32_t undefinedLanes(Warp &w, uint32_t m, const Target &t, unsigned at, unsigned size) {
  uint32_t bad = 0;
  if (t.contiguous && t.shadow[0] && t.shadow[0]->allDefined(t.offset[0], uint64_t(32) * size) && at == 0) {
    return 0;
  }
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    if (t.where[l] == Target::Local) {
      for (unsigned i = 0; i < size; ++i) {
        bad |= uint32_t(!w.localDefined[l][t.offset[l] + at + i]) << l;
      }
    } else if (t.shadow[l]) {
      uint32_t whole = (1U << size) - 1;
      bad |= uint32_t(t.shadow[l]->definedBits(t.offset[l] + at, size) != whole) << l;
    }
  }
  return bad;
}

static Step loadMemory(Warp &w, const Op &op, uint32_t m) {
  Target t;
  w.asked |= (op.flags & OpStrong) != 0;
  const ptx::Modifiers &mods = op.inst->mods;
  const unsigned bytes = unsigned(op.size) * op.count;
  const bool plain = op.size == 4 && op.count == 1 && op.d.bits == 32 && (op.flags & OpMemory);
  Step step = resolve(w, op, m, op.a, op.imm, mods.space, bytes, false, t, 0, plain);
  if (step != Step::Next) {
    return step;
  }
  if (plain && t.contiguous) {
    std::memcpy(w.at<uint32_t>(op.d), t.pointer[0], 128);
    if (w.checks) {
      judge(w, op, m, t, 4, false, AccessMode());
      if (t.shadow[0] && !t.shadow[0]->allDefined(t.offset[0], 128)) {
        spread(t, 4);
        w.undef[op.d.undef] = undefinedLanes(w, m, t, 0, 4);
      } else {
        w.undef[op.d.undef] = 0;
      }
    }
    return Step::Next;
  }
  const Ref *list = w.grid->code->refs.data() + op.list;
  for (unsigned e = 0; e < op.count; ++e) {
    const Ref &d = op.count == 1 ? op.d : list[e];
    if (!d.bits) {
      continue;
    }
    if (w.grid->parallel() && (op.flags & OpStrong)) {
      loadAtomicElement(w, op, d, m, t, e * op.size);
    } else {
      loadElement(w, op, d, m, t, e * op.size);
    }
  }
  if (w.checks) {
    AccessMode mode = accessMode(mods, false);
    judge(w, op, m, t, bytes, false, mode);
    for (unsigned e = 0; e < op.count; ++e) {
      const Ref &d = op.count == 1 ? op.d : list[e];
      if (d.bits) {
        w.setUndefined(d, undefinedLanes(w, m, t, e * op.size, op.size), m);
      }
    }
    if (mode.kind == Strong) {
      for (unsigned l = 0; l < 32; ++l) {
        if (!(m >> l & 1) || t.where[l] == Target::Local) {
          continue;
        }
        const uint8_t *old = readFlag(w, op, t, l, bytes, mode, false);
        for (unsigned e = 0; old && e < op.count; ++e) {
          const Ref &d = op.count == 1 ? op.d : list[e];
          if (d.bits == 128) {
            w.at<uint64_t>(d)[l] = readBytes(old, 8);
            w.at<uint64_t>(d)[32 + l] = readBytes(old + 8, 8);
          } else if (d.bits) {
            w.setLane(d, l, extended(readBytes(old + size_t(e) * op.size, op.size), op.size, op.extra & 1, d.width));
          }
        }
      }
      w.refreshReach();
    }
  }
  if (mods.sem != ptx::Sem::None && mods.sem != ptx::Sem::Weak) {
    w.yield = true; // perhaps a loop that waits for a flag
  }
  return Step::Next;
}

static Step storeMemory(Warp &w, const Op &op, uint32_t m) {
  Target t;
  const ptx::Modifiers &mods = op.inst->mods;
  const unsigned bytes = unsigned(op.size) * op.count;
  const bool plain = op.size == 4 && op.count == 1 && op.d.bits == 32 && (op.flags & OpMemory);
  Step step = resolve(w, op, m, op.a, op.imm, mods.space, bytes, true, t, 0, plain);
  if (step != Step::Next) {
    return step;
  }
  const Ref *list = w.grid->code->refs.data() + op.list;
  if (plain && t.contiguous && !(w.checks && w.undefined(op.d))) {
    const uint32_t *from = w.at<uint32_t>(op.d);
    if (w.checks) {
      judge(w, op, m, t, 4, true, AccessMode(), reinterpret_cast<const uint8_t *>(from));
      if (t.shadow[0]) {
        t.shadow[0]->setDefined(t.offset[0], 128, true);
      }
    }
    std::memcpy(t.pointer[0], from, 128);
    ++w.grid->changes;
    return Step::Next;
  }
  if (plain && t.contiguous) {
    spread(t, 4);
  }
  alignas(64) uint8_t data[32 * 32];
  for (unsigned e = 0; e < op.count; ++e) {
    const Ref &s = op.count == 1 ? op.d : list[e];
    for (unsigned l = 0; l < 32; ++l) {
      if (!(m >> l & 1)) {
        continue;
      }
      uint8_t *to = data + size_t(l) * bytes + size_t(e) * op.size;
      if (s.bits == 128) {
        std::memcpy(to, &w.at<uint64_t>(s)[l], 8);
        std::memcpy(to + 8, &w.at<uint64_t>(s)[32 + l], 8);
      } else {
        uint64_t value = w.lane(s, l);
        std::memcpy(to, &value, op.size);
      }
    }
  }
  if (w.checks) {
    AccessMode mode = accessMode(mods, false);
    judge(w, op, m, t, bytes, true, mode, data);
    for (unsigned e = 0; e < op.count; ++e) {
      const Ref &s = op.count == 1 ? op.d : list[e];
      uint32_t bad = w.undefined(s);
      for (unsigned l = 0; l < 32; ++l) {
        if (!(m >> l & 1)) {
          continue;
        }
        bool defined = !(bad >> l & 1);
        if (t.where[l] == Target::Local) {
          std::memset(&w.localDefined[l][t.offset[l] + e * op.size], defined, op.size);
        } else if (t.shadow[l]) {
          t.shadow[l]->setDefinedBits(t.offset[l] + e * op.size, op.size, defined ? ~0U : 0);
        }
      }
    }
    if (mode.kind == Strong) {
      for (unsigned l = 0; l < 32; ++l) {
        if ((m >> l & 1) && t.where[l] != Target::Local) {
          writeFlag(w, op, t, l, bytes, mode, false);
        }
      }
    }
  }
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    const uint8_t *from = data + size_t(l) * bytes;
    if (w.grid->parallel() && (op.flags & OpStrong)) {
      storeAtomicLane(t.pointer[l], from, op.size, op.count);
    } else {
      std::memcpy(t.pointer[l], from, bytes);
    }
  }
  ++w.grid->changes;
  return Step::Next;
}

/// One lane's register from a parameter space.
static void fromParameter(Warp &w, const Op &op, const Ref &d, unsigned l, const uint8_t *bytes) {
  if (d.bits == 128) {
    std::memcpy(&w.at<uint64_t>(d)[l], bytes, 8);
    std::memcpy(&w.at<uint64_t>(d)[32 + l], bytes + 8, 8);
  } else {
    w.setLane(d, l, extended(readBytes(bytes, std::min<unsigned>(op.size, 8)), op.size, op.extra & 1, d.width));
  }
}

/// ld.param in a kernel: the same for all lanes.
static Step loadParameter(Warp &w, const Op &op, uint32_t m) {
  const Ref *list = w.grid->code->refs.data() + op.list;
  const std::vector<uint8_t> &block = w.grid->config.parameters;
  for (unsigned e = 0; e < op.count; ++e) {
    const Ref &d = op.count == 1 ? op.d : list[e];
    uint64_t at = uint64_t(op.imm) + e * op.size;
    if (at > block.size() || op.size > block.size() - at) {
      return w.fault(FindingKind::OutOfBounds, LaunchError::IllegalAddress, op, unsigned(__builtin_ctz(m)),
                     "parameter byte " + std::to_string(int64_t(at)) + " of " + std::to_string(block.size()));
    }
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        fromParameter(w, op, d, l, block.data() + at);
      }
    }
    w.setUndefined(d, 0, m);
  }
  return Step::Next;
}

/// ld.param and st.param of calls: `extra` bits 1-2 choose the buffer of the frame.
static Step callParameter(Warp &w, const Op &op, uint32_t m) {
  Frame &frame = *w.frame;
  unsigned which = op.extra >> 1;
  std::vector<uint8_t> &buffer = which == 0 ? frame.params : which == 1 ? frame.parameters : frame.results;
  const size_t stride = which == 0   ? frame.code->paramBytes
                        : which == 1 ? frame.code->parameterBytes
                                     : frame.code->resultBytes;
  const Ref *list = w.grid->code->refs.data() + op.list;
  bool store = op.inst->op == Opcode::St;
  for (unsigned e = 0; e < op.count; ++e) {
    const Ref &r = op.count == 1 ? op.d : list[e];
    for (unsigned l = 0; l < 32; ++l) {
      if (!(m >> l & 1)) {
        continue;
      }
      const size_t offset = size_t(op.imm) + size_t(e) * op.size, at = size_t(l) * stride + offset;
      if (offset > stride || op.size > stride - offset) {
        return w.fault(FindingKind::OutOfBounds, LaunchError::IllegalAddress, op, l,
                       "byte " + std::to_string(int64_t(offset)) + " of a parameter space of " +
                           std::to_string(stride));
      }
      if (store) {
        if (r.bits == 128) {
          std::memcpy(&buffer[at], &w.at<uint64_t>(r)[l], 8);
          std::memcpy(&buffer[at + 8], &w.at<uint64_t>(r)[32 + l], 8);
        } else {
          const uint64_t value = w.lane(r, l);
          std::memcpy(&buffer[at], &value, std::min<unsigned>(op.size, 8));
        }
      } else if (r.bits) {
        const bool local = which == 1 && frame.code->parametersInLocal;
        fromParameter(w, op, r, l,
                      local ? &w.local[l][frame.localBase + frame.code->parametersAt() + offset] : &buffer[at]);
      }
    }
    if (!store) {
      w.setUndefined(r, 0, m);
    }
  }
  return Step::Next;
}

static bool parameterOperand(Builder &b, const ptx::Operand &address, Op &op, bool isSigned) {
  op.extra = isSigned;
  switch (address.base) {
  case Base::Parameter:
    if (b.function.isKernel) {
      op.imm = int64_t(b.function.parameters[address.index].offset) + address.offset;
      op.run = loadParameter;
    } else {
      op.imm = int64_t(b.out.parameterOffsets[address.index]) + address.offset;
      op.extra |= 1 << 1;
      op.run = callParameter;
    }
    return true;
  case Base::Result:
    op.imm = int64_t(b.out.resultOffsets[address.index]) + address.offset;
    op.extra |= 2 << 1;
    op.run = callParameter;
    return true;
  case Base::Local:
    if (b.function.locals[address.index].space == Space::Param) {
      op.imm = int64_t(b.function.locals[address.index].offset) + address.offset;
      op.run = callParameter;
      return true;
    }
    return false;
  default:
    return false;
  }
}

/// Local variables named directly: the frame's base is added at run time.
template <Step (*Access)(Warp &, const Op &, uint32_t)> static Step framed(Warp &w, const Op &op, uint32_t m) {
  Op moved = op;
  moved.imm += w.frame->localBase;
  return Access(w, moved, m);
}

bool selectAccess(Builder &b, const ptx::Instruction &inst, Op &op) {
  bool load = inst.op == Opcode::Ld || inst.op == Opcode::Ldu;
  if (!load && inst.op != Opcode::St) {
    return false;
  }
  const Type type = inst.types[0];
  const ptx::Operand &address = b.function.operand(inst, load ? 1 : 0);
  const ptx::Operand &value = b.function.operand(inst, load ? 0 : 1);
  op.size = uint8_t(ptx::bytesOf(type));
  op.count = inst.mods.vector;
  bool strong = inst.mods.sem != ptx::Sem::None && inst.mods.sem != ptx::Sem::Weak;
  op.flags = strong ? OpStrong : OpMemory;
  unsigned bits = op.size <= 4 ? 32 : 64;
  if (op.count > 1 || value.kind == ptx::OperandKind::Vector) {
    b.list(value, bits, op.list, op.listCount);
    op.count = uint8_t(op.listCount);
    op.d = b.code.refs[op.list];
  } else {
    op.d = b.ref(value, bits);
  }
  if (inst.mods.space == Space::Param || address.base == Base::Parameter || address.base == Base::Result) {
    if (parameterOperand(b, address, op, load && ptx::isSigned(type))) {
      return true;
    }
  }
  op.extra = load && ptx::isSigned(type);
  if (address.base == Base::Local) {
    op.a = b.constant(0, 64);
    op.imm = int64_t(b.function.locals[address.index].offset) + address.offset;
    op.run = load ? framed<loadMemory> : framed<storeMemory>;
    return true;
  }
  if (!b.address(address, op.a, op)) {
    return b.fail("this kind of address is not supported");
  }
  op.run = load ? loadMemory : storeMemory;
  return true;
}

} // namespace moert::emulator
