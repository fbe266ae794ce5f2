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
#include "llvm/Support/ErrorHandling.h"
#include "gtest/gtest.h"
#include <algorithm>
#include <cstring>
#include <dlfcn.h>
#include <random>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace mlir::moe::cpu::test {

/// Gives out memory whose end is the end of a page that nothing may touch beyond: a read past a tensor faults at once.
template <typename T> struct GuardAllocator {
  using value_type = T;
  GuardAllocator() = default;
  template <typename U> GuardAllocator(const GuardAllocator<U> &) {}

  T *allocate(size_t count) {
    const Region region = regionOf(count);
    void *base = mmap(nullptr, region.pages + region.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *guard = static_cast<char *>(base) + region.pages;
    if (base == MAP_FAILED || mprotect(guard, region.page, PROT_NONE) != 0) {
      llvm::report_fatal_error("cannot map memory for a test");
    }
    return reinterpret_cast<T *>(guard - region.bytes);
  }
  void deallocate(T *pointer, size_t count) {
    const Region region = regionOf(count);
    munmap(reinterpret_cast<char *>(pointer) + region.bytes - region.pages, region.pages + region.page);
  }
  template <typename U> bool operator==(const GuardAllocator<U> &) const { return true; }
  template <typename U> bool operator!=(const GuardAllocator<U> &) const { return false; }

private:
  struct Region {
    size_t bytes, pages, page; ///< what is asked for; in whole pages; of the guard
  };
  static Region regionOf(size_t count) {
    const size_t bytes = count * sizeof(T), page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return {bytes, (bytes + page - 1) / page * page, page};
  }
};

/// A vector for operands of kernels. `word` refuses one with room behind its last element.
template <typename T> using Guarded = std::vector<T, GuardAllocator<T>>;

/// Moves the guard to the end of a vector that grew. (shrink_to_fit() does nothing without exceptions.)
template <typename T> void fit(Guarded<T> &values) { values = Guarded<T>(values.begin(), values.end()); }

/// A tensor in one of the storage types; values are kept as the storage type rounds them.
struct Tensor {
  Tensor(Type type, int64_t size) : type(type), bytes(type.getIntOrFloatBitWidth() / 8), data(size * bytes) {}

  static float widen(uint16_t bits) {
    uint32_t wide = uint32_t(bits) << 16;
    float result;
    std::memcpy(&result, &wide, 4);
    return result;
  }
  static uint16_t narrow(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }

  float operator[](int64_t i) const {
    if (type.isF32()) {
      float value;
      std::memcpy(&value, &data[i * 4], 4);
      return value;
    }
    uint16_t bits;
    std::memcpy(&bits, &data[i * 2], 2);
    if (type.isF16()) {
      _Float16 half;
      std::memcpy(&half, &bits, 2);
      return static_cast<float>(half);
    }
    return widen(bits);
  }
  void set(int64_t i, float value) {
    if (type.isF32()) {
      std::memcpy(&data[i * 4], &value, 4);
      return;
    }
    uint16_t bits = narrow(value);
    if (type.isF16()) {
      _Float16 half = static_cast<_Float16>(value);
      std::memcpy(&bits, &half, 2);
    }
    std::memcpy(&data[i * 2], &bits, 2);
  }
  int64_t size() const { return static_cast<int64_t>(data.size()) / bytes; }
  uint64_t word() const { return reinterpret_cast<uint64_t>(data.data()); }

  Type type;
  int64_t bytes;
  Guarded<char> data;
};

inline uint64_t word(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
template <typename T> uint64_t word(const Guarded<T> &values) {
  EXPECT_EQ(values.size(), values.capacity()) << "fit() puts the guard behind the last element";
  return reinterpret_cast<uint64_t>(values.data());
}
inline uint64_t word(int64_t value) { return static_cast<uint64_t>(value); }
inline uint64_t word(const Tensor &tensor) { return tensor.word(); }

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

  /// |actual - expected| <= absolute + relative * |expected| for every element;
  /// NaN fails.
  void expectNear(const Tensor &actual, const std::vector<double> &expected, double absolute, double relative) {
    ASSERT_EQ(actual.size(), static_cast<int64_t>(expected.size()));
    int shown = 0;
    for (int64_t i = 0; i < actual.size() && shown < 5; ++i) {
      double bound = absolute + relative * std::abs(expected[i]);
      if (!(std::abs(actual[i] - expected[i]) <= bound)) {
        ADD_FAILURE() << "element " << i << ": got " << actual[i] << ", expected " << expected[i] << " within "
                      << bound;
        ++shown;
      }
    }
  }

  const CpuTarget &target;
  MLIRContext context;
  Type f32, bf16, f16;
  std::mt19937 generator{12345};
  std::vector<float> scratch;
};

} // namespace mlir::moe::cpu::test

#endif // MOE_TEST_LOWERING_CPU_KERNELHARNESS_H
