//===- KernelHarness.h - Compiles a kernel and runs it on the emulator ----===//
//
// For unit tests: translates a kernel to PTX, as `moec compile` does for the card
// that is emulated, and launches it through the driver API on the emulator
// (docs/emulator.md), with every operand in an allocation of its own size. What a kernel only writes is
// left undefined before. The emulator must find nothing: no race, no access out
// of bounds, no read of undefined bytes, no result that is missing. Where cards
// launch kernels early, each is launched so (KernelBefore.h).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_LOWERING_GPU_KERNELHARNESS_H
#define MOE_TEST_LOWERING_GPU_KERNELHARNESS_H

#include "lowering/GPU/GpuCatalogue.h"
#include "lowering/GPU/Kernels.h"
#include "mlir/IR/MLIRContext.h"
#include "test/lowering/GPU/KernelBefore.h"
#include "test/lowering/GPU/LaunchRecorder.h"
#include "test/lowering/Tensors.h"
#include "test/runtime/emulator/driver/DriverTest.h"
#include <map>
#include <random>

namespace mlir::moe::gpu::test {

using namespace mlir::moe::test;

/// An operand of a launch.
struct Argument {
  enum Kind { Word, In, Out, Update, Table } kind;
  uint64_t word = 0;
  char *data = nullptr;
  size_t bytes = 0;
  std::string element; ///< type of data: "f32", "i64", ...
  std::vector<const Tensor *> entries;
  int64_t rows = 0, columns = 0; ///< of a weight, which some kernels take by tensor maps
  size_t skipped = 0;            ///< bytes of its allocation before it

  Argument(int64_t value) : kind(Word), word(test::word(value)) {}
  Argument(float value) : kind(Word), word(test::word(value)) {}
  Argument(Kind kind, Tensor &tensor)
      : kind(kind), data(tensor.data.data()), bytes(tensor.data.size()), element(kernels::typeName(tensor.type)) {}
  template <typename T>
  Argument(Kind kind, Guarded<T> &values)
      : kind(kind), data(reinterpret_cast<char *>(values.data())), bytes(values.size() * sizeof(T)),
        element((std::is_floating_point_v<T> ? "f" : "i") + std::to_string(8 * sizeof(T))) {}
  StringRef contents() const { return {data, bytes}; }
  /// Whether an earlier kernel may have written what a kernel reads here: weights are constant.
  bool isWrittenBefore() const { return (kind == In || kind == Update) && rows == 0; }
  /// As a part of a tensor that begins at element `count`.
  Argument behind(size_t count, const Tensor &tensor) && {
    skipped = count * tensor.data.size() / tensor.size();
    return std::move(*this);
  }
  /// A matrix of a weight, or a table of such.
  Argument(Argument argument, int64_t rows, int64_t columns) : Argument(std::move(argument)) {
    this->rows = rows;
    this->columns = columns;
  }
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
inline Argument matrix(Tensor &tensor, int64_t rows, int64_t columns) { return {in(tensor), rows, columns}; }
inline Argument matrices(const std::vector<Tensor> &tensors, int64_t rows, int64_t columns) {
  return {table(tensors), rows, columns};
}

/// The best target that the emulated card runs.
inline const GpuTarget &emulatedTarget() {
  CUdevice device = 0;
  int major = 0;
  if (cuInit(0) != CUDA_SUCCESS || cuDeviceGet(&device, 0) != CUDA_SUCCESS ||
      cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device) != CUDA_SUCCESS) {
    llvm::report_fatal_error("the emulator has no device 0");
  }
  return *findTarget(major >= 9 ? "cuda:sm_90a" : "cuda:sm_80");
}

/// Which slots each of `experts` experts works on, as a sort by expert leaves it; -1: nobody.
struct WorkList {
  WorkList(const std::vector<int> &expertOf, int64_t experts) : active(experts + 1, 0), offsets{0} {
    for (int64_t expert = 0; expert < experts; ++expert) {
      for (size_t slot = 0; slot < expertOf.size(); ++slot) {
        if (expertOf[slot] == expert) {
          slots.push_back(static_cast<int32_t>(slot));
        }
      }
      if (static_cast<int32_t>(slots.size()) > offsets.back()) {
        active[++active[0]] = static_cast<int32_t>(expert);
      }
      offsets.push_back(static_cast<int32_t>(slots.size()));
    }
  }
  /// The same work as a list of tiles of so many rows, whose first four numbers are `count` and, where no kernel says
  /// anything, `unset`.
  Guarded<int32_t> tiles(int64_t rows, int32_t unset = 0) const {
    std::vector<int32_t> list(4, unset);
    list[0] = 0;
    for (size_t expert = 0; expert + 1 < offsets.size(); ++expert) {
      const int32_t count = offsets[expert + 1] - offsets[expert];
      for (int32_t tile = 0; tile * rows < count; ++tile) {
        list.insert(list.end(), {static_cast<int32_t>(expert), tile, offsets[expert], count});
        ++list[0];
      }
    }
    return {list.begin(), list.end()};
  }
  /// What a product of experts works through.
  Guarded<int32_t> list(const GpuTarget &target, const kernels::Matmul &kernel) const {
    return kernel.many ? tiles(expertTileRows(target)) : active;
  }
  Guarded<int32_t> active, offsets, slots;
};

class KernelTest : public DriverTest {
protected:
  explicit KernelTest(const GpuTarget &target = emulatedTarget()) : target(target), catalogue(&mlir, target) {
    f32 = Float32Type::get(&mlir);
    bf16 = BFloat16Type::get(&mlir);
    f16 = Float16Type::get(&mlir);
  }

  /// Small whole numbers, from -most to most, of which sums and products are exact.
  Tensor integers(Type type, int64_t size, int most = 2) {
    Tensor tensor(type, size);
    for (int64_t i = 0; i < size; ++i) {
      tensor.set(i, static_cast<float>(static_cast<int>(generator() % (2 * most + 1)) - most));
    }
    return tensor;
  }
  Tensor random(Type type, int64_t size, float scale = 1.0f) {
    Tensor tensor(type, size);
    std::normal_distribution<float> normal(0.0f, scale);
    for (int64_t i = 0; i < size; ++i) {
      tensor.set(i, normal(generator));
    }
    return tensor;
  }

  /// The PTX of `kernel`, translated once per program: its name says all of its configuration.
  std::string translate(const kernels::Kernel &kernel, std::string &name) {
    static std::map<std::string, std::string> translated;
    name = std::visit([](const auto &config) { return config.name(); }, kernel);
    std::string &text = translated[(target.name + "/" + name).str()];
    return text.empty() ? text = translateAnew(kernel, name) : text;
  }
  std::string translateAnew(const kernels::Kernel &kernel, std::string &name) {
    GpuCatalogue library(&mlir, target);
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

  /// The tensor map of a matrix of bf16 at `address`.
  void encode(CUtensorMap &map, CUdeviceptr address, const Argument &matrix, int64_t boxRows) {
    const auto columns = static_cast<uint64_t>(matrix.columns), rows = static_cast<uint64_t>(matrix.rows);
    const uint64_t dims[] = {columns, rows}, strides[] = {columns * 2};
    const uint32_t box[] = {64, static_cast<uint32_t>(boxRows)}, steps[] = {1, 1};
    EXPECT_EQ(cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, reinterpret_cast<void *>(address), dims,
                                     strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                     CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
              CUDA_SUCCESS)
        << moeEmulatorLastError();
  }

  /// Tensor maps of a weight, or of every entry of a table, in the memory of the device.
  CUdeviceptr uploadMaps(const Argument &argument, int64_t boxRows) {
    auto place = [&](const char *data, size_t bytes) { return upload(data, bytes, true); };
    std::vector<CUtensorMap> maps(std::max<size_t>(argument.entries.size(), 1));
    if (argument.kind != Argument::Table) {
      encode(maps.front(), place(argument.data, argument.bytes), argument, boxRows);
    }
    for (size_t i = 0; i < argument.entries.size(); ++i) {
      encode(maps[i], place(argument.entries[i]->data.data(), argument.entries[i]->data.size()), argument, boxRows);
    }
    return place(reinterpret_cast<char *>(maps.data()), maps.size() * sizeof(CUtensorMap));
  }

  /// Runs `kernel` for `workgroups` workgroups; the emulator finds nothing.
  void run(const kernels::Kernel &kernel, int64_t workgroups, const std::vector<Argument> &arguments) {
    std::string name, text = translate(kernel, name);
    std::vector<std::string> before;
    for (const Argument &argument : arguments) {
      before.push_back(argument.kind == Argument::Update ? argument.contents().str() : std::string());
    }
    launch(text, name, kernel, workgroups, arguments, target.launchesEarly);
    ASSERT_EQ(allFindings(), "") << name;
    ASSERT_EQ(outcome, CUDA_SUCCESS) << name << ": " << moeEmulatorLastError();
    record(text, name, kernel, workgroups, arguments, before);
  }

  /// Writes the launch to the file of --record, if there is one.
  void record(const std::string &text, const std::string &name, const kernels::Kernel &kernel, int64_t workgroups,
              const std::vector<Argument> &arguments, const std::vector<std::string> &before) {
    LaunchRecorder &recorder = LaunchRecorder::get();
    if (!recorder.isOpen()) {
      return;
    }
    auto *matmul = std::get_if<kernels::Matmul>(&kernel);
    recorder.beginCase(text, name, workgroups, getThreads(target, kernel), getSharedBytes(target, kernel),
                       matmul ? catalogue.weightBox(*matmul) : 0, arguments.size());
    for (size_t i = 0; i < arguments.size(); ++i) {
      const Argument &argument = arguments[i];
      if (argument.kind == Argument::Word) {
        recorder.addWord(argument.word);
      } else if (argument.kind == Argument::Table) {
        std::vector<StringRef> entries;
        for (const Tensor *tensor : argument.entries) {
          entries.emplace_back(tensor->data.data(), tensor->data.size());
        }
        recorder.addTable(entries, argument.rows, argument.columns);
      } else if (argument.kind == Argument::In) {
        recorder.addData("in", argument.element, argument.contents(), "", argument.rows, argument.columns);
      } else {
        recorder.addData(argument.kind == Argument::Out ? "out" : "update", argument.element, before[i],
                         argument.contents(), 0, 0);
      }
    }
  }

  /// Launches `kernel`, which is `name` in the PTX `text`, and keeps what becomes of it as `outcome`. `early`: while a
  /// kernel that writes what it reads, but for weights, is still running.
  void launch(const std::string &text, const std::string &name, const kernels::Kernel &kernel, int64_t workgroups,
              const std::vector<Argument> &arguments, bool early = false) {
    auto *matmul = std::get_if<kernels::Matmul>(&kernel);
    const int64_t box = matmul ? catalogue.weightBox(*matmul) : 0;
    const auto threads = static_cast<unsigned>(getThreads(target, kernel));
    const auto sharedBytes = static_cast<unsigned>(getSharedBytes(target, kernel));
    CUmodule module;
    CUfunction function;
    CHECKED(cuModuleLoadData(&module, text.c_str()));
    CHECKED(cuModuleGetFunction(&function, module, name.c_str()));
    CHECKED(
        cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, static_cast<int>(sharedBytes)));
    std::vector<uint64_t> words;
    std::vector<CUdeviceptr> changing;
    for (const Argument &argument : arguments) {
      if (argument.kind == Argument::Word) {
        words.push_back(argument.word);
      } else if (argument.rows > 0 && box > 0) {
        words.push_back(uploadMaps(argument, box));
      } else if (argument.kind == Argument::Table) {
        std::vector<uint64_t> pointers;
        for (const Tensor *tensor : argument.entries) {
          pointers.push_back(upload(tensor->data.data(), tensor->data.size(), true));
        }
        words.push_back(upload(reinterpret_cast<char *>(pointers.data()), pointers.size() * 8, true));
      } else {
        const std::string whole = std::string(argument.skipped, 0) + argument.contents().str();
        words.push_back(upload(whole.data(), whole.size(), argument.kind != Argument::Out) + argument.skipped);
        if (argument.isWrittenBefore()) {
          changing.insert(changing.end(), {words.back() - argument.skipped, words.back() + argument.bytes});
        }
      }
    }
    std::vector<void *> parameters;
    for (uint64_t &word : words) {
      parameters.push_back(&word);
    }
    KernelBefore before;
    early &= workgroups > 0 && !changing.empty();
    if (early) {
      before.launch(changing);
    }
    if (workgroups > 0) {
      CUlaunchAttribute attribute = {};
      attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
      attribute.value.programmaticStreamSerializationAllowed = 1;
      const CUlaunchConfig config{
          static_cast<unsigned>(workgroups), 1, 1, threads, 1, 1, sharedBytes, nullptr, &attribute, early ? 1U : 0U};
      CHECKED(cuLaunchKernelEx(&config, function, parameters.data(), nullptr));
    }
    outcome = cuCtxSynchronize();
    if (outcome != CUDA_SUCCESS) {
      return;
    }
    if (early) {
      before.free();
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

  /// A fault spoils the context: the next kernel gets a new one.
  void renewContext() {
    CHECKED(cuDevicePrimaryCtxRelease(0));
    CHECKED(cuDevicePrimaryCtxRetain(&context, 0));
    CHECKED(cuCtxSetCurrent(context));
    allocated.clear();
  }

  CUresult outcome = CUDA_SUCCESS;
  MLIRContext mlir;
  const GpuTarget &target;
  GpuCatalogue catalogue; ///< for its choices
  Type f32, bf16, f16;
  std::mt19937 generator{12345};
  std::vector<CUdeviceptr> allocated;
};

} // namespace mlir::moe::gpu::test

#endif // MOE_TEST_LOWERING_GPU_KERNELHARNESS_H
