//===- CheckTexts.h - What the checks of a program share to say what is wrong --*- C++ -*-===//
//
// Parts of a file that may be absent, and the words for a name and for an extent. Only for the checks: everybody else
// reads a program that has passed them.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_CHECKTEXTS_H
#define MOERT_CORE_CHECKTEXTS_H

#include "runtime/core/Status.h"
#include "runtime/format/program_generated.h"

#include <string>

namespace moert {

/// Entries of a vector that the file may lack.
template <typename T> uint64_t sizeOf(const flatbuffers::Vector<T> *vector) { return vector ? vector->size() : 0; }

template <typename... Parts> Status corrupt(const Parts &...parts) { return error(Code::Corrupt, parts...); }

/// String `name` of the program, "-" when there is none.
inline const char *nameOrDash(const format::Program &program, uint32_t name) {
  if (name >= sizeOf(program.strings()) || !program.strings()->Get(name)) {
    return "-";
  }
  return program.strings()->Get(name)->c_str();
}

/// "64 + 8*T": bytes as a function of T, M, B and B*C.
inline std::string describeExtent(const format::Extent &extent) {
  std::string text = std::to_string(extent.fixed());
  auto term = [&](int64_t factor, const char *letter) {
    if (factor) {
      text += " + " + std::to_string(factor) + "*" + letter;
    }
  };
  term(extent.per_token(), "T");
  term(extent.per_row(), "M");
  term(extent.per_sequence(), "B");
  term(extent.per_cache_row(), "B*C");
  return text;
}

} // namespace moert

#endif // MOERT_CORE_CHECKTEXTS_H
