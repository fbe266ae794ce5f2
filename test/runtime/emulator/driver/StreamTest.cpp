//===- StreamTest.cpp - Memory, copies, streams, events ---------*- C++ -*-===//
//
// Order that the API promises holds under every schedule and seed; order that it
// does not promise is found missing. Run by several ctest entries, one per
// MOE_EMU_SCHEDULE.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/driver/DriverTest.h"

#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>

namespace {

TEST_F(DriverTest, CopiesBackAndForth) {
  std::vector<int> data(1000), back(1000);
  std::iota(data.begin(), data.end(), 7);
  const CUdeviceptr one = buffer(4000), two = buffer(4000);
  CHECKED(cuMemcpyHtoD(one, data.data(), 4000));
  CHECKED(cuMemcpyDtoD(two, one, 4000));
  CHECKED(cuMemcpyDtoH(back.data(), two, 4000));
  EXPECT_EQ(back, data);
  CHECKED(cuMemsetD16(two + 2, 0xABCD, 3));
  CHECKED(cuMemcpyDtoH(back.data(), two, 12));
  EXPECT_EQ(back[0] & 0xFFFF, 7);
  EXPECT_EQ(unsigned(back[0]) >> 16, 0xABCDu);
  EXPECT_EQ(unsigned(back[1]), 0xABCDABCDu);
  EXPECT_EQ(back[2], 9);
}

TEST_F(DriverTest, RowsAndPlanes) {
  CUdeviceptr pitched = 0;
  size_t pitch = 0;
  CHECKED(cuMemAllocPitch(&pitched, &pitch, 24, 5, 4));
  EXPECT_EQ(pitch % 512, 0u);
  std::vector<int> rows(6 * 5), back(6 * 5, -1);
  std::iota(rows.begin(), rows.end(), 0);
  CUDA_MEMCPY2D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = rows.data();
  copy.srcPitch = 24;
  copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = pitched;
  copy.dstPitch = pitch;
  copy.WidthInBytes = 24;
  copy.Height = 5;
  CHECKED(cuMemcpy2D(&copy));
  CHECKED(cuMemsetD2D32(pitched + 4, pitch, 99, 1, 2)); // second column of two rows
  CUDA_MEMCPY3D three{};
  three.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  three.srcDevice = pitched;
  three.srcPitch = pitch;
  three.srcHeight = 1; // five planes of one row
  three.dstMemoryType = CU_MEMORYTYPE_HOST;
  three.dstHost = back.data();
  three.dstPitch = 24;
  three.dstHeight = 1;
  three.WidthInBytes = 24;
  three.Height = 1;
  three.Depth = 5;
  CHECKED(cuMemcpy3D(&three));
  rows[1] = rows[7] = 99;
  EXPECT_EQ(back, rows);
  copy.srcPitch = 20;
  REFUSED(cuMemcpy2D(&copy), CUDA_ERROR_INVALID_VALUE, "source pitch (20) must be at least the width (24 bytes)");
}

TEST_F(DriverTest, CopiesOfUndefinedBytesAreNoted) {
  const CUdeviceptr address = buffer(8);
  CHECKED(cuMemsetD8(address, 1, 5));
  char back[8];
  CHECKED(cuMemcpyDtoH(back, address, 5));
  EXPECT_EQ(allFindings(), "");
  CHECKED(cuMemcpyDtoH(back, address, 8));
  EXPECT_EQ(moeEmulatorFindings(), 0u); // a note is no fault
  const char *checks = getenv("MOE_EMU_CHECKS");
  if (!checks || strcmp(checks, "off")) {
    EXPECT_NE(allFindings().find("nothing has written: byte 5 of allocation"), std::string::npos) << allFindings();
  }
  moeEmulatorClearFindings();
}

TEST_F(DriverTest, RangesAreChecked) {
  const CUdeviceptr address = buffer(100);
  char host[200] = {};
  REFUSED(cuMemcpyHtoD(address, host, 101), CUDA_ERROR_INVALID_VALUE, "destination of 101 bytes");
  REFUSED(cuMemcpyDtoH(host, address + 90, 20), CUDA_ERROR_INVALID_VALUE, "source of 20 bytes");
  REFUSED(cuMemsetD32(address + 2, 0, 1), CUDA_ERROR_INVALID_VALUE, "must be multiples of the element size (4)");
  REFUSED(cuMemcpyHtoD(reinterpret_cast<CUdeviceptr>(host), host, 4), CUDA_ERROR_INVALID_VALUE, "no device address");
  REFUSED(cuMemcpyDtoH(reinterpret_cast<void *>(address), address, 4), CUDA_ERROR_INVALID_VALUE,
          "is a device address, not host memory");
}

sigjmp_buf faulted;
void onFault(int) { siglongjmp(faulted, 1); }

TEST_F(DriverTest, HostFaultsOnDeviceAddresses) {
  const CUdeviceptr address = buffer(64);
  struct sigaction action{}, old{};
  action.sa_handler = onFault;
  action.sa_flags = SA_NODEFER;
  sigaction(SIGSEGV, &action, &old);
  bool fault = false;
  if (sigsetjmp(faulted, 1)) {
    fault = true;
  } else {
    *reinterpret_cast<volatile int *>(address) = 1;
  }
  sigaction(SIGSEGV, &old, nullptr);
  EXPECT_TRUE(fault);
}

TEST_F(DriverTest, PageableSourcesAreReadAtOnce) {
  const CUdeviceptr address = buffer(4);
  int value = 1;
  CHECKED(cuMemcpyHtoDAsync(address, &value, 4, first));
  value = 2;
  int back = 0;
  CHECKED(cuMemcpyDtoHAsync(&back, address, 4, first)); // pageable: complete on return
  EXPECT_EQ(back, 1);
}

TEST_F(DriverTest, PinnedSourcesAreReadLate) {
  const char *schedule = getenv("MOE_EMU_SCHEDULE");
  if (getenv("MOE_EMU_THREADS")) {
    GTEST_SKIP() << "writes what a copy in the background may be reading: a data race on purpose";
  }
  const CUdeviceptr address = buffer(4);
  int *pinned = nullptr, back = 0;
  CHECKED(cuMemAllocHost(reinterpret_cast<void **>(&pinned), 4));
  *pinned = 1;
  CHECKED(cuMemcpyHtoDAsync(address, pinned, 4, first));
  *pinned = 2; // too early: the copy may not have been read it
  CHECKED(cuMemcpyDtoHAsync(&back, address, 4, first));
  if (schedule && !strcmp(schedule, "late")) {
    EXPECT_EQ(back, 2);
  } else if (schedule && !strcmp(schedule, "early")) {
    EXPECT_EQ(back, 1);
  }
  CHECKED(cuMemFreeHost(pinned));
}

TEST_F(DriverTest, RegisteredMemory) {
  std::vector<int> host(1 << 16, 5);
  CHECKED(cuMemHostRegister(host.data(), host.size() * 4, 0));
  REFUSED(cuMemHostRegister(host.data() + 10, 4, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "overlap");
  CUdeviceptr mapped = 0;
  CHECKED(cuMemHostGetDevicePointer(&mapped, host.data(), 0));
  CHECKED(cuMemsetD32(mapped, 6, 100)); // synchronous: pinned
  EXPECT_EQ(host[99], 6);
  EXPECT_EQ(host[100], 5);
  CHECKED(cuMemHostUnregister(host.data()));
  REFUSED(cuMemHostUnregister(host.data()), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "not the start of a registration");
}

TEST_F(DriverTest, PointersKnowWhatTheyAre) {
  const CUdeviceptr address = buffer(64);
  int type = 0;
  CUdeviceptr start = 0, base = 0;
  size_t size = 0;
  CHECKED(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address + 3));
  EXPECT_EQ(type, CU_MEMORYTYPE_DEVICE);
  CHECKED(cuPointerGetAttribute(&start, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, address + 3));
  EXPECT_EQ(start, address);
  CHECKED(cuMemGetAddressRange(&base, &size, address + 63));
  EXPECT_EQ(base, address);
  EXPECT_EQ(size, 64u);
  EXPECT_EQ(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CUdeviceptr(&type)),
            CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, StreamsKeepTheirOrder) {
  const CUdeviceptr address = buffer(4);
  for (unsigned i = 1; i <= 50; ++i) {
    CHECKED(cuMemsetD32Async(address, i, 1, first));
  }
  int back = 0;
  CHECKED(cuMemcpyDtoHAsync(&back, address, 4, first));
  EXPECT_EQ(back, 50);
}

TEST_F(DriverTest, EventsOrderStreams) {
  const CUdeviceptr address = buffer(4);
  CUevent event = nullptr, unused = nullptr;
  CHECKED(cuEventCreate(&event, 0));
  CHECKED(cuEventCreate(&unused, 0));
  CHECKED(cuMemsetD32Async(address, 17, 1, first));
  CHECKED(cuEventRecord(event, first));
  CHECKED(cuStreamWaitEvent(second, event, 0));
  CHECKED(cuStreamWaitEvent(second, unused, 0)); // never recorded: no wait
  int back = 0;
  CHECKED(cuMemcpyDtoHAsync(&back, address, 4, second));
  EXPECT_EQ(back, 17);
  EXPECT_EQ(cuEventQuery(event), CUDA_SUCCESS);
  CHECKED(cuEventDestroy(event));
  REFUSED(cuEventRecord(event, first), CUDA_ERROR_INVALID_HANDLE, "not a live event");
}

TEST_F(DriverTest, HostSynchronisationOrdersStreams) {
  const CUdeviceptr address = buffer(4);
  CHECKED(cuMemsetD32Async(address, 3, 1, first));
  CHECKED(cuStreamSynchronize(first));
  CHECKED(cuMemsetD32Async(address, 4, 1, second));
  while (cuStreamQuery(second) == CUDA_ERROR_NOT_READY) {
  }
  int back = 0;
  CHECKED(cuMemcpyDtoHAsync(&back, address, 4, first));
  EXPECT_EQ(back, 4);
}

TEST_F(DriverTest, MissingWaitIsFound) {
  const CUdeviceptr address = buffer(4);
  CHECKED(cuMemsetD32Async(address, 17, 1, first));
  int back = 0;
  CHECKED(cuMemcpyDtoHAsync(&back, address, 4, second)); // no wait for `first`
  CHECKED(cuCtxSynchronize());
  expectRace();
}

TEST_F(DriverTest, DefaultStreamOrdersBlockingStreams) {
  CUstream blocking = nullptr;
  CHECKED(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
  const CUdeviceptr address = buffer(4);
  CHECKED(cuMemsetD32Async(address, 1, 1, blocking));
  CHECKED(cuMemsetD32Async(address, 2, 1, nullptr));
  CHECKED(cuMemsetD32Async(address, 3, 1, blocking));
  int back = 0;
  CHECKED(cuMemcpyDtoH(&back, address, 4));
  EXPECT_EQ(back, 3);
  CHECKED(cuStreamDestroy(blocking));
}

TEST_F(DriverTest, DefaultStreamDoesNotOrderNonBlockingStreams) {
  const CUdeviceptr address = buffer(4);
  CHECKED(cuMemsetD32Async(address, 1, 1, first));
  CHECKED(cuMemsetD32Async(address, 2, 1, nullptr));
  CHECKED(cuCtxSynchronize());
  expectRace();
}

void append(void *data) { static_cast<std::string *>(data)->push_back('h'); }
void callDriver(void *data) { *static_cast<CUresult *>(data) = cuStreamSynchronize(nullptr); }
void callback(CUstream, CUresult status, void *data) {
  static_cast<std::string *>(data)->push_back(status == CUDA_SUCCESS ? 'c' : 'e');
}

TEST_F(DriverTest, HostFunctions) {
  std::string log;
  CUresult inside = CUDA_SUCCESS;
  CHECKED(cuLaunchHostFunc(first, append, &log));
  CHECKED(cuStreamAddCallback(first, callback, &log, 0));
  CHECKED(cuLaunchHostFunc(first, append, &log));
  CHECKED(cuLaunchHostFunc(first, callDriver, &inside));
  CHECKED(cuStreamSynchronize(first));
  EXPECT_EQ(log, "hch");
  EXPECT_EQ(inside, CUDA_ERROR_NOT_PERMITTED);
}

TEST_F(DriverTest, ValuesOrderStreams) {
  const CUdeviceptr flag = buffer(4), address = buffer(4);
  CHECKED(cuMemsetD32(flag, 0, 1));
  CHECKED(cuCtxSynchronize());
  CHECKED(cuStreamWaitValue32(second, flag, 1, CU_STREAM_WAIT_VALUE_GEQ));
  std::string log;
  CHECKED(cuLaunchHostFunc(second, append, &log));
  CHECKED(cuMemsetD32Async(address, 5, 1, first));
  CHECKED(cuStreamWriteValue32(first, flag, 1, 0));
  CHECKED(cuStreamSynchronize(second));
  EXPECT_EQ(log, "h");
}

TEST_F(DriverTest, WaitsThatNeverEndAreFound) {
  const CUdeviceptr flag = buffer(4);
  CHECKED(cuMemsetD32(flag, 0, 1));
  CHECKED(cuStreamWaitValue32(first, flag, 1, CU_STREAM_WAIT_VALUE_EQ));
  EXPECT_EQ(cuStreamSynchronize(first), CUDA_ERROR_LAUNCH_TIMEOUT);
  expectFinding("deadlock");
  EXPECT_EQ(cuStreamSynchronize(second), CUDA_ERROR_LAUNCH_TIMEOUT); // sticky
}

TEST_F(DriverTest, StreamOrderedMemory) {
  CUdeviceptr address = 0;
  CHECKED(cuMemAllocAsync(&address, 256, first));
  CHECKED(cuMemsetD8Async(address, 9, 256, first));
  unsigned char back[256];
  CHECKED(cuMemcpyDtoHAsync(back, address, 256, first));
  EXPECT_EQ(back[255], 9);
  CHECKED(cuMemFreeAsync(address, first));
  CHECKED(cuStreamSynchronize(first));
  REFUSED(cuMemsetD8Async(address, 9, 256, first), CUDA_ERROR_INVALID_VALUE, "freed");
}

TEST_F(DriverTest, StreamOrderedMemoryIsFreedOnce) {
  CUdeviceptr address = 0;
  CHECKED(cuMemAllocAsync(&address, 256, first));
  CHECKED(cuMemFreeAsync(address, first)); // perhaps not done yet
  EXPECT_EQ(cuMemFreeAsync(address, first), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemFree(address), CUDA_ERROR_INVALID_VALUE);
  CHECKED(cuStreamSynchronize(first));
}

TEST_F(DriverTest, StreamOrderedMemoryUsedTooEarlyIsFound) {
  CUdeviceptr address = 0;
  CHECKED(cuMemAllocAsync(&address, 256, first));
  CHECKED(cuMemsetD8Async(address, 9, 256, second)); // not ordered after the allocation
  CHECKED(cuCtxSynchronize());
  expectRace();
}

TEST_F(DriverTest, PeerCopies) {
  CUcontext other = nullptr;
  int can = 0, back = 0;
  CHECKED(cuDeviceCanAccessPeer(&can, 0, 1));
  EXPECT_EQ(can, 1);
  const CUdeviceptr here = buffer(4);
  CHECKED(cuMemsetD32(here, 42, 1));
  CHECKED(cuCtxSynchronize());
  CHECKED(cuCtxCreate(&other, nullptr, 0, 1));
  const CUdeviceptr there = buffer(4);
  CHECKED(cuMemcpyPeer(there, other, here, context, 4));
  CHECKED(cuMemcpyDtoH(&back, there, 4));
  EXPECT_EQ(back, 42);
  CHECKED(cuCtxDestroy(other));
}

/// Pinned memory is freed after the work of all contexts, some of which end meanwhile. (Sanitizers see what is wrong.)
TEST_F(DriverTest, ContextsEndWhileAnotherThreadWaits) {
  for (int round = 0; round < 20; ++round) {
    CUcontext other = nullptr;
    CUstream stream = nullptr;
    void *pinned = nullptr;
    CHECKED(cuMemAllocHost(&pinned, 64));
    CHECKED(cuCtxCreate(&other, nullptr, 0, 1));
    CHECKED(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    const CUdeviceptr address = buffer(4);
    for (unsigned i = 0; i < 100; ++i) {
      CHECKED(cuMemsetD32Async(address, i, 1, stream));
    }
    std::thread frees([&] {
      EXPECT_EQ(cuCtxSetCurrent(context), CUDA_SUCCESS);
      EXPECT_EQ(cuMemFreeHost(pinned), CUDA_SUCCESS);
    });
    EXPECT_EQ(cuCtxDestroy(other), CUDA_SUCCESS);
    frees.join();
    CHECKED(cuCtxSetCurrent(context));
  }
}

TEST_F(DriverTest, TimesGoForward) {
  CUevent start = nullptr, end = nullptr;
  CHECKED(cuEventCreate(&start, 0));
  CHECKED(cuEventCreate(&end, 0));
  CHECKED(cuEventRecord(start, first));
  const CUdeviceptr address = buffer(4);
  CHECKED(cuMemsetD32Async(address, 1, 1, first));
  CHECKED(cuEventRecord(end, first));
  CHECKED(cuEventSynchronize(end));
  float milliseconds = -1;
  CHECKED(cuEventElapsedTime(&milliseconds, start, end));
  EXPECT_GT(milliseconds, 0);
}

} // namespace
