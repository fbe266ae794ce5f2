// The toy package for GPUs: the same tables, its kernels in PTX (toy.ptx).
#ifndef TEST_RUNTIME_GPUTOY_H
#define TEST_RUNTIME_GPUTOY_H

#include "test/runtime/core/TestPackage.h"

namespace moert::test {

/// Places of the two kernels that make trouble, where the CPU's toy has others.
enum : uint32_t { kLinger = 5, kStray = 6 };

inline void makeForGpu(Toy &toy) {
  VariantSpec &v = toy.variant();
  v.target = "cuda:sm_80";
  v.blob = "kernels-cuda-sm_80.ptx";
  v.kernelFile = TEST_PTX;
  v.kernels[kLinger] = "linger";
  v.kernels[kStray] = "stray";
  for (KernelSpec &kernel : v.kernels) {
    kernel.threads = 32;
    kernel.sharedBytes = kernel.symbol == "scale" ? 64 << 10 : 0; // more than a kernel has without asking
  }
}

} // namespace moert::test

#endif // TEST_RUNTIME_GPUTOY_H
