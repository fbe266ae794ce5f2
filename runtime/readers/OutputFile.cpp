//===- OutputFile.cpp - Files that appear whole or not at all -------------===//
//
// The data is synchronised before the rename: a full disk shows at the latest
// there, while the old file, if any, is still in place.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/OutputFile.h"
#include "runtime/core/OutputPath.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

using namespace moert;
using namespace moert::readers;

Result<OutputFile> OutputFile::create(const std::string &path) {
  OutputFile file;
  file.path = followLinks(path);
  const bool inPlace = isDevice(file.path);
  std::string temporary = inPlace ? "" : concat(file.path, ".tmp-", ::getpid());
  file.descriptor = inPlace ? ::open(file.path.c_str(), O_WRONLY | O_CLOEXEC)
                            : ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file.descriptor < 0) {
    return error(Code::IO, path, ": cannot ", inPlace ? "open: " : "create: ", std::strerror(errno));
  }
  file.temporary = temporary;
  return file;
}

OutputFile::OutputFile(OutputFile &&other) noexcept
    : path(std::move(other.path)), temporary(std::exchange(other.temporary, "")),
      descriptor(std::exchange(other.descriptor, -1)), end(other.end) {}

OutputFile::~OutputFile() {
  if (descriptor >= 0) {
    ::close(descriptor);
  }
  if (!temporary.empty()) {
    ::unlink(temporary.c_str());
  }
}

Status OutputFile::write(const void *data, size_t size) {
  MOERT_TRY(writeAt(end, data, size));
  end += size;
  return Status();
}

Status OutputFile::writeAt(uint64_t offset, const void *data, size_t size) {
  const char *from = static_cast<const char *>(data);
  while (size != 0) {
    ssize_t count = ::pwrite(descriptor, from, size, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return error(Code::IO, path, ": cannot write ", size, " bytes: ", std::strerror(errno), "; nothing was written");
    }
    from += count;
    offset += static_cast<uint64_t>(count);
    size -= static_cast<size_t>(count);
  }
  return Status();
}

Status OutputFile::commit() {
  int failed = ::fsync(descriptor) != 0 && errno != EINVAL && errno != EROFS ? errno : 0;
  if (::close(std::exchange(descriptor, -1)) != 0 && failed == 0) {
    failed = errno;
  }
  if (failed == 0 && !temporary.empty() && ::rename(temporary.c_str(), path.c_str()) != 0) {
    failed = errno;
  }
  if (failed != 0) {
    return error(Code::IO, path, ": cannot write: ", std::strerror(failed), "; nothing was written");
  }
  temporary.clear();
  return Status();
}

Status moert::readers::writeWholeFile(const std::string &path, std::string_view text) {
  MOERT_ASSIGN(file, OutputFile::create(path));
  MOERT_TRY(file.write(text.data(), text.size()));
  return file.commit();
}
