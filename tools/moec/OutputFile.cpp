//===- OutputFile.cpp - Files and packages that are whole or absent ---------===//

#include "tools/moec/OutputFile.h"
#include "runtime/core/OutputPath.h"
#include "runtime/format/Checksum.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace moec;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace fs = llvm::sys::fs;
namespace path_ns = llvm::sys::path;

/// Files of a model that go into the package are configs and tokenizers, not weights.
static constexpr uint64_t kMaxCopiedBytes = 256 << 20;
/// Weights are copied piece by piece.
static constexpr size_t kCopiedPiece = 8 << 20;

static Error makeError(const Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

static Error systemError(StringRef path, StringRef action) {
  int code = errno;
  StringRef hint = code == ENOSPC || code == EDQUOT ? "; free some space or choose another place" : "";
  return makeError(path + ": cannot be " + action + ": " + std::strerror(code) + hint);
}

Error moec::checkReplaced(StringRef path, llvm::function_ref<bool(StringRef)> isKnown) {
  fs::file_status status;
  if (fs::status(path, status) || status.type() != fs::file_type::regular_file || status.getSize() == 0) {
    return Error::success();
  }
  auto file = llvm::MemoryBuffer::getFileSlice(path, std::min<uint64_t>(64, status.getSize()), 0);
  if (file && isKnown((*file)->getBuffer())) {
    return Error::success();
  }
  return makeError(path +
                   ": exists and is something else than what is written here; remove it, or choose another name");
}

Error moec::checkReplaced(StringRef path, StringRef start) {
  return checkReplaced(path, [&](StringRef begin) { return begin.starts_with(start); });
}

/// Opens `path` with `flags` and writes all of `contents`; `durable`: and waits until they are on the disk.
static Error writeContents(StringRef path, int flags, bool durable, StringRef contents) {
  int descriptor = ::open(path.str().c_str(), flags | O_CLOEXEC, 0644);
  if (descriptor < 0) {
    return systemError(path, flags & O_CREAT ? "created" : "opened");
  }
  const char *data = contents.data();
  size_t left = contents.size();
  while (left != 0) {
    ssize_t written = ::write(descriptor, data, std::min<size_t>(left, 1 << 30));
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      Error error = systemError(path, "written");
      ::close(descriptor);
      return error;
    }
    data += written;
    left -= static_cast<size_t>(written);
  }
  if (durable && ::fsync(descriptor) != 0) {
    Error error = systemError(path, "flushed to disk");
    ::close(descriptor);
    return error;
  }
  return ::close(descriptor) == 0 ? Error::success() : systemError(path, "closed");
}

/// Writes and flushes one new file.
static Error writeNewFile(StringRef path, StringRef contents) {
  return writeContents(path, O_WRONLY | O_CREAT | O_TRUNC, /*durable=*/true, contents);
}

/// Flushes an existing file or the entries of a directory.
static Error flush(StringRef path) {
  int descriptor = ::open(path.str().c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    return systemError(path, "opened");
  }
  Error error = ::fsync(descriptor) == 0 ? Error::success() : systemError(path, "flushed to disk");
  ::close(descriptor);
  return error;
}

static StringRef parentOf(StringRef path) {
  StringRef parent = path_ns::parent_path(path);
  return parent.empty() ? "." : parent;
}

void moec::removeLeftovers(StringRef path) {
  std::string prefix = (path_ns::filename(path) + ".tmp-").str();
  std::error_code error;
  for (fs::directory_iterator it(parentOf(path), error), end; it != end && !error; it.increment(error)) {
    StringRef name = path_ns::filename(it->path());
    int owner;
    if (name.consume_front(prefix) && !name.getAsInteger(10, owner) && ::kill(owner, 0) != 0 && errno == ESRCH) {
      fs::remove_directories(it->path());
      fs::remove(it->path());
    }
  }
}

std::string moec::temporaryName(StringRef path) {
  removeLeftovers(path);
  return (path + ".tmp-" + Twine(::getpid())).str();
}

Error moec::writeOutput(StringRef name, StringRef contents) {
  const std::string path = moert::followLinks(name.str());
  if (name == "-") {
    llvm::outs() << contents;
    llvm::outs().flush();
    if (llvm::outs().has_error()) {
      std::string reason = llvm::outs().error().message();
      llvm::outs().clear_error();
      return makeError("standard output cannot be written: " + reason);
    }
    return Error::success();
  }
  if (fs::is_directory(path)) {
    return makeError(name + ": is a directory, but the output is one file; name a file");
  }
  // A device or a pipe is written, not replaced: `-o /dev/null` must leave /dev/null what it is.
  if (moert::isDevice(path)) {
    return writeContents(path, O_WRONLY, /*durable=*/false, contents);
  }
  std::string temporary = temporaryName(path);
  if (Error error = writeNewFile(temporary, contents)) {
    fs::remove(temporary);
    return error;
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    Error error = systemError(path, "replaced");
    fs::remove(temporary);
    return error;
  }
  return flush(parentOf(path));
}

//===----------------------------------------------------------------------===//
// Packages
//===----------------------------------------------------------------------===//

bool moec::isPackage(StringRef directory) { return fs::is_regular_file(directory + "/" + kProgramFile); }

static bool isEmptyDirectory(StringRef path) {
  std::error_code error;
  return fs::is_directory(path) && fs::directory_iterator(path, error) == fs::directory_iterator() && !error;
}

Expected<PackageWriter> PackageWriter::create(StringRef name, StringRef kind, StringRef marker) {
  name = name.rtrim('/');
  if (name.empty()) {
    return makeError("the " + kind + " needs a name: -o " + (kind == "package" ? "PKG" : "OUT"));
  }
  // Of a link to a package, the package is replaced: swapping the link itself would remove what it points to.
  const std::string path = moert::followLinks(name.str());
  if (fs::exists(path) && !fs::is_regular_file(path + "/" + marker) && !isEmptyDirectory(path)) {
    return makeError(name + ": exists and is not a " + kind + " (it has no " + marker +
                     "), so it is not overwritten; choose another name or remove it");
  }
  std::string temporary = temporaryName(path);
  if (::mkdir(temporary.c_str(), 0755) != 0) {
    return systemError(temporary, "created");
  }
  return PackageWriter(path, std::move(temporary));
}

PackageWriter::PackageWriter(PackageWriter &&other)
    : path(std::move(other.path)), temporary(std::move(other.temporary)) {
  other.temporary.clear();
}

PackageWriter::~PackageWriter() {
  if (!temporary.empty()) {
    fs::remove_directories(temporary);
  }
}

Error PackageWriter::write(StringRef name, StringRef contents) {
  return writeNewFile(temporary + "/" + name.str(), contents);
}

Error PackageWriter::copy(StringRef name, StringRef fromDirectory) {
  std::string from = (fromDirectory + "/" + name).str();
  fs::file_status status;
  if (fs::status(from, status) || !fs::is_regular_file(status)) {
    return Error::success();
  }
  if (status.getSize() > kMaxCopiedBytes) {
    return makeError(from + ": has " + Twine(status.getSize()) +
                     " bytes, but a file that is copied into a package has at most " + Twine(kMaxCopiedBytes));
  }
  auto buffer = llvm::MemoryBuffer::getFile(from, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer) {
    return makeError(from + ": cannot be read: " + buffer.getError().message());
  }
  return writeNewFile(temporary + "/" + name.str(), (*buffer)->getBuffer());
}

Expected<std::string> PackageWriter::copyWeights(StringRef from, StringRef name) {
  Expected<fs::file_t> file = fs::openNativeFileForRead(from);
  if (!file) {
    return makeError(from + ": cannot be read: " + llvm::toString(file.takeError()));
  }
  llvm::scope_exit close([&] { fs::closeFile(*file); });
  const std::string to = temporary + "/" + name.str();
  moert::format::Sha256 hash;
  std::vector<char> piece(kCopiedPiece);
  if (Error error = writeNewFile(to, "")) {
    return error;
  }
  for (;;) {
    Expected<size_t> read = fs::readNativeFile(*file, piece);
    if (!read) {
      return makeError(from + ": cannot be read: " + llvm::toString(read.takeError()));
    }
    if (*read == 0) {
      return moert::format::toHex(hash.finish());
    }
    hash.update(piece.data(), *read);
    if (Error error = writeContents(to, O_WRONLY | O_APPEND, /*durable=*/false, StringRef(piece.data(), *read))) {
      return error;
    }
  }
}

Error PackageWriter::commit() {
  std::error_code code;
  for (fs::directory_iterator it(temporary, code), end; it != end && !code; it.increment(code)) {
    if (Error error = flush(it->path())) {
      return error;
    }
  }
  if (Error error = flush(temporary)) {
    return error;
  }
  if (!fs::exists(path) || isEmptyDirectory(path)) {
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
      return systemError(path, "created");
    }
  } else {
    // rename(2) does not replace a directory with files: swap the two, so that at every moment a whole package is at
    // `path`, and remove the old one. Where the file system cannot swap, the old one steps aside first.
    if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) != 0) {
      std::string old = temporary + ".old";
      if (::rename(path.c_str(), old.c_str()) != 0) {
        return systemError(path, "replaced");
      }
      if (::rename(temporary.c_str(), path.c_str()) != 0) {
        Error error = systemError(path, "replaced");
        if (::rename(old.c_str(), path.c_str()) != 0) {
          return llvm::joinErrors(std::move(error), systemError(old, "put back"));
        }
        return error;
      }
      temporary = old;
    }
    fs::remove_directories(temporary);
  }
  temporary.clear();
  return flush(parentOf(path));
}
