//===- WeakMemoryTest.cpp - Strong accesses without order, ends of blocks --===//
//
// Litmus tests: strong accesses do not race, but without their fences they may be
// seen out of order, and some mode must show it; with the fences none may. Then
// what must be over when a block exits, and registers of a running wgmma.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"

#include <set>

using namespace moert::emulator;
using namespace moert::emulator::testing;

namespace {
/// Runs `text` at many timings with two words of output and 64 words of zeros: the pairs that came out.
std::set<std::pair<uint32_t, uint32_t>> outcomes(const std::string &text, Dim3 grid, Dim3 block) {
  std::set<std::pair<uint32_t, uint32_t>> all;
  for (unsigned seed = 0; seed < 40; ++seed) {
    Device device;
    if (!device.load(text)) {
      break;
    }
    device.options.timing = seed == 0 ? Timing::Late : seed == 1 ? Timing::Early : Timing::Random;
    device.options.seed = seed;
    device.options.stepLimit = 100000;
    uint64_t out = device.upload(std::vector<uint32_t>(2)), zeros = device.upload(std::vector<uint32_t>(64));
    EXPECT_EQ(device.run(grid, block, out, zeros), LaunchError::None);
    EXPECT_EQ(device.findings(), "");
    auto got = device.download<uint32_t>(out, 2);
    all.insert({got[0], got[1]});
  }
  return all;
}

std::string without(std::string text, const std::string &part, const std::string &instead = "") {
  size_t at = text.find(part);
  EXPECT_NE(at, std::string::npos) << part;
  return text.replace(at, part.size(), instead);
}

const std::string two = ".param .u64 out, .param .u64 in";

/// Block 0 writes data and then a flag; block 1 waits for the flag and reads the data.
std::string messagePassing() {
  return kernel(two, R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd2, [in];
  mov.u32 %r1, %ctaid.x;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra READ;
  st.volatile.global.u32 [%rd2], 7;
  membar.gl; // writer
  st.volatile.global.u32 [%rd2+128], 1;
  ret;
READ:
  ld.volatile.global.u32 %r2, [%rd2+128];
  setp.eq.u32 %p2, %r2, 0;
  @%p2 bra READ;
  membar.gl; // reader
  ld.volatile.global.u32 %r3, [%rd2];
  st.global.u32 [%rd1], %r3;
  ret;)");
}

/// Both blocks write their word and read the other's.
std::string storeBuffering(const std::string &fence) {
  return kernel(two, R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd2, [in];
  mov.u32 %r1, %ctaid.x;
  mul.wide.u32 %rd3, %r1, 128;
  add.u64 %rd4, %rd2, %rd3;
  st.relaxed.gpu.global.u32 [%rd4], 1;
  )" + fence + R"(
  xor.b32 %r2, %r1, 1;
  mul.wide.u32 %rd3, %r2, 128;
  add.u64 %rd4, %rd2, %rd3;
  ld.relaxed.gpu.global.u32 %r3, [%rd4];
  mul.wide.u32 %rd3, %r1, 4;
  add.u64 %rd1, %rd1, %rd3;
  st.global.u32 [%rd1], %r3;
  ret;)");
}

bool hasFinding(const std::string &text, FindingKind kind, Dim3 grid, Dim3 block, Dim3 cluster = {1, 1, 1}) {
  bool always = true;
  for (Timing timing : {Timing::Late, Timing::Early, Timing::Random}) {
    Device device;
    if (!device.load(text)) {
      return false;
    }
    device.options.timing = timing;
    device.config.cluster = cluster;
    uint64_t out = device.upload(std::vector<uint32_t>(1024)), in = device.upload(std::vector<uint32_t>(1024));
    device.run(grid, block, out, in);
    always &= device.found(kind);
  }
  return always;
}

std::string findingsOf(const std::string &text, Dim3 grid, Dim3 block, Dim3 cluster = {1, 1, 1}) {
  std::string all;
  for (Timing timing : {Timing::Late, Timing::Early, Timing::Random}) {
    Device device;
    if (!device.load(text)) {
      return "did not load";
    }
    device.options.timing = timing;
    device.config.cluster = cluster;
    uint64_t out = device.upload(std::vector<uint32_t>(1024)), in = device.upload(std::vector<uint32_t>(1024));
    device.run(grid, block, out, in);
    for (const Finding &finding : device.sink.findings()) {
      all += finding.text() + "\n";
    }
  }
  return all;
}
} // namespace

using Pairs = std::set<std::pair<uint32_t, uint32_t>>;

TEST(WeakMemory, MessagePassingNeedsBothFences) {
  EXPECT_EQ(outcomes(messagePassing(), {2, 1, 1}, {1, 1, 1}), (Pairs{{7, 0}}));
  for (const char *fence : {"membar.gl; // writer", "membar.gl; // reader"}) {
    EXPECT_EQ(outcomes(without(messagePassing(), fence), {2, 1, 1}, {1, 1, 1}), (Pairs{{0, 0}, {7, 0}})) << fence;
    EXPECT_EQ(outcomes(without(messagePassing(), fence, "membar.cta;"), {2, 1, 1}, {1, 1, 1}), (Pairs{{0, 0}, {7, 0}}))
        << fence;
  }
}

TEST(WeakMemory, SequentialFencesForbidStoreBuffering) {
  EXPECT_EQ(outcomes(storeBuffering("fence.sc.gpu;"), {2, 1, 1}, {1, 1, 1}).count({0, 0}), 0U);
  EXPECT_EQ(outcomes(storeBuffering("fence.acq_rel.gpu;"), {2, 1, 1}, {1, 1, 1}).count({0, 0}), 1U);
}

TEST(WeakMemory, OneLocationIsCoherent) {
  // The reader's values never go back: 64 reads of a word that grows.
  const std::string text = kernel(two, R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd2, [in];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, 0;
  mov.u32 %r3, 0;
  mov.u32 %r5, 0;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra READ;
WRITE:
  add.u32 %r2, %r2, 1;
  st.relaxed.gpu.global.u32 [%rd2], %r2;
  setp.lt.u32 %p2, %r2, 20;
  @%p2 bra WRITE;
  ret;
READ:
  ld.relaxed.gpu.global.u32 %r4, [%rd2];
  setp.lt.u32 %p3, %r4, %r3;
  selp.u32 %r6, 1, 0, %p3;
  add.u32 %r5, %r5, %r6;
  mov.u32 %r3, %r4;
  setp.lt.u32 %p2, %r4, 20;
  @%p2 bra READ;
  st.global.u32 [%rd1], %r5;
  ret;)");
  EXPECT_EQ(outcomes(text, {2, 1, 1}, {1, 1, 1}), (Pairs{{0, 0}}));
}

TEST(WeakMemory, VolatileLanesOfAWarpNeedASync) {
  const std::string text = kernel(two, R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<2>;
  .shared .align 4 .b8 s[128];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  shl.b32 %r2, %r1, 2;
  mov.u32 %r3, s;
  add.u32 %r4, %r3, %r2;
  st.volatile.shared.u32 [%r4], 0;
  bar.warp.sync -1;
  st.volatile.shared.u32 [%r4], 5;
  bar.warp.sync 0xffffffff;
  xor.b32 %r2, %r2, 4;
  add.u32 %r5, %r3, %r2;
  ld.volatile.shared.u32 %r6, [%r5];
  setp.ne.u32 %p1, %r1, 0;
  @!%p1 st.global.u32 [%rd1], %r6;
  ret;)");
  EXPECT_EQ(outcomes(text, {1, 1, 1}, {32, 1, 1}), (Pairs{{5, 0}}));
  EXPECT_EQ(outcomes(without(text, "bar.warp.sync 0xffffffff;"), {1, 1, 1}, {32, 1, 1}).count({0, 0}), 1U);
}

TEST(Exit, WaitsForBulkCopiesOutOfSharedMemory) {
  const std::string text = kernel(two, R"(
  .reg .b32 %r<4>; .reg .b64 %rd<4>;
  .shared .align 128 .b8 s[64];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, s;
  st.shared.v4.u32 [%r1], {1, 2, 3, 4};
  fence.proxy.async.shared::cta;
  cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], 16;
  cp.async.bulk.commit_group;
  cp.async.bulk.wait_group.read 0;
  ret;)");
  EXPECT_EQ(findingsOf(text, {1, 1, 1}, {1, 1, 1}), "");
  for (const char *part : {"cp.async.bulk.commit_group;", "cp.async.bulk.wait_group.read 0;"}) {
    EXPECT_TRUE(hasFinding(without(text, part), FindingKind::Race, {1, 1, 1}, {1, 1, 1})) << part;
  }
}

TEST(Exit, WaitsForTheOthersOfTheCluster) {
  const std::string text = kernel(two, R"(
  .reg .b32 %r<8>; .reg .b64 %rd<4>;
  .shared .align 4 .b8 s[4];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, s;
  mov.u32 %r2, %cluster_ctarank;
  st.shared.u32 [%r1], %r2;
  barrier.cluster.arrive.aligned;
  barrier.cluster.wait.aligned;
  xor.b32 %r3, %r2, 1;
  mapa.shared::cluster.u32 %r4, %r1, %r3;
  ld.shared::cluster.u32 %r5, [%r4];
  barrier.cluster.arrive.release.aligned;
  barrier.cluster.wait.acquire.aligned;
  mul.wide.u32 %rd2, %r2, 4;
  add.u64 %rd1, %rd1, %rd2;
  st.global.u32 [%rd1], %r5;
  ret;)");
  EXPECT_EQ(findingsOf(text, {2, 1, 1}, {1, 1, 1}, {2, 1, 1}), "");
  const std::string open =
      without(without(text, "barrier.cluster.arrive.release.aligned;"), "barrier.cluster.wait.acquire.aligned;");
  bool found = hasFinding(open, FindingKind::Race, {2, 1, 1}, {1, 1, 1}, {2, 1, 1}) ||
               hasFinding(open, FindingKind::OutOfBounds, {2, 1, 1}, {1, 1, 1}, {2, 1, 1});
  EXPECT_TRUE(found);
}

TEST(Clusters, OnlyTheAccessToABlockThatIsNotThereFaults) {
  // The address is made by all, as compilers hoist it; one who has a right neighbour reads there.
  const std::string text = kernel(two, R"(
  .reg .b32 %r<8>; .reg .b64 %rd<4>; .reg .pred %p<2>;
  .shared .align 4 .b8 s[4];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, s;
  mov.u32 %r2, %cluster_ctarank;
  st.shared.u32 [%r1], %r2;
  barrier.cluster.arrive.aligned;
  barrier.cluster.wait.aligned;
  add.u32 %r3, %r2, 1;
  mapa.shared::cluster.u32 %r4, %r1, %r3;
  setp.lt.u32 %p1, %r3, 2;
  mov.u32 %r5, 7;
  @%p1 ld.shared::cluster.u32 %r5, [%r4];
  barrier.cluster.arrive.aligned;
  barrier.cluster.wait.aligned;
  mul.wide.u32 %rd2, %r2, 4;
  add.u64 %rd1, %rd1, %rd2;
  st.global.u32 [%rd1], %r5;
  ret;)");
  EXPECT_EQ(findingsOf(text, {2, 1, 1}, {1, 1, 1}, {2, 1, 1}), "");
  std::string all = text;
  all.replace(all.find("@%p1 ld"), 7, "ld");
  EXPECT_TRUE(hasFinding(all, FindingKind::OutOfBounds, {2, 1, 1}, {1, 1, 1}, {2, 1, 1}));
}

TEST(Exit, WaitsForBulkCopiesToTheOthersOfTheCluster) {
  // Each block copies to the other; the mbarrier is where the bytes go, so the source hears of the end by a barrier.
  const std::string text = kernel(two, R"(
  .reg .b32 %r<8>; .reg .b64 %rd<4>; .reg .pred %p<2>;
  .shared .align 16 .b8 from[16];
  .shared .align 16 .b8 to[16];
  .shared .align 8 .b64 bar;
  mov.u32 %r1, from;
  mov.u32 %r2, to;
  mov.u32 %r3, bar;
  mbarrier.init.shared.b64 [%r3], 1;
  st.shared.v4.u32 [%r1], {1, 2, 3, 4};
  fence.mbarrier_init.release.cluster;
  fence.proxy.async.shared::cta;
  mbarrier.arrive.expect_tx.shared.b64 %rd1, [%r3], 16;
  barrier.cluster.arrive.aligned;
  barrier.cluster.wait.aligned;
  mov.u32 %r4, %cluster_ctarank;
  xor.b32 %r4, %r4, 1;
  mapa.shared::cluster.u32 %r5, %r2, %r4;
  mapa.shared::cluster.u32 %r6, %r3, %r4;
  cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r5], [%r1], 16, [%r6];
WAIT:
  mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p1, [%r3], 0;
  @!%p1 bra WAIT;
  barrier.cluster.arrive.release.aligned;
  barrier.cluster.wait.acquire.aligned;
  ret;)");
  EXPECT_EQ(findingsOf(text, {2, 1, 1}, {1, 1, 1}, {2, 1, 1}), "");
  const std::string open =
      without(without(text, "barrier.cluster.arrive.release.aligned;"), "barrier.cluster.wait.acquire.aligned;");
  EXPECT_TRUE(hasFinding(open, FindingKind::Race, {2, 1, 1}, {1, 1, 1}, {2, 1, 1}));
  // Nor may the target exit while bytes are on their way to it.
  const std::string unread = without(text, "@!%p1 bra WAIT;");
  EXPECT_TRUE(hasFinding(unread, FindingKind::Race, {2, 1, 1}, {1, 1, 1}, {2, 1, 1}));
}

TEST(Cluster, RelaxedArrivalHandsOverWhatAFenceReleased) {
  const std::string text = kernel(two, R"(
  .reg .b32 %r<8>; .reg .b64 %rd<4>;
  .shared .align 4 .b8 s[4];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, s;
  mov.u32 %r2, %cluster_ctarank;
  st.shared.u32 [%r1], %r2;
  fence.acq_rel.cluster;
  barrier.cluster.arrive.relaxed.aligned;
  barrier.cluster.wait.acquire.aligned;
  xor.b32 %r3, %r2, 1;
  mapa.shared::cluster.u32 %r4, %r1, %r3;
  ld.shared::cluster.u32 %r5, [%r4];
  barrier.cluster.arrive.aligned;
  barrier.cluster.wait.aligned;
  ret;)");
  EXPECT_EQ(findingsOf(text, {2, 1, 1}, {1, 1, 1}, {2, 1, 1}), "");
  EXPECT_TRUE(hasFinding(without(text, "fence.acq_rel.cluster;"), FindingKind::Race, {2, 1, 1}, {1, 1, 1}, {2, 1, 1}));
}

TEST(Wgmma, RegistersOfARunningOneAreNotWritten) {
  // A from registers; `early` stands before the wait, where writing a register of A or an accumulator is a fault.
  auto text = [](const std::string &early) {
    return kernel(two, R"(
  .reg .b32 %r<16>; .reg .b64 %rd<16>; .reg .f32 %f<8>; .reg .pred %p<4>;
  .shared .align 1024 .b8 s[8192];
  ld.param.u64 %rd3, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, s;
  shl.b32 %r3, %r1, 2;
  add.u32 %r3, %r2, %r3;
  mov.u32 %r4, 16;
FILL:
  st.shared.u32 [%r3], 0;
  add.u32 %r3, %r3, 512;
  sub.u32 %r4, %r4, 1;
  setp.ne.u32 %p1, %r4, 0;
  @%p1 bra FILL;
  mov.u32 %r10, 0;
  mov.u32 %r11, 0;
  mov.u32 %r12, 0;
  mov.u32 %r13, 0;
  fence.proxy.async;
  bar.sync 0;
  shr.u32 %r6, %r2, 4;
  cvt.u64.u32 %rd6, %r6;
  or.b64 %rd6, %rd6, 68727865344;
  wgmma.fence.sync.aligned;
  wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, {%r10, %r11, %r12, %r13}, %rd6, 0, 1, 1, 0;
  wgmma.commit_group.sync.aligned;
  )" + early + R"(
  wgmma.wait_group.sync.aligned 0;
  mov.u32 %r11, 2;
  ret;)");
  };
  EXPECT_EQ(findingsOf(text("mov.u32 %r5, %r11;"), {1, 1, 1}, {128, 1, 1}), "");
  for (const char *early : {"mov.u32 %r11, 1;", "add.u32 %r13, %r13, 1;", "mov.f32 %f2, 0f00000000;",
                            "ld.shared.v2.u32 {%r5, %r12}, [%r2];"}) {
    EXPECT_TRUE(hasFinding(text(early), FindingKind::Race, {1, 1, 1}, {128, 1, 1})) << early;
  }
}
