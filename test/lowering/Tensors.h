//===- Tensors.h - Operands of kernels under test -------------------------===//
//
// Tensors in storage types and lists of indices. Each ends at a page that
// faults, so that a kernel that runs in this process cannot read past it
// unnoticed.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_LOWERING_TENSORS_H
#define MOE_TEST_LOWERING_TENSORS_H

#include "mlir/IR/BuiltinTypes.h"
#include "llvm/Support/ErrorHandling.h"
#include "gtest/gtest.h"
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace mlir::moe::test {

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

/// |actual - expected| <= absolute + relative * |expected| for every element;
/// NaN fails.
inline void expectNear(const Tensor &actual, const std::vector<double> &expected, double absolute, double relative) {
  ASSERT_EQ(actual.size(), static_cast<int64_t>(expected.size()));
  int shown = 0;
  for (int64_t i = 0; i < actual.size() && shown < 5; ++i) {
    double bound = absolute + relative * std::abs(expected[i]);
    if (!(std::abs(actual[i] - expected[i]) <= bound)) {
      ADD_FAILURE() << "element " << i << ": got " << actual[i] << ", expected " << expected[i] << " within " << bound;
      ++shown;
    }
  }
}

} // namespace mlir::moe::test

#endif // MOE_TEST_LOWERING_TENSORS_H
