//===- DriverTest.h - What tests of the driver share ------------*- C++ -*-===//
//
// A fixture with the primary context of device 0 and two streams, and the
// emulator's own functions about findings. Every test starts without findings
// and ends without unless it expects some.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TEST_EMULATOR_DRIVERTEST_H
#define MOE_TEST_EMULATOR_DRIVERTEST_H

#include "test/runtime/emulator/driver/cuda.h"

#include <cstdlib>
#include <gtest/gtest.h>
#include <string>
#include <vector>

extern "C" {
uint64_t moeEmulatorFindings(void);
size_t moeEmulatorFindingText(size_t index, char *text, size_t size);
void moeEmulatorClearFindings(void);
const char *moeEmulatorLastError(void);
}

#define CHECKED(call) ASSERT_EQ(call, CUDA_SUCCESS) << moeEmulatorLastError()
/// The call is refused with that code, and the message holds that text.
#define REFUSED(call, code, text)                                                                                      \
  EXPECT_EQ(call, code);                                                                                               \
  EXPECT_NE(std::string(moeEmulatorLastError()).find(text), std::string::npos) << moeEmulatorLastError()

inline std::string allFindings() {
  std::string all;
  char text[2000];
  for (size_t i = 0; moeEmulatorFindingText(i, text, sizeof(text)); ++i) {
    all += std::string(text) + "\n";
  }
  return all;
}

class DriverTest : public ::testing::Test {
protected:
  void SetUp() override {
    CHECKED(cuInit(0));
    CHECKED(cuDevicePrimaryCtxRetain(&context, 0));
    CHECKED(cuCtxSetCurrent(context));
    CHECKED(cuStreamCreate(&first, CU_STREAM_NON_BLOCKING));
    CHECKED(cuStreamCreate(&second, CU_STREAM_NON_BLOCKING));
    moeEmulatorClearFindings();
  }

  void TearDown() override {
    EXPECT_EQ(allFindings(), "");
    cuDevicePrimaryCtxRelease(0); // destroys streams and memory with the context
    cuCtxSetCurrent(nullptr);
  }

  /// Findings are expected: one of them holds `text`.
  void expectFinding(const std::string &text) {
    EXPECT_GT(moeEmulatorFindings(), 0u);
    EXPECT_NE(allFindings().find(text), std::string::npos) << allFindings();
    moeEmulatorClearFindings();
  }

  /// A race is expected, where races are judged at all.
  void expectRace() {
    const char *checks = getenv("MOE_EMU_CHECKS");
    if (!checks || std::string(checks) != "off") {
      expectFinding("race");
    }
  }

  CUdeviceptr buffer(size_t bytes) {
    CUdeviceptr address = 0;
    EXPECT_EQ(cuMemAlloc(&address, bytes), CUDA_SUCCESS) << moeEmulatorLastError();
    return address;
  }

  CUcontext context = nullptr;
  CUstream first = nullptr, second = nullptr;
};

#endif // MOE_TEST_EMULATOR_DRIVERTEST_H
