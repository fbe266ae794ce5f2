// The hazard check: which commands are ordered, and which of those that are not touch the same bytes.
//
// Order comes from two sources: commands of one stream run in list order, and a wait orders what follows it on its
// stream after what precedes the record on its own. Every command gets a vector clock (one count per stream); command
// a precedes b iff b's clock for a's stream has reached a. Then, buffer by buffer, the accesses are sorted by offset
// and every overlapping pair with a write must be ordered.
//
// Extents grow with T and M and are taken at the step's largest T; what grows with B or C reaches to the end of its
// buffer, so that the proof holds for every session.
#include "runtime/core/Checks.h"
#include "runtime/core/Extent.h"

#include <algorithm>

namespace moert {
namespace {

using format::CommandKind;
using format::OperandKind;

/// The bytes of a buffer that one operand of one command may touch.
struct Reach {
  uint32_t buffer;
  uint64_t begin, end;
  bool writes;
  uint32_t command, operand;
};

bool overlap(const Reach &a, const Reach &b) {
  return a.buffer == b.buffer && (a.writes || b.writes) && a.begin < b.end && b.begin < a.end;
}

/// A bound on the work that a file can ask for; real programs stay below 10^7.
constexpr uint64_t kMaxPairs = uint64_t(1) << 26;

/// What operand `o` of `command` touches; false if it is no slice or empty.
bool reachOf(const format::Variant &variant, const format::Command &command, uint32_t o, int64_t maxTokens,
             Reach &out) {
  const format::Operand &operand = *variant.operands()->Get(command.first_operand() + o);
  if (operand.kind() != OperandKind::Slice) {
    return false;
  }
  int64_t bytes = 0;
  bool known = !dependsOnSession(operand.extent()) && evaluate(operand.extent(), {maxTokens, maxTokens, 1, 1}, bytes);
  out.buffer = operand.index();
  out.begin = operand.offset();
  out.end = known ? operand.offset() + uint64_t(bytes) : UINT64_MAX;
  out.writes = uint8_t(operand.access()) & uint8_t(format::Access::Write);
  out.command = 0;
  out.operand = o;
  return out.begin < out.end;
}

} // namespace

bool areIndependent(const format::Variant &variant, const format::Command &first, const format::Command &second,
                    int64_t maxTokens) {
  for (uint32_t i = 0; i < first.operand_count(); ++i) {
    Reach a;
    if (!reachOf(variant, first, i, maxTokens, a)) {
      continue;
    }
    for (uint32_t j = 0; j < second.operand_count(); ++j) {
      Reach b;
      if (reachOf(variant, second, j, maxTokens, b) && overlap(a, b)) {
        return false;
      }
    }
  }
  return true;
}

bool writesTo(const format::Variant &variant, const format::Command &writer, const format::Command &reader, uint32_t o,
              int64_t maxTokens) {
  Reach read;
  if (!reachOf(variant, reader, o, maxTokens, read)) {
    return false;
  }
  for (uint32_t i = 0; i < writer.operand_count(); ++i) {
    Reach written;
    if (reachOf(variant, writer, i, maxTokens, written) && written.writes && overlap(written, read)) {
      return true;
    }
  }
  return false;
}

Status checkHazards(const format::Program &program, const format::Variant &variant, const format::StepVariant &step) {
  const size_t streams = variant.streams();
  const uint32_t count = step.command_count();
  if (uint64_t(streams) * (uint64_t(count) + variant.events()) > (uint64_t(1) << 24)) {
    return error(Code::Corrupt, "a step of ", count, " commands on ", streams, " streams with ", variant.events(),
                 " events is too large to check");
  }
  // clocks[c * streams + s]: how many commands of stream s precede command c, itself included.
  std::vector<uint32_t> clocks(count * streams), current(streams * streams);
  std::vector<uint32_t> eventClocks(size_t(variant.events()) * streams);
  std::vector<uint32_t> recordedBy(variant.events(), ~0u);
  std::vector<Reach> reaches;

  for (uint32_t c = 0; c < count; ++c) {
    const uint32_t index = step.first_command() + c;
    const format::Command &command = *variant.commands()->Get(index);
    uint32_t *clock = &current[command.stream() * streams];
    if (command.kind() == CommandKind::Wait) {
      if (recordedBy[command.target()] == ~0u) {
        return error(Code::Corrupt, describeCommand(program, variant, index), " waits for event ", command.target(),
                     ", which no earlier command records");
      }
      for (size_t s = 0; s < streams; ++s) {
        clock[s] = std::max(clock[s], eventClocks[command.target() * streams + s]);
      }
    }
    ++clock[command.stream()];
    if (command.kind() == CommandKind::Record) {
      if (recordedBy[command.target()] != ~0u) {
        return error(Code::Corrupt, describeCommand(program, variant, index), " records event ", command.target(),
                     ", which ", describeCommand(program, variant, recordedBy[command.target()]), " records already");
      }
      recordedBy[command.target()] = index;
      std::copy(clock, clock + streams, &eventClocks[command.target() * streams]);
    }
    std::copy(clock, clock + streams, &clocks[c * streams]);

    size_t firstOfCommand = reaches.size();
    for (uint32_t o = 0; o < command.operand_count(); ++o) {
      Reach reach;
      if (!reachOf(variant, command, o, step.max_tokens(), reach)) {
        continue;
      }
      reach.command = c;
      for (size_t other = firstOfCommand; other < reaches.size(); ++other) {
        if (overlap(reach, reaches[other])) {
          return error(Code::Corrupt, describeCommand(program, variant, index), ": operands ", reaches[other].operand,
                       " and ", o, " overlap in buffer ", reach.buffer, " (bytes ", reaches[other].begin, " to ",
                       reaches[other].end, " and ", reach.begin, " to ", reach.end,
                       ") and one is written: in place must be one operand that is read and written");
        }
      }
      reaches.push_back(reach);
    }
  }
  if (streams == 1) {
    return {};
  }

  std::sort(reaches.begin(), reaches.end(), [](const Reach &a, const Reach &b) {
    return a.buffer != b.buffer ? a.buffer < b.buffer : a.begin < b.begin;
  });
  auto precedes = [&](uint32_t a, uint32_t b) {
    size_t stream = variant.commands()->Get(step.first_command() + a)->stream();
    return clocks[b * streams + stream] >= clocks[a * streams + stream];
  };
  uint64_t pairs = 0;
  for (size_t i = 0; i < reaches.size(); ++i) {
    const Reach &a = reaches[i];
    for (size_t j = i + 1; j < reaches.size() && reaches[j].buffer == a.buffer && reaches[j].begin < a.end; ++j) {
      const Reach &b = reaches[j];
      if (++pairs > kMaxPairs) {
        return error(Code::Corrupt, "a step of ", count, " commands on ", streams,
                     " streams touches the same bytes "
                     "more than ",
                     kMaxPairs, " times, which is too much to check");
      }
      if (!overlap(a, b) || precedes(a.command, b.command) || precedes(b.command, a.command)) {
        continue;
      }
      return error(Code::Corrupt, describeCommand(program, variant, step.first_command() + a.command), " and ",
                   describeCommand(program, variant, step.first_command() + b.command),
                   " may run at the same time and conflict in buffer ", a.buffer, " (bytes ", a.begin, " to ", a.end,
                   " and ", b.begin, " to ", b.end, "): order them by a stream or an event");
    }
  }
  return {};
}

} // namespace moert
