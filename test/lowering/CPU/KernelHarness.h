//===- KernelHarness.h - Compiles a kernel and runs it in this process ---===//
//
// For unit tests: emits kernels for every target that this machine runs, loads
// the shared object and calls it workgroup by workgroup, in a shuffled order,
// with the operands packed as the runtime packs them. Every tensor, list of
// indices and table of pointers ends at a page that faults.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_LOWERING_CPU_KERNELHARNESS_H
#define MOE_TEST_LOWERING_CPU_KERNELHARNESS_H

#include "lowering/CPU/KernelLibrary.h"
#include "lowering/CPU/Kernels.h"
#include "mlir/IR/MLIRContext.h"
#include "runtime/include/moert/kernel_abi.h"
#include "test/lowering/Tensors.h"
#include <algorithm>
#include <dlfcn.h>
#include <random>
#include <unistd.h>

namespace mlir::moe::cpu::test {

using namespace mlir::moe::test;

/// The targets whose features this machine has.
inline std::vector<const CpuTarget *> runnableTargets() {
  std::vector<const CpuTarget *> result;
  for (const CpuTarget &target : allTargets()) {
    if (missingFeatures(target).empty()) {
      result.push_back(&target);
    }
  }
  return result;
}

class KernelTest : public ::testing::TestWithParam<const CpuTarget *> {
protected:
  KernelTest() : target(*GetParam()) {
    f32 = Float32Type::get(&context);
    bf16 = BFloat16Type::get(&context);
    f16 = Float16Type::get(&context);
  }

  Tensor random(Type type, int64_t size, float scale = 1.0f) {
    Tensor tensor(type, size);
    std::normal_distribution<float> normal(0.0f, scale);
    for (int64_t i = 0; i < size; ++i) {
      tensor.set(i, normal(generator));
    }
    return tensor;
  }

  /// Runs `kernel` for `workgroups` workgroups in a shuffled order.
  template <typename Kernel> void run(const Kernel &kernel, int64_t workgroups, std::vector<uint64_t> arguments) {
    KernelLibrary library(&context, target);
    std::string name = library.use(kernel);
    FailureOr<std::string> blob = library.compile();
    ASSERT_TRUE(succeeded(blob)) << name;
    char path[] = "/tmp/moe-kernel-test-XXXXXX";
    int file = mkstemp(path);
    ASSERT_EQ(write(file, blob->data(), blob->size()), static_cast<ssize_t>(blob->size()));
    close(file);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    unlink(path);
    ASSERT_NE(handle, nullptr) << dlerror();
    auto function = reinterpret_cast<moert_cpu_kernel>(dlsym(handle, name.c_str()));
    ASSERT_NE(function, nullptr) << name;
    // Nothing may rely on clean scratch, or on any order.
    scratch.assign(MOERT_KERNEL_SCRATCH / sizeof(float) + 16, std::nanf(""));
    void *aligned = reinterpret_cast<void *>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
    std::vector<int64_t> order(workgroups);
    for (int64_t i = 0; i < workgroups; ++i) {
      order[i] = i;
    }
    std::shuffle(order.begin(), order.end(), generator);
    for (int64_t i : order) {
      function(arguments.data(), i, aligned);
    }
    dlclose(handle);
  }

  const CpuTarget &target;
  MLIRContext context;
  Type f32, bf16, f16;
  std::mt19937 generator{12345};
  std::vector<float> scratch;
};

} // namespace mlir::moe::cpu::test

#endif // MOE_TEST_LOWERING_CPU_KERNELHARNESS_H
