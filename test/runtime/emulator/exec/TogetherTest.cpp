//===- TogetherTest.cpp - What lanes and warps may leave to each other -----===//
//
// Idioms of libraries in which one thread acts for others: a thread that frees a
// buffer for its warpgroup (CUTLASS), a lane that acquires for its warp and tells
// by a shuffle, the system's part of shared memory (both of Cooperative Groups),
// a lock that every lane of a warp takes, a flag that one thread sets behind the
// fences of all. Each beside the fault it is nearest.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"

using namespace moert::emulator;
using namespace moert::emulator::testing;

namespace {

std::string without(std::string text, const std::string &part, const std::string &instead = "") {
  size_t at = text.find(part);
  EXPECT_NE(at, std::string::npos) << part;
  return text.replace(at, part.size(), instead);
}

struct Outcome {
  std::string findings;
  std::vector<uint32_t> out;
};

/// Runs `text` in one mode on `count` words that are 0 before.
Outcome outcome(const std::string &text, Dim3 grid, Dim3 block, unsigned count, Timing timing, uint64_t seed,
                bool delay) {
  Device device;
  device.options.timing = timing;
  device.options.seed = seed;
  device.options.delayLanes = delay;
  device.options.stepLimit = 4000000;
  if (!device.load(text)) {
    return {"does not load", {}};
  }
  uint64_t out = device.upload(std::vector<uint32_t>(count));
  device.run(grid, block, out);
  return {device.findings(), device.download<uint32_t>(out, count)};
}

/// No finding, and `out` as expected, in every mode, with lanes delayed or not.
void right(const std::string &text, Dim3 grid, Dim3 block, const std::vector<uint32_t> &expected,
           const std::vector<bool> &delays = {false, true}) {
  for (Timing timing : {Timing::Late, Timing::Early, Timing::Random}) {
    for (uint64_t seed = 0; seed < (timing == Timing::Random ? 6 : 1); ++seed) {
      for (bool delay : delays) {
        Outcome got = outcome(text, grid, block, unsigned(expected.size()), timing, seed, delay);
        EXPECT_EQ(got.findings, "");
        EXPECT_EQ(got.out, expected);
      }
    }
  }
}

/// Some mode finds a race.
void races(const std::string &text, Dim3 grid, Dim3 block, unsigned count) {
  std::string all;
  for (Timing timing : {Timing::Late, Timing::Early, Timing::Random}) {
    all += outcome(text, grid, block, count, timing, 1, false).findings;
  }
  EXPECT_NE(all.find("race:"), std::string::npos) << all;
}

// A warpgroup multiplies a 64 x 16 tile of ones with an 8 x 16 tile of twos, thread 5 says for all that the tiles were
// read, and a fifth warp overwrites them.
const char *freeing = R"(
  .reg .b32 %r<12>; .reg .b64 %rd<8>; .reg .f32 %f<8>; .reg .pred %p<8>;
  .shared .align 128 .b8 tiles[2304];
  .shared .align 8 .b64 bar;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, tiles;
  shl.b32 %r3, %r1, 2;
  add.u32 %r3, %r3, %r2;
  mov.u32 %r5, 0x3F803F80;
  setp.ge.u32 %p1, %r1, 128;
  @%p1 bra START;
  st.shared.u32 [%r3], %r5;
  st.shared.u32 [%r3+512], %r5;
  st.shared.u32 [%r3+1024], %r5;
  st.shared.u32 [%r3+1536], %r5;
  setp.ge.u32 %p2, %r1, 64;
  @%p2 bra START;
  st.shared.u32 [%r3+2048], 0x40004000;
START:
  fence.proxy.async.shared::cta;
  setp.ne.u32 %p3, %r1, 0;
  @%p3 bra READY;
  mbarrier.init.shared::cta.b64 [bar], 1;
READY:
  bar.sync 0;
  @%p1 bra NEXT;
  mov.f32 %f1, 0f00000000;
  mov.f32 %f2, 0f00000000;
  mov.f32 %f3, 0f00000000;
  mov.f32 %f4, 0f00000000;
  shr.u32 %r6, %r2, 4;
  cvt.u64.u32 %rd2, %r6;
  add.u64 %rd3, %rd2, 128;
  or.b64 %rd2, %rd2, 0x0000001000080000;
  or.b64 %rd3, %rd3, 0x0000001000080000;
  wgmma.fence.sync.aligned;
  wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1, %f2, %f3, %f4}, %rd2, %rd3, 1, 1, 1, 0, 0;
  wgmma.commit_group.sync.aligned;
  wgmma.wait_group.sync.aligned 0;
  setp.ne.u32 %p4, %r1, 5;
  @%p4 bra STORE;
  mbarrier.arrive.shared::cta.b64 _, [bar];
STORE:
  add.f32 %f1, %f1, %f2;
  add.f32 %f1, %f1, %f3;
  add.f32 %f1, %f1, %f4;
  cvt.rzi.u32.f32 %r7, %f1;
  mul.wide.u32 %rd4, %r1, 4;
  add.u64 %rd4, %rd1, %rd4;
  st.global.u32 [%rd4], %r7;
  ret;
NEXT:
  mbarrier.try_wait.parity.shared::cta.b64 %p5, [bar], 0;
  @!%p5 bra NEXT;
  st.shared.u32 [%r3+-512], 0;
  st.shared.u32 [%r3+1024], 0;
  st.shared.u32 [%r3+1536], 0;
  ret;
)";

TEST(Together, OneThreadFreesWhatItsWarpgroupHasRead) {
  const std::string text = kernel(".param .u64 out", freeing);
  right(text, {1, 1, 1}, {160, 1, 1}, std::vector<uint32_t>(128, 4 * 32));
  // Too early: the wait comes behind the arrival.
  const std::string wait = "  wgmma.wait_group.sync.aligned 0;\n";
  races(without(without(text, wait), "STORE:\n", "STORE:\n" + wait), {1, 1, 1}, {160, 1, 1}, 128);
}

// Warp 1 fills a table and releases a flag; lane 0 of warp 0 acquires it and tells the others by a shuffle.
const char *telling = R"(
  .reg .b32 %r<12>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 4 .b8 table[128];
  .shared .align 4 .b8 flag[4];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, 0;
  st.shared.u32 [flag], %r2;
  bar.sync 0;
  mov.u32 %r3, table;
  and.b32 %r4, %r1, 31;
  shl.b32 %r5, %r4, 2;
  add.u32 %r3, %r3, %r5;
  setp.lt.u32 %p1, %r1, 32;
  @%p1 bra READ;
  st.shared.u32 [%r3], %r1;
  bar.warp.sync -1;
  setp.ne.u32 %p2, %r4, 0;
  @%p2 bra DONE;
  atom.release.cta.shared.exch.b32 %r6, [flag], 1;
  bra DONE;
READ:
  setp.ne.u32 %p2, %r4, 0;
  @%p2 bra TOLD;
ASK:
  ld.acquire.cta.shared.u32 %r6, [flag];
  setp.eq.u32 %p3, %r6, 0;
  @%p3 bra ASK;
TOLD:
  shfl.sync.idx.b32 %r7, %r6, 0, 31, -1;
  ld.shared.u32 %r8, [%r3];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd2, %rd1, %rd2;
  st.global.u32 [%rd2], %r8;
DONE:
  ret;
)";

TEST(Together, AShuffleTellsWhatItsSourceHasAcquired) {
  const std::string text = kernel(".param .u64 out", telling);
  std::vector<uint32_t> expected;
  for (uint32_t i = 0; i < 32; ++i) {
    expected.push_back(32 + i);
  }
  right(text, {1, 1, 1}, {64, 1, 1}, expected);
  // Nobody tells the other lanes.
  races(without(text, "shfl.sync.idx.b32 %r7, %r6, 0, 31, -1;"), {1, 1, 1}, {64, 1, 1}, 32);
  // What the source did itself is not acquired.
  races(kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .pred %p<2>;
  .shared .align 4 .b8 s[4];
  mov.u32 %r1, %tid.x;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra TOLD;
  st.shared.u32 [s], 7;
TOLD:
  shfl.sync.idx.b32 %r2, %r1, 0, 31, -1;
  ld.shared.u32 %r3, [s];
  ret;)"),
        {1, 1, 1}, {32, 1, 1}, 1);
}

// Each thread keeps a word in the system's part and a word in the kernel's own.
const char *reserved = R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>;
  .shared .align 4 .b8 own[256];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %reserved_smem_offset_1;
  shl.b32 %r3, %r1, 2;
  add.u32 %r4, %r2, %r3;
  mov.u32 %r5, own;
  add.u32 %r6, %r5, %r3;
  st.shared.u32 [%r4], %r1;
  st.shared.u32 [%r6], 1000;
  bar.sync 0;
  xor.b32 %r7, %r4, 4;
  ld.shared.u32 %r8, [%r7];
  ld.shared.u32 %r9, [%r6];
  add.u32 %r8, %r8, %r9;
  mov.u32 %r10, %reserved_smem_offset_begin;
  mov.u32 %r11, %reserved_smem_offset_end;
  sub.u32 %r11, %r11, %r10;
  mov.u32 %r12, %reserved_smem_offset_cap;
  sub.u32 %r11, %r11, %r12;
  add.u32 %r8, %r8, %r11;
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd2, %rd1, %rd2;
  st.global.u32 [%rd2], %r8;
  ret;
)";

TEST(Together, AShuffleShowsWhatItsSourceHasWritten) {
  // Cooperative Groups again: lane 0 sets a bit of a word, and its warp, told by a shuffle, reads the word with
  // acquire.
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<4>; .reg .pred %p<4>;
  .shared .align 4 .u32 word;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  setp.ne.u32 %p1, %r1, 0;
  @!%p1 st.volatile.shared.u32 [word], 0;
  bar.sync 0;
  @%p1 bra TOLD;
  atom.acq_rel.cta.shared.or.b32 %r2, [word], 1;
TOLD:
  shfl.sync.idx.b32 %r3, %r2, 0, 31, -1;
  ld.acquire.cta.shared.u32 %r4, [word];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd1, %rd1, %rd2;
  st.global.u32 [%rd1], %r4;
  ret;)");
  right(text, {1, 1, 1}, {32, 1, 1}, std::vector<uint32_t>(32, 1));
  bool old = false;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const std::string untold = without(text, "shfl.sync.idx.b32 %r3, %r2, 0, 31, -1;");
    Outcome got = outcome(untold, {1, 1, 1}, {32, 1, 1}, 32, Timing::Random, seed, false);
    old |= got.out != std::vector<uint32_t>(32, 1);
  }
  EXPECT_TRUE(old);
}

TEST(Together, TheSystemsPartOfSharedMemory) {
  const std::string text = kernel(".param .u64 out", reserved);
  std::vector<uint32_t> expected;
  for (uint32_t i = 0; i < 64; ++i) {
    expected.push_back(1000 + (i ^ 1));
  }
  right(text, {1, 1, 1}, {64, 1, 1}, expected);
  // The end of the kernel's own part is watched as before.
  Outcome got =
      outcome(without(text, "[%r6], 1000", "[%r6+4], 1000"), {1, 1, 1}, {64, 1, 1}, 64, Timing::Late, 0, false);
  EXPECT_NE(got.findings.find("out of bounds"), std::string::npos) << got.findings;
}

// Every lane takes the lock; who has it counts. Then all meet at barriers again.
const char *lock = R"(
  .reg .b32 %r<8>; .reg .b64 %rd<4>; .reg .pred %p<4>;
  ld.param.u64 %rd1, [out];
TAKE:
  atom.global.cas.b32 %r1, [%rd1], 0, 1;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra TAKE;
  fence.acq_rel.gpu;
  ld.global.u32 %r2, [%rd1+4];
  add.u32 %r2, %r2, 1;
  st.global.u32 [%rd1+4], %r2;
  fence.acq_rel.gpu;
  atom.global.exch.b32 %r3, [%rd1], 0;
  bar.sync 0;
  vote.sync.ballot.b32 %r4, 1, -1;
  popc.b32 %r4, %r4;
  red.global.add.u32 [%rd1+8], %r4;
  ret;
)";

TEST(Together, EveryLaneOfAWarpTakesOneLock) {
  const std::string text = kernel(".param .u64 out", lock);
  right(text, {2, 1, 1}, {32, 1, 1}, {0, 64, 64 * 32});
  races(without(text, "  fence.acq_rel.gpu;\n  atom.global.exch", "  atom.global.exch"), {2, 1, 1}, {32, 1, 1}, 3);
}

TEST(Together, EveryLaneOfAWarpTakesOneLockInAFunction) {
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out];
  { .param .b64 p0; st.param.b64 [p0], %rd1; call.uni acquire, (p0); }
  ld.volatile.global.u32 %r2, [%rd1+4];
  add.u32 %r2, %r2, 1;
  st.volatile.global.u32 [%rd1+4], %r2;
  { .param .b64 p0; st.param.b64 [p0], %rd1; call.uni leave, (p0); }
  bar.sync 0;
  ret;)",
                                  R"(
.func acquire(.param .b64 where)
{
  .reg .b32 %r<4>; .reg .b64 %rd<4>; .reg .pred %p<4>;
  ld.param.b64 %rd1, [where];
AGAIN:
  atom.global.cas.b32 %r1, [%rd1], 0, 1;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra AGAIN;
  membar.gl;
  ret;
}
.func leave(.param .b64 where)
{
  .reg .b32 %r<4>; .reg .b64 %rd<4>;
  ld.param.b64 %rd1, [where];
  membar.gl;
  atom.global.exch.b32 %r1, [%rd1], 0;
  ret;
})");
  right(text, {1, 1, 1}, {12, 1, 1}, {0, 12});
}

TEST(Together, LanesRunApartMeetAtABarrier) {
  // One warp, so that a turn in which lanes only come to where they meet is one in which nobody else goes on either.
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<4>; .reg .pred %p<4>;
  .shared .align 4 .b8 s[128];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd1, %rd1, %rd2;
  mov.u32 %r2, s;
  shl.b32 %r3, %r1, 2;
  add.u32 %r3, %r2, %r3;
  xor.b32 %r4, %r3, 4;
  mov.u32 %r5, 0;
AGAIN:
  ld.global.u32 %r6, [%rd1];
  add.u32 %r6, %r6, 1;
  st.global.u32 [%rd1], %r6;
  st.shared.u32 [%r3], %r6;
  bar.sync 0;
  ld.shared.u32 %r7, [%r4];
  st.global.u32 [%rd1], %r7;
  bar.sync 0;
  add.u32 %r5, %r5, 1;
  setp.lt.u32 %p1, %r5, 8;
  @%p1 bra AGAIN;
  ret;)");
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    Outcome got = outcome(text, {1, 1, 1}, {32, 1, 1}, 32, Timing::Random, seed, true);
    ASSERT_EQ(got.findings, "") << seed;
    EXPECT_EQ(got.out, std::vector<uint32_t>(32, 8));
  }
}

TEST(Together, LanesOfAWarpPassABaton) {
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<4>; .reg .pred %p<4>;
  .shared .align 4 .u32 turn;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra READY;
  st.volatile.shared.u32 [turn], 0;
READY:
  bar.sync 0;
WAIT:
  ld.volatile.shared.u32 %r2, [turn];
  setp.ne.u32 %p2, %r2, %r1;
  @%p2 bra WAIT;
  add.u32 %r3, %r1, 1;
  membar.cta;
  st.volatile.shared.u32 [turn], %r3;
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd2, %rd1, %rd2;
  st.global.u32 [%rd2], %r3;
  bar.sync 0;
  ret;)");
  std::vector<uint32_t> expected;
  for (uint32_t i = 0; i < 40; ++i) {
    expected.push_back(i + 1);
  }
  right(text, {1, 1, 1}, {40, 1, 1}, expected);
}

// Every thread of block 0 writes and executes fence.sc; behind a barrier one of them sets the flag. Block 1 waits for
// it, and copies what they wrote.
const char *fencesOfAll = R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  setp.ne.u32 %p1, %r1, 0;
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd2, %rd1, %rd2;
  mov.u32 %r2, %ctaid.x;
  setp.ne.u32 %p2, %r2, 0;
  @%p2 bra READ;
  add.u32 %r3, %r1, 5;
  st.global.u32 [%rd2+4], %r3;
  fence.sc.gpu; // all
  bar.sync 0;
  @!%p1 atom.global.exch.b32 %r4, [%rd1], 1;
  ret;
READ:
  @%p1 bra MEET;
WAIT:
  atom.global.add.u32 %r4, [%rd1], 0;
  setp.eq.u32 %p3, %r4, 0;
  @%p3 bra WAIT;
  fence.sc.gpu; // one
MEET:
  bar.sync 0;
  ld.global.u32 %r5, [%rd2+4];
  st.global.u32 [%rd2+260], %r5;
  ret;
)";

TEST(Together, OneThreadSetsAFlagBehindTheFencesOfAll) {
  const std::string text = kernel(".param .u64 out", fencesOfAll);
  const std::string all = "fence.sc.gpu; // all", one = "fence.sc.gpu; // one";
  std::vector<uint32_t> expected{1};
  for (uint32_t i = 0; i < 128; ++i) {
    expected.push_back(i % 64 + 5);
  }
  right(text, {2, 1, 1}, {64, 1, 1}, expected);
  // Whoever comes behind the reader by a barrier may execute the fence, too.
  right(without(without(text, one), "MEET:\n  bar.sync 0;", "MEET:\n  bar.sync 0;\n  fence.sc.gpu;"), {2, 1, 1},
        {64, 1, 1}, expected);
  for (const std::string &fence : {all, one}) {
    // Release and acquire are of those who access the flag themselves, which here says nothing of the others.
    for (const char *weaker : {"", "fence.acq_rel.gpu;", "membar.cta;"}) {
      SCOPED_TRACE(fence + " is now " + weaker);
      races(without(text, fence, weaker), {2, 1, 1}, {64, 1, 1}, 129);
    }
  }
  races(without(text, "bar.sync 0;\n  @!%p1", "@!%p1"), {2, 1, 1}, {64, 1, 1}, 129);
}

} // namespace
