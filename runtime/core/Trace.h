//===- Trace.h - When each command ran ----------------------------*- C++ -*-===//
//
// Records begin and end of every command while enabled, into memory reserved beforehand: nothing is allocated in a
// step. Totals per command are kept for all steps, single events until the reserve is full. Written as Chrome trace
// JSON, which Perfetto opens.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_TRACE_H
#define MOERT_CORE_TRACE_H

#include "runtime/core/Program.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moert {

int64_t monotonicNs();

class Trace {
public:
  struct Event {
    uint32_t command;
    int32_t tokens;
    int64_t grid;
    int64_t begin, end;
  };
  struct Total {
    uint64_t count = 0;
    int64_t ns = 0;
    int64_t shortest = INT64_MAX, longest = 0;
  };
  static constexpr size_t kMaxEvents = size_t(1) << 18;

  void enable(bool on, size_t commands);
  bool enabled() const { return isOn; }

  void add(uint32_t command, int64_t tokens, int64_t grid, int64_t begin, int64_t end) {
    Total &total = perCommand[command];
    ++total.count;
    total.ns += end - begin;
    total.shortest = end - begin < total.shortest ? end - begin : total.shortest;
    total.longest = end - begin > total.longest ? end - begin : total.longest;
    if (events.size() < kMaxEvents) {
      events.push_back({command, int32_t(tokens), grid, begin, end});
    } else {
      ++dropped;
    }
  }

  /// Indexed by command of the variant; empty if never enabled.
  const std::vector<Total> &totals() const { return perCommand; }
  uint64_t droppedEvents() const { return dropped; }

  /// The events as Chrome trace JSON.
  std::string toJson(const Program &program, const format::Variant &variant) const;

private:
  bool isOn = false;
  std::vector<Event> events;
  std::vector<Total> perCommand;
  uint64_t dropped = 0;
};

/// "launch", "copy", ...
const char *kindName(format::CommandKind kind);

} // namespace moert

#endif // MOERT_CORE_TRACE_H
