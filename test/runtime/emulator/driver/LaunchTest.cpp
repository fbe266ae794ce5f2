//===- LaunchTest.cpp - Modules, launches, limits ---------------*- C++ -*-===//
//
// Small kernels in PTX through the driver API: parameters, variables, limits
// with their messages, sticky errors, order between kernels and copies, what a
// programmatic secondary may assume, kernels in graphs.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/PtxVersion.h"
#include "test/runtime/emulator/driver/DriverTest.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

namespace {

/// `add` adds a constant to n words; `store` writes one word; `fault` writes outside; `bounded` and `clustered` declare
/// limits; `primary` and `secondary` know griddepcontrol; `big` has 40 KiB of static shared memory.
const char *const ptx = R"(
.version 8.0
.target sm_90
.address_size 64
.global .align 4 .u32 counter = 5;
.shared .align 4 .b8 store_of_big[40960];

.visible .entry add(.param .u64 data, .param .u32 n, .param .u32 value)
{
  .reg .pred %p<2>;
  .reg .b32 %r<8>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [data];
  ld.param.u32 %r1, [n];
  ld.param.u32 %r2, [value];
  mov.u32 %r3, %ctaid.x;
  mov.u32 %r4, %ntid.x;
  mov.u32 %r5, %tid.x;
  mad.lo.s32 %r6, %r3, %r4, %r5;
  setp.ge.u32 %p1, %r6, %r1;
  @%p1 bra DONE;
  cvta.to.global.u64 %rd2, %rd1;
  mul.wide.u32 %rd3, %r6, 4;
  add.s64 %rd2, %rd2, %rd3;
  ld.global.u32 %r7, [%rd2];
  add.s32 %r7, %r7, %r2;
  st.global.u32 [%rd2], %r7;
DONE:
  ret;
}

.visible .entry store(.param .u64 data, .param .u32 value)
{
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [data];
  ld.param.u32 %r1, [value];
  st.global.u32 [%rd1], %r1;
  ret;
}

.visible .entry count()
{
  .reg .b32 %r<3>;
  ld.global.u32 %r1, [counter];
  add.s32 %r2, %r1, 1;
  st.global.u32 [counter], %r2;
  ret;
}

.visible .entry bounded(.param .u64 data) .maxntid 64, 1, 1
{
  ret;
}

.visible .entry clustered(.param .u64 data) .reqnctapercluster 2, 1, 1
{
  ret;
}

.visible .entry big()
{
  .reg .b32 %r<2>;
  mov.u32 %r1, store_of_big;
  st.shared.u32 [%r1], 1;
  ret;
}

.visible .entry primary(.param .u64 data)
{
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [data];
  griddepcontrol.launch_dependents;
  st.global.u32 [%rd1], 7;
  ret;
}

.visible .entry secondary(.param .u64 data, .param .u32 waits)
{
  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [data];
  ld.param.u32 %r1, [waits];
  setp.eq.u32 %p1, %r1, 0;
  @%p1 bra NOW;
  griddepcontrol.wait;
NOW:
  ld.global.u32 %r2, [%rd1];
  add.s32 %r2, %r2, 1;
  st.global.u32 [%rd1+4], %r2;
  ret;
}
)";

class LaunchTest : public DriverTest {
protected:
  void SetUp() override {
    DriverTest::SetUp();
    CHECKED(cuModuleLoadData(&module, ptx));
  }

  CUfunction function(const char *name) {
    CUfunction result = nullptr;
    EXPECT_EQ(cuModuleGetFunction(&result, module, name), CUDA_SUCCESS) << moeEmulatorLastError();
    return result;
  }

  /// Launches `name` with one block of one thread.
  template <typename... Arguments> CUresult launch(const char *name, CUstream stream, Arguments... arguments) {
    void *parameters[] = {&arguments..., nullptr};
    return cuLaunchKernel(function(name), 1, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr);
  }

  CUresult add(CUdeviceptr data, unsigned n, unsigned value, CUstream stream) {
    void *parameters[] = {&data, &n, &value};
    return cuLaunchKernel(function("add"), (n + 63) / 64, 1, 1, 64, 1, 1, 0, stream, parameters, nullptr);
  }

  CUresult launchPair(CUdeviceptr data, unsigned waits, bool programmatic) {
    CHECKED_RESULT(launch("primary", first, data));
    void *parameters[] = {&data, &waits};
    CUlaunchAttribute attribute{};
    attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = programmatic;
    CUlaunchConfig config{1, 1, 1, 1, 1, 1, 0, first, &attribute, 1};
    return cuLaunchKernelEx(&config, function("secondary"), parameters, nullptr);
  }

  CUmodule module = nullptr;

private:
  static void CHECKED_RESULT(CUresult result) { EXPECT_EQ(result, CUDA_SUCCESS) << moeEmulatorLastError(); }
};

TEST_F(LaunchTest, AddsOneToMany) {
  const CUdeviceptr data = buffer(4000);
  std::vector<unsigned> host(1000);
  CHECKED(cuMemsetD32Async(data, 5, 1000, first));
  CHECKED(add(data, 1000, 7, first));
  CHECKED(cuMemcpyDtoHAsync(host.data(), data, 4000, first));
  EXPECT_EQ(host, std::vector<unsigned>(1000, 12));
}

TEST_F(LaunchTest, ParametersByExtra) {
  const CUdeviceptr data = buffer(4);
  struct {
    CUdeviceptr data;
    unsigned value;
  } block{data, 31};
  size_t size = 12;
  void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &block, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END};
  CHECKED(cuLaunchKernel(function("store"), 1, 1, 1, 1, 1, 1, 0, first, nullptr, extra));
  unsigned value = 0;
  CHECKED(cuMemcpyDtoHAsync(&value, data, 4, first));
  EXPECT_EQ(value, 31u);
  size = 8;
  REFUSED(cuLaunchKernel(function("store"), 1, 1, 1, 1, 1, 1, 0, first, nullptr, extra), CUDA_ERROR_INVALID_VALUE,
          "extra gives 8 bytes, kernel store has 12 bytes of parameters");
}

TEST_F(LaunchTest, VariablesOfAModule) {
  CUdeviceptr counter = 0;
  size_t size = 0;
  CHECKED(cuModuleGetGlobal(&counter, &size, module, "counter"));
  EXPECT_EQ(size, 4u);
  CHECKED(launch("count", first));
  CHECKED(launch("count", first));
  unsigned value = 0;
  CHECKED(cuMemcpyDtoHAsync(&value, counter, 4, first));
  EXPECT_EQ(value, 7u);
  REFUSED(cuModuleGetGlobal(&counter, &size, module, "nothing"), CUDA_ERROR_NOT_FOUND, "no variable nothing");
  REFUSED(cuModuleGetFunction(reinterpret_cast<CUfunction *>(&counter), module, "nothing"), CUDA_ERROR_NOT_FOUND,
          "no kernel nothing");
}

TEST_F(LaunchTest, Libraries) {
  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  CUfunction store = nullptr;
  CHECKED(cuLibraryLoadData(&library, ptx, nullptr, nullptr, 0, nullptr, nullptr, 0));
  CHECKED(cuLibraryGetKernel(&kernel, library, "store"));
  CHECKED(cuKernelGetFunction(&store, kernel));
  const CUdeviceptr data = buffer(4);
  unsigned value = 3, back = 0;
  void *parameters[] = {const_cast<CUdeviceptr *>(&data), &value};
  CHECKED(cuLaunchKernel(reinterpret_cast<CUfunction>(kernel), 1, 1, 1, 1, 1, 1, 0, first, parameters, nullptr));
  CHECKED(cuMemcpyDtoHAsync(&back, data, 4, first));
  EXPECT_EQ(back, 3u);
  CHECKED(cuLibraryUnload(library));
  REFUSED(cuLaunchKernel(store, 1, 1, 1, 1, 1, 1, 0, first, parameters, nullptr), CUDA_ERROR_INVALID_HANDLE,
          "neither a live function nor a live kernel");
}

TEST_F(LaunchTest, ImagesThatAreNoPtx) {
  CUmodule other = nullptr;
  const char cubin[64] = "\177ELF";
  REFUSED(cuModuleLoadData(&other, cubin), CUDA_ERROR_NO_BINARY_FOR_GPU, "the image is a cubin");
  char log[400] = "";
  int options[] = {5, 6};
  void *values[] = {log, reinterpret_cast<void *>(sizeof(log))};
  EXPECT_EQ(
      cuModuleLoadDataEx(&other, ".version 8.0\n.target sm_90\n.address_size 64\nfrobnicate;\n", 2, options, values),
      CUDA_ERROR_INVALID_PTX);
  EXPECT_NE(std::string(log).find("frobnicate"), std::string::npos) << log;
}

/// PTX of CUDA releases, as the PTX ISA lists them.
static_assert(moert::newestPtx(11040) == 74 && moert::newestPtx(11080) == 78 && moert::newestPtx(12000) == 80 &&
              moert::newestPtx(12050) == 85 && moert::newestPtx(12060) == 85 && moert::newestPtx(12070) == 86 &&
              moert::newestPtx(12090) == 88 && moert::newestPtx(13010) == 91);
static_assert(moert::firstCudaOfPtx(70) == 11000 && moert::firstCudaOfPtx(83) == 12030 &&
              moert::firstCudaOfPtx(86) == 12070 && moert::firstCudaOfPtx(90) == 13000);

TEST_F(LaunchTest, ParametersThatAreTooLarge) {
  CUmodule other = nullptr;
  const std::string text = "\n.target sm_90\n.address_size 64\n.visible .entry k(.param .b8 p[5000])\n{\n  ret;\n}\n";
  REFUSED(cuModuleLoadData(&other, (".version 8.0" + text).c_str()), CUDA_ERROR_INVALID_PTX,
          "parameters of 'k' take 5000 bytes, the limit is 4352");
  CHECKED(cuModuleLoadData(&other, (".version 8.1" + text).c_str()));
}

TEST_F(LaunchTest, LimitsOfTheDevice) {
  CUdeviceptr data = 0;
  void *parameters[] = {&data};
  const auto refused = [&](const char *name, unsigned grid, unsigned block, unsigned shared, CUresult code,
                           const char *text) {
    REFUSED(cuLaunchKernel(function(name), grid, 1, 1, block, 1, 1, shared, first, parameters, nullptr), code, text);
  };
  refused("bounded", 0, 1, 0, CUDA_ERROR_INVALID_VALUE, "grid (0,1,1)");
  refused("bounded", 1, 1025, 0, CUDA_ERROR_INVALID_VALUE, "at most 1024 threads");
  refused("bounded", 1, 65, 0, CUDA_ERROR_INVALID_VALUE, "has 65 threads, .maxntid of bounded allows 64");
  refused("big", 1, 1, 8193, CUDA_ERROR_INVALID_VALUE, "asks for 49153 bytes of shared memory per block");
  refused("clustered", 3, 1, 0, CUDA_ERROR_INVALID_CLUSTER_SIZE, "must be a multiple of the cluster (2,1,1)");
  REFUSED(cuFuncSetAttribute(function("big"), CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 200000),
          CUDA_ERROR_INVALID_VALUE, "which may have 0 to 191488");
  CHECKED(cuFuncSetAttribute(function("big"), CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 100000));
  CHECKED(cuLaunchKernel(function("big"), 1, 1, 1, 1, 1, 1, 100000, first, nullptr, nullptr));
  CHECKED(cuStreamSynchronize(first));
  REFUSED(cuLaunchCooperativeKernel(function("bounded"), 132 * 32 + 1, 1, 1, 32, 1, 1, 0, first, parameters),
          CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "fit at a time");
  int blocks = 0;
  CHECKED(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function("big"), 32, 0));
  EXPECT_EQ(blocks, 5); // 228 KiB / (40 + 1 KiB)
}

TEST_F(LaunchTest, ClusterSizes) {
  CUdeviceptr data = 0;
  void *parameters[] = {&data};
  CUlaunchAttribute attribute{};
  attribute.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
  attribute.value.clusterDim = {16, 1, 1};
  CUlaunchConfig config{16, 1, 1, 32, 1, 1, 0, first, &attribute, 1};
  REFUSED(cuLaunchKernelEx(&config, function("bounded"), parameters, nullptr), CUDA_ERROR_INVALID_CLUSTER_SIZE,
          "has 16 blocks, bounded may have 8");
  CHECKED(cuFuncSetAttribute(function("bounded"), CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1));
  CHECKED(cuLaunchKernelEx(&config, function("bounded"), parameters, nullptr));
  attribute.value.clusterDim = {4, 1, 1};
  REFUSED(cuLaunchKernelEx(&config, function("clustered"), parameters, nullptr), CUDA_ERROR_INVALID_CLUSTER_SIZE,
          "must be (2,1,1), as .reqnctapercluster of clustered says");
  CHECKED(cuStreamSynchronize(first));
}

TEST_F(LaunchTest, FaultsStick) {
  const CUdeviceptr data = buffer(64);
  const CUfunction count = function("count");
  CHECKED(launch("store", first, data + 64, 1u));
  EXPECT_EQ(cuStreamSynchronize(first), CUDA_ERROR_ILLEGAL_ADDRESS);
  expectFinding("store");
  CUdeviceptr other = 0;
  EXPECT_EQ(cuMemAlloc(&other, 4), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(cuLaunchKernel(count, 1, 1, 1, 1, 1, 1, 0, first, nullptr, nullptr), CUDA_ERROR_ILLEGAL_ADDRESS);
}

TEST_F(LaunchTest, MissingWaitBetweenKernels) {
  const CUdeviceptr data = buffer(4);
  CHECKED(launch("store", first, data, 1u));
  CHECKED(launch("store", second, data, 2u));
  CHECKED(cuCtxSynchronize());
  expectRace();
}

TEST_F(LaunchTest, EventBetweenKernels) {
  const CUdeviceptr data = buffer(4);
  CUevent event = nullptr;
  CHECKED(cuEventCreate(&event, 0));
  CHECKED(launch("store", first, data, 1u));
  CHECKED(cuEventRecord(event, first));
  CHECKED(cuStreamWaitEvent(second, event, 0));
  CHECKED(add(data, 1, 1, second));
  unsigned value = 0;
  CHECKED(cuMemcpyDtoHAsync(&value, data, 4, second));
  EXPECT_EQ(value, 2u);
}

TEST_F(LaunchTest, SecondaryThatWaits) {
  const CUdeviceptr data = buffer(8);
  CHECKED(cuMemsetD32Async(data, 0, 2, first));
  CHECKED(launchPair(data, 1, true));
  unsigned value[2] = {};
  CHECKED(cuMemcpyDtoHAsync(value, data, 8, first));
  EXPECT_EQ(value[0], 7u);
  EXPECT_EQ(value[1], 8u);
}

TEST_F(LaunchTest, SecondaryThatDoesNotWait) {
  const CUdeviceptr data = buffer(8);
  CHECKED(cuMemsetD32Async(data, 0, 2, first));
  CHECKED(launchPair(data, 0, false)); // not programmatic: in order
  CHECKED(cuStreamSynchronize(first));
  EXPECT_EQ(allFindings(), "");
  CHECKED(launchPair(data, 0, true));
  CHECKED(cuStreamSynchronize(first));
  expectRace();
}

// The attribute means nothing to a card before compute capability 9.0; programs that serve all cards always ask for it.
TEST_F(LaunchTest, SecondaryOnACardWithoutProgrammaticLaunches) {
  const char *text = R"(
.version 7.0
.target sm_80
.address_size 64
.visible .entry primary(.param .u64 data) {
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [data];
  st.global.u32 [%rd1], 7;
  ret;
}
.visible .entry secondary(.param .u64 data) {
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [data];
  ld.global.u32 %r1, [%rd1];
  st.global.u32 [%rd1+4], %r1;
  ret;
}
)";
  for (int device : {1, 0}) { // a100, h100
    CUcontext other = nullptr;
    CUmodule loaded = nullptr;
    CUfunction kernels[2] = {};
    CHECKED(cuDevicePrimaryCtxRetain(&other, device));
    CHECKED(cuCtxSetCurrent(other));
    CHECKED(cuModuleLoadData(&loaded, text));
    CHECKED(cuModuleGetFunction(&kernels[0], loaded, "primary"));
    CHECKED(cuModuleGetFunction(&kernels[1], loaded, "secondary"));
    CUdeviceptr data = buffer(8);
    CHECKED(cuMemsetD32(data, 0, 2));
    void *parameters[] = {&data};
    CHECKED(cuLaunchKernel(kernels[0], 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
    CUlaunchAttribute attribute{};
    attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
    CUlaunchConfig config{1, 1, 1, 1, 1, 1, 0, nullptr, &attribute, 1};
    CHECKED(cuLaunchKernelEx(&config, kernels[1], parameters, nullptr));
    CHECKED(cuCtxSynchronize());
    if (device == 1) {
      EXPECT_EQ(allFindings(), "");
    } else {
      expectRace();
    }
    CHECKED(cuDevicePrimaryCtxRelease(device));
  }
  CHECKED(cuCtxSetCurrent(context));
}

TEST_F(LaunchTest, GraphsKeepParameters) {
  CUdeviceptr data = buffer(4);
  unsigned value = 1;
  void *parameters[] = {&data, &value};
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECKED(cuLaunchKernel(function("store"), 1, 1, 1, 1, 1, 1, 0, first, parameters, nullptr));
  CHECKED(cuStreamEndCapture(first, &graph));
  value = 2;
  CHECKED(cuGraphInstantiate(&exec, graph, 0));
  CHECKED(cuGraphLaunch(exec, first));
  unsigned back = 0;
  CHECKED(cuMemcpyDtoHAsync(&back, data, 4, first));
  EXPECT_EQ(back, 1u);
  // An update with other parameters.
  CUgraph other = nullptr;
  CUgraphNode node = nullptr;
  CUDA_KERNEL_NODE_PARAMS kernel{};
  kernel.func = function("store");
  kernel.gridDimX = kernel.gridDimY = kernel.gridDimZ = 1;
  kernel.blockDimX = kernel.blockDimY = kernel.blockDimZ = 1;
  kernel.kernelParams = parameters;
  CHECKED(cuGraphCreate(&other, 0));
  CHECKED(cuGraphAddKernelNode(&node, other, nullptr, 0, &kernel));
  CUgraphExecUpdateResultInfo info{};
  CHECKED(cuGraphExecUpdate(exec, other, &info));
  CHECKED(cuGraphLaunch(exec, first));
  CHECKED(cuMemcpyDtoHAsync(&back, data, 4, first));
  EXPECT_EQ(back, 2u);
}

TEST_F(LaunchTest, GraphOfAFreedBuffer) {
  const CUdeviceptr data = buffer(4);
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  CHECKED(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECKED(launch("store", first, data, 1u));
  CHECKED(cuStreamEndCapture(first, &graph));
  CHECKED(cuGraphInstantiate(&exec, graph, 0));
  CHECKED(cuMemFree(data));
  CHECKED(cuGraphLaunch(exec, first));
  EXPECT_EQ(cuStreamSynchronize(first), CUDA_ERROR_ILLEGAL_ADDRESS);
  expectFinding("freed");
}

TEST_F(LaunchTest, PinnedMemoryFromKernels) {
  unsigned *pinned = nullptr;
  CHECKED(cuMemAllocHost(reinterpret_cast<void **>(&pinned), 4));
  CHECKED(launch("store", first, CUdeviceptr(pinned), 9u));
  CHECKED(cuStreamSynchronize(first));
  EXPECT_EQ(*pinned, 9u);
}

void setFlag(void *flag) { static_cast<std::atomic<bool> *>(flag)->store(true); }

TEST_F(LaunchTest, PollingWithoutCallsIsHelped) {
  const CUdeviceptr data = buffer(4);
  std::atomic<bool> flag{false};
  CHECKED(launch("store", first, data, 9u));
  CHECKED(cuLaunchHostFunc(first, setFlag, &flag));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!flag && std::chrono::steady_clock::now() < end) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(flag);
}

} // namespace
