//===- DeviceTest.cpp - Devices, contexts, names, tensor maps ---*- C++ -*-===//
//
// What programs ask before they compute, and what cuTensorMapEncodeTiled
// refuses: each refusal with its message.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/TensorMap.h"
#include "test/runtime/emulator/driver/DriverTest.h"

#include <thread>

namespace {

TEST_F(DriverTest, NameSaysWhatItIs) {
  char name[100];
  CHECKED(cuDeviceGetName(name, sizeof(name), 0));
  EXPECT_NE(std::string(name).find("emulator"), std::string::npos) << name;
}

TEST_F(DriverTest, Attributes) {
  int major = 0, optin = 0, clusters = 0;
  CHECKED(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0));
  CHECKED(cuDeviceGetAttribute(&optin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 0));
  CHECKED(cuDeviceGetAttribute(&clusters, CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH, 0));
  EXPECT_EQ(major, 9);
  EXPECT_EQ(optin, 232448);
  EXPECT_EQ(clusters, 1);
  CHECKED(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 1));
  CHECKED(cuDeviceGetAttribute(&optin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 1));
  EXPECT_EQ(major, 8);
  EXPECT_EQ(optin, 166912);
  int value = 0;
  REFUSED(cuDeviceGetAttribute(&value, 4711, 0), CUDA_ERROR_INVALID_VALUE, "attribute 4711 is not modelled");
  REFUSED(cuDeviceGetName(nullptr, 1, 0), CUDA_ERROR_INVALID_VALUE, "name is null");
  REFUSED(cuDeviceGet(&value, 2), CUDA_ERROR_INVALID_DEVICE, "device 2 is not in 0 to 1");
}

TEST_F(DriverTest, ContextsFormAStack) {
  CUcontext other = nullptr, current = nullptr;
  CHECKED(cuCtxCreate(&other, nullptr, 0, 1));
  CHECKED(cuCtxGetCurrent(&current));
  EXPECT_EQ(current, other);
  CHECKED(cuCtxPopCurrent(&current));
  CHECKED(cuCtxGetCurrent(&current));
  EXPECT_EQ(current, context);
  CHECKED(cuCtxDestroy(other));
  REFUSED(cuCtxPushCurrent(other), CUDA_ERROR_INVALID_CONTEXT, "not a live context");
  REFUSED(cuCtxDestroy(context), CUDA_ERROR_INVALID_CONTEXT, "release it instead");
}

TEST_F(DriverTest, EveryThreadHasItsOwnStack) {
  std::thread([] {
    CUdeviceptr address = 0;
    REFUSED(cuMemAlloc(&address, 4), CUDA_ERROR_INVALID_CONTEXT, "no context is current");
  }).join();
}

TEST_F(DriverTest, ProcAddress) {
  void *plain = nullptr, *perThread = nullptr, *old = nullptr;
  int status = -1;
  CHECKED(cuGetProcAddress("cuMemcpyHtoD", &plain, 12000, CU_GET_PROC_ADDRESS_DEFAULT, &status));
  EXPECT_EQ(plain, reinterpret_cast<void *>(&cuMemcpyHtoD));
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_SUCCESS);
  CHECKED(cuGetProcAddress("cuMemcpyHtoD", &perThread, 12000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, &status));
  EXPECT_NE(perThread, plain);
  CHECKED(cuGetProcAddress("cuMemcpyHtoD", &old, 2000, CU_GET_PROC_ADDRESS_DEFAULT, &status));
  EXPECT_NE(old, plain);
  EXPECT_EQ(cuGetProcAddress("cuNothing", &old, 12000, 0, &status), CUDA_ERROR_NOT_FOUND);
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
  EXPECT_EQ(cuGetProcAddress("cuMemcpyHtoD", &old, 1000, 0, &status), CUDA_ERROR_NOT_FOUND);
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
}

TEST_F(DriverTest, UnsupportedFunctionsSaySo) {
  void *address = nullptr;
  CHECKED(cuGetProcAddress("cuTexObjectDestroy", &address, 12000, 0, nullptr));
  const auto destroy = reinterpret_cast<CUresult (*)()>(address);
  REFUSED(destroy(), CUDA_ERROR_NOT_SUPPORTED, "cuTexObjectDestroy: the emulator does not have this function");
}

TEST_F(DriverTest, Limits) {
  size_t available = 0, total = 0;
  CHECKED(cuMemGetInfo(&available, &total));
  EXPECT_EQ(available, total);
  const CUdeviceptr address = buffer(1 << 20);
  CHECKED(cuMemGetInfo(&available, &total));
  EXPECT_GE(total - available, size_t(1 << 20));
  CUdeviceptr other = 0;
  REFUSED(cuMemAlloc(&other, size_t(1) << 40), CUDA_ERROR_OUT_OF_MEMORY, "bytes on device 0");
  REFUSED(cuMemAlloc(&other, 0), CUDA_ERROR_INVALID_VALUE, "0 bytes");
  CHECKED(cuMemFree(address));
  REFUSED(cuMemFree(address), CUDA_ERROR_INVALID_VALUE, "is not the start of an allocation");
}

/// A 2D map of bf16, 64 x 32, boxes of 64 x 8, 128-byte swizzle; tests change one thing each.
struct Map {
  CUtensorMap map;
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  uint32_t rank = 2;
  uint64_t address = 0x7f0000000000;
  uint64_t dims[5] = {64, 32, 4, 4, 4}, strides[4] = {128, 4096, 16384, 65536};
  uint32_t box[5] = {64, 8, 1, 1, 1}, steps[5] = {1, 1, 1, 1, 1};
  int interleave = 0, swizzle = CU_TENSOR_MAP_SWIZZLE_128B, promotion = 0, fill = 0;

  CUresult encode() {
    return cuTensorMapEncodeTiled(&map, type, rank, reinterpret_cast<void *>(address), dims, strides, box, steps,
                                  interleave, swizzle, promotion, fill);
  }
};

TEST_F(DriverTest, TensorMapFields) {
  Map map;
  CHECKED(map.encode());
  moert::emulator::TensorMapFields fields;
  memcpy(&fields, &map.map, sizeof(fields));
  EXPECT_EQ(fields.globalAddress, map.address);
  EXPECT_EQ(fields.rank, 1); // dimensions minus one
  EXPECT_EQ(fields.globalDim[1], 32u);
  EXPECT_EQ(fields.globalStride[0], 128u);
  EXPECT_EQ(fields.boxDim[0], 64u);
  EXPECT_EQ(fields.swizzle, 3);
  EXPECT_EQ(fields.interleave, 0);
}

TEST_F(DriverTest, TensorMapRefusals) {
  const auto refused = [](auto change, const char *text) {
    Map map;
    change(map);
    REFUSED(map.encode(), CUDA_ERROR_INVALID_VALUE, text);
  };
  refused([](Map &map) { map.address += 8; }, "must be a multiple of 16");
  refused([](Map &map) { map.strides[0] = 136; }, "global stride 0 (136 bytes) must be a multiple of 16");
  refused([](Map &map) { map.strides[0] = uint64_t(1) << 40; }, "below 2^40");
  refused([](Map &map) { map.dims[1] = 0; }, "global dim 1 (0) must be in 1 to 2^32");
  refused([](Map &map) { map.dims[0] = (uint64_t(1) << 32) + 1; }, "global dim 0");
  refused([](Map &map) { map.box[1] = 257; }, "box dim 1 (257) must be in 1 to 256");
  refused([](Map &map) { map.box[0] = 0; }, "box dim 0 (0)");
  refused([](Map &map) { map.box[0] = 68; }, "must be a multiple of 16 bytes");
  refused([](Map &map) { map.box[0] = 72; }, "must not exceed the swizzle span of 128 bytes");
  refused(
      [](Map &map) {
        map.swizzle = CU_TENSOR_MAP_SWIZZLE_32B;
        map.box[0] = 32;
      },
      "must not exceed the swizzle span of 32 bytes");
  refused([](Map &map) { map.steps[1] = 9; }, "element stride 1 (9) must be in 1 to 8");
  refused([](Map &map) { map.rank = 6; }, "rank 6");
  refused([](Map &map) { map.rank = 0; }, "rank 0");
  refused([](Map &map) { map.interleave = 1; }, "must be at least 3 with an interleaved layout");
  refused([](Map &map) { map.type = 17; }, "data type 17");
  refused(
      [](Map &map) {
        map.type = CU_TENSOR_MAP_DATA_TYPE_UINT16;
        map.fill = 1;
      },
      "fill with NaN needs a floating-point type");
  refused([](Map &map) { map.swizzle = 9; }, "is not a value of its enumeration");
  refused(
      [](Map &map) {
        map.rank = 3;
        map.interleave = CU_TENSOR_MAP_INTERLEAVE_32B;
      },
      "must be 1 (32 bytes) with the interleave of 32 bytes");
  // What looks odd and is allowed: no swizzle with a long box, a stride of zero, dims smaller than the box.
  Map map;
  map.swizzle = CU_TENSOR_MAP_SWIZZLE_NONE;
  map.box[0] = 256;
  map.strides[0] = 0;
  map.dims[0] = 3;
  CHECKED(map.encode());
}

TEST_F(DriverTest, TensorMapsNeedTheCard) {
  CUcontext other = nullptr;
  CHECKED(cuCtxCreate(&other, nullptr, 0, 1));
  Map map;
  REFUSED(map.encode(), CUDA_ERROR_NOT_SUPPORTED, "compute capability 9.0");
  CHECKED(cuCtxDestroy(other));
}

} // namespace
