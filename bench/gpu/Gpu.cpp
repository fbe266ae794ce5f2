// Calls of the driver for measurements; see Gpu.h.
#include "bench/gpu/Gpu.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <thread>

using namespace moert;

namespace benchgpu {

void die(const std::string &text) {
  fprintf(stderr, "bench-gpu: error: %s\n", text.c_str());
  exit(1);
}

namespace {

cuda::Device open(bool emulator) {
  Result<cuda::Device> device = cuda::openDevice(emulator, 0);
  if (!device.ok()) {
    die(device.status().message());
  }
  return *device;
}

} // namespace

Gpu::Gpu(bool emulator) : driver(*open(emulator).driver), device(open(emulator)) {
  // The library is open already: this is its handle.
  const std::string path = emulator ? *cuda::emulatorPath() : std::string("libcuda.so.1");
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  auto find = [&](auto &function, const char *symbol) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, symbol));
  };
  find(elapsed, "cuEventElapsedTime");
  find(waitValue, "cuStreamWaitValue32_v2");
  find(writeValue, "cuStreamWriteValue32_v2");
  if (!elapsed) {
    die("the driver has no cuEventElapsedTime");
  }
  check(driver.contextRetain(&context, device.handle), "cuDevicePrimaryCtxRetain");
  check(driver.contextSet(context), "cuCtxSetCurrent");
  check(driver.streamCreate(&stream, 1, 0), "cuStreamCreateWithPriority"); // non-blocking: nothing else holds it up
  check(driver.streamCreate(&other, 1, 0), "cuStreamCreateWithPriority");
  gate = allocate(4);
}

void Gpu::check(CUresult result, const char *what) const {
  if (result != CUDA_SUCCESS) {
    die(concat(device.describe(), ": ", what, ": ", driver.describe(result)));
  }
}

int Gpu::multiprocessors() const {
  int count = 0;
  check(driver.deviceAttribute(&count, 16, device.handle), "cuDeviceGetAttribute");
  return count;
}

CUdeviceptr Gpu::allocate(size_t bytes) {
  CUdeviceptr memory = 0;
  check(driver.memoryAllocate(&memory, std::max<size_t>(bytes, 1)), "cuMemAlloc");
  return memory;
}

void Gpu::upload(CUdeviceptr to, const void *from, size_t bytes) {
  if (bytes) {
    check(driver.toDevice(to, from, bytes, stream), "cuMemcpyHtoDAsync");
    mark(0);
    finish(0);
  }
}

void Gpu::download(void *to, CUdeviceptr from, size_t bytes) {
  if (bytes) {
    check(driver.toHost(to, from, bytes, stream), "cuMemcpyDtoHAsync");
    mark(0);
    finish(0);
  }
}

CUmodule Gpu::load(const std::string &ptx) {
  CUmodule module = nullptr;
  check(driver.moduleLoad(&module, ptx.c_str(), 0, nullptr, nullptr), "cuModuleLoadDataEx");
  return module;
}

CUfunction Gpu::function(CUmodule module, const std::string &name, unsigned sharedBytes) {
  CUfunction function = nullptr;
  check(driver.moduleFunction(&function, module, name.c_str()), name.c_str());
  if (sharedBytes) {
    check(driver.functionSet(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, static_cast<int>(sharedBytes)),
          "cuFuncSetAttribute");
  }
  return function;
}

void Gpu::launch(CUfunction function, unsigned grid, unsigned threads, unsigned sharedBytes,
                 const std::vector<uint64_t> &words, bool early) {
  check(driver.enqueue(function, grid, threads, sharedBytes, words.data(), words.size(), stream, early),
        "cuLaunchKernel");
}

void Gpu::holdBack() {
  const uint32_t closed = 0;
  upload(gate, &closed, sizeof(closed));
  isHeld = waitValue && writeValue;
  if (isHeld) {
    check(waitValue(stream, gate, 1, 0), "cuStreamWaitValue32");
  }
}

void Gpu::mark(size_t index) {
  while (marks.size() <= index) {
    marks.push_back(nullptr);
    check(driver.eventCreate(&marks.back(), 0), "cuEventCreate");
  }
  check(driver.eventRecord(marks[index], stream), "cuEventRecord");
}

void Gpu::finish(size_t last) {
  if (isHeld) {
    check(writeValue(other, gate, 1, 0), "cuStreamWriteValue32");
    isHeld = false;
  }
  const auto begin = std::chrono::steady_clock::now();
  for (;;) {
    const CUresult result = driver.eventQuery(marks[last]);
    if (result != CUDA_ERROR_NOT_READY) {
      return check(result, "what was launched failed");
    }
    if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(300)) {
      die(device.describe() + ": nothing was heard of what was launched for 300 s");
    }
    if (!isEmulator()) { // which works while it is asked
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
}

double Gpu::microseconds(size_t from, size_t to) const {
  float milliseconds = 0;
  check(elapsed(&milliseconds, marks[from], marks[to]), "cuEventElapsedTime");
  return 1e3 * milliseconds;
}

double median(std::vector<double> values) {
  if (values.empty()) {
    return 0;
  }
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

} // namespace benchgpu
