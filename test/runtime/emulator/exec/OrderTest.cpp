//===- OrderTest.cpp - Races that the order of execution must not hide -----===//
//
// Strong writes need no order among each other: what a run executes last must
// not cover what it has executed before. Stores of several lanes by one
// instruction, and data that cp.async has written for the asynchronous proxy.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/RightAndWrong.h"

using namespace moert::emulator;
using namespace moert::emulator::testing;

// Every block adds to a word that the host has cleared. Wrong: block 0 clears it, before its own addition.
TEST(Order, APlainWriteUnderAtomics) {
  const std::string right = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %ctaid.x;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra ADD;
  // here
ADD:
  red.global.add.u32 [%rd1], 1;
  ret;)");
  rightAndWrong(right, "// here", FindingKind::Race, {4}, {1}, "st.global.u32 [%rd1], 0;");
  rightAndWrong(right, "// here", FindingKind::Race, {4}, {1},
                "ld.global.u32 %r2, [%rd1]; st.global.u32 [%rd1+64], %r2;");
}

// The same in shared memory: thread 0 clears a word to which all threads add behind a barrier.
TEST(Order, APlainWriteUnderAtomicsOfItsBlock) {
  rightAndWrong(kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .pred %p<4>;
  .shared .align 4 .b8 s[4];
  mov.u32 %r1, %tid.x;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra ADD;
  st.shared.u32 [s], 0;
ADD:
  bar.sync 0;
  atom.shared.add.u32 %r2, [s], 1;
  ret;)"),
                "bar.sync 0;", FindingKind::Race, {1}, {64});
}

// Warps 0 and 1 count, warp 2 reads the count behind a barrier of all. Wrong: the barrier is of warps 1 and 2 alone,
// and orders nothing behind warp 0, which counts on either side of warp 1.
TEST(Order, AnAtomicUnderAtomics) {
  rightAndWrong(kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 4 .b8 s[4];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  setp.ne.u32 %p1, %r1, 95;
  @!%p1 st.shared.u32 [s], 0;
  bar.sync 0;
  setp.ge.u32 %p2, %r1, 64;
  setp.lt.u32 %p3, %r1, 32;
  @!%p2 atom.shared.add.u32 %r2, [s], 1;
  mov.u32 %r4, 96;
  @%p3 bra FIRST;
  barrier.sync 1, %r4;
  ld.shared.u32 %r3, [s];
  @!%p1 st.global.u32 [%rd1], %r3;
  bra END;
FIRST:
  barrier.arrive 1, %r4;
END:
  bar.sync 0;
  ret;)"),
                "mov.u32 %r4, 96;\n  @%p3 bra FIRST;", FindingKind::Race, {1}, {96},
                "mov.u32 %r4, 64;\n  @%p3 bra END;");
}

// All lanes of a warp store to one word at once: one value stays. Two warps, or two instructions, race.
TEST(Order, LanesOfOneStore) {
  const std::string right = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  st.global.u32 [%rd1], %r1;
  // here
  ret;)");
  rightAndWrong(right, "// here", FindingKind::Race, {1}, {32}, "st.global.u32 [%rd1], %r1;");
  FindingKind kind = FindingKind::Race;
  EXPECT_NE(findingsOf(right, {1}, {64}, 4, &kind), "");
  EXPECT_NE(findingsOf(right, {2}, {32}, 4, &kind), "");
}

// One store in a loop, whose lanes write to the words of others the second time.
TEST(Order, LanesOfOneStoreInALoop) {
  Device device;
  ASSERT_TRUE(device.load(kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, 0;
AGAIN:
  xor.b32 %r3, %r1, %r2;
  mul.wide.u32 %rd2, %r3, 4;
  add.u64 %rd2, %rd1, %rd2;
  st.global.u32 [%rd2], %r1;
  add.u32 %r2, %r2, 1;
  setp.lt.u32 %p1, %r2, 2;
  @%p1 bra AGAIN;
  ret;)")));
  EXPECT_EQ(device.run({1}, {32}, device.upload(std::vector<uint32_t>(32))), LaunchError::None);
  EXPECT_TRUE(device.found(FindingKind::Race)) << device.findings();
}

// Two lanes of a warp read a word, at different times; the others arrive at an mbarrier before the second does. Who
// waits for all of them may write. Wrong: it does not wait.
TEST(Order, LanesThatReadAtDifferentTimes) {
  rightAndWrong(kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<8>;
  .shared .align 8 .b8 bar[8];
  .shared .align 4 .b8 s[8];
  mov.u32 %r1, %tid.x;
  setp.ne.u32 %p1, %r1, 32;
  @%p1 bra READY;
  mbarrier.init.shared.b64 [bar], 32;
  st.shared.u32 [s], 0;
  st.shared.u32 [s+4], 0;
READY:
  bar.sync 0;
  setp.gt.u32 %p2, %r1, 32;
  @%p2 bra END;
  @!%p1 bra WRITE;
  setp.eq.u32 %p3, %r1, 0;
  @%p3 bra FIRST;
  setp.eq.u32 %p4, %r1, 1;
  @%p4 bra LATE;
  mbarrier.arrive.shared.b64 %rd1, [bar];
  st.volatile.shared.u32 [s+4], 1;
  bra END;
FIRST:
  ld.shared.u32 %r2, [s];
  mbarrier.arrive.shared.b64 %rd1, [bar];
  bra END;
LATE:
  ld.volatile.shared.u32 %r3, [s+4];
  setp.eq.u32 %p5, %r3, 0;
  @%p5 bra LATE;
  ld.shared.u32 %r2, [s];
  mbarrier.arrive.shared.b64 %rd1, [bar];
  bra END;
WRITE:
  mbarrier.test_wait.parity.shared.b64 %p6, [bar], 0;
  @!%p6 bra WRITE;
  st.shared.u32 [s], 1;
END:
  ret;)"),
                "mbarrier.test_wait.parity.shared.b64 %p6, [bar], 0;\n  @!%p6 bra WRITE;", FindingKind::Race, {1},
                {64});
}

// Two warps, or two blocks, store the same to the same words, each a value per lane. Wrong: values of their own.
TEST(Order, EqualValuesOfWholeWarps) {
  const std::string right = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r4, %ctaid.x;
  and.b32 %r2, %r1, 31;
  mul.wide.u32 %rd2, %r2, 4;
  add.u64 %rd2, %rd1, %rd2;
  mad.lo.u32 %r3, %r2, 3, 77;
  // here
  st.global.u32 [%rd2], %r3;
  ret;)");
  rightAndWrong(right, "// here", FindingKind::Race, {1}, {64}, "add.u32 %r3, %r3, %r1;");
  rightAndWrong(right, "// here", FindingKind::Race, {2}, {32}, "add.u32 %r3, %r3, %r4;");
}

// cp.async writes through the generic proxy; a bulk copy reads through the asynchronous one.
TEST(Order, CopiedDataNeedAProxyFence) {
  const std::string right = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 16 .b8 s[1024];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  setp.ne.u32 %p1, %r1, 63;
  mul.wide.u32 %rd2, %r1, 16;
  add.u64 %rd3, %rd1, %rd2;
  shl.b32 %r2, %r1, 4;
  mov.u32 %r3, s;
  add.u32 %r4, %r3, %r2;
  cp.async.cg.shared.global [%r4], [%rd3], 16;
  cp.async.commit_group;
  // before the wait
  cp.async.wait_group 0;
  fence.proxy.async;
  bar.sync 0;
  @%p1 bra DONE;
  // behind the barrier
  cp.async.bulk.global.shared::cta.bulk_group [%rd1+4096], [%r3], 1024;
  cp.async.bulk.commit_group;
  cp.async.bulk.wait_group 0;
DONE:
  ret;)");
  auto without = [](std::string text, const char *where) {
    text.replace(text.find("  fence.proxy.async;"), 20, "");
    const std::string line = where;
    text.replace(text.find(line), line.size(), "fence.proxy.async;");
    return text;
  };
  rightAndWrong(right, "fence.proxy.async;", FindingKind::ProxyFence, {1}, {64});
  EXPECT_EQ(findingsOf(without(right, "// behind the barrier"), {1}, {64}, 4096), "");
  FindingKind kind = FindingKind::ProxyFence;
  EXPECT_NE(findingsOf(without(right, "// before the wait"), {1}, {64}, 4096, &kind), "");
  // Compilers leave it out: said once, as a note, where not all fences are asked for.
  Device usual;
  ASSERT_TRUE(usual.load(without(right, "// before the wait")));
  EXPECT_EQ(usual.run({1}, {64}, usual.upload(std::vector<uint32_t>(4096))), LaunchError::None);
  EXPECT_EQ(usual.findings(), "");
  ASSERT_EQ(usual.sink.findings().size(), 1U);
  EXPECT_EQ(usual.sink.findings()[0].kind, FindingKind::ProxyFence);
  // What a thread has stored itself needs the fence in any mode.
  std::string stores = right;
  stores.replace(stores.find("fence.proxy.async;"), 18, "");
  stores.replace(stores.find("cp.async.cg.shared.global [%r4], [%rd3], 16;"), 44, "st.shared.u32 [%r4], %r1;");
  Device plain;
  ASSERT_TRUE(plain.load(stores));
  EXPECT_EQ(plain.run({1}, {64}, plain.upload(std::vector<uint32_t>(4096))), LaunchError::None);
  EXPECT_TRUE(plain.found(FindingKind::ProxyFence));
}

// All lanes of a warp issue one bulk store of the same bytes, each waits for its own and arrives; another warp refills.
TEST(Order, AllLanesIssueOneBulkStore) {
  const std::string right = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 128 .b8 s[256];
  .shared .align 8 .b64 empty;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, s;
  mov.u32 %r3, empty;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra READY;
  mbarrier.init.shared.b64 [%r3], 32;
READY:
  and.b32 %r4, %r1, 31;
  shl.b32 %r4, %r4, 3;
  add.u32 %r4, %r2, %r4;
  setp.lt.u32 %p2, %r1, 32;
  @%p2 st.shared.v2.u32 [%r4], {%r1, %r1};
  fence.proxy.async;
  bar.sync 0;
  @%p2 bra REFILL;
  cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 256;
  cp.async.bulk.commit_group;
  cp.async.bulk.wait_group.read 0;
  mbarrier.arrive.shared.b64 _, [%r3];
  cp.async.bulk.wait_group 0;
  ret;
REFILL:
  mbarrier.try_wait.parity.shared.b64 %p3, [%r3], 0;
  @!%p3 bra REFILL;
  st.shared.v2.u32 [%r4], {%r2, %r2};
  ret;)");
  rightAndWrong(right, "cp.async.bulk.wait_group.read 0;", FindingKind::Race, {1}, {64});
}
