//===- Control.cpp - Splits, branches, calls and exits ---------------------===//
//
// Divergence and reconvergence as Warp.h describes them, and the loop that runs
// a warp. Splits of one warp run in turns of 64 instructions.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Warp.h"

#include <algorithm>
#include <cstring>

namespace moert::emulator {

using ptx::Opcode;
using ptx::OperandKind;

void Warp::load(int32_t split) {
  Split &s = splits[split];
  current = split;
  pc = s.pc;
  mask = s.mask;
  entry = s.entry;
  frame = s.frame;
  base[0] = frame->registers;
  undef = frame->undef.data();
}

void Warp::store() {
  if (current >= 0) {
    Split &s = splits[current];
    s.pc = pc;
    s.mask = mask;
    s.entry = entry;
    s.frame = frame;
  }
}

int32_t Warp::newSplit(uint32_t atPc, uint32_t lanes, int32_t atEntry, Frame *inFrame) {
  size_t i = 0;
  while (i < splits.size() && splits[i].mask != 0) {
    ++i;
  }
  if (i == splits.size()) {
    splits.emplace_back();
  }
  Split s;
  s.pc = atPc;
  s.mask = lanes;
  s.entry = atEntry;
  s.frame = inFrame;
  splits[i] = s;
  return int32_t(i);
}

int32_t Warp::newEntry(uint32_t atPc, uint32_t expected, int32_t parent, Frame *inFrame, bool isReturn) {
  size_t i = 0;
  while (i < entries.size() && entries[i].used) {
    ++i;
  }
  if (i == entries.size()) {
    entries.emplace_back();
  }
  Entry e;
  e.pc = atPc;
  e.expected = expected;
  e.parent = parent;
  e.frame = inFrame;
  e.isReturn = isReturn;
  e.used = true;
  entries[i] = e;
  return int32_t(i);
}

Frame *Warp::newFrame(const FunctionCode &code, Frame *caller, uint32_t lanes) {
  std::unique_ptr<Frame> made;
  for (auto &spare : spareFrames) {
    if (spare && spare->code == &code) {
      made = std::move(spare);
      spare = std::move(spareFrames.back());
      spareFrames.pop_back();
      break;
    }
  }
  if (!made) {
    made = std::make_unique<Frame>();
    made->code = &code;
    made->storage.reset(new uint8_t[code.frameBytes + 128]);
    auto address = reinterpret_cast<uintptr_t>(made->storage.get());
    made->registers = made->storage.get() + (128 - address % 128) % 128;
    std::memset(made->registers, 0, code.frameBytes);
    made->parameters.resize(size_t(code.parameterBytes) * 32);
    made->results.resize(size_t(code.resultBytes) * 32);
    made->params.resize(size_t(code.paramBytes) * 32);
  }
  // A register is undefined until it is written.
  made->undef.assign(code.undefCount, ~0U);
  made->undef[0] = 0;
  made->undef[1] = 0;
  made->caller = caller;
  uint32_t align = std::max<uint32_t>(code.function->localAlign, 16);
  made->tops.clear();
  uint32_t top = caller ? caller->localEnd() : 0;
  for (uint32_t taken : caller ? caller->tops : std::vector<uint32_t>()) {
    top = std::max(top, taken);
  }
  made->localBase = (top + align - 1) / align * align;
  uint64_t needed = made->localBase + code.localBytes();
  if (code.localBytes()) {
    for (unsigned l = 0; l < 32; ++l) {
      if (local[l].size() < needed) {
        local[l].resize(needed);
        localDefined[l].resize(needed);
      }
      if (lanes >> l & 1) {
        std::fill(localDefined[l].begin() + made->localBase, localDefined[l].begin() + needed,
                  uint8_t(grid->code->localIsDefined));
      }
    }
  }
  frames.push_back(std::move(made));
  return frames.back().get();
}

void Warp::freeFrame(Frame *old) {
  for (auto &slot : frames) {
    if (slot.get() == old) {
      spareFrames.push_back(std::move(slot));
      slot = std::move(frames.back());
      frames.pop_back();
      return;
    }
  }
}

void Warp::dropCurrent() {
  splits[current].mask = 0;
  current = -1;
}

void Warp::diverge(uint32_t takenMask, uint32_t takenPc, uint32_t otherPc, uint32_t join) {
  uint32_t other = mask & ~takenMask;
  if (join != noPc &&
      !(entry >= 0 && entries[entry].pc == join && entries[entry].frame == frame && !entries[entry].isReturn)) {
    entry = newEntry(join, mask, entry, frame, false);
  }
  newSplit(takenPc, takenMask, entry, frame);
  mask = other;
  pc = otherPc;
}

void Warp::release(int32_t index) {
  Entry e = entries[index];
  entries[index].used = false;
  if (e.isReturn && e.callee) {
    freeFrame(e.callee);
  }
  if (e.arrived) {
    newSplit(e.pc, e.arrived, e.parent, e.frame);
  }
}

/// What must be over when a block ends, because its shared memory ends with it.
static void judgeExit(Block &block) {
  for (auto &warp : block.warps) {
    for (unsigned l = 0; l < 32; ++l) {
      if (const Op *op = warp->bulkReads[l]) {
        warp->report(FindingKind::Race, *op, l,
                     "a bulk copy reads shared memory, and the block exits without a wait for it");
      }
    }
  }
  const Actors &actors = block.grid->memory->actors;
  for (const auto &[who, visit] : block.visits) {
    if (!block.exits.knows(actors, who.first, who.second, visit.time)) {
      visit.warp->report(FindingKind::Race, *visit.op, visit.lane,
                         (visit.copies ? "copies from or to" : "accesses") + std::string(" shared memory of block ") +
                             std::to_string(block.rank) +
                             " of the cluster, and nothing orders that before the block's exit");
    }
  }
}

void Warp::exitLanes(uint32_t lanes) {
  if (checks && block->clusterBlocks.size() > 1) {
    for (unsigned l = 0; l < 32; ++l) {
      if (lanes >> l & 1) {
        block->exits.join(exported(l));
      }
    }
  }
  live &= ~lanes;
  mask &= ~lanes;
  int32_t at = entry;
  if (mask == 0) {
    dropCurrent();
  }
  while (at >= 0) {
    int32_t parent = entries[at].parent;
    entries[at].expected &= ~lanes;
    if (entries[at].arrived == entries[at].expected) {
      release(at);
    }
    at = parent;
  }
  for (Split &s : splits) {
    if (s.mask && s.state == Split::AtSync) {
      s.state = Split::Ready; // looks again at who is still there
    }
  }
  block->liveThreads -= unsigned(__builtin_popcount(lanes));
  ++grid->changes;
  if (live == 0) {
    --block->liveWarps;
    wakeWarpgroup(*this);
  }
  if (checks && block->liveThreads == 0) {
    judgeExit(*block);
  }
  for (unsigned b = 0; b < 16; ++b) {
    barrierCheck(*block, b);
  }
  clusterCheck(*block);
}

Step Warp::run(uint64_t budget) {
  yield = false;
  Step result = Step::Blocked;
  const bool delay = grid->options.delayLanes;
  while (budget) {
    // The next split that can go on.
    unsigned ready = 0;
    int32_t next = -1;
    for (uint32_t i = 0; i < splits.size(); ++i) {
      uint32_t index = (lastSplit + 1 + i) % uint32_t(splits.size());
      if (splits[index].mask && splits[index].state == Split::Ready) {
        ++ready;
        next = next < 0 ? int32_t(index) : next;
      }
    }
    if (next < 0) {
      return result;
    }
    lastSplit = uint32_t(next);
    load(next);
    uint64_t turn = ready > 1 ? std::min<uint64_t>(budget, 64) : budget;
    budget -= turn;
    const Op *ops = frame->code->ops.data();
    uint64_t count = 0, threads = 0;
    asked = false;
    while (turn--) {
      const Op &op = ops[pc];
      if (delay) {
        while (entry >= 0 && entries[entry].pc == pc && entries[entry].frame == frame && op.run != joinLanes &&
               !entries[entry].isReturn) {
          Entry &meeting = entries[entry];
          meeting.arrived |= mask;
          meeting.patience = 0;
          if (meeting.arrived != meeting.expected) {
            ++count; // the others have their turn next: no standstill
            dropCurrent();
            break;
          }
          mask = meeting.arrived;
          entry = meeting.parent;
          meeting.used = false;
        }
        if (current < 0) {
          break;
        }
      }
      if (apart && mask != live && op.run != joinLanes && op.inst->mods.aligned && !regroup()) {
        ++count;
        break;
      }
      uint32_t active = mask;
      if (delay) {
        if (!(op.flags & OpSync) && op.nextSync > pc + 1 && (op.flags & (OpMemory | OpStrong)) && (mask & (mask - 1)) &&
            grid->random() % 4 == 0) {
          auto half = uint32_t(grid->random()) & mask;
          if (half && half != mask) {
            entry = newEntry(op.nextSync, mask, entry, frame, false);
            newSplit(pc, half, entry, frame);
            mask &= ~half;
            active = mask;
          }
        }
      }
      if (op.guarded) {
        active &= *reinterpret_cast<uint32_t *>(base[0] + op.guard) ^ op.guardXor;
        if (checks && (undef[op.guardUndef] & mask)) {
          unsigned lane = unsigned(__builtin_ctz(undef[op.guardUndef] & mask));
          report(FindingKind::Undefined, op, lane, "undefined bits decide whether this is executed");
          undef[op.guardUndef] &= ~mask;
        }
      }
      if (active == 0 && !(op.flags & OpControl)) {
        ++pc;
        ++count; // issued, though for no lane: a warp that does this goes on
        continue;
      }
      ++count;
      threads += unsigned(__builtin_popcount(active));
      if (!mmaInFlight.empty()) {
        judgeRegisters(op);
      }
      Step step = op.run(*this, op, active);
      if (step == Step::Next) {
        if (checks && (op.flags & OpPure)) {
          uint32_t bad = undef[op.a.undef] | undef[op.b.undef] | undef[op.c.undef] | undef[op.e.undef];
          undef[op.d.undef] = (undef[op.d.undef] & ~active) | (bad & active);
          undef[op.d2.undef] = (undef[op.d2.undef] & ~active) | (bad & active);
          undef[0] = 0;
          undef[1] = 0;
        }
        ++pc;
        if (yield) {
          break;
        }
        continue;
      }
      if (step == Step::Jumped) {
        if (current < 0) {
          break;
        }
        ops = frame->code->ops.data();
        continue;
      }
      if (step == Step::Failed) {
        store();
        return Step::Failed;
      }
      break; // Blocked
    }
    store();
    instructions += count;
    threadInstructions += threads;
    if (asked || spinning) {
      losePatience(count);
    }
    if (count) {
      result = Step::Next;
    }
    if (yield) {
      yield = false;
      if (ready <= 1) {
        return Step::Next;
      }
    }
  }
  return Step::Next;
}

Step joinLanes(Warp &w, const Op &, uint32_t) {
  while (w.entry >= 0 && w.entries[w.entry].pc == w.pc && w.entries[w.entry].frame == w.frame &&
         !w.entries[w.entry].isReturn) {
    Entry &e = w.entries[w.entry];
    e.arrived |= w.mask;
    e.patience = 0;
    if (e.arrived != e.expected) {
      w.dropCurrent();
      return Step::Blocked;
    }
    w.mask = e.arrived;
    w.entry = e.parent;
    e.used = false;
  }
  ++w.pc;
  return Step::Jumped;
}

static Step branch(Warp &w, const Op &op, uint32_t m) {
  if (m == w.mask) {
    w.pc = op.target;
  } else if (m == 0) {
    ++w.pc;
  } else {
    w.diverge(m, op.target, w.pc + 1, op.join);
  }
  return Step::Jumped;
}

static bool undefinedOperand(Warp &w, const Op &op, const Ref &ref, uint32_t m, const char *what) {
  uint32_t bad = w.checks ? w.undefined(ref) & m : 0;
  if (bad) {
    w.report(FindingKind::Undefined, op, unsigned(__builtin_ctz(bad)), std::string("undefined bits decide ") + what);
    w.undef[ref.undef] &= ~bad;
  }
  return bad != 0;
}

static Step branchTable(Warp &w, const Op &op, uint32_t m) {
  undefinedOperand(w, op, op.a, m, "where this goes");
  const auto &table = w.frame->code->function->branchTables[op.imm];
  uint32_t rest = m;
  uint32_t through = w.mask & ~m;
  uint32_t next = w.pc + 1;
  int32_t entry = w.entry;
  bool apart = through != 0;
  uint32_t first = w.at<uint32_t>(op.a)[m ? __builtin_ctz(m) : 0];
  for (unsigned l = 0; l < 32 && m; ++l) {
    if (m >> l & 1) {
      uint32_t index = w.at<uint32_t>(op.a)[l];
      if (index >= table.size()) {
        return w.fault(FindingKind::Illegal, LaunchError::IllegalInstruction, op, l,
                       "brx.idx index " + std::to_string(index) + " is not below " + std::to_string(table.size()));
      }
      apart |= index != first;
    }
  }
  if (!m) {
    ++w.pc;
    return Step::Jumped;
  }
  auto pcOf = [&](uint32_t index) {
    const FunctionCode &code = *w.frame->code;
    return code.blockPc[table[index]];
  };
  if (!apart) {
    w.pc = pcOf(first);
    return Step::Jumped;
  }
  if (op.join != noPc) {
    entry = w.newEntry(op.join, w.mask, w.entry, w.frame, false);
  }
  while (rest) {
    uint32_t index = w.at<uint32_t>(op.a)[__builtin_ctz(rest)];
    uint32_t same = 0;
    for (unsigned l = 0; l < 32; ++l) {
      same |= uint32_t((rest >> l & 1) && w.at<uint32_t>(op.a)[l] == index) << l;
    }
    w.newSplit(pcOf(index), same, entry, w.frame);
    rest &= ~same;
  }
  if (through) {
    w.newSplit(next, through, entry, w.frame);
  }
  w.dropCurrent();
  return Step::Jumped;
}

/// Copies arguments of the lanes `m` into `callee`.
/// False when an argument is smaller than the parameter that it is for.
static bool passArguments(Warp &w, const Op &op, Frame *callee, uint32_t m) {
  const FunctionCode &to = *callee->code;
  const Ref *refs = w.grid->code->refs.data() + op.list;
  for (uint32_t i = 0; i < op.listCount && i < to.function->parameters.size(); ++i) {
    const ptx::Variable &parameter = to.function->parameters[i];
    const Ref &from = refs[i];
    for (unsigned l = 0; l < 32; ++l) {
      if (!(m >> l & 1)) {
        continue;
      }
      if (parameter.reg != ptx::none) {
        const Ref &target = to.registers[parameter.reg];
        uint64_t value = w.lane(from, l);
        if (target.bits == 64) {
          reinterpret_cast<uint64_t *>(callee->registers + target.offset)[l] = value;
        } else {
          reinterpret_cast<uint32_t *>(callee->registers + target.offset)[l] = uint32_t(value);
        }
        callee->undef[target.undef] = (callee->undef[target.undef] & ~(1U << l)) | (w.undefined(from) & 1U << l);
      } else if (from.base == refLocalParam) {
        const uint8_t *bytes = w.frame->callBytes(l, from.offset, parameter.size);
        if (!bytes) {
          return false;
        }
        std::memcpy(&callee->parameters[size_t(l) * to.parameterBytes + to.parameterOffsets[i]], bytes, parameter.size);
      } else {
        uint64_t value = w.lane(from, l);
        std::memcpy(&callee->parameters[size_t(l) * to.parameterBytes + to.parameterOffsets[i]], &value,
                    std::min<uint64_t>(parameter.size, 8));
      }
    }
  }
  return true;
}

/// False when a result does not fit where the caller wants it.
static bool passResults(Warp &w, const Op &call, Frame *callee, Frame *caller, uint32_t m) {
  const FunctionCode &from = *callee->code;
  const Ref *refs = w.grid->code->refs.data() + call.list2;
  for (uint32_t i = 0; i < call.list2Count && i < from.function->results.size(); ++i) {
    const ptx::Variable &result = from.function->results[i];
    const Ref &to = refs[i];
    for (unsigned l = 0; l < 32; ++l) {
      if (!(m >> l & 1)) {
        continue;
      }
      uint64_t value = 0;
      bool undefined = false;
      if (result.reg != ptx::none) {
        const Ref &source = from.registers[result.reg];
        value = source.bits == 64 ? reinterpret_cast<uint64_t *>(callee->registers + source.offset)[l]
                                  : reinterpret_cast<uint32_t *>(callee->registers + source.offset)[l];
        undefined = callee->undef[source.undef] >> l & 1;
      } else {
        const uint8_t *bytes = &callee->results[size_t(l) * from.resultBytes + from.resultOffsets[i]];
        if (to.base == refLocalParam) {
          uint8_t *target = caller->callBytes(l, to.offset, result.size);
          if (!target) {
            return false;
          }
          std::memcpy(target, bytes, result.size);
          continue;
        }
        std::memcpy(&value, bytes, std::min<uint64_t>(result.size, 8));
      }
      if (to.base == refLocalParam) {
        const uint64_t size = std::min<uint64_t>(result.size, 8);
        uint8_t *target = caller->callBytes(l, to.offset, size);
        if (!target) {
          return false;
        }
        std::memcpy(target, &value, size);
      } else if (to.bits == 64) {
        reinterpret_cast<uint64_t *>(caller->registers + to.offset)[l] = value;
      } else if (to.bits == 32) {
        reinterpret_cast<uint32_t *>(caller->registers + to.offset)[l] = uint32_t(value);
      }
      if (to.base != refLocalParam) {
        caller->undef[to.undef] = (caller->undef[to.undef] & ~(1U << l)) | uint32_t(undefined) << l;
      }
    }
  }
  return true;
}

static Step enter(Warp &w, const Op &op, uint32_t m, uint32_t function) {
  const FunctionCode &code = w.grid->code->functions[function];
  if (code.ops.empty()) {
    return callBuiltin(w, op, m, *code.function);
  }
  Frame *caller = w.frame;
  unsigned depth = 0;
  for (Frame *f = caller; f; f = f->caller) {
    ++depth;
  }
  if (depth > 4096) {
    return w.fault(FindingKind::Limit, LaunchError::IllegalAddress, op, unsigned(__builtin_ctz(m)),
                   "calls nest deeper than 4096: the stack is full");
  }
  Frame *callee = w.newFrame(code, caller, m);
  if (!passArguments(w, op, callee, m)) {
    return w.fault(FindingKind::OutOfBounds, LaunchError::IllegalAddress, op, unsigned(__builtin_ctz(m)),
                   "an argument of the call of " + code.function->name + " is smaller than its parameter");
  }
  if (code.parametersInLocal) {
    const uint32_t at = callee->localBase + code.parametersAt(), bytes = code.parameterBytes;
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        std::copy_n(callee->parameters.begin() + size_t(l) * bytes, bytes, w.local[l].begin() + at);
        std::fill_n(w.localDefined[l].begin() + at, bytes, uint8_t(1));
      }
    }
  }
  int32_t entry = w.newEntry(w.pc + 1, w.mask, w.entry, caller, true);
  w.entries[entry].arrived = w.mask & ~m;
  w.entries[entry].callee = callee;
  w.entries[entry].call = &op;
  w.entry = entry;
  w.mask = m;
  w.pc = 0;
  w.frame = callee;
  w.base[0] = callee->registers;
  w.undef = callee->undef.data();
  return Step::Jumped;
}

static Step callDirect(Warp &w, const Op &op, uint32_t m) { return enter(w, op, m, op.target); }

static Step callIndirect(Warp &w, const Op &op, uint32_t m) {
  undefinedOperand(w, op, op.a, m, "which function is called");
  uint64_t first = w.lane(op.a, unsigned(__builtin_ctz(m)));
  uint32_t same = 0;
  for (unsigned l = 0; l < 32; ++l) {
    same |= uint32_t((m >> l & 1) && w.lane(op.a, l) == first) << l;
  }
  uint64_t index = (first - functionAddress(0)) / 16;
  if (first < functionAddress(0) || (first - functionAddress(0)) % 16 || index >= w.grid->code->functions.size()) {
    return w.fault(FindingKind::Illegal, LaunchError::IllegalInstruction, op, unsigned(__builtin_ctz(m)),
                   "an indirect call to " + std::to_string(first) + ", which is no function's address");
  }
  if (same != m) {
    // The others call too, and meet these behind the call; lanes the guard keeps out wait there.
    int32_t entry = w.newEntry(w.pc + 1, w.mask, w.entry, w.frame, true);
    w.entries[entry].arrived = w.mask & ~m;
    // Each group of lanes with one target calls in a frame of its own and meets the rest behind the call.
    w.newSplit(w.pc, m & ~same, entry, w.frame);
    w.splits.back().state = Split::Ready;
    w.entry = entry;
    w.mask = same;
    w.entries[entry].call = nullptr;
    return enter(w, op, same, uint32_t(index));
  }
  return enter(w, op, m, uint32_t(index));
}

static Step ret(Warp &w, const Op &op, uint32_t m) {
  if (m == 0) {
    ++w.pc;
    return Step::Jumped;
  }
  int32_t at = w.entry;
  while (at >= 0 && !w.entries[at].isReturn) {
    w.entries[at].expected &= ~m;
    at = w.entries[at].parent;
  }
  if (at < 0) {
    bool all = m == w.mask;
    w.exitLanes(m);
    if (!all) {
      ++w.pc;
    }
    return Step::Jumped;
  }
  Entry &e = w.entries[at];
  e.patience = 0;
  if (!passResults(w, *e.call, w.frame, e.frame, m)) {
    return w.fault(FindingKind::OutOfBounds, LaunchError::IllegalAddress, op, unsigned(__builtin_ctz(m)),
                   "a result of " + w.frame->code->function->name + " is larger than what the caller has for it");
  }
  e.arrived |= m;
  int32_t inner = w.entry;
  w.mask &= ~m;
  if (w.mask == 0) {
    w.dropCurrent();
  } else {
    ++w.pc;
  }
  while (inner != at) {
    int32_t parent = w.entries[inner].parent;
    if (w.entries[inner].arrived == w.entries[inner].expected) {
      w.release(inner);
    }
    inner = parent;
  }
  // Lanes that meet several calls at one place (an indirect call with several targets) pass on from entry to entry.
  while (at >= 0 && w.entries[at].arrived == w.entries[at].expected) {
    Entry done = w.entries[at];
    int32_t parent = done.parent;
    if (parent >= 0 && w.entries[parent].isReturn && !w.entries[parent].call && w.entries[parent].pc == done.pc) {
      w.entries[parent].arrived |= done.arrived;
      w.entries[at].used = false;
      w.freeFrame(done.callee);
      at = parent;
      continue;
    }
    w.release(at);
    break;
  }
  return Step::Jumped;
}

static Step exitOp(Warp &w, const Op &, uint32_t m) {
  if (m == 0) {
    ++w.pc;
    return Step::Jumped;
  }
  bool all = m == w.mask;
  w.exitLanes(m);
  if (!all) {
    ++w.pc;
  }
  return Step::Jumped;
}

static Step trap(Warp &w, const Op &op, uint32_t m) {
  return w.fault(FindingKind::Trap, LaunchError::Trap, op, unsigned(__builtin_ctz(m)),
                 op.inst->op == Opcode::Brkpt ? "brkpt was executed" : "trap was executed");
}

static Step nothing(Warp &, const Op &, uint32_t) { return Step::Next; }

static Step sleep(Warp &w, const Op &, uint32_t) {
  w.yield = true;
  return Step::Next;
}

static Step griddep(Warp &w, const Op &op, uint32_t m) {
  GridState &grid = *w.grid;
  if (op.inst->mods.mode == ptx::Mode::LaunchDependents) {
    if (!w.block->launchedDependents) {
      w.block->launchedDependents = true;
      ++grid.dependentBlocks;
    }
    return Step::Next;
  }
  if (!grid.primaryIsDone) {
    w.splits[w.current].state = Split::Waiting;
    return Step::Blocked;
  }
  if (w.checks && !grid.primaryClock.empty()) {
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        // Most lanes know what they did at the start, and share one clock then, too.
        if (w.clocks[l].known.sameAs(grid.start) && w.clocks[l].proxied.sameAs(grid.start)) {
          w.clocks[l].known = w.clocks[l].proxied = grid.afterPrimary;
        } else {
          w.acquire(l, grid.primaryClock, grid.primaryClock);
        }
      }
    }
    w.refreshReach();
  }
  return Step::Next;
}

bool selectControl(Builder &b, const ptx::Instruction &inst, Op &op) {
  const ptx::Function &f = b.function;
  const ptx::Block &block = f.blocks[inst.block];
  op.flags = OpControl | OpSync;
  op.join = block.reconvergence == ptx::none ? noPc : block.reconvergence; // a block; patched to a pc later
  switch (inst.op) {
  case Opcode::Bra:
    op.run = branch;
    op.target = f.operand(inst, 0).index; // a block; patched
    return true;
  case Opcode::BrxIdx: {
    op.run = branchTable;
    op.a = b.ref(inst, 0, 32);
    op.imm = f.operand(inst, 1).index;
    return true;
  }
  case Opcode::Call: {
    op.flags = OpSync;
    // callee, results, arguments, prototype or targets
    const ptx::Operand &callee = f.operand(inst, 0);
    if (callee.kind == OperandKind::Function) {
      const ptx::Function &called = b.module.functions[callee.index];
      if (!called.isDefined && !isBuiltin(called.name)) {
        const bool launches = called.name.rfind("cuda", 0) == 0; // the device runtime
        return b.fail("a call of " + called.name + ", which has no body in this module" +
                      (launches ? ": launches from the device are not supported" : ""));
      }
      op.run = callDirect;
      op.target = callee.index;
    } else {
      op.run = callIndirect;
      op.a = b.ref(callee, 64);
    }
    b.list(f.operand(inst, 1), 0, op.list2, op.list2Count);
    b.list(f.operand(inst, 2), 0, op.list, op.listCount);
    return op.run != nullptr;
  }
  case Opcode::Ret:
    op.run = ret;
    return true;
  case Opcode::Exit:
    op.run = exitOp;
    return true;
  case Opcode::Trap:
  case Opcode::Brkpt:
    op.flags = 0;
    op.run = trap;
    return true;
  case Opcode::Nanosleep:
    op.flags = 0;
    op.run = sleep;
    return true;
  case Opcode::Griddepcontrol:
    op.flags = OpSync;
    op.run = griddep;
    return true;
  case Opcode::Pmevent:
  case Opcode::Setmaxnreg:
  case Opcode::Prefetch:
  case Opcode::Prefetchu:
  case Opcode::PrefetchTensormap:
  case Opcode::Applypriority:
  case Opcode::CpAsyncBulkPrefetchTensor:
    op.flags = 0;
    op.run = nothing;
    return true;
  case Opcode::Createpolicy:
    // A cache policy is a value that only cache hints read; they have no effect here.
    op.flags = OpPure;
    op.d = b.ref(inst, 0, 64);
    op.run = [](Warp &w, const Op &o, uint32_t m) {
      for (unsigned l = 0; l < 32; ++l) {
        if (m >> l & 1) {
          w.at<uint64_t>(o.d)[l] = 0;
        }
      }
      return Step::Next;
    };
    return true;
  default:
    op.flags = 0; // not one of these
    op.join = noPc;
    return false;
  }
}

} // namespace moert::emulator
