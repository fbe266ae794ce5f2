// memfd, seals and dlopen; see KernelLibrary.h.
#include "runtime/backends/cpu/KernelLibrary.h"

#include "runtime/backends/cpu/ElfCheck.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

namespace moert::cpu {

KernelLibrary::KernelLibrary(KernelLibrary &&other) noexcept { *this = std::move(other); }

KernelLibrary &KernelLibrary::operator=(KernelLibrary &&other) noexcept {
  std::swap(handle, other.handle);
  std::swap(fd, other.fd);
  std::swap(functions, other.functions);
  return *this;
}

KernelLibrary::~KernelLibrary() {
  if (handle) {
    dlclose(handle);
  }
  if (fd >= 0) {
    close(fd);
  }
}

Result<KernelLibrary> KernelLibrary::load(const std::string &path, const void *blob, size_t size,
                                          const std::vector<std::string> &symbols) {
  MOERT_TRY(checkKernelElf(path, blob, size, symbols));
  KernelLibrary library;
  // Kernels before 6.3 do not know MFD_EXEC; later ones may want it said.
  library.fd = memfd_create("moert-kernels", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  if (library.fd < 0 && errno == EINVAL) {
    library.fd = memfd_create("moert-kernels", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  }
  if (library.fd < 0) {
    return error(Code::IO, path, ": cannot make a memory file for the kernels: ", strerror(errno));
  }
  const char *from = static_cast<const char *>(blob);
  for (size_t left = size; left;) {
    ssize_t put = write(library.fd, from, left);
    if (put < 0 && errno == EINTR) {
      continue;
    }
    if (put <= 0) {
      return error(Code::OutOfMemory, path, ": cannot copy ", size, " bytes of kernels to memory: ", strerror(errno));
    }
    from += put, left -= size_t(put);
  }
  if (fcntl(library.fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
    return error(Code::IO, path, ": cannot seal the kernels in memory: ", strerror(errno));
  }
  std::string place = concat("/proc/self/fd/", library.fd);
  library.handle = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library.handle) {
    const char *reason = dlerror();
    return error(Code::Unsupported, path, ": the dynamic loader refuses the kernels: ", reason ? reason : "no reason",
                 " (is /proc mounted, and memory allowed to be executable?)");
  }
  const auto *abi = static_cast<const uint32_t *>(dlsym(library.handle, "moert_kernel_abi"));
  if (!abi || *abi != MOERT_KERNEL_ABI_VERSION) {
    return error(Code::Unsupported, path, ": has kernel ABI ", abi ? *abi : 0, ", this runtime has ",
                 MOERT_KERNEL_ABI_VERSION, ": compile the package again");
  }
  for (const std::string &symbol : symbols) {
    void *address = dlsym(library.handle, symbol.c_str());
    if (!address) {
      return error(Code::Corrupt, path, ": kernel '", symbol, "' is missing; compile the package again");
    }
    library.functions.push_back(reinterpret_cast<moert_cpu_kernel>(address));
  }
  return library;
}

} // namespace moert::cpu
