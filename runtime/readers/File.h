//===- File.h - Whole small files and their facts ---------------*- C++ -*-===//
//
// Opens regular files only (a pipe or a directory is an error, never a hang),
// with the path in every message. Bounded reads: configuration files have a
// limit, and a header is read with pread wherever it lies. Maps nothing.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_FILE_H
#define MOERT_READERS_FILE_H

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>

namespace moert::readers {

/// An open regular file with its size and time of change; closed at the end of its life.
class InputFile {
public:
  static Result<InputFile> open(const std::string &path);
  InputFile(InputFile &&other) noexcept;
  InputFile &operator=(InputFile &&other) noexcept;
  ~InputFile();

  uint64_t size() const { return bytes; }
  /// Nanoseconds since 1970.
  int64_t mtimeNs() const { return mtime; }
  /// Reads exactly `size` bytes at `offset`; less is an error.
  Status read(uint64_t offset, void *out, size_t size) const;

private:
  InputFile() = default;
  std::string path;
  int descriptor = -1;
  uint64_t bytes = 0;
  int64_t mtime = 0;
};

/// The bytes of the file at `path`; an error when there are more than `limit`.
Result<std::string> readWholeFile(const std::string &path, uint64_t limit);

/// True when something exists at `path` (followed through links).
bool exists(const std::string &path);

/// directory + "/" + name.
std::string joinPath(const std::string &directory, const std::string &name);

} // namespace moert::readers

#endif // MOERT_READERS_FILE_H
