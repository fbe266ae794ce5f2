//===- Gpu.h - A GPU, or the emulator, for measurements --------------------===//
//
// The driver as the runtime opens it, with the calls that only measurements
// need, and the way to time work on a stream: everything is handed over while
// the stream is held back, so that the host's pace does not show, and events
// stand between. A call that fails ends the program with its name.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_BENCH_GPU_GPU_H
#define MOE_BENCH_GPU_GPU_H

#include "runtime/backends/cuda/Driver.h"

#include <string>
#include <vector>

namespace benchgpu {

[[noreturn]] void die(const std::string &text);

class Gpu {
public:
  explicit Gpu(bool emulator);
  Gpu(const Gpu &) = delete;
  Gpu &operator=(const Gpu &) = delete;

  void check(CUresult result, const char *what) const;
  bool isEmulator() const { return driver.isEmulator(); }
  int multiprocessors() const;

  CUdeviceptr allocate(size_t bytes);
  void release(CUdeviceptr memory) { check(driver.memoryFree(memory), "cuMemFree"); }
  void upload(CUdeviceptr to, const void *from, size_t bytes);
  void download(void *to, CUdeviceptr from, size_t bytes);
  CUmodule load(const std::string &ptx);
  CUfunction function(CUmodule module, const std::string &name, unsigned sharedBytes);
  void launch(CUfunction function, unsigned grid, unsigned threads, unsigned sharedBytes,
              const std::vector<uint64_t> &words, bool early = false);

  /// Holds the stream back until `open`, where the driver can. Of some thousand commands the driver takes no more.
  void holdBack();
  /// Records the `index`-th mark in the stream.
  void mark(size_t index);
  /// Lets the stream go and waits for mark `last`.
  void finish(size_t last);
  /// Microseconds between two marks of what has finished.
  double microseconds(size_t from, size_t to) const;
  /// Commands and marks that may be handed over while the stream is held back.
  static constexpr size_t maxHeld = 900;

  moert::cuda::Driver &driver;
  moert::cuda::Device device;
  CUstream stream = nullptr;

private:
  CUcontext context = nullptr;
  CUstream other = nullptr;
  CUdeviceptr gate = 0;
  bool isHeld = false;
  std::vector<CUevent> marks;
  CUresult (*elapsed)(float *milliseconds, CUevent from, CUevent to) = nullptr;
  CUresult (*waitValue)(CUstream stream, CUdeviceptr address, uint32_t value, unsigned flags) = nullptr;
  CUresult (*writeValue)(CUstream stream, CUdeviceptr address, uint32_t value, unsigned flags) = nullptr;
};

/// The middle of some values; 0 of none.
double median(std::vector<double> values);

/// The subcommands; each prints one JSON object.
int measureReading(Gpu &gpu, const std::vector<std::string> &arguments);
int replayKernels(Gpu &gpu, const std::vector<std::string> &arguments);
int measureSteps(Gpu &gpu, const std::vector<std::string> &arguments);

} // namespace benchgpu

#endif // MOE_BENCH_GPU_GPU_H
