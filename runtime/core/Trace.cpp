// Chrome trace output of Trace.h.
#include "runtime/core/Trace.h"

#include "runtime/core/Json.h"

#include <chrono>

namespace moert {

int64_t monotonicNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

const char *kindName(format::CommandKind kind) {
  switch (kind) {
  case format::CommandKind::Launch:
    return "launch";
  case format::CommandKind::Copy:
    return "copy";
  case format::CommandKind::Fill:
    return "fill";
  case format::CommandKind::Collective:
    return "collective";
  case format::CommandKind::GroupBegin:
    return "group_begin";
  case format::CommandKind::GroupEnd:
    return "group_end";
  case format::CommandKind::Record:
    return "record";
  case format::CommandKind::Wait:
    return "wait";
  case format::CommandKind::HostCall:
    return "host_call";
  }
  return "unknown";
}

void Trace::enable(bool on, size_t commands) {
  isOn = on;
  if (on) {
    events.clear();
    events.reserve(kMaxEvents);
    perCommand.assign(commands, Total());
    dropped = 0;
  }
}

std::string Trace::toJson(const Program &program, const format::Variant &variant) const {
  JsonWriter json;
  const int64_t start = events.empty() ? 0 : events.front().begin;
  json.beginObject().member("displayTimeUnit", "ns").key("traceEvents").beginArray();
  for (const Event &event : events) {
    const format::Command &command = *variant.commands()->Get(event.command);
    json.beginObject().member("name", program.string(command.name())).member("cat", kindName(command.kind()));
    json.member("ph", "X").key("ts").microseconds(event.begin - start);
    json.key("dur").microseconds(event.end - event.begin).member("pid", 1).member("tid", int(command.stream()));
    json.key("args").beginObject().member("tokens", event.tokens).member("command", event.command);
    if (command.kind() == format::CommandKind::Launch) {
      json.member("workgroups", event.grid);
      json.member("kernel", variant.kernels()->Get(command.target())->symbol()->c_str());
    }
    json.endObject().endObject();
  }
  json.endArray().key("otherData").beginObject().member("compiler", program.root().compiler()->c_str());
  json.member("variant", variant.target()->c_str()).member("dropped_events", dropped).endObject().endObject();
  return json.take();
}

} // namespace moert
