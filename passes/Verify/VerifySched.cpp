//===- VerifySched.cpp - The contract of the sched level --------------------===//
//
// What the verifiers of the ops leave out: what two commands do to the same
// bytes. The rules are `schedule_c1` ... of docs/sched.md; the runtime proves the
// first two again when it loads a program. The module is not changed.
//
// Order comes from two sources: commands of one stream run in list order, and a
// wait orders what follows it after what precedes the record of its event. Every
// command gets a vector clock, one count per stream; a precedes b iff b's clock
// for a's stream has reached a. With two streams:
//
//   0: launch A       stream 0   clock [1 0]
//   1: record 0       stream 0   clock [2 0]
//   2: launch B       stream 1   clock [0 1]   A and B are not ordered
//   3: wait 0         stream 1   clock [2 2]
//   4: launch C       stream 1   clock [2 3]   A precedes C: 2 >= 1
//
// Extents are taken at the step's largest T and M; what grows with B or C reaches
// to the end of its buffer.
//
//===----------------------------------------------------------------------===//

#include "dialects/Sched/IR/SchedOps.h"
#include "passes/Passes.h"
#include <map>

namespace mlir::moe {
#define GEN_PASS_DEF_VERIFYSCHED
#include "passes/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::sched;

namespace {

/// The bytes of a buffer that one operand of one command may touch.
struct Reach {
  CommandOpInterface command;
  SliceAttr slice;
  __int128 begin, end;
  uint32_t position; // of the command in the step

  bool conflictsWith(const Reach &other) const {
    return slice.getBuffer() == other.slice.getBuffer() && begin < other.end && other.begin < end &&
           (writes(slice.getAccess()) || writes(other.slice.getAccess()));
  }
};

/// Bytes of one buffer that are known to be written, as disjoint intervals: begin to end.
class WrittenBytes {
public:
  void add(int64_t begin, int64_t end);
  /// The first byte of [begin, end) that is not written, or `end`.
  int64_t firstMissing(int64_t begin, int64_t end) const;

private:
  std::map<int64_t, int64_t> intervals;
};

struct VerifySchedPass : moe::impl::VerifySchedBase<VerifySchedPass> {
  void runOnOperation() override;
};

} // namespace

void WrittenBytes::add(int64_t begin, int64_t end) {
  if (begin >= end) {
    return;
  }
  auto it = intervals.upper_bound(begin);
  if (it != intervals.begin() && std::prev(it)->second >= begin) {
    --it;
    begin = it->first;
  }
  while (it != intervals.end() && it->first <= end) {
    end = std::max(end, it->second);
    it = intervals.erase(it);
  }
  intervals[begin] = end;
}

int64_t WrittenBytes::firstMissing(int64_t begin, int64_t end) const {
  auto it = intervals.upper_bound(begin);
  if (it == intervals.begin() || std::prev(it)->second <= begin) {
    return begin;
  }
  return std::min(std::prev(it)->second, end); // Intervals that touch are one.
}

/// The slices of a command, at the largest sizes of its step.
static SmallVector<Reach> getReaches(CommandOpInterface command, uint32_t position, int64_t maxTokens) {
  SmallVector<Reach> reaches;
  for (Attribute operand : command.getOperandAttrs()) {
    if (auto slice = dyn_cast<SliceAttr>(operand)) {
      ExtentAttr extent = slice.getExtent();
      bool toEnd = extent.getPerSequence() || extent.getPerCacheRow();
      __int128 end =
          toEnd ? (static_cast<__int128>(1) << 100) : slice.getOffset() + extent.evaluate(maxTokens, maxTokens, 1, 1);
      reaches.push_back({command, slice, slice.getOffset(), end, position});
    }
  }
  return reaches;
}

/// schedule_c1: a slice that a command writes overlaps no other of its slices.
static LogicalResult checkCommand(ArrayRef<Reach> reaches) {
  for (size_t i = 0; i < reaches.size(); ++i) {
    for (size_t j = i + 1; j < reaches.size(); ++j) {
      if (reaches[i].conflictsWith(reaches[j])) {
        return reaches[i].command->emitOpError("operands ") << reaches[i].slice << " and " << reaches[j].slice
                                                            << " must not overlap: in place is one readwrite operand";
      }
    }
  }
  return success();
}

/// schedule_c2: commands that are not ordered do not touch the same bytes, unless both only read.
static LogicalResult checkOrder(ArrayRef<Reach> sorted, ArrayRef<SmallVector<uint32_t>> clocks) {
  auto precedes = [&](const Reach &a, const Reach &b) {
    CommandOpInterface command = a.command;
    uint64_t stream = command.getStream();
    return clocks[b.position][stream] >= clocks[a.position][stream];
  };
  for (size_t i = 0; i < sorted.size(); ++i) {
    for (size_t j = i + 1; j < sorted.size() && sorted[j].slice.getBuffer() == sorted[i].slice.getBuffer() &&
                           sorted[j].begin < sorted[i].end;
         ++j) {
      const Reach &a = sorted[i], &b = sorted[j];
      if (a.conflictsWith(b) && !precedes(a, b) && !precedes(b, a)) {
        const Reach &first = a.position < b.position ? a : b, &second = a.position < b.position ? b : a;
        CommandOpInterface command = second.command;
        InFlightDiagnostic error = command->emitOpError("operand ");
        error << second.slice << " conflicts with " << first.slice
              << " of a command that may run at the same time: order them by a stream or an event";
        CommandOpInterface other = first.command;
        error.attachNote(other->getLoc()) << "that command";
        return error;
      }
    }
  }
  return success();
}

/// schedule_c3: bytes of an arena are written before they are read, at the given sizes.
static LogicalResult checkWritten(StepOp step, const DenseSet<StringAttr> &arenas, int64_t tokens, int64_t rows) {
  DenseMap<StringAttr, WrittenBytes> written;
  for (auto command : step.getBody().getOps<CommandOpInterface>()) {
    for (bool writing : {false, true}) { // A command reads what others wrote, not what it writes itself.
      for (Attribute operand : command.getOperandAttrs()) {
        auto slice = dyn_cast<SliceAttr>(operand);
        if (!slice || !arenas.contains(slice.getBuffer().getAttr()) ||
            !(writing ? writes(slice.getAccess()) : reads(slice.getAccess()))) {
          continue;
        }
        WrittenBytes &bytes = written[slice.getBuffer().getAttr()];
        int64_t begin = slice.getOffset(),
                end = begin + static_cast<int64_t>(slice.getExtent().evaluate(tokens, rows, 1, 1));
        if (writing) {
          bytes.add(begin, end);
        } else if (int64_t missing = bytes.firstMissing(begin, end); missing < end) {
          return command->emitOpError() << slice << " reads byte " << missing
                                        << ", which no command before writes at T = " << tokens << " and M = " << rows
                                        << ": order the writer first, or declare scratch as write";
        }
      }
    }
  }
  return success();
}

static LogicalResult checkStep(StepOp step, VariantOp variant, const DenseSet<StringAttr> &arenas) {
  const size_t streams = variant.getStreams();
  SmallVector<SmallVector<uint32_t>> clocks, current(streams, SmallVector<uint32_t>(streams));
  DenseMap<uint64_t, SmallVector<uint32_t>> events;
  SmallVector<Reach> all;
  for (auto command : step.getBody().getOps<CommandOpInterface>()) {
    SmallVector<uint32_t> &clock = current[command.getStream()];
    if (auto wait = dyn_cast<WaitOp>(command.getOperation())) {
      for (auto [own, recorded] : llvm::zip_equal(clock, events[wait.getEvent()])) {
        own = std::max(own, recorded);
      }
    }
    ++clock[command.getStream()];
    if (auto record = dyn_cast<RecordOp>(command.getOperation())) {
      events[record.getEvent()] = clock;
    }
    SmallVector<Reach> reaches = getReaches(command, clocks.size(), step.getMaxTokens());
    if (failed(checkCommand(reaches))) {
      return failure();
    }
    all.append(reaches);
    clocks.push_back(clock);
  }
  if (streams > 1) {
    llvm::sort(all, [](const Reach &a, const Reach &b) {
      StringRef first = a.slice.getBuffer().getValue(), second = b.slice.getBuffer().getValue();
      return std::tie(first, a.begin, a.position) < std::tie(second, b.begin, b.position);
    });
    if (failed(checkOrder(all, clocks))) {
      return failure();
    }
  }
  int64_t least = step.getMinTokens(), most = step.getMaxTokens();
  for (auto [tokens, rows] : {std::pair(least, int64_t(1)), std::pair(most, int64_t(1)), std::pair(most, most)}) {
    if (failed(checkWritten(step, arenas, tokens, rows))) {
      return failure();
    }
  }
  return success();
}

void VerifySchedPass::runOnOperation() {
  getOperation()->walk([&](VariantOp variant) {
    DenseSet<StringAttr> arenas;
    for (auto buffer : variant.getBody().getOps<BufferOp>()) {
      if (buffer.getKind() == BufferKind::Arena) {
        arenas.insert(buffer.getSymNameAttr());
      }
    }
    WalkResult result = variant.walk([&](StepOp step) {
      return failed(checkStep(step, variant, arenas)) ? WalkResult::interrupt() : WalkResult::advance();
    });
    if (result.wasInterrupted()) {
      signalPassFailure();
    }
    return result;
  });
}
