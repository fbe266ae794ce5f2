//===- Stack.cpp - alloca, and memory that loses its contents --------------===//
//
// alloca takes memory behind the .local variables of its function, lane by lane;
// it is free again when the function returns or the stack is restored. discard
// makes 128 bytes of global memory undefined.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Opcode;
using ptx::Space;

/// Local memory that one thread may have, as cards have it.
constexpr uint64_t mostLocal = 512 << 10;

static Step allocateLocal(Warp &w, const Op &op, uint32_t m) {
  requireDefined(w, op, op.a, m, "how much alloca takes");
  Frame &frame = *w.frame;
  frame.openStack();
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    const uint64_t align = uint64_t(op.imm), size = w.lane(op.a, l);
    const uint64_t begin = (frame.tops[l] + align - 1) / align * align;
    if (size > mostLocal || begin + size > mostLocal) {
      return w.fault(FindingKind::Limit, LaunchError::IllegalAddress, op, l,
                     "alloca of " + std::to_string(size) + " bytes at local offset " + std::to_string(begin) +
                         "; a thread has " + std::to_string(mostLocal) + " bytes");
    }
    if (w.local[l].size() < begin + size) {
      w.local[l].resize(begin + size);
      w.localDefined[l].resize(begin + size);
    }
    std::fill_n(w.localDefined[l].begin() + long(begin), size, uint8_t(w.grid->code->localIsDefined));
    frame.tops[l] = uint32_t(begin + size);
    w.setLane(op.d, l, begin);
  }
  w.setUndefined(op.d, 0, m);
  return Step::Next;
}

static Step saveStack(Warp &w, const Op &op, uint32_t m) {
  w.frame->openStack();
  for (unsigned l = 0; l < 32; ++l) {
    if (m >> l & 1) {
      w.setLane(op.d, l, w.frame->tops[l]);
    }
  }
  w.setUndefined(op.d, 0, m);
  return Step::Next;
}

static Step restoreStack(Warp &w, const Op &op, uint32_t m) {
  requireDefined(w, op, op.a, m, "where the stack ends");
  w.frame->openStack();
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    const uint64_t top = w.lane(op.a, l);
    if (top > w.frame->tops[l]) {
      return w.fault(FindingKind::Illegal, LaunchError::IllegalInstruction, op, l,
                     "stackrestore to " + std::to_string(top) + ", above the stack's end at " +
                         std::to_string(w.frame->tops[l]));
    }
    w.frame->tops[l] = uint32_t(top);
  }
  return Step::Next;
}

static Step discard(Warp &w, const Op &op, uint32_t m) {
  constexpr uint64_t bytes = 128;
  requireDefined(w, op, op.a, m, "an address");
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    uint8_t *pointer = nullptr;
    Shadow *shadow = nullptr;
    uint64_t offset = 0;
    Block *owner = nullptr;
    Step step = resolveOne(w, op, l, w.lane(op.a, l) + uint64_t(op.imm), Space::Global, bytes, true, bytes, pointer,
                           shadow, offset, owner);
    if (step != Step::Next) {
      return step;
    }
    if (shadow) {
      WarpJudge judge(w, op);
      judge.lane = l;
      Access now;
      now.time = w.grid->memory->actors.now();
      now.actor = w.actor;
      now.tag = Access::makeTag(l, Weak, ScopeSys, op.site);
      shadow->access(offset, bytes, true, now, w.reach, judge);
      shadow->setDefined(offset, bytes, false);
    }
  }
  return Step::Next;
}

bool selectStack(Builder &b, const ptx::Instruction &inst, Op &op) {
  switch (inst.op) {
  case Opcode::Alloca:
    op.d = b.ref(inst, 0, 64);
    op.a = b.ref(inst, 1, 64);
    op.imm = inst.operandCount > 2 && b.function.operand(inst, 2).kind == ptx::OperandKind::Immediate
                 ? int64_t(b.function.operand(inst, 2).bits)
                 : 8;
    if (op.imm <= 0 || (op.imm & (op.imm - 1)) || op.imm > 1 << 23) {
      return b.fail("the alignment of alloca is " + std::to_string(op.imm) + ", no power of two up to 2^23");
    }
    op.run = allocateLocal;
    return true;
  case Opcode::Stacksave:
    op.d = b.ref(inst, 0, 64);
    op.run = saveStack;
    return true;
  case Opcode::Stackrestore:
    op.a = b.ref(inst, 0, 64);
    op.run = restoreStack;
    return true;
  case Opcode::Discard:
    op.run = discard;
    return b.address(b.function.operand(inst, 0), op.a, op) || b.fail("this kind of address is not supported");
  default:
    return false;
  }
}

} // namespace moert::emulator
