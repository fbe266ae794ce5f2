//===- KernelHarness.h - Compiles a kernel and runs it on the emulator ----===//
//
// For unit tests: translates a kernel to PTX, as `moec compile` does, and
// launches it through the driver API on the emulator (docs/emulator.md), with
// every operand in an allocation of its own size. What a kernel only writes is
// left undefined before. The emulator must find nothing: no race, no access out
// of bounds, no read of undefined bytes, no result that is missing.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_LOWERING_GPU_KERNELHARNESS_H
#define MOE_TEST_LOWERING_GPU_KERNELHARNESS_H

#include "lowering/GPU/GpuCatalogue.h"
#include "lowering/GPU/Kernels.h"
#include "mlir/IR/MLIRContext.h"
#include "test/lowering/Tensors.h"
#include "test/runtime/emulator/driver/DriverTest.h"
#include <random>

namespace mlir::moe::gpu::test {

using namespace mlir::moe::test;

/// An operand of a launch.
struct Argument {
  enum Kind { Word, In, Out, Update, Table } kind;
  uint64_t word = 0;
  char *data = nullptr;
  size_t bytes = 0;
  std::vector<const Tensor *> entries;

  Argument(int64_t value) : kind(Word), word(test::word(value)) {}
  Argument(float value) : kind(Word), word(test::word(value)) {}
  Argument(Kind kind, Tensor &tensor) : kind(kind), data(tensor.data.data()), bytes(tensor.data.size()) {}
  template <typename T>
  Argument(Kind kind, Guarded<T> &values)
      : kind(kind), data(reinterpret_cast<char *>(values.data())), bytes(values.size() * sizeof(T)) {}
  /// A table of pointers to tensors.
  explicit Argument(const std::vector<Tensor> &tensors) : kind(Table) {
    for (const Tensor &tensor : tensors) {
      entries.push_back(&tensor);
    }
  }
};
template <typename T> Argument in(T &values) { return Argument(Argument::In, values); }
template <typename T> Argument out(T &values) { return Argument(Argument::Out, values); }
template <typename T> Argument update(T &values) { return Argument(Argument::Update, values); }
inline Argument table(const std::vector<Tensor> &tensors) { return Argument(tensors); }

class KernelTest : public DriverTest {
protected:
  KernelTest() : catalogue(&mlir, allTargets().front()) {
    f32 = Float32Type::get(&mlir);
    bf16 = BFloat16Type::get(&mlir);
    f16 = Float16Type::get(&mlir);
  }

  Tensor random(Type type, int64_t size, float scale = 1.0f) {
    Tensor tensor(type, size);
    std::normal_distribution<float> normal(0.0f, scale);
    for (int64_t i = 0; i < size; ++i) {
      tensor.set(i, normal(generator));
    }
    return tensor;
  }

  /// The PTX of `kernel`.
  std::string translate(const kernels::Kernel &kernel, std::string &name) {
    GpuCatalogue library(&mlir, allTargets().front());
    EXPECT_EQ(library.whyNot(kernel, 0), "");
    name = library.use(kernel);
    FailureOr<std::string> text = library.compile();
    EXPECT_TRUE(succeeded(text)) << name;
    return succeeded(text) ? *text : "";
  }

  CUdeviceptr upload(const char *data, size_t bytes, bool isDefined) {
    CUdeviceptr address = buffer(std::max<size_t>(bytes, 1));
    allocated.push_back(address);
    if (isDefined && bytes > 0) {
      EXPECT_EQ(cuMemcpyHtoD(address, data, bytes), CUDA_SUCCESS) << moeEmulatorLastError();
    }
    return address;
  }

  /// Runs `kernel` for `workgroups` workgroups; the emulator finds nothing.
  void run(const kernels::Kernel &kernel, int64_t workgroups, const std::vector<Argument> &arguments) {
    std::string name, text = translate(kernel, name);
    launch(text, name, getThreads(kernel), workgroups, arguments);
    ASSERT_EQ(allFindings(), "") << name;
  }

  /// Launches `name` of the PTX `text`.
  void launch(const std::string &text, const std::string &name, int64_t threads, int64_t workgroups,
              const std::vector<Argument> &arguments) {
    CUmodule module;
    CUfunction function;
    CHECKED(cuModuleLoadData(&module, text.c_str()));
    CHECKED(cuModuleGetFunction(&function, module, name.c_str()));
    std::vector<uint64_t> words;
    for (const Argument &argument : arguments) {
      if (argument.kind == Argument::Word) {
        words.push_back(argument.word);
      } else if (argument.kind == Argument::Table) {
        std::vector<uint64_t> pointers;
        for (const Tensor *tensor : argument.entries) {
          pointers.push_back(upload(tensor->data.data(), tensor->data.size(), true));
        }
        words.push_back(upload(reinterpret_cast<char *>(pointers.data()), pointers.size() * 8, true));
      } else {
        words.push_back(upload(argument.data, argument.bytes, argument.kind != Argument::Out));
      }
    }
    std::vector<void *> parameters;
    for (uint64_t &word : words) {
      parameters.push_back(&word);
    }
    if (workgroups > 0) {
      CHECKED(cuLaunchKernel(function, static_cast<unsigned>(workgroups), 1, 1, static_cast<unsigned>(threads), 1, 1, 0,
                             nullptr, parameters.data(), nullptr));
      CHECKED(cuCtxSynchronize());
    }
    for (size_t i = 0; i < arguments.size(); ++i) {
      const Argument &argument = arguments[i];
      if ((argument.kind == Argument::Out || argument.kind == Argument::Update) && argument.bytes > 0) {
        CHECKED(cuMemcpyDtoH(argument.data, words[i], argument.bytes));
      }
    }
    for (CUdeviceptr address : allocated) {
      CHECKED(cuMemFree(address));
    }
    allocated.clear();
    CHECKED(cuModuleUnload(module));
  }

  MLIRContext mlir;
  GpuCatalogue catalogue; ///< for its choices
  Type f32, bf16, f16;
  std::mt19937 generator{12345};
  std::vector<CUdeviceptr> allocated;
};

} // namespace mlir::moe::gpu::test

#endif // MOE_TEST_LOWERING_GPU_KERNELHARNESS_H
