// NVTX by dlopen; see Ranges.h.
#include "runtime/backends/cuda/Ranges.h"

#include <cinttypes>
#include <cstdio>
#include <dlfcn.h>
#include <initializer_list>

namespace moert::cuda {

Ranges::Ranges() {
  for (const char *name : {"libnvToolsExt.so.1", "libnvtx3interop.so.1", "libnvtx3interop.so"}) {
    if (void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
      push = reinterpret_cast<decltype(push)>(dlsym(library, "nvtxRangePushA"));
      pop = reinterpret_cast<decltype(pop)>(dlsym(library, "nvtxRangePop"));
      push = pop ? push : nullptr;
      return;
    }
  }
}

void Ranges::begin(const char *what, int64_t tokens, int64_t rows) const {
  if (push) {
    char text[96];
    snprintf(text, sizeof(text), "%s T=%" PRId64 " M=%" PRId64, what, tokens, rows);
    push(text);
  }
}

void Ranges::end() const {
  if (push) {
    pop();
  }
}

} // namespace moert::cuda
