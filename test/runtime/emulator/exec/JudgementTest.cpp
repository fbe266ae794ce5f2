//===- JudgementTest.cpp - Each finding: found when wrong, silent when right ===//
//
// Small kernels in two versions: a right one, which must give no finding in any
// mode, and one with its synchronisation weakened, which must give the finding
// whatever the timing.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/RightAndWrong.h"

using namespace moert::emulator;
using namespace moert::emulator::testing;

namespace {
// Thread i stores to shared word i, and reads word (i + 33) mod 64 behind a barrier.
const char *neighbour = R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>;
  .shared .align 4 .b8 s[256];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  shl.b32 %r2, %r1, 2;
  mov.u32 %r3, s;
  add.u32 %r4, %r3, %r2;
  st.shared.u32 [%r4], %r1;
  bar.sync 0;
  add.u32 %r5, %r1, 33;
  and.b32 %r5, %r5, 63;
  shl.b32 %r5, %r5, 2;
  add.u32 %r5, %r3, %r5;
  ld.shared.u32 %r6, [%r5];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r6;
  ret;
)";
} // namespace

TEST(Judgement, SharedRaceWithoutBarrier) {
  rightAndWrong(kernel(".param .u64 out", neighbour), "bar.sync 0;", FindingKind::Race, {1, 1, 1}, {64, 1, 1});
}

TEST(Judgement, NamedBarrierOfTooFewThreads) {
  std::string right = kernel(".param .u64 out", neighbour);
  right.replace(right.find("bar.sync 0;"), 11, "bar.sync 1, 64;");
  rightAndWrong(right, "bar.sync 1, 64;", FindingKind::Race, {1, 1, 1}, {64, 1, 1}, "bar.sync 1, 32;");
}

TEST(Judgement, WarpSync) {
  rightAndWrong(kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>;
  .shared .align 4 .b8 s[128];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  shl.b32 %r2, %r1, 2;
  mov.u32 %r3, s;
  add.u32 %r4, %r3, %r2;
  st.shared.u32 [%r4], %r1;
  bar.warp.sync 0xffffffff;
  xor.b32 %r5, %r2, 4;
  add.u32 %r5, %r3, %r5;
  ld.shared.u32 %r6, [%r5];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r6;
  ret;)"),
                "bar.warp.sync 0xffffffff;", FindingKind::Race, {1, 1, 1}, {32, 1, 1});
}

// The last of the blocks to count itself reads what all the others wrote.
const char *lastBlock = R"(
  .reg .b32 %r<12>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 4 .b8 last[4];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %tid.x;
  mov.u32 %r3, %ntid.x;
  mad.lo.u32 %r4, %r1, %r3, %r2;
  add.u32 %r4, %r4, 64;
  mul.wide.u32 %rd2, %r4, 4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r4;
  bar.sync 0;
  setp.ne.u32 %p1, %r2, 0;
  @%p1 bra WAIT;
  membar.gl;
  atom.global.add.u32 %r5, [%rd1], 1;
  membar.gl;
  st.shared.u32 [last], %r5;
WAIT:
  bar.sync 0;
  ld.shared.u32 %r6, [last];
  mov.u32 %r7, %nctaid.x;
  sub.u32 %r7, %r7, 1;
  setp.ne.u32 %p2, %r6, %r7;
  @%p2 bra DONE;
  mul.wide.u32 %rd4, %r2, 4;
  add.u64 %rd5, %rd1, %rd4;
  ld.global.u32 %r8, [%rd5+256];
  ld.global.u32 %r9, [%rd5+512];
  add.u32 %r8, %r8, %r9;
  st.global.u32 [%rd5+4096], %r8;
DONE:
  ret;
)";

TEST(Judgement, LastBlockFence) {
  // Blocks of 64 threads; the counter is word 0 of the output.
  rightAndWrong(kernel(".param .u64 out", lastBlock), "membar.gl;", FindingKind::Race, {4, 1, 1}, {64, 1, 1});
}

TEST(Judgement, LastBlockAcquireFence) {
  std::string right = kernel(".param .u64 out", lastBlock);
  size_t first = right.find("membar.gl;"), second = right.find("membar.gl;", first + 1);
  std::string marked = right;
  marked.replace(second, 10, "membar.gl ;");
  rightAndWrong(marked, "membar.gl ;", FindingKind::Race, {4, 1, 1}, {64, 1, 1});
}

TEST(Judgement, LastBlockScope) {
  rightAndWrong(kernel(".param .u64 out", lastBlock), "membar.gl;", FindingKind::Race, {4, 1, 1}, {64, 1, 1},
                "membar.cta;");
}

TEST(Judgement, ReleaseAcquire) {
  const std::string body = R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %ctaid.x;
  setp.eq.u32 %p1, %r1, 1;
  @%p1 bra READ;
  st.global.u32 [%rd1+64], 5;
  st.release.gpu.global.u32 [%rd1], 77;
  bra DONE;
READ:
  ld.acquire.gpu.global.u32 %r2, [%rd1];
  setp.ne.u32 %p2, %r2, 77;
  @%p2 bra READ;
  ld.global.u32 %r3, [%rd1+64];
  st.global.u32 [%rd1+128], %r3;
DONE:
  ret;)";
  std::string right = kernel(".param .u64 out", body);
  rightAndWrong(right, "st.release.gpu", FindingKind::Race, {2, 1, 1}, {1, 1, 1}, "st.relaxed.gpu");
  rightAndWrong(right, "ld.acquire.gpu", FindingKind::Race, {2, 1, 1}, {1, 1, 1}, "ld.relaxed.gpu");
  rightAndWrong(right, "ld.acquire.gpu", FindingKind::Race, {2, 1, 1}, {1, 1, 1}, "ld.acquire.cta");
}

TEST(Judgement, OutOfBoundsMisalignedUndefined) {
  auto one = [](const std::string &body, FindingKind kind) {
    std::string text = kernel(".param .u64 out", ".reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>;"
                                                 ".shared .align 4 .b8 s[64];\nld.param.u64 %rd1, [out];\n" +
                                                     body + "\nret;");
    FindingKind wanted = kind;
    return findingsOf(text, {1, 1, 1}, {32, 1, 1}, 64, &wanted);
  };
  EXPECT_NE(one("st.global.u32 [%rd1+256], 1;", FindingKind::OutOfBounds).find("0 bytes past the end of allocation"),
            std::string::npos);
  EXPECT_NE(one("ld.global.u32 %r1, [%rd1+-4];", FindingKind::OutOfBounds).find("4 bytes before allocation"),
            std::string::npos);
  EXPECT_NE(one("ld.shared.u32 %r1, [s+64];", FindingKind::OutOfBounds).find("64 bytes of shared memory"),
            std::string::npos);
  EXPECT_NE(one("ld.global.u32 %r1, [%rd1+2];", FindingKind::Misaligned).find("is no multiple of 4"),
            std::string::npos);
  EXPECT_NE(one("ld.shared.u32 %r1, [s]; setp.eq.u32 %p1, %r1, 0; @%p1 ret;", FindingKind::Undefined)
                .find("undefined bits decide whether"),
            std::string::npos);
  EXPECT_NE(one("cvt.u64.u32 %rd2, %r5; add.u64 %rd2, %rd1, %rd2; and.b64 %rd2, %rd1, %rd2;\n"
                "ld.global.u32 %r1, [%rd2];",
                FindingKind::Undefined)
                .find("undefined bits decide an address"),
            std::string::npos);
}

// Compilers flatten `a || b` and evaluate both sides: a side that decides alone leaves nothing to an undefined one.
// Wrong: it does not decide.
TEST(Judgement, OneSideDecides) {
  auto decides = [](const std::string &logic) {
    rightAndWrong(kernel(".param .u64 out", R"(
  .reg .b16 %h<8>; .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<8>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  setp.lt.u32 %p1, %r5, 5;
  setp.ge.u32 %p2, %r1, 0;
  setp.lt.u32 %p3, %r1, 0;
  )" + logic + R"(
  @%p4 st.global.u32 [%rd1], 1;
  ret;)"),
                  "setp.ge.u32 %p2, %r1, 0;\n  setp.lt.u32 %p3, %r1, 0;", FindingKind::Undefined, {1}, {32},
                  "setp.lt.u32 %p2, %r1, 0;\n  setp.ge.u32 %p3, %r1, 0;");
  };
  decides("or.pred %p4, %p1, %p2;");
  decides("or.pred %p4, %p2, %p1;");
  decides("and.pred %p4, %p1, %p3;");
  decides("and.pred %p1, %p3, %p1; mov.pred %p4, %p1;");
  decides("setp.lt.or.u32 %p4, %r5, 5, %p2;");
  decides("setp.lt.and.u32 %p4, %r5, 5, %p3;");
  decides("setp.ge.or.u32 %p4, %r1, 0, %p1; @!%p2 mov.pred %p4, %p1;");
  decides("setp.lt.or.u32 %p5|%p4, %r1, 0, %p1; @!%p2 mov.pred %p4, %p1;");
  decides("selp.b32 %r2, 0, -1, %p3; not.b32 %r2, %r2; and.b32 %r2, %r2, %r5; setp.eq.u32 %p4, %r2, 1;");
  decides("selp.b32 %r2, -1, 0, %p2; or.b32 %r2, %r5, %r2; setp.eq.u32 %p4, %r2, 1;");
  decides("selp.b16 %h2, -1, 0, %p3; and.b16 %h2, %h5, %h2; setp.eq.u16 %p4, %h2, 1;");
  decides("selp.b64 %rd2, -1, 0, %p3; and.b64 %rd2, %rd2, %rd5; setp.eq.u64 %p4, %rd2, 1;");
}

TEST(Judgement, LongNamesAreShort) {
  EXPECT_EQ(shortName("_Z6kernelPf"), "_Z6kernelPf");
  const std::string name = shortName("_Z6kernelIJ" + std::string(120, 'i') + "EEvPf"); // <int, int, ...>
  EXPECT_EQ(name.size(), 100U);
  EXPECT_EQ(name.rfind("kernel<int, int, ", 0), 0U) << name;
  EXPECT_EQ(name.substr(97), "...");
  EXPECT_EQ(shortName(std::string(120, 'k')), std::string(97, 'k') + "...");
}

TEST(Judgement, HostAddressesFault) {
  Device device;
  uint64_t address = device.upload(std::vector<uint32_t>{1});
  EXPECT_DEATH({ *reinterpret_cast<volatile uint32_t *>(address) = 1; }, "");
}

TEST(Judgement, AlignedBarrierUnderDivergence) {
  rightAndWrong(kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .pred %p<4>;
  mov.u32 %r1, %tid.x;
  setp.lt.u32 %p1, %r1, 16;
  @%p1 bra A;
A:
  barrier.sync.aligned 0;
  ret;)"),
                "barrier.sync.aligned 0;", FindingKind::Divergence, {1, 1, 1}, {32, 1, 1},
                "@%p1 barrier.sync.aligned 0;");
}

TEST(Judgement, Deadlock) {
  FindingKind kind = FindingKind::Deadlock;
  std::string found = findingsOf(kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .pred %p<4>;
  mov.u32 %r1, %tid.x;
  setp.lt.u32 %p1, %r1, 32;
  @%p1 bra SKIP;
  bar.sync 1, 96;
SKIP:
  ret;)"),
                                 {1, 1, 1}, {64, 1, 1}, 4, &kind);
  EXPECT_NE(found.find("warp 1 lanes 0xffffffff at line 12"), std::string::npos) << found;
}

TEST(Judgement, ExitedWarpsAtABarrierAreNone) {
  EXPECT_EQ(findingsOf(kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .pred %p<4>;
  mov.u32 %r1, %tid.x;
  setp.lt.u32 %p1, %r1, 40;
  @%p1 exit;
  bar.sync 0;
  ret;)"),
                       {1, 1, 1}, {128, 1, 1}, 4),
            "");
}

TEST(Judgement, EqualValueWritesAreANote) {
  Device device;
  ASSERT_TRUE(device.load(kernel(".param .u64 out", R"(
  .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [out];
  st.global.u32 [%rd1], 7;
  ret;)")));
  uint64_t out = device.upload(std::vector<uint32_t>{1});
  EXPECT_EQ(device.run({1, 1, 1}, {64, 1, 1}, out), LaunchError::None);
  EXPECT_EQ(device.findings(), "");
  ASSERT_EQ(device.sink.findings().size(), 1U);
  EXPECT_NE(device.sink.findings()[0].text().find("note: race"), std::string::npos);
}

TEST(Judgement, EqualValueWritesOfLanesThatRunApart) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Device device;
    ASSERT_TRUE(device.load(kernel(".param .u64 out", R"(
  .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [out];
  st.global.u32 [%rd1], 7;
  st.global.u32 [%rd1+4], 9;
  ret;)")));
    device.options.timing = Timing::Random;
    device.options.seed = seed;
    device.options.delayLanes = true;
    EXPECT_EQ(device.run({1, 1, 1}, {32, 1, 1}, device.upload(std::vector<uint32_t>(2))), LaunchError::None);
    EXPECT_EQ(device.findings(), "");
  }
}

TEST(Judgement, EqualBytesOfBulkCopiesAreANote) {
  // Two lanes copy 16 bytes each from shared memory to one place, as Triton does when two partitions own one tile.
  for (bool same : {true, false}) {
    const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<4>;
  .shared .align 16 .b8 s[32];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  shl.b32 %r2, %r1, 4;
  mov.u32 %r3, s;
  add.u32 %r3, %r3, %r2;
  )" + std::string(same ? "mov.u32 %r4, 5;" : "add.u32 %r4, %r1, 5;") +
                                                           R"(
  st.shared.v4.u32 [%r3], {%r4, 1, 2, 3};
  fence.proxy.async.shared::cta;
  cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r3], 16;
  cp.async.bulk.commit_group;
  cp.async.bulk.wait_group 0;
  ret;)");
    for (const Modes &mode : modes) {
      Device device;
      ASSERT_TRUE(device.load(text));
      device.options.timing = mode.timing;
      device.options.seed = mode.seed;
      device.options.delayLanes = mode.delay;
      EXPECT_EQ(device.run({1, 1, 1}, {2, 1, 1}, device.upload(std::vector<uint32_t>(4))), LaunchError::None);
      EXPECT_EQ(device.found(FindingKind::Race), !same) << device.findings();
      EXPECT_FALSE(device.sink.findings().empty());
    }
  }
}

// Every thread counts itself in shared memory; the last one reads the count plainly, behind a barrier.
TEST(Judgement, PlainReadBesideAtomics) {
  const char *text = R"(
  .reg .pred %p<3>; .reg .b32 %r<8>; .reg .b64 %rd<8>;
  .shared .align 4 .b8 s[4];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r3, s;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra BEGIN;
  mov.u32 %r2, 0;
  st.shared.u32 [%r3], %r2;
BEGIN:
  bar.sync 0;
  atom.shared.add.u32 %r4, [%r3], 1;
  bar.sync 0; // all have counted
  setp.ne.u32 %p2, %r1, 95;
  @%p2 bra DONE;
  ld.shared.u32 %r5, [%r3];
  st.global.u32 [%rd1], %r5;
DONE:
  ret;
)";
  rightAndWrong(kernel(".param .u64 out", text), "bar.sync 0; // all have counted", FindingKind::Race, {1}, {96});
}

// All lanes read a word, meet, and then read and write words of their own, one of which it is.
TEST(Judgement, ReadsOfOneWordBeforeAndBehindAWarpBarrier) {
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd2, %rd1, %rd2;
  ld.global.u32 %r2, [%rd1+4];
  bar.warp.sync 0xffffffff;
  ld.global.u32 %r3, [%rd2];
  add.u32 %r4, %r2, %r3;
  st.global.u32 [%rd2], %r4;
  ret;
)");
  rightAndWrong(text, "bar.warp.sync 0xffffffff;", FindingKind::Race, {1}, {32});
}

// The largest of all threads' numbers, by compare-and-swap on a word that is read plainly first. Threads that see a
// larger one do not swap.
TEST(Judgement, FirstGuessOfCompareAndSwapIsANote) {
  const char *text = R"(
  .reg .pred %p<3>; .reg .b32 %r<8>; .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ctaid.x;
  mad.lo.u32 %r1, %r2, 64, %r1;
  ld.global.u32 %r3, [%rd1];
AGAIN:
  setp.ge.u32 %p1, %r3, %r1;
  @%p1 bra DONE;
  mov.u32 %r4, %r3;
  atom.global.cas.b32 %r3, [%rd1], %r4, %r1;
  setp.ne.u32 %p2, %r3, %r4;
  @%p2 bra AGAIN;
DONE:
  ret;
)";
  EXPECT_EQ(findingsOf(kernel(".param .u64 out", text), {4}, {64}, 1), "");
  // One who only looks has guessed nothing.
  std::string looks = text;
  looks.replace(looks.find("DONE:\n  ret;"), 12, "DONE:\n  ld.global.u32 %r5, [%rd1];\n  ret;");
  FindingKind kind = FindingKind::Race;
  EXPECT_NE(findingsOf(kernel(".param .u64 out", looks), {4}, {64}, 1, &kind), "");
}

// Each thread copies 16 bytes to shared memory and reads its neighbour's.
const char *copies = R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>;
  .shared .align 16 .b8 s[1024];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd2, %r1, 16;
  add.u64 %rd3, %rd1, %rd2;
  shl.b32 %r2, %r1, 4;
  mov.u32 %r3, s;
  add.u32 %r4, %r3, %r2;
  cp.async.cg.shared.global [%r4], [%rd3], 16;
  cp.async.commit_group;
  cp.async.wait_group 0;
  bar.sync 0;
  xor.b32 %r5, %r4, 16;
  ld.shared.u32 %r6, [%r5];
  st.global.u32 [%rd3+4096], %r6;
  ret;
)";

TEST(Judgement, CopyAsyncWait) {
  rightAndWrong(kernel(".param .u64 out", copies), "cp.async.wait_group 0;", FindingKind::Race, {1, 1, 1}, {64, 1, 1},
                "cp.async.wait_group 1;");
  rightAndWrong(kernel(".param .u64 out", copies), "bar.sync 0;", FindingKind::Race, {1, 1, 1}, {64, 1, 1});
}

TEST(Judgement, CopyAsyncOfNothingFromAnywhere) {
  std::string text = kernel(".param .u64 out", copies);
  text.replace(text.find("[%rd3], 16;"), 11, "[16], 16, 0;");
  EXPECT_EQ(findingsOf(text, {1, 1, 1}, {64, 1, 1}, 4096), "");
}

TEST(Judgement, LanesThatSpinOnLanesOfTheirWarp) {
  // Lane 0 sets a flag that the other lanes wait for, in either order of the branch.
  EXPECT_EQ(findingsOf(kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  setp.eq.u32 %p1, %r1, 31;
  @%p1 bra SET;
SPIN:
  ld.volatile.global.u32 %r2, [%rd1];
  setp.ne.u32 %p2, %r2, 99;
  @%p2 bra SPIN;
  bra DONE;
SET:
  st.volatile.global.u32 [%rd1], 99;
DONE:
  ret;)"),
                       {1, 1, 1}, {32, 1, 1}, 4),
            "");
}

TEST(Judgement, RacesBetweenLaunches) {
  Device device;
  ASSERT_TRUE(device.load(kernel(".param .u64 out", R"(
  .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [out];
  st.global.u32 [%rd1], 3;
  ret;)")));
  uint64_t out = device.upload(std::vector<uint32_t>{9});
  Clock start = device.config.before;
  device.run({1, 1, 1}, {1, 1, 1}, out);
  Clock after = device.config.before;
  device.run({1, 1, 1}, {1, 1, 1}, out);
  EXPECT_EQ(device.findings(), "");
  // A host copy that waited for nothing, then one that waited.
  Command wrong = device.memory.begin(start, "memcpy");
  device.memory.read(wrong, out, 4, device.sink);
  EXPECT_TRUE(device.found(FindingKind::Race)) << device.findings();
  device.sink.clear();
  Command right = device.memory.begin(device.config.before, "memcpy");
  device.memory.read(right, out, 4, device.sink);
  EXPECT_EQ(device.findings(), "");
  // A third launch that is ordered behind the first only.
  device.config.before = after;
  *device.memory.bytes(out, 4) = 5;
  device.run({1, 1, 1}, {1, 1, 1}, out);
  EXPECT_TRUE(device.found(FindingKind::Race));
}
