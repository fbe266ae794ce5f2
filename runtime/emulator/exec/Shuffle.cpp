//===- Shuffle.cpp - shfl, vote, match, redux ------------------------------===//
//
// Warp-wide operations with a member mask: lanes that were run apart meet first.
// A lane that reads from one that does not take part gets an undefined value.
// shfl hands on what its source lane has acquired, but not what that lane did.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"
#include "runtime/emulator/exec/Lanes.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Mode;
using ptx::Opcode;
using ptx::Reduce;

/// Groups of lanes with one member mask do the operation together: the members of the first lane not yet `done`.
static bool gather(Warp &w, const Op &op, const Ref &members, uint32_t &m, Step &result) {
  requireDefined(w, op, members, m, "which lanes take part");
  uint32_t first = uint32_t(w.lane(members, unsigned(__builtin_ctz(m))));
  uint32_t all = 0;
  for (unsigned l = 0; l < 32; ++l) {
    if (m >> l & 1) {
      uint32_t mine = uint32_t(w.lane(members, l));
      all |= mine;
      if (!(mine >> l & 1)) {
        result = w.fault(FindingKind::Divergence, LaunchError::IllegalInstruction, op, l,
                         "a lane is not among the members it names");
        return false;
      }
    }
  }
  (void)first;
  if (!w.meet(op, m, all, false)) {
    result = Step::Blocked;
    return false;
  }
  return true;
}

/// Lane l of `m` knows what lane `source[l]` knew of others. Cooperative Groups relies on that: one lane acquires for
/// its warp, and a shuffle tells the others. What the source lane did itself takes a bar.warp.sync to be ordered, but a
/// lane that has a value from it reads its strong writes: they have been performed.
static void passKnown(Warp &w, uint32_t m, const int (&source)[32]) {
  if (w.grid->options.timing != Timing::Early) { // early timing has no older values to read
    const Time now = w.grid->memory->actors.now();
    for (unsigned l = 0; l < 32; ++l) {
      if ((m >> l & 1) && (m >> source[l] & 1) && source[l] != int(l)) {
        w.clocks[l].ordered.learn(Clock::laneKey(w.actor, unsigned(source[l])), now);
      }
    }
  }
  const LaneClocks &first = w.clocks[unsigned(__builtin_ctz(m))];
  bool same = true;
  for (unsigned l = 0; l < 32; ++l) {
    const LaneClocks &c = w.clocks[l];
    same &= !(m >> l & 1) || (c.known.sameAs(first.known) && c.proxied.sameAs(first.proxied) &&
                              c.block == first.block && c.proxiedBlock == first.proxiedBlock);
  }
  if (same) {
    return;
  }
  const std::vector<LaneClocks> before = w.clocks;
  for (unsigned l = 0; l < 32; ++l) {
    if ((m >> l & 1) && (m >> source[l] & 1)) {
      const LaneClocks &from = before[unsigned(source[l])];
      LaneClocks &to = w.clocks[l];
      to.known.join(from.known);
      to.proxied.join(from.proxied);
      to.block = std::max(to.block, from.block);
      to.proxiedBlock = std::max(to.proxiedBlock, from.proxiedBlock);
    }
  }
  w.refreshReach();
}

static Step shuffle(Warp &w, const Op &op, uint32_t m) {
  Step result;
  if (!gather(w, op, op.e, m, result)) {
    return result;
  }
  const uint32_t *a = w.at<uint32_t>(op.a);
  uint32_t undefinedSource = w.checks ? w.undefined(op.a) : 0, bad = 0, valid = 0;
  alignas(64) uint32_t out[32] = {};
  int source[32] = {};
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    auto b = int(w.lane(op.b, l) & 31);
    auto c = uint32_t(w.lane(op.c, l));
    int clamp = int(c & 31), segment = int(c >> 8 & 31);
    int most = (int(l) & segment) | (clamp & ~segment), least = int(l) & segment;
    int j = int(l);
    bool p = false;
    switch (op.inst->mods.mode) {
    case Mode::Up:
      j = int(l) - b;
      p = j >= most;
      break;
    case Mode::Down:
      j = int(l) + b;
      p = j <= most;
      break;
    case Mode::Bfly:
      j = int(l) ^ b;
      p = j <= most;
      break;
    default:
      j = least | (b & ~segment);
      p = j <= most;
      break;
    }
    if (!p) {
      j = int(l);
    }
    out[l] = a[j];
    source[l] = j;
    valid |= uint32_t(p) << l;
    // A source lane that does not take part hands over nothing.
    bad |= uint32_t(!(m >> j & 1) || (undefinedSource >> j & 1)) << l;
  }
  if (w.checks) {
    passKnown(w, m, source);
  }
  storeLanes(w.at<uint32_t>(op.d), m, [&](unsigned l) { return out[l]; });
  w.setUndefined(op.d, w.checks ? bad : 0, m);
  if (op.d2.bits) {
    uint32_t &p = w.predicate(op.d2);
    p = (p & ~m) | (valid & m);
    w.setUndefined(op.d2, 0, m);
  }
  return Step::Next;
}

static Step vote(Warp &w, const Op &op, uint32_t m) {
  Step result;
  if (!gather(w, op, op.b, m, result)) {
    return result;
  }
  uint32_t p = w.predicateValue(op.a) & m;
  bool badSource = w.checks && (w.undefined(op.a) & m);
  // Lanes of other masks vote apart.
  uint32_t rest = m;
  while (rest) {
    uint32_t members = uint32_t(w.lane(op.b, unsigned(__builtin_ctz(rest)))) & m;
    uint32_t yes = p & members;
    Mode mode = op.inst->mods.mode;
    if (mode == Mode::Ballot) {
      storeLanes(w.at<uint32_t>(op.d), members, [&](unsigned) { return yes; });
    } else {
      bool value = mode == Mode::All ? yes == members : mode == Mode::Any ? yes != 0 : yes == 0 || yes == members;
      uint32_t &d = w.predicate(op.d);
      d = (d & ~members) | (value ? members : 0);
    }
    rest &= ~members;
  }
  w.setUndefined(op.d, badSource ? ~0U : 0, m);
  return Step::Next;
}

static Step match(Warp &w, const Op &op, uint32_t m) {
  Step result;
  if (!gather(w, op, op.b, m, result)) {
    return result;
  }
  bool all = op.inst->mods.mode == Mode::All;
  uint32_t agree = 0;
  alignas(64) uint32_t out[32] = {};
  for (unsigned l = 0; l < 32; ++l) {
    if (!(m >> l & 1)) {
      continue;
    }
    uint32_t members = uint32_t(w.lane(op.b, l)) & m;
    uint32_t same = 0;
    for (unsigned k = 0; k < 32; ++k) {
      same |= uint32_t((members >> k & 1) && w.lane(op.a, k) == w.lane(op.a, l)) << k;
    }
    bool every = same == members;
    out[l] = all ? (every ? members : 0) : same;
    agree |= uint32_t(every) << l;
  }
  storeLanes(w.at<uint32_t>(op.d), m, [&](unsigned l) { return out[l]; });
  uint32_t bad = w.checks && (w.undefined(op.a) & m) ? ~0U : 0;
  w.setUndefined(op.d, bad, m);
  if (op.d2.bits) {
    uint32_t &p = w.predicate(op.d2);
    p = (p & ~m) | (agree & m);
    w.setUndefined(op.d2, bad, m);
  }
  return Step::Next;
}

static Step reduce(Warp &w, const Op &op, uint32_t m) {
  Step result;
  if (!gather(w, op, op.b, m, result)) {
    return result;
  }
  const uint32_t *a = w.at<uint32_t>(op.a);
  bool isSigned = op.inst->types[0] == ptx::Type::S32;
  uint32_t rest = m;
  while (rest) {
    unsigned first = unsigned(__builtin_ctz(rest));
    uint32_t members = uint32_t(w.lane(op.b, first)) & m;
    uint32_t r = a[first];
    for (unsigned l = first + 1; l < 32; ++l) {
      if (!(members >> l & 1)) {
        continue;
      }
      switch (op.inst->mods.reduce) {
      case Reduce::Add:
        r += a[l];
        break;
      case Reduce::Min:
        r = isSigned ? uint32_t(std::min(int32_t(r), int32_t(a[l]))) : std::min(r, a[l]);
        break;
      case Reduce::Max:
        r = isSigned ? uint32_t(std::max(int32_t(r), int32_t(a[l]))) : std::max(r, a[l]);
        break;
      case Reduce::And:
        r &= a[l];
        break;
      case Reduce::Or:
        r |= a[l];
        break;
      default:
        r ^= a[l];
        break;
      }
    }
    bool bad = w.checks && (w.undefined(op.a) & members);
    storeLanes(w.at<uint32_t>(op.d), members, [&](unsigned) { return r; });
    w.setUndefined(op.d, bad ? ~0U : 0, members);
    rest &= ~members;
  }
  return Step::Next;
}

bool selectShuffle(Builder &b, const ptx::Instruction &inst, Op &op) {
  op.flags = OpSync;
  switch (inst.op) {
  case Opcode::Shfl:
  case Opcode::Match: {
    op.d = b.ref(inst, 0, 32);
    bool second = inst.operandCount > 1;
    unsigned at = 2;
    if (second && b.function.operand(inst, 1).kind != ptx::OperandKind::None) {
      op.d2 = b.ref(inst, 1, 1);
    }
    if (inst.op == Opcode::Match) {
      // match.any has no predicate position.
      at = inst.mods.mode == Mode::Any ? 1 : 2;
      if (at == 1) {
        op.d2 = Ref();
      }
      op.a = b.ref(inst, at, storedBits(inst.types[0]));
      op.b = b.ref(inst, at + 1, 32);
      op.run = match;
      return true;
    }
    op.a = b.ref(inst, 2, 32);
    op.b = b.ref(inst, 3, 32);
    op.c = b.ref(inst, 4, 32);
    op.e = b.ref(inst, 5, 32);
    op.run = shuffle;
    return true;
  }
  case Opcode::Vote:
    op.d = b.ref(inst, 0, 32);
    op.a = b.ref(inst, 1, 1);
    op.b = b.ref(inst, 2, 32);
    op.run = vote;
    return true;
  case Opcode::Redux:
    op.d = b.ref(inst, 0, 32);
    op.a = b.ref(inst, 1, 32);
    op.b = b.ref(inst, 2, 32);
    op.run = reduce;
    return true;
  default:
    op.flags = 0;
    return false;
  }
}

} // namespace moert::emulator
