//===- File.h - Files as memory, and files written whole or not at all -*- C++ -*-===//
//
// Reading (into memory that nobody else can change, or mapped) and writing (temporary name, fsync, rename). Errors
// name the path and what the system said. No formats here.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_FILE_H
#define MOERT_CORE_FILE_H

#include "runtime/core/Status.h"

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace moert {

/// Owns a range of pages: anonymous memory or a mapped file.
class Pages {
public:
  Pages() = default;
  Pages(Pages &&other) noexcept;
  Pages &operator=(Pages &&other) noexcept;
  ~Pages();

  /// Zeroed memory, 2 MiB aligned and with huge pages advised when it is large. `what` names it in the error.
  static Result<Pages> allocate(uint64_t bytes, const std::string &what);

  uint8_t *data() const { return base; }
  uint64_t size() const { return bytes; }
  explicit operator bool() const { return base != nullptr; }

private:
  friend class File;
  uint8_t *base = nullptr;
  uint64_t bytes = 0;
};

/// An open file.
class File {
public:
  File() = default;
  File(File &&other) noexcept;
  File &operator=(File &&other) noexcept;
  ~File();

  static Result<File> open(const std::string &path);

  const std::string &path() const { return name; }
  uint64_t size() const { return bytes; }
  int64_t modifiedNs() const { return mtime; }
  int descriptor() const { return fd; }

  /// Reads exactly `count` bytes from `offset` on.
  Status read(void *out, uint64_t count, uint64_t offset) const;
  /// The whole file in private memory, if it has at most `limit` bytes.
  Result<Pages> readAll(uint64_t limit) const;
  /// The whole file, shared and read-only: pages are loaded when touched and may be dropped again.
  Result<Pages> map() const;

private:
  std::string name;
  int fd = -1;
  uint64_t bytes = 0;
  int64_t mtime = 0;
};

/// A part of a file to be written.
struct Piece {
  const void *data;
  uint64_t size;
};

/// Writes the pieces under a temporary name, flushes them to the disk and renames; on error nothing is left behind.
/// A device is written in place.
Status writeFile(const std::string &path, std::initializer_list<Piece> pieces);

/// Memory of this machine.
uint64_t physicalBytes();

/// The folder that libmoert was loaded from (of a static libmoert: the program's).
std::string libraryFolder();

/// `folder`/`name`.
std::string joinPath(const std::string &folder, const std::string &name);

} // namespace moert

#endif // MOERT_CORE_FILE_H
