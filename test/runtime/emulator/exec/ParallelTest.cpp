//===- ParallelTest.cpp - Blocks of one launch on several host threads -----===//
//
// Results of launches whose blocks talk to each other, with checks off and four
// host threads: read-modify-writes, locks, flags, blocks that wait for earlier
// ones, failures. The thread sanitizer runs this too.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"

using namespace moert::emulator;
using namespace moert::emulator::testing;

namespace {
const std::string one = ".param .u64 out";

class ParallelDevice : public Device {
public:
  ParallelDevice() : Device(false) {
    options.hostThreads = 4;
    options.timing = Timing::Random;
    options.stepLimit = 10000000;
  }
};
} // namespace

TEST(Parallel, AtomicsOfAllBlocksCount) {
  const std::string text = kernel(one, R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .f32 %f<4>; .reg .pred %p<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, 20;
LOOP:
  atom.global.add.u32 %r2, [%rd1], 1;
  red.global.add.f32 [%rd1+4], 0f3F800000;
  red.global.add.u64 [%rd1+8], 1;
  atom.global.max.u32 %r3, [%rd1+16], %r2;
  // A loop of compare-and-swap that adds 2.
  ld.relaxed.gpu.global.u32 %r4, [%rd1+20];
TRY:
  add.u32 %r5, %r4, 2;
  atom.global.cas.b32 %r6, [%rd1+20], %r4, %r5;
  setp.ne.u32 %p1, %r6, %r4;
  mov.u32 %r4, %r6;
  @%p1 bra TRY;
  red.global.add.v2.f32 [%rd1+24], {0f3F800000, 0f40000000};
  sub.u32 %r1, %r1, 1;
  setp.ne.u32 %p2, %r1, 0;
  @%p2 bra LOOP;
  ret;)");
  ParallelDevice device;
  ASSERT_TRUE(device.load(text));
  uint64_t out = device.upload(std::vector<uint32_t>(8));
  ASSERT_EQ(device.run({24, 1, 1}, {32, 1, 1}, out), LaunchError::None) << device.findings();
  const uint32_t count = 24 * 32 * 20;
  auto words = device.download<uint32_t>(out, 8);
  auto floats = device.download<float>(out, 8);
  EXPECT_EQ(words[0], count);
  EXPECT_EQ(floats[1], float(count));
  EXPECT_EQ(words[2], count);
  EXPECT_EQ(words[4], count - 1);
  EXPECT_EQ(words[5], 2 * count);
  EXPECT_EQ(floats[6], float(count));
  EXPECT_EQ(floats[7], float(2 * count));
  EXPECT_GT(device.counts.threadInstructions, uint64_t(count));
}

TEST(Parallel, EachBlockWaitsForTheOneBefore) {
  // Block b waits for flag b - 1, adds to the plain sum behind it, and raises flag b: release and acquire, no atomics.
  const std::string text = kernel(one, R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %ctaid.x;
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd2, %rd1, %rd2;
  setp.eq.u32 %p1, %r1, 0;
  @%p1 bra GO;
WAIT:
  ld.acquire.gpu.global.u32 %r2, [%rd2+252];
  setp.eq.u32 %p2, %r2, 0;
  @%p2 bra WAIT;
GO:
  ld.global.u32 %r3, [%rd1];
  add.u32 %r3, %r3, %r1;
  st.global.u32 [%rd1], %r3;
  st.release.gpu.global.u32 [%rd2+256], 1;
  ret;)");
  ParallelDevice device;
  ASSERT_TRUE(device.load(text));
  uint64_t out = device.upload(std::vector<uint32_t>(64 + 300));
  ASSERT_EQ(device.run({256, 1, 1}, {1, 1, 1}, out), LaunchError::None) << device.findings();
  EXPECT_EQ(device.download<uint32_t>(out, 1)[0], 255U * 256 / 2);
}

TEST(Parallel, SpinLockBehindFences) {
  const std::string text = kernel(one, R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, 10;
AGAIN:
  atom.global.cas.b32 %r2, [%rd1], 0, 1;
  setp.ne.u32 %p1, %r2, 0;
  @%p1 bra AGAIN;
  fence.acq_rel.gpu;
  ld.global.u32 %r3, [%rd1+128];
  add.u32 %r3, %r3, 1;
  st.global.u32 [%rd1+128], %r3;
  fence.acq_rel.gpu;
  st.relaxed.gpu.global.u32 [%rd1], 0;
  sub.u32 %r1, %r1, 1;
  setp.ne.u32 %p2, %r1, 0;
  @%p2 bra AGAIN;
  ret;)");
  ParallelDevice device;
  ASSERT_TRUE(device.load(text));
  uint64_t out = device.upload(std::vector<uint32_t>(64));
  ASSERT_EQ(device.run({16, 1, 1}, {1, 1, 1}, out), LaunchError::None) << device.findings();
  EXPECT_EQ(device.download<uint32_t>(out, 33)[32], 160U);
}

TEST(Parallel, ClustersStayTogether) {
  const std::string text = kernel(one, R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 4 .b8 s[4];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, s;
  mov.u32 %r2, %ctaid.x;
  st.shared.u32 [%r1], %r2;
  barrier.cluster.arrive.aligned;
  barrier.cluster.wait.aligned;
  mov.u32 %r3, %cluster_ctarank;
  xor.b32 %r3, %r3, 1;
  mapa.shared::cluster.u32 %r4, %r1, %r3;
  ld.shared::cluster.u32 %r5, [%r4];
  mul.wide.u32 %rd2, %r2, 4;
  add.u64 %rd1, %rd1, %rd2;
  st.global.u32 [%rd1], %r5;
  barrier.cluster.arrive.aligned;
  barrier.cluster.wait.aligned;
  ret;)");
  ParallelDevice device;
  ASSERT_TRUE(device.load(text));
  device.config.cluster = {2, 1, 1};
  uint64_t out = device.upload(std::vector<uint32_t>(64));
  ASSERT_EQ(device.run({64, 1, 1}, {1, 1, 1}, out), LaunchError::None) << device.findings();
  auto got = device.download<uint32_t>(out, 64);
  for (unsigned i = 0; i < 64; ++i) {
    EXPECT_EQ(got[i], i ^ 1) << i;
  }
}

TEST(Parallel, OneFailingBlockEndsTheLaunch) {
  const std::string text = kernel(one, R"(
  .reg .b32 %r<4>; .reg .pred %p<2>;
  mov.u32 %r1, %ctaid.x;
  setp.eq.u32 %p1, %r1, 17;
  @%p1 trap;
  ret;)");
  ParallelDevice device;
  ASSERT_TRUE(device.load(text));
  uint64_t out = device.upload(std::vector<uint32_t>(4));
  EXPECT_EQ(device.run({64, 1, 1}, {32, 1, 1}, out), LaunchError::Trap);
  EXPECT_NE(device.findings().find("block (17,0,0)"), std::string::npos) << device.findings();
}

TEST(Parallel, ADeadlockIsStillFound) {
  // Half of the warps wait at a barrier of more threads than there are.
  const std::string text = kernel(one, R"(
  .reg .b32 %r<4>; .reg .pred %p<2>;
  mov.u32 %r1, %ctaid.x;
  setp.eq.u32 %p1, %r1, 5;
  @%p1 barrier.sync 1, 64;
  ret;)");
  ParallelDevice device;
  ASSERT_TRUE(device.load(text));
  uint64_t out = device.upload(std::vector<uint32_t>(4));
  EXPECT_EQ(device.run({8, 1, 1}, {32, 1, 1}, out), LaunchError::Deadlock);
}
