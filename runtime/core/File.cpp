// POSIX files and pages; see File.h.
#include "runtime/core/File.h"

#include "runtime/core/OutputPath.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace moert {
namespace {

constexpr uint64_t kHugePage = uint64_t(2) << 20;

Status systemError(const std::string &path, const char *doing) {
  int number = errno;
  char buffer[128];
  const char *text = strerror_r(number, buffer, sizeof(buffer)); // the GNU form returns the text
  Code code = number == ENOENT || number == ENOTDIR ? Code::NotFound : number == ENOMEM ? Code::OutOfMemory : Code::IO;
  return error(code, path, ": cannot ", doing, ": ", text);
}

} // namespace

Pages::Pages(Pages &&other) noexcept { *this = std::move(other); }

Pages &Pages::operator=(Pages &&other) noexcept {
  std::swap(base, other.base);
  std::swap(bytes, other.bytes);
  return *this;
}

Pages::~Pages() {
  if (base) {
    munmap(base, bytes);
  }
}

Result<Pages> Pages::allocate(uint64_t bytes, const std::string &what) {
  auto outOfMemory = [&] {
    return error(Code::OutOfMemory, what, " needs ", bytes, " bytes (", (bytes >> 20) + 1,
                 " MiB), which this machine "
                 "does not give: lower --context, --sequences or --max-tokens");
  };
  Pages pages;
  if (bytes > uint64_t(INT64_MAX) - 2 * kHugePage) {
    return outOfMemory();
  }
  // Over-allocate to find a huge-page boundary inside, then give the ends back.
  const bool huge = bytes >= kHugePage;
  const uint64_t page = uint64_t(sysconf(_SC_PAGESIZE));
  const uint64_t size = (std::max<uint64_t>(bytes, 1) + page - 1) / page * page;
  const uint64_t mapped = huge ? size + kHugePage : size;
  void *memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return outOfMemory();
  }
  uint8_t *begin = static_cast<uint8_t *>(memory);
  if (huge) {
    uint8_t *aligned =
        reinterpret_cast<uint8_t *>((reinterpret_cast<uintptr_t>(begin) + kHugePage - 1) / kHugePage * kHugePage);
    if (aligned != begin) {
      munmap(begin, size_t(aligned - begin));
    }
    munmap(aligned + size, size_t(begin + mapped - (aligned + size)));
    begin = aligned;
    madvise(begin, size, MADV_HUGEPAGE);
  }
  pages.base = begin;
  pages.bytes = size;
  return pages;
}

File::File(File &&other) noexcept { *this = std::move(other); }

File &File::operator=(File &&other) noexcept {
  std::swap(name, other.name);
  std::swap(fd, other.fd);
  std::swap(bytes, other.bytes);
  std::swap(mtime, other.mtime);
  return *this;
}

File::~File() {
  if (fd >= 0) {
    close(fd);
  }
}

Result<File> File::open(const std::string &path) {
  File file;
  file.name = path;
  // Non-blocking, so that a pipe of that name is refused below instead of waited for.
  file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd < 0) {
    return systemError(path, "open");
  }
  struct stat facts;
  if (fstat(file.fd, &facts) != 0) {
    return systemError(path, "stat");
  }
  if (!S_ISREG(facts.st_mode)) {
    return error(Code::IO, path, ": not a regular file");
  }
  file.bytes = uint64_t(facts.st_size);
  file.mtime = int64_t(facts.st_mtim.tv_sec) * 1000000000 + facts.st_mtim.tv_nsec;
  return file;
}

Status File::read(void *out, uint64_t count, uint64_t offset) const {
  uint8_t *to = static_cast<uint8_t *>(out);
  while (count) {
    ssize_t got = pread(fd, to, std::min<uint64_t>(count, 1u << 30), off_t(offset));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return systemError(name, "read");
    }
    if (got == 0) {
      return error(Code::Corrupt, name, ": ends at byte ", offset, ", ", count, " bytes early: was it cut short?");
    }
    to += got, offset += uint64_t(got), count -= uint64_t(got);
  }
  return {};
}

Result<Pages> File::readAll(uint64_t limit) const {
  if (bytes > limit) {
    return error(Code::Corrupt, name, ": has ", bytes, " bytes, at most ", limit, " are read");
  }
  auto pages = Pages::allocate(bytes, name);
  if (!pages.ok()) {
    return pages;
  }
  MOERT_TRY(read(pages->data(), bytes, 0));
  return pages;
}

Result<Pages> File::map() const {
  Pages pages;
  if (bytes == 0) {
    return pages;
  }
  void *memory = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    return systemError(name, "map");
  }
  pages.base = static_cast<uint8_t *>(memory);
  pages.bytes = bytes;
  return pages;
}

Status writeFile(const std::string &name, std::initializer_list<Piece> pieces) {
  static std::atomic<unsigned> counter{0};
  const std::string path = followLinks(name);
  const bool inPlace = isDevice(path);
  const std::string temporary = inPlace ? path : concat(path, ".tmp-", int(getpid()), "-", counter.fetch_add(1));
  int fd = inPlace ? ::open(path.c_str(), O_WRONLY | O_CLOEXEC)
                   : ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) {
    return systemError(temporary, inPlace ? "open" : "create");
  }
  Status status;
  for (const Piece &piece : pieces) {
    const uint8_t *from = static_cast<const uint8_t *>(piece.data);
    for (uint64_t left = piece.size; left && status.ok();) {
      ssize_t put = write(fd, from, std::min<uint64_t>(left, 1u << 30));
      if (put < 0 && errno != EINTR) {
        status = systemError(temporary, "write");
      } else if (put > 0) {
        from += put, left -= uint64_t(put);
      }
    }
  }
  if (status.ok() && !inPlace && fsync(fd) != 0) {
    status = systemError(temporary, "flush");
  }
  if (close(fd) != 0 && status.ok()) {
    status = systemError(temporary, "close");
  }
  if (inPlace) {
    return status;
  }
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = systemError(temporary, "rename");
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
  }
  return status;
}

uint64_t physicalBytes() {
  long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? uint64_t(pages) * uint64_t(size) : UINT64_MAX;
}

std::string libraryFolder() {
  static const int here = 0;
  Dl_info info;
  if (!dladdr(&here, &info) || !info.dli_fname) {
    return ".";
  }
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string joinPath(const std::string &folder, const std::string &name) {
  return folder.empty() || folder.back() == '/' ? folder + name : folder + "/" + name;
}

} // namespace moert
