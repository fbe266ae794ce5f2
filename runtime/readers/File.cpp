//===- File.cpp - Whole small files and their facts -----------------------===//
//
// open, fstat and pread with retries after signals; errno becomes text here.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/File.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace moert;
using namespace moert::readers;

Result<InputFile> InputFile::open(const std::string &path) {
  InputFile file;
  file.path = path;
  // O_NONBLOCK: opening a pipe must not wait for its writer; it means nothing for regular files.
  file.descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.descriptor < 0) {
    Code code = errno == ENOENT || errno == ENOTDIR ? Code::NotFound : Code::IO;
    return error(code, path, ": cannot open: ", std::strerror(errno));
  }
  struct stat facts;
  if (::fstat(file.descriptor, &facts) != 0) {
    return error(Code::IO, path, ": cannot stat: ", std::strerror(errno));
  }
  if (!S_ISREG(facts.st_mode)) {
    return error(Code::IO, path, ": not a regular file");
  }
  file.bytes = static_cast<uint64_t>(facts.st_size);
  file.mtime = int64_t(facts.st_mtim.tv_sec) * 1000000000 + facts.st_mtim.tv_nsec;
  return file;
}

InputFile::InputFile(InputFile &&other) noexcept
    : path(std::move(other.path)), descriptor(std::exchange(other.descriptor, -1)), bytes(other.bytes),
      mtime(other.mtime) {}

InputFile &InputFile::operator=(InputFile &&other) noexcept {
  std::swap(path, other.path);
  std::swap(descriptor, other.descriptor);
  bytes = other.bytes;
  mtime = other.mtime;
  return *this;
}

InputFile::~InputFile() {
  if (descriptor >= 0) {
    ::close(descriptor);
  }
}

Status InputFile::read(uint64_t offset, void *out, size_t size) const {
  char *to = static_cast<char *>(out);
  while (size != 0) {
    ssize_t count = ::pread(descriptor, to, size, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return error(Code::IO, path, ": cannot read ", size, " bytes at ", offset, ": ", std::strerror(errno));
    }
    if (count == 0) {
      return error(Code::Corrupt, path, ": ends at byte ", offset, " where ", size,
                   " more bytes were expected; it was cut short, or is being written");
    }
    to += count;
    offset += static_cast<uint64_t>(count);
    size -= static_cast<size_t>(count);
  }
  return Status();
}

Result<std::string> moert::readers::readWholeFile(const std::string &path, uint64_t limit) {
  MOERT_ASSIGN(file, InputFile::open(path));
  if (file.size() > limit) {
    return error(Code::Corrupt, path, ": ", file.size(), " bytes is more than the ", limit,
                 " that a file of this kind may have");
  }
  std::string text(file.size(), '\0');
  MOERT_TRY(file.read(0, text.data(), text.size()));
  return text;
}

bool moert::readers::exists(const std::string &path) {
  struct stat facts;
  return ::stat(path.c_str(), &facts) == 0;
}

std::string moert::readers::joinPath(const std::string &directory, const std::string &name) {
  return directory.empty() || directory.back() == '/' ? directory + name : directory + "/" + name;
}
