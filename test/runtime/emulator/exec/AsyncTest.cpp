//===- AsyncTest.cpp - mbarriers, bulk copies, clusters and wgmma ----------===//
//
// Like JudgementTest.cpp, for what completes later: right programs give the
// right result and no finding at any timing; with a wait, a fence, a count or a
// phase taken away the finding comes at any timing. wgmma is compared with f64 on
// small integers for K-major operands of every swizzle.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"

#include <random>

using namespace moert::emulator;
using namespace moert::emulator::testing;

namespace {
const Timing timings[] = {Timing::Late, Timing::Early, Timing::Random};

/// Findings of `text` at all timings; the output must be `expected` where that is not empty.
std::string findingsOf(const std::string &text, Dim3 grid, Dim3 block, const std::vector<uint32_t> &expected = {},
                       const FindingKind *kind = nullptr, Dim3 cluster = {1, 1, 1}) {
  std::string all;
  for (Timing timing : timings) {
    for (uint64_t seed = 0; seed < (timing == Timing::Random ? 8U : 1U); ++seed) {
      Device device;
      if (!device.load(text)) {
        return "did not load";
      }
      device.options.timing = timing;
      device.options.seed = seed;
      device.options.stepLimit = 200000;
      device.config.cluster = cluster;
      std::vector<uint32_t> values(2048);
      for (unsigned i = 0; i < values.size(); ++i) {
        values[i] = i;
      }
      uint64_t out = device.upload(values);
      device.run(grid, block, out);
      if (kind) {
        EXPECT_TRUE(device.found(*kind)) << "timing " << int(timing) << "\n" << device.findings();
      } else if (!expected.empty()) {
        auto got = device.download<uint32_t>(out + 4096, expected.size());
        EXPECT_EQ(got, expected) << "timing " << int(timing) << " seed " << seed;
      }
      all += device.findings();
    }
  }
  return all;
}

void wrong(const std::string &right, const std::string &remove, const std::string &replace, FindingKind kind, Dim3 grid,
           Dim3 block, Dim3 cluster = {1, 1, 1}) {
  SCOPED_TRACE(remove + " -> " + replace);
  std::string text = right;
  size_t at = text.find(remove);
  ASSERT_NE(at, std::string::npos);
  text.replace(at, remove.size(), replace);
  EXPECT_NE(findingsOf(text, grid, block, {}, &kind, cluster), "");
}

// Thread 0 copies 256 bytes in; all wait on the mbarrier, read, write doubled values to shared memory, and thread 0
// copies those out.
const std::string roundTrip = kernel(".param .u64 out", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 128 .b8 s[512];
  .shared .align 8 .b64 bar;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, s;
  mov.u32 %r3, bar;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra READY;
  mbarrier.init.shared.b64 [%r3], 1;
  fence.mbarrier_init.release.cluster;
READY:
  bar.sync 0;
  @%p1 bra WAIT;
  mbarrier.arrive.expect_tx.shared.b64 _, [%r3], 256;
  cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 256, [%r3];
WAIT:
  mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0;
  @!%p2 bra WAIT;
  shl.b32 %r4, %r1, 2;
  add.u32 %r5, %r2, %r4;
  ld.shared.u32 %r6, [%r5];
  add.u32 %r6, %r6, %r6;
  st.shared.u32 [%r5+256], %r6;
  fence.proxy.async;
  bar.sync 0;
  @%p1 bra DONE;
  add.u64 %rd2, %rd1, 4096;
  add.u32 %r7, %r2, 256;
  cp.async.bulk.global.shared::cta.bulk_group [%rd2], [%r7], 256;
  cp.async.bulk.commit_group;
  cp.async.bulk.wait_group 0;
  st.shared.u32 [%r2+256], 1;
DONE:
  ret;)");
} // namespace

TEST(Async, BulkCopyRoundTrip) {
  std::vector<uint32_t> expected;
  for (uint32_t i = 0; i < 64; ++i) {
    expected.push_back(2 * i);
  }
  const Dim3 one{1, 1, 1}, block{64, 1, 1};
  EXPECT_EQ(findingsOf(roundTrip, one, block, expected), "");
  wrong(roundTrip, "@!%p2 bra WAIT;", "", FindingKind::Race, one, block);
  wrong(roundTrip, "[%r3], 0;\n  @!%p2", "[%r3], 1;\n  @!%p2", FindingKind::Race, one, block);
  wrong(roundTrip, "fence.proxy.async;", "", FindingKind::ProxyFence, one, block);
  wrong(roundTrip, "fence.proxy.async;\n  bar.sync 0;", "fence.proxy.async;", FindingKind::Race, one, block);
  wrong(roundTrip, "cp.async.bulk.wait_group 0;", "", FindingKind::Race, one, block);
  wrong(roundTrip, "_, [%r3], 256;", "_, [%r3], 512;", FindingKind::Deadlock, one, block);
  wrong(roundTrip, "mbarrier.init.shared.b64 [%r3], 1;", "mbarrier.init.shared.b64 [%r3], 2;", FindingKind::Deadlock,
        one, block);
  wrong(roundTrip, "mbarrier.init.shared.b64 [%r3], 1;", "", FindingKind::Barrier, one, block);
}

TEST(Async, BulkPrefetchesOfWhatIsThere) {
  const std::string right = kernel(".param .u64 out", R"(
  .reg .b64 %rd<4>; .reg .b32 %r<2>;
  ld.param.u64 %rd1, [out];
  cp.async.bulk.prefetch.L2.global [%rd1+7936], 256;
  ret;)");
  const Dim3 one{1, 1, 1};
  EXPECT_EQ(findingsOf(right, one, one), "");
  wrong(right, "[%rd1+7936], 256;", "[%rd1+7952], 256;", FindingKind::OutOfBounds, one, one);
  wrong(right, "[%rd1+7936], 256;", "[%rd1+7928], 256;", FindingKind::Misaligned, one, one);
  wrong(right, "[%rd1+7936], 256;", "[%rd1+7936], 200;", FindingKind::Illegal, one, one);
  wrong(right, "[%rd1+7936], 256;", "[%rd1+7936], %r1;", FindingKind::Undefined, one, one);
}

TEST(Async, BulkReadWaitOnlyFreesTheSource) {
  // .read is enough to overwrite the source, not to read the destination.
  std::string read = roundTrip;
  read.replace(read.find("wait_group 0;"), 13, "wait_group.read 0;");
  EXPECT_EQ(findingsOf(read, {1, 1, 1}, {64, 1, 1}), "");
  wrong(read, "st.shared.u32 [%r2+256], 1;", "ld.global.u32 %r8, [%rd2];", FindingKind::Race, {1, 1, 1}, {64, 1, 1});
}

TEST(Async, CopyAsyncArrivesOnAnMbarrier) {
  const std::string right = kernel(".param .u64 out", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 128 .b8 s[1024];
  .shared .align 8 .b64 bar;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, s;
  mov.u32 %r3, bar;
  setp.ne.u32 %p1, %r1, 0;
  @!%p1 mbarrier.init.shared.b64 [%r3], 64;
  bar.sync 0;
  mul.wide.u32 %rd2, %r1, 16;
  add.u64 %rd3, %rd1, %rd2;
  shl.b32 %r4, %r1, 4;
  add.u32 %r5, %r2, %r4;
  cp.async.cg.shared.global [%r5], [%rd3], 16;
  cp.async.mbarrier.arrive.noinc.shared.b64 [%r3];
WAIT:
  mbarrier.test_wait.parity.shared.b64 %p2, [%r3], 0;
  @!%p2 bra WAIT;
  xor.b32 %r6, %r5, 16;
  ld.shared.u32 %r7, [%r6];
  mul.wide.u32 %rd4, %r1, 4;
  add.u64 %rd5, %rd1, %rd4;
  st.global.u32 [%rd5+4096], %r7;
  ret;)");
  std::vector<uint32_t> expected;
  for (uint32_t i = 0; i < 64; ++i) {
    expected.push_back((i ^ 1) * 4);
  }
  EXPECT_EQ(findingsOf(right, {1, 1, 1}, {64, 1, 1}, expected), "");
  wrong(right, "@!%p2 bra WAIT;", "", FindingKind::Race, {1, 1, 1}, {64, 1, 1});
}

// Thread 0 copies 200 words, each a group of its own, waits for all but the last two, and after a barrier thread 32
// reads one of the newest three.
const std::string manyGroups = kernel(".param .u64 out", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 128 .b8 s[800];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, s;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra READY;
  mov.u32 %r3, 0;
COPY:
  add.u32 %r4, %r2, %r3;
  cvt.u64.u32 %rd2, %r3;
  add.u64 %rd3, %rd1, %rd2;
  cp.async.ca.shared.global [%r4], [%rd3], 4;
  cp.async.commit_group;
  add.u32 %r3, %r3, 4;
  setp.lt.u32 %p2, %r3, 800;
  @%p2 bra COPY;
  cp.async.wait_group 2;
READY:
  bar.sync 0;
  setp.ne.u32 %p3, %r1, 32;
  @%p3 bra DONE;
  ld.shared.u32 %r5, [%r2+788];
  st.global.u32 [%rd1+4096], %r5;
DONE:
  ret;)");

// Thread 0 copies 200 times 16 bytes out of shared memory, each a group of its own, waits for all but the last two to
// be read, and after a barrier thread 32 writes over the source of one of the newest three.
const std::string manyBulkGroups = kernel(".param .u64 out", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 128 .b8 s[3200];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, s;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra READY;
  mov.u32 %r3, 0;
FILL:
  add.u32 %r4, %r2, %r3;
  st.shared.u32 [%r4], %r3;
  add.u32 %r3, %r3, 4;
  setp.lt.u32 %p2, %r3, 3200;
  @%p2 bra FILL;
  fence.proxy.async;
  mov.u32 %r3, 0;
COPY:
  add.u32 %r4, %r2, %r3;
  cvt.u64.u32 %rd2, %r3;
  add.u64 %rd3, %rd1, %rd2;
  cp.async.bulk.global.shared::cta.bulk_group [%rd3], [%r4], 16;
  cp.async.bulk.commit_group;
  add.u32 %r3, %r3, 16;
  setp.lt.u32 %p2, %r3, 3200;
  @%p2 bra COPY;
  cp.async.bulk.wait_group.read 2;
READY:
  bar.sync 0;
  setp.ne.u32 %p3, %r1, 32;
  @%p3 bra DONE;
  st.shared.u32 [%r2+3152], %r1;
DONE:
  bar.sync 0;
  @%p1 bra END;
  cp.async.bulk.wait_group 0;
END:
  ret;)");

TEST(Async, GroupsUnderWayStayUnknownHoweverManyCameBefore) {
  EXPECT_EQ(findingsOf(manyGroups, {1, 1, 1}, {64, 1, 1}, {197}), "");
  wrong(manyGroups, "[%r2+788]", "[%r2+792]", FindingKind::Race, {1, 1, 1}, {64, 1, 1});
  wrong(manyGroups, "[%r2+788]", "[%r2+796]", FindingKind::Race, {1, 1, 1}, {64, 1, 1});
  wrong(manyGroups, "wait_group 2", "wait_group 3", FindingKind::Race, {1, 1, 1}, {64, 1, 1});
  EXPECT_EQ(findingsOf(manyBulkGroups, {1, 1, 1}, {64, 1, 1}), "");
  wrong(manyBulkGroups, "[%r2+3152]", "[%r2+3168]", FindingKind::Race, {1, 1, 1}, {64, 1, 1});
  wrong(manyBulkGroups, "read 2", "read 3", FindingKind::Race, {1, 1, 1}, {64, 1, 1});
}

TEST(Async, ClusterBarrierAndRemoteMemory) {
  // Each block stores to the other's shared memory and reads its own behind the barrier.
  const std::string right = kernel(".param .u64 out", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>;
  .shared .align 16 .b8 s[16];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %cluster_ctarank;
  xor.b32 %r2, %r1, 1;
  mov.u32 %r3, s;
  mapa.shared::cluster.u32 %r4, %r3, %r2;
  barrier.cluster.arrive.aligned;
  barrier.cluster.wait.aligned;
  add.u32 %r5, %r1, 70;
  st.shared::cluster.u32 [%r4], %r5;
  barrier.cluster.arrive.release.aligned;
  barrier.cluster.wait.acquire.aligned;
  ld.shared.u32 %r6, [%r3];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3+4096], %r6;
  ret;)");
  EXPECT_EQ(findingsOf(right, {2, 1, 1}, {1, 1, 1}, {71, 70}, nullptr, {2, 1, 1}), "");
  wrong(right, "arrive.release", "arrive.relaxed", FindingKind::Race, {2, 1, 1}, {1, 1, 1}, {2, 1, 1});
  // That the other block has started is known behind a barrier, a relaxed one, too.
  std::string relaxed = right;
  relaxed.replace(relaxed.find("arrive.aligned"), 14, "arrive.relaxed.aligned");
  EXPECT_EQ(findingsOf(relaxed, {2, 1, 1}, {1, 1, 1}, {71, 70}, nullptr, {2, 1, 1}), "");
  wrong(right, "barrier.cluster.arrive.aligned;\n  barrier.cluster.wait.aligned;", "", FindingKind::Race, {2, 1, 1},
        {1, 1, 1}, {2, 1, 1});
}

TEST(Async, SecondMbarrierUserOfAStageMustWait) {
  // Two loads into one stage: the second may start only behind the readers of the first.
  const std::string right = kernel(".param .u64 out", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 128 .b8 s[256];
  .shared .align 8 .b8 bars[16];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, s;
  mov.u32 %r3, bars;
  setp.ne.u32 %p1, %r1, 0;
  @!%p1 mbarrier.init.shared.b64 [%r3], 1;
  @!%p1 mbarrier.init.shared.b64 [%r3+8], 64;
  bar.sync 0;
  @%p1 bra FIRST;
  mbarrier.arrive.expect_tx.shared.b64 _, [%r3], 256;
  cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 256, [%r3];
FIRST:
  mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0;
  @!%p2 bra FIRST;
  shl.b32 %r4, %r1, 2;
  add.u32 %r5, %r2, %r4;
  ld.shared.u32 %r6, [%r5];
  mbarrier.arrive.shared.b64 _, [%r3+8];
  @%p1 bra SECOND;
EMPTY:
  mbarrier.try_wait.parity.shared.b64 %p3, [%r3+8], 0;
  @!%p3 bra EMPTY;
  mbarrier.arrive.expect_tx.shared.b64 _, [%r3], 256;
  cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1+256], 256, [%r3];
SECOND:
  mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 1;
  @!%p2 bra SECOND;
  ld.shared.u32 %r7, [%r5];
  add.u32 %r6, %r6, %r7;
  cvt.u64.u32 %rd2, %r4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3+4096], %r6;
  ret;)");
  std::vector<uint32_t> expected;
  for (uint32_t i = 0; i < 64; ++i) {
    expected.push_back(2 * i + 64);
  }
  EXPECT_EQ(findingsOf(right, {1, 1, 1}, {64, 1, 1}, expected), "");
  // The whole wait goes: a try_wait that happens to find the phase complete orders, whoever looks at its result.
  wrong(right, "mbarrier.try_wait.parity.shared.b64 %p3, [%r3+8], 0;\n  @!%p3 bra EMPTY;", "", FindingKind::Race,
        {1, 1, 1}, {64, 1, 1});
}

TEST(Async, WgmmaIsExactOnSmallIntegers) {
  // K-major A (64 x 16) and B (n x 16) in each swizzle; rows of 32, 32, 64 and 128 bytes.
  for (unsigned n : {8U, 64U, 256U}) {
    for (unsigned swizzle : {0U, 1U, 2U, 3U}) {
      SCOPED_TRACE("n " + std::to_string(n) + " swizzle " + std::to_string(swizzle));
      const unsigned span = 16U << swizzle, group = swizzle ? 8 * span : 256;
      const uint64_t modes[] = {0, 3, 2, 1};
      const unsigned bBase = 16384;
      uint64_t high = modes[swizzle] << 62 | uint64_t(group >> 4) << 32 | uint64_t(128 >> 4) << 16;
      std::string d, stores;
      for (unsigned i = 0; i < n / 2; ++i) {
        d += (i ? ", %f" : "%f") + std::to_string(i);
        stores += "st.global.f32 [%rd3+" + std::to_string(i * 4) + "], %f" + std::to_string(i) + ";\n";
      }
      std::string text = kernel(".param .u64 in, .param .u64 out", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<16>; .reg .f32 %f<128>; .reg .pred %p<4>;
  .shared .align 1024 .b8 s[81920];
  ld.param.u64 %rd1, [in];
  ld.param.u64 %rd3, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, s;
  shl.b32 %r3, %r1, 2;
COPY:
  cvt.u64.u32 %rd4, %r3;
  add.u64 %rd5, %rd1, %rd4;
  ld.global.u32 %r4, [%rd5];
  add.u32 %r5, %r2, %r3;
  st.shared.u32 [%r5], %r4;
  add.u32 %r3, %r3, 512;
  setp.lt.u32 %p1, %r3, 81920;
  @%p1 bra COPY;
  fence.proxy.async;
  bar.sync 0;
  shr.u32 %r6, %r2, 4;
  cvt.u64.u32 %rd6, %r6;
  or.b64 %rd6, %rd6, )" + std::to_string(high) +
                                                                       R"(;
  add.u64 %rd7, %rd6, )" + std::to_string(bBase >> 4) + R"(;
  wgmma.fence.sync.aligned;
  wgmma.mma_async.sync.aligned.m64n)" + std::to_string(n) + "k16.f32.bf16.bf16 {" +
                                                                       d + R"(}, %rd6, %rd7, 0, 1, 1, 0, 0;
  wgmma.commit_group.sync.aligned;
  wgmma.wait_group.sync.aligned 0;
  mul.wide.u32 %rd8, %r1, )" + std::to_string(n * 2) + R"(;
  add.u64 %rd3, %rd3, %rd8;
)" + stores + "ret;");
      std::mt19937 random(3);
      std::vector<int> A(64 * 16), B(n * 16);
      std::vector<uint16_t> bytes(81920 / 2);
      auto place = [&](unsigned base, unsigned row, unsigned k, int value) {
        unsigned byte = k * 2;
        unsigned at = swizzle ? row / 8 * group + row % 8 * span + byte
                              : row / 8 * group + byte / 16 * 128 + row % 8 * 16 + byte % 16;
        if (swizzle) {
          at ^= (at >> 7 & ((1U << swizzle) - 1)) << 4;
        }
        auto v = float(value);
        uint32_t bits;
        std::memcpy(&bits, &v, 4);
        bytes[(base + at) / 2] = uint16_t(bits >> 16);
      };
      for (unsigned r = 0; r < 64; ++r) {
        for (unsigned k = 0; k < 16; ++k) {
          place(0, r, k, A[r * 16 + k] = int(random() % 9) - 4);
        }
      }
      for (unsigned r = 0; r < n; ++r) {
        for (unsigned k = 0; k < 16; ++k) {
          place(bBase, r, k, B[r * 16 + k] = int(random() % 9) - 4);
        }
      }
      for (Timing timing : timings) {
        Device device;
        ASSERT_TRUE(device.load(text));
        device.options.timing = timing;
        uint64_t in = device.upload(bytes), out = device.upload(std::vector<float>(64 * n));
        ASSERT_EQ(device.run({1, 1, 1}, {128, 1, 1}, in, out), LaunchError::None) << device.findings();
        EXPECT_EQ(device.findings(), "");
        auto got = device.download<float>(out, 64 * n);
        for (unsigned t = 0; t < 128; ++t) {
          for (unsigned i = 0; i < n / 2; ++i) {
            unsigned row = t / 32 * 16 + t % 32 / 4 + (i & 2 ? 8 : 0), column = i / 4 * 8 + t % 4 * 2 + (i & 1);
            int want = 0;
            for (unsigned k = 0; k < 16; ++k) {
              want += A[row * 16 + k] * B[column * 16 + k];
            }
            ASSERT_EQ(got[t * (n / 2) + i], float(want)) << "thread " << t << " register " << i;
          }
        }
      }
      if (n == 8) {
        auto fails = [&](const std::string &remove, FindingKind kind) {
          std::string broken = text;
          broken.replace(broken.find(remove), remove.size(), "");
          Device device;
          ASSERT_TRUE(device.load(broken));
          uint64_t in = device.upload(bytes), out = device.upload(std::vector<float>(64 * n));
          device.run({1, 1, 1}, {128, 1, 1}, in, out);
          EXPECT_TRUE(device.found(kind) || device.memory.firstUndefined(out, 256 * n) < 256 * n) << remove << "\n"
                                                                                                  << device.findings();
        };
        fails("fence.proxy.async;", FindingKind::ProxyFence);
        fails("wgmma.fence.sync.aligned;", FindingKind::Race);
        fails("wgmma.wait_group.sync.aligned 0;", FindingKind::Undefined);
      }
    }
  }
}

TEST(Async, WaitGroupOneFreesTheOlderAccumulatorsOnly) {
  // Two wgmma in groups of their own; behind wait_group 1 the first set may be stored and moved, the second only moved.
  const struct {
    const char *before, *stored;
    bool right, defined;
  } cases[] = {{"", "{%f0, %f1, %f2, %f3}", true, true},
               {"", "{%f4, %f5, %f6, %f7}", false, false},
               {"mov.f32 %f0, %f4;", "{%f0, %f0, %f0, %f0}", true, false},
               {"add.f32 %f0, %f4, %f4;", "{%f1, %f1, %f1, %f1}", false, true}};
  for (const auto &[before, stored, right, defined] : cases) {
    std::string text = kernel(".param .u64 out", R"(
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
  fence.proxy.async;
  bar.sync 0;
  shr.u32 %r6, %r2, 4;
  cvt.u64.u32 %rd6, %r6;
  or.b64 %rd6, %rd6, 68727865344;
  wgmma.fence.sync.aligned;
  wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %rd6, %rd6, 0, 1, 1, 0, 0;
  wgmma.commit_group.sync.aligned;
  wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f4, %f5, %f6, %f7}, %rd6, %rd6, 0, 1, 1, 0, 0;
  wgmma.commit_group.sync.aligned;
  wgmma.wait_group.sync.aligned 1;
  mul.wide.u32 %rd8, %r1, 16;
  add.u64 %rd3, %rd3, %rd8;
  )" + std::string(before) + "\nst.global.v4.f32 [%rd3], " +
                                                     stored + ";\n  ret;");
    for (Timing timing : timings) {
      Device device;
      ASSERT_TRUE(device.load(text));
      device.options.timing = timing;
      uint64_t out = device.upload(std::vector<uint32_t>(512));
      ASSERT_EQ(device.run({1, 1, 1}, {128, 1, 1}, out), LaunchError::None) << device.findings();
      EXPECT_EQ(device.found(FindingKind::Race), !right) << before << stored << device.findings();
      EXPECT_EQ(device.findings().empty(), right) << device.findings();
      EXPECT_EQ(device.memory.firstUndefined(out, 2048), defined ? 2048U : 0U) << before << stored;
    }
  }
}
