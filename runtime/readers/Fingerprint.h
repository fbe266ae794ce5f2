//===- Fingerprint.h - Which checkpoint it is, cheaply ----------*- C++ -*-===//
//
// What was measured on a checkpoint must not be used for another one. Reading all
// of it would take minutes; names, sizes, headers and samples tell checkpoints
// apart that anybody has both of.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_FINGERPRINT_H
#define MOERT_READERS_FINGERPRINT_H

#include "runtime/core/Status.h"

#include <string>

namespace moert::readers {

/// Hex SHA-256 of the names, sizes and headers of a checkpoint's files, the first and last 64 KiB of each, and 4 KiB
/// from the middle of every tensor (a smaller one as a whole): a fine-tune differs in these. A checkpoint of which only
/// other bytes were changed has the same fingerprint.
Result<std::string> fingerprint(const std::string &checkpoint);

} // namespace moert::readers

#endif // MOERT_READERS_FINGERPRINT_H
