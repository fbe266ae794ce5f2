// What both kinds of ranks say about calls; see Communicator.h.
#include "runtime/ranks/Communicator.h"

#include <cstdio>

namespace moert {

std::string describeCall(const CollectiveCall &call) {
  return call.name ? concat("collective '", call.name, "'") : "the start of a step";
}

std::string compareCalls(int rank, const CollectiveCall &mine, int other, const CollectiveCall &its) {
  if (mine.kind == its.kind && mine.element == its.element && mine.toBytes == its.toBytes &&
      mine.fromBytes == its.fromBytes && mine.rowBytes == its.rowBytes && !mine.name == !its.name) {
    return {};
  }
  auto text = [](const CollectiveCall &call) {
    return concat(call.name ? format::EnumNameCollectiveKind(call.kind) : "start of a step", " of ", call.fromBytes,
                  " to ", call.toBytes, " bytes, element type ", int(call.element), ", rows of ", call.rowBytes);
  };
  return concat("ranks ", rank, " and ", other, " differ in what they do together: ", text(mine), " and ", text(its));
}

std::string secondsText(int64_t nanoseconds) {
  char text[32];
  snprintf(text, sizeof(text), "%g s", double(nanoseconds) / 1e9);
  return text;
}

} // namespace moert
