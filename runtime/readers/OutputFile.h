//===- OutputFile.h - Files that appear whole or not at all -----*- C++ -*-===//
//
// Writes under a temporary name beside the target and renames at the end, so
// that nobody ever sees half a file: not after a full disk, an error or a
// crash. A file that is not committed is removed. A device is written in place.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_OUTPUTFILE_H
#define MOERT_READERS_OUTPUTFILE_H

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace moert::readers {

/// See above.
class OutputFile {
public:
  static Result<OutputFile> create(const std::string &path);
  OutputFile(OutputFile &&other) noexcept;
  OutputFile &operator=(OutputFile &&) = delete;
  ~OutputFile();

  /// Appends.
  Status write(const void *data, size_t size);
  /// Writes at `offset`, which may lie beyond what was written.
  Status writeAt(uint64_t offset, const void *data, size_t size);
  /// Makes the file visible under its name; nothing may be written after it.
  Status commit();

private:
  OutputFile() = default;
  std::string path, temporary;
  int descriptor = -1;
  uint64_t end = 0;
};

/// Writes `text` as the file at `path`.
Status writeWholeFile(const std::string &path, std::string_view text);

} // namespace moert::readers

#endif // MOERT_READERS_OUTPUTFILE_H
