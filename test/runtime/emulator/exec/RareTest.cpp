//===- RareTest.cpp - Forms that few kernels use ---------------------------===//
//
// alloca and the stack, discard, tensor maps that a kernel builds itself, and
// matrices of single bits and four bits.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/TensorMap.h"
#include "test/runtime/emulator/exec/Harness.h"

#include <random>

using namespace moert::emulator;
using namespace moert::emulator::testing;

namespace {
const Timing timings[] = {Timing::Late, Timing::Early, Timing::Random};

std::string with(std::string text, const std::string &part, const std::string &instead) {
  size_t at = text.find(part);
  EXPECT_NE(at, std::string::npos) << part;
  return text.replace(at, part.size(), instead);
}
} // namespace

TEST(Stack, AllocaOfEachLaneLivesUntilItsFunctionReturns) {
  // f(n) takes 16 + 16 n bytes behind a variable of its own, fills the first and last word, calls f(n - 1), and adds.
  const std::string function = R"(
.func (.reg .b32 %out) f(.reg .b32 %n)
{
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<2>;
  .local .align 4 .b8 own[4];
  st.local.u32 [own], %n;
  shl.b32 %r1, %n, 4;
  add.u32 %r1, %r1, 16;
  cvt.u64.u32 %rd1, %r1;
  alloca.u64 %rd2, %rd1, 16;
  add.u64 %rd3, %rd2, %rd1;
  mul.lo.u32 %r2, %n, 1000;
  st.local.u32 [%rd2], %n;
  st.local.u32 [%rd3+-4], %r2;
  mov.u32 %r3, 0;
  setp.eq.u32 %p1, %n, 0;
  @%p1 bra BACK;
  sub.u32 %r4, %n, 1;
  call (%r3), f, (%r4);
BACK:
  ld.local.u32 %r5, [%rd2];
  ld.local.u32 %r6, [%rd3+-4];
  ld.local.u32 %r7, [own];
  add.u32 %r3, %r3, %r5;
  add.u32 %r3, %r3, %r6;
  add.u32 %out, %r3, %r7;
  ret;
}
)";
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  and.b32 %r2, %r1, 7;
  stacksave.u64 %rd4;
  alloca.u64 %rd5, 64;
  st.local.u32 [%rd5], %r1;
  call (%r3), f, (%r2);
  ld.local.u32 %r4, [%rd5];
  stackrestore.u64 %rd4;
  alloca.u64 %rd6, 64;
  setp.eq.u64 %same, %rd5, %rd6;
  @!%same trap;
  sub.u32 %r4, %r4, %r1;
  add.u32 %r3, %r3, %r4;
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd1, %rd1, %rd2;
  st.global.u32 [%rd1], %r3;
  ret;)",
                                  ".func (.reg .b32 %out) f(.reg .b32 %n);\n" + function);
  Device device;
  ASSERT_TRUE(
      device.load(with(text, ".reg .b64 %rd<8>;\n  ld.param", ".reg .b64 %rd<8>; .reg .pred %same;\n  ld.param")));
  uint64_t out = device.upload(std::vector<uint32_t>(32));
  ASSERT_EQ(device.run({1, 1, 1}, {32, 1, 1}, out), LaunchError::None) << device.findings();
  EXPECT_EQ(device.findings(), "");
  auto got = device.download<uint32_t>(out, 32);
  for (unsigned l = 0; l < 32; ++l) {
    unsigned n = l & 7;
    EXPECT_EQ(got[l], n * (n + 1) / 2 * 1002) << l;
  }
}

TEST(Stack, AllocaIsUndefinedAndBounded) {
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<2>;
  ld.param.u64 %rd1, [out];
  alloca.u64 %rd2, 16;
  ld.local.u32 %r1, [%rd2];
  setp.eq.u32 %p1, %r1, 0;
  @%p1 st.global.u32 [%rd1], 1;
  ret;)");
  Device device;
  ASSERT_TRUE(device.load(text));
  uint64_t out = device.upload(std::vector<uint32_t>(1));
  device.run({1, 1, 1}, {1, 1, 1}, out);
  EXPECT_TRUE(device.found(FindingKind::Undefined)) << device.findings();
  Device large;
  ASSERT_TRUE(large.load(with(text, "%rd2, 16", "%rd2, 1048576")));
  EXPECT_EQ(large.run({1, 1, 1}, {1, 1, 1}, out), LaunchError::IllegalAddress);
}

TEST(Discard, MakesALineUndefined) {
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [out];
  discard.global.L2 [%rd1+128], 128;
  ret;)");
  Device device;
  ASSERT_TRUE(device.load(text));
  uint64_t out = device.upload(std::vector<uint32_t>(128));
  ASSERT_EQ(device.run({1, 1, 1}, {1, 1, 1}, out), LaunchError::None) << device.findings();
  EXPECT_EQ(device.memory.firstUndefined(out, 512), 128U);
  EXPECT_EQ(device.memory.firstUndefined(out + 256, 256), 256U);
}

TEST(Tensormap, AMapThatTheKernelBuilds) {
  // 8 rows of 16 words in global memory; a box of 4 x 8 elements from (column 8, row 2).
  const std::string text = kernel(".param .u64 out, .param .u64 in, .param .u64 map", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 128 .b8 tile[128];
  .shared .align 128 .b8 fresh[128];
  .shared .align 8 .b64 bar;
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd2, [in];
  ld.param.u64 %rd3, [map];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, fresh;
  mov.u32 %r3, tile;
  mov.u32 %r4, bar;
  shl.b32 %r5, %r1, 2;
  add.u32 %r6, %r2, %r5;
  st.shared.u32 [%r6], 0;
  bar.warp.sync -1;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra MADE;
  tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%r2], %rd2;
  tensormap.replace.tile.rank.shared::cta.b1024.b32 [%r2], 1;
  tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%r2], 0, 8;
  tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%r2], 1, 4;
  tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%r2], 0, 16;
  tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%r2], 1, 8;
  tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [%r2], 0, 64;
  tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [%r2], 0, 1;
  tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [%r2], 1, 1;
  tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [%r2], 2;
  tensormap.replace.tile.swizzle_mode.shared::cta.b1024.b32 [%r2], 0;
  mbarrier.init.shared.b64 [%r4], 1;
  fence.proxy.async;
MADE:
  bar.warp.sync -1;
  tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%rd3], [%r2], 128;
  @%p1 bra WAIT;
  fence.proxy.tensormap::generic.acquire.gpu [%rd3], 128;
  mbarrier.arrive.expect_tx.shared.b64 _, [%r4], 128;
  mov.u32 %r7, 8;
  mov.u32 %r8, 2;
  cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r3], [%rd3, {%r7, %r8}], [%r4];
WAIT:
  bar.warp.sync -1;
LOOP:
  mbarrier.try_wait.parity.shared.b64 %p2, [%r4], 0;
  @!%p2 bra LOOP;
  add.u32 %r9, %r3, %r5;
  ld.shared.u32 %r10, [%r9];
  mul.wide.u32 %rd5, %r1, 4;
  add.u64 %rd1, %rd1, %rd5;
  st.global.u32 [%rd1], %r10;
  ret;)");
  auto run = [&](const std::string &version, Timing timing, std::vector<uint32_t> *got) {
    Device device;
    if (!device.load(version)) {
      return std::string("did not load");
    }
    device.options.timing = timing;
    std::vector<uint32_t> values(128);
    for (unsigned i = 0; i < 128; ++i) {
      values[i] = i * 3;
    }
    uint64_t in = device.upload(values), out = device.upload(std::vector<uint32_t>(32));
    uint64_t map = device.memory.allocate(0, 128);
    EXPECT_EQ(device.run({1, 1, 1}, {32, 1, 1}, out, in, map), LaunchError::None) << device.findings();
    if (got) {
      *got = device.download<uint32_t>(out, 32);
    }
    return device.findings();
  };
  for (Timing timing : timings) {
    std::vector<uint32_t> got;
    EXPECT_EQ(run(text, timing, &got), "");
    for (unsigned i = 0; i < 32; ++i) {
      EXPECT_EQ(got[i], ((2 + i / 8) * 16 + 8 + i % 8) * 3) << i;
    }
    const std::string unfenced = with(text, "fence.proxy.tensormap::generic.acquire.gpu [%rd3], 128;", "");
    EXPECT_NE(run(unfenced, timing, nullptr).find("proxy fence"), std::string::npos);
    const std::string half = with(text, "bar.warp.sync -1;\n  tensormap.cp", "tensormap.cp");
    EXPECT_EQ(run(half, timing, nullptr), "") << "lane 0 writes the map and copies it";
  }
}

// A map that the host has copied into global memory is acquired once per block before its first use (CUDA guide, on
// passing tensor maps), by whoever tells the copying thread; its mbarrier needs a fence for another proxy.
TEST(Tensormap, AMapOfTheHostIsAcquired) {
  const std::string right = kernel(".param .u64 out, .param .u64 map", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 128 .b8 tile[128];
  .shared .align 8 .b64 bar;
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd2, [map];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, tile;
  mov.u32 %r3, bar;
  setp.eq.u32 %p1, %r1, 0;
  setp.eq.u32 %p2, %r1, 32;
  @%p1 mbarrier.init.shared.b64 [%r3], 1;
  @%p1 fence.proxy.async; // of the mbarrier
  @%p2 fence.proxy.tensormap::generic.acquire.sys [%rd2], 128;
  bar.sync 0; // behind the acquire
  @!%p1 bra WAIT;
  mbarrier.arrive.expect_tx.shared.b64 _, [%r3], 128;
  mov.u32 %r4, 16;
  cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd2, {%r4}], [%r3];
WAIT:
  bar.sync 0;
LOOP:
  mbarrier.try_wait.parity.shared.b64 %p3, [%r3], 0;
  @!%p3 bra LOOP;
  @!%p1 bra DONE;
  ld.shared.u32 %r5, [%r2];
  st.global.u32 [%rd1], %r5;
DONE:
  ret;)");
  auto run = [&](Device &device, const std::string &version, Timing timing, bool all) {
    ASSERT_TRUE(device.load(version));
    device.options.timing = timing;
    device.options.allProxyFences = all;
    std::vector<uint32_t> values(64);
    for (unsigned i = 0; i < 64; ++i) {
      values[i] = i * 3;
    }
    TensorMapFields map;
    map.globalAddress = device.upload(values);
    map.globalDim[0] = 64;
    map.boxDim[0] = 32;
    map.elementStride[0] = 1;
    map.elementType = 2;
    const uint64_t out = device.upload(std::vector<uint32_t>(1));
    EXPECT_EQ(device.run({1}, {64}, out, device.upload(std::vector<TensorMapFields>{map})), LaunchError::None)
        << device.findings();
    EXPECT_EQ(device.download<uint32_t>(out, 1)[0], 48U);
  };
  const std::string acquire = "@%p2 fence.proxy.tensormap::generic.acquire.sys [%rd2], 128;";
  const std::string wrong[] = {
      with(right, acquire, ""),
      with(right, acquire, "@%p2 fence.proxy.async;"),
      with(right, acquire, "@%p2 fence.proxy.tensormap::generic.release.sys;"),
      with(right, "[%rd2], 128;\n  bar.sync 0; // behind the acquire", "[%rd1], 128;\n  bar.sync 0;"),
      with(right, "@!%p1 bra WAIT;", "@!%p1 bra WAIT;\n  st.global.u32 [%rd2+120], 0;"), // written once more
      with(right, "@%p1 fence.proxy.async; // of the mbarrier", "@%p1 fence.proxy.tensormap::generic.release.sys;"),
      with(right, "@%p1 fence.proxy.async; // of the mbarrier",
           "@%p1 fence.proxy.tensormap::generic.acquire.sys [%rd2], 128;"),
  };
  for (Timing timing : timings) {
    for (bool all : {false, true}) {
      Device device;
      run(device, right, timing, all);
      EXPECT_TRUE(device.sink.findings().empty()) << device.sink.findings()[0].text();
    }
    for (const std::string &version : wrong) {
      Device device;
      run(device, version, timing, true);
      EXPECT_TRUE(device.found(FindingKind::ProxyFence)) << version << device.findings();
    }
    // Nothing orders the acquire before the copy: the mbarrier is the copying thread's own.
    Device apart;
    run(apart, with(right, "bar.sync 0; // behind the acquire", ""), timing, true);
    EXPECT_TRUE(apart.found(FindingKind::ProxyFence)) << apart.findings();
    // Where not all fences are asked for it is a note, said once.
    Device usual;
    run(usual, wrong[0], timing, false);
    EXPECT_EQ(usual.findings(), "");
    ASSERT_EQ(usual.sink.findings().size(), 1U);
    EXPECT_EQ(usual.sink.findings()[0].kind, FindingKind::ProxyFence);
  }
}

TEST(Calls, AFunctionTakesTheAddressOfItsParameter) {
  // LLVM passes structs so (PTX ISA 7.1: the parameter is on the stack then). The callee writes to its copy, which the
  // caller must not see, and calls itself once.
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd1, %rd1, %rd2;
  { .param .b32 p0; .param .align 8 .b8 p1[16]; .param .b32 r0;
  st.param.b32 [p0], 1;
  st.param.b32 [p1], %r1;
  st.param.b32 [p1+4], 10;
  st.param.b32 [p1+8], 20;
  st.param.b32 [p1+12], 30;
  call (r0), pick, (p0, p1);
  ld.param.b32 %r2, [r0];
  ld.param.b32 %r3, [p1+4];
  }
  mad.lo.u32 %r2, %r3, 1000, %r2;
  st.global.u32 [%rd1], %r2;
  ret;)",
                                  R"(
.func (.param .b32 result) pick(.param .b32 again, .param .align 8 .b8 s[16])
{
  .local .align 4 .b8 own[8];
  .reg .b32 %r<12>; .reg .b64 %rd<8>; .reg .pred %p<2>;
  ld.param.b32 %r1, [again];
  mov.b64 %rd1, s;
  ld.local.b32 %r2, [%rd1];
  and.b32 %r3, %r2, 3;
  mul.wide.u32 %rd2, %r3, 4;
  add.u64 %rd3, %rd1, %rd2;
  ld.local.b32 %r4, [%rd3];
  st.local.b32 [own], %r4;
  setp.eq.u32 %p1, %r1, 0;
  @%p1 bra DONE;
  st.local.b32 [%rd1], 3;
  st.local.b32 [%rd1+4], 7;
  cvta.local.u64 %rd4, %rd1;
  ld.b32 %r5, [%rd4+4];
  ld.param.b32 %r6, [s];
  { .param .b32 p0; .param .align 8 .b8 p1[16]; .param .b32 r0;
  st.param.b32 [p0], 0;
  st.param.b32 [p1], %r6;
  st.param.b32 [p1+4], %r5;
  st.param.b32 [p1+8], 0;
  st.param.b32 [p1+12], %r5;
  call (r0), pick, (p0, p1);
  ld.param.b32 %r7, [r0];
  }
  ld.local.b32 %r4, [own];
  mad.lo.u32 %r4, %r7, 100, %r4;
DONE:
  st.param.b32 [result], %r4;
  ret;
})");
  for (bool delay : {false, true}) {
    Device device;
    ASSERT_TRUE(device.load(text));
    device.options.delayLanes = delay;
    uint64_t out = device.upload(std::vector<uint32_t>(32));
    EXPECT_EQ(device.run({1, 1, 1}, {32, 1, 1}, out), LaunchError::None);
    EXPECT_EQ(device.findings(), "");
    auto got = device.download<uint32_t>(out, 32);
    for (unsigned i = 0; i < 32; ++i) {
      const unsigned words[] = {i, 10, 20, 30};
      EXPECT_EQ(got[i], 10 * 1000 + 7 * 100 + words[i & 3]) << i;
    }
  }
}

TEST(Calls, LanesApartHaveLocalMemoryOfTheirOwn) {
  // Lane i calls itself i & 7 levels deep, odd lanes at another place than even ones, so that the two are in calls of
  // different depth at once; each level reads a .local variable behind the inner call.
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  and.b32 %r2, %r1, 7;
  { .param .b32 p0; .param .b32 r0;
  st.param.b32 [p0], %r2;
  call (r0), deep, (p0);
  ld.param.b32 %r3, [r0];
  }
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd1, %rd1, %rd2;
  st.global.u32 [%rd1], %r3;
  ret;)",
                                  R"(
.func (.param .b32 result) deep(.param .b32 levels)
{
  .local .align 4 .b8 own[8];
  .reg .b32 %r<8>; .reg .pred %p<4>;
  ld.param.b32 %r1, [levels];
  st.local.b32 [own], %r1;
  mov.u32 %r3, 0;
  setp.eq.u32 %p1, %r1, 0;
  @%p1 bra DONE;
  sub.u32 %r2, %r1, 1;
  mov.u32 %r5, %laneid;
  and.b32 %r5, %r5, 1;
  setp.eq.u32 %p2, %r5, 0;
  @%p2 bra EVEN;
  { .param .b32 p0; .param .b32 r0;
  st.param.b32 [p0], %r2;
  call (r0), deep, (p0);
  ld.param.b32 %r3, [r0];
  }
  bra DONE;
EVEN:
  { .param .b32 p0; .param .b32 r0;
  st.param.b32 [p0], %r2;
  call (r0), deep, (p0);
  ld.param.b32 %r3, [r0];
  }
DONE:
  ld.local.b32 %r4, [own];
  add.u32 %r3, %r3, %r4;
  st.param.b32 [result], %r3;
  ret;
})");
  for (uint64_t seed = 0; seed < 8; ++seed) {
    Device device;
    ASSERT_TRUE(device.load(text));
    device.options.timing = Timing::Random;
    device.options.seed = seed;
    device.options.delayLanes = seed % 2;
    uint64_t out = device.upload(std::vector<uint32_t>(32));
    EXPECT_EQ(device.run({1, 1, 1}, {32, 1, 1}, out), LaunchError::None);
    EXPECT_EQ(device.findings(), "");
    EXPECT_EQ(device.memory.firstUndefined(out, 128), 128U);
    auto got = device.download<uint32_t>(out, 32);
    for (unsigned i = 0; i < 32; ++i) {
      EXPECT_EQ(got[i], (i & 7) * ((i & 7) + 1) / 2) << i;
    }
  }
}

TEST(Debug, BitFieldsInFreshLocalMemory) {
  // What nvcc -G makes of two bit fields that fill a word, and of a vector whose second word nobody reads.
  const std::string text = kernel(".param .u64 out", R"(
  .local .align 8 .b8 depot[8];
  .reg .b32 %r<8>; .reg .b64 %rd<4>; .reg .pred %p<2>;
  ld.param.u64 %rd1, [out];
  ld.local.u32 %r1, [depot];
  and.b32 %r1, %r1, -256;
  or.b32 %r1, %r1, 5;
  st.local.u32 [depot], %r1;
  ld.local.u32 %r2, [depot];
  and.b32 %r2, %r2, 255;
  or.b32 %r2, %r2, 8192;
  st.local.u32 [depot], %r2;
  .pragma "used_bytes_mask 0";
  ld.local.u32 %r3, [depot+4];
  ld.local.u32 %r4, [depot];
  shr.u32 %r4, %r4, 8;
  setp.ne.u32 %p1, %r4, 32;
  @%p1 bra DONE;
  st.global.u32 [%rd1], 1;
DONE:
  ret;)");
  for (bool debug : {true, false}) {
    Device device;
    ASSERT_TRUE(device.load(debug ? with(text, ".target sm_90a", ".target sm_90a, debug") : text));
    uint64_t out = device.upload(std::vector<uint32_t>(1));
    EXPECT_EQ(device.run({1, 1, 1}, {32, 1, 1}, out), LaunchError::None);
    EXPECT_EQ(device.download<uint32_t>(out, 1)[0], 1U);
    EXPECT_EQ(device.found(FindingKind::Undefined), !debug);
  }
}

/// A kernel whose lane 0 builds a map of 8 rows of 16 elements in shared memory, of element type `number` and `bytes`
/// bytes, and copies a box of 4 x 8 from (column 8, row 2); lanes below `words` store a word of it each.
static std::string withElementType(unsigned number, unsigned bytes) {
  const std::string size = std::to_string(32 * bytes), row = std::to_string(16 * bytes);
  return kernel(".param .u64 out, .param .u64 in, .param .u64 map", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 128 .b8 tile[256];
  .shared .align 128 .b8 fresh[128];
  .shared .align 8 .b64 bar;
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd2, [in];
  ld.param.u64 %rd3, [map];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, fresh;
  mov.u32 %r3, tile;
  mov.u32 %r4, bar;
  shl.b32 %r5, %r1, 2;
  add.u32 %r6, %r2, %r5;
  st.shared.u32 [%r6], 0;
  bar.warp.sync -1;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra MADE;
  tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%r2], %rd2;
  tensormap.replace.tile.rank.shared::cta.b1024.b32 [%r2], 1;
  tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%r2], 0, 8;
  tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%r2], 1, 4;
  tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%r2], 0, 16;
  tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%r2], 1, 8;
  tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [%r2], 0, )" +
                                                                        row + R"(;
  tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [%r2], 0, 1;
  tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [%r2], 1, 1;
  tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [%r2], )" + std::to_string(number) +
                                                                        R"(;
  mbarrier.init.shared.b64 [%r4], 1;
  fence.proxy.async;
MADE:
  bar.warp.sync -1;
  tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%rd3], [%r2], 128;
  @%p1 bra WAIT;
  fence.proxy.tensormap::generic.acquire.gpu [%rd3], 128;
  mbarrier.arrive.expect_tx.shared.b64 _, [%r4], )" + size + R"(;
  mov.u32 %r7, 8;
  mov.u32 %r8, 2;
  cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r3], [%rd3, {%r7, %r8}], [%r4];
WAIT:
  bar.warp.sync -1;
LOOP:
  mbarrier.try_wait.parity.shared.b64 %p2, [%r4], 0;
  @!%p2 bra LOOP;
COPY:
  setp.ge.u32 %p3, %r5, )" + size +
                                                                        R"(;
  @%p3 bra DONE;
  add.u32 %r9, %r3, %r5;
  ld.shared.u32 %r10, [%r9];
  cvt.u64.u32 %rd5, %r5;
  add.u64 %rd5, %rd1, %rd5;
  st.global.u32 [%rd5], %r10;
  add.u32 %r5, %r5, 128;
  bra COPY;
DONE:
  ret;)");
}

TEST(Tensormap, ElementTypesHaveTheNumbersOfTheIsa) {
  // u8 u16 u32 s32 u64 s64 f16 f32 f32.ftz f64 bf16 tf32 tf32.ftz; the driver API numbers some otherwise.
  const unsigned bytesOf[] = {1, 2, 4, 4, 8, 8, 2, 4, 4, 8, 2, 4, 4};
  std::vector<uint8_t> values(1024);
  for (unsigned i = 0; i < values.size(); ++i) {
    values[i] = uint8_t(i * 7 + i / 256);
  }
  for (unsigned number = 0; number < std::size(bytesOf) + 1; ++number) {
    SCOPED_TRACE(number);
    const unsigned bytes = number < std::size(bytesOf) ? bytesOf[number] : 4;
    Device device;
    ASSERT_TRUE(device.load(withElementType(number, bytes)));
    uint64_t in = device.upload(values), out = device.upload(std::vector<uint8_t>(256));
    uint64_t map = device.memory.allocate(0, 128);
    const LaunchError error = device.run({1, 1, 1}, {32, 1, 1}, out, in, map);
    if (number == std::size(bytesOf)) {
      EXPECT_EQ(error, LaunchError::IllegalInstruction) << "a type of later architectures";
      continue;
    }
    EXPECT_EQ(device.findings(), "");
    auto got = device.download<uint8_t>(out, 32 * bytes);
    for (unsigned i = 0; i < got.size(); ++i) {
      ASSERT_EQ(got[i], values[(2 + i / (8 * bytes)) * 16 * bytes + 8 * bytes + i % (8 * bytes)]) << i;
    }
  }
}

TEST(Wmma, FourBitsAndSingleBits) {
  std::mt19937 random(7);
  struct Case {
    const char *shape, *type, *operation;
    unsigned k, bits;
  };
  for (const Case &c : {Case{"m8n8k32", "s4", "", 32, 4}, Case{"m8n8k32", "u4", "", 32, 4},
                        Case{"m8n8k128", "b1", ".xor.popc", 128, 1}, Case{"m8n8k128", "b1", ".and.popc", 128, 1}}) {
    const std::string shape = c.shape, type = c.type, operation = c.operation;
    const std::string text =
        kernel(".param .u64 out, .param .u64 a, .param .u64 b", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd2, [a];
  ld.param.u64 %rd3, [b];
  wmma.load.a.sync.aligned.row.)" + shape + ".global." + type + R"( {%r1}, [%rd2];
  wmma.load.b.sync.aligned.col.)" + shape + ".global." + type + R"( {%r2}, [%rd3];
  wmma.load.c.sync.aligned.row.)" + shape + R"(.global.s32 {%r3, %r4}, [%rd1];
  wmma.mma)" + operation + ".sync.aligned.row.col." + shape + ".s32." +
                                                                    type + "." + type +
                                                                    R"(.s32 {%r5, %r6}, {%r1}, {%r2}, {%r3, %r4};
  wmma.store.d.sync.aligned.row.)" + shape + R"(.global.s32 [%rd1], {%r5, %r6};
  ret;)");
    Device device;
    ASSERT_TRUE(device.load(text));
    // Element (row, k) of A and of the transposed B: `bits` bits each, rows one after another.
    std::vector<uint32_t> a(8 * c.k * c.bits / 32), b(a.size());
    for (size_t i = 0; i < a.size(); ++i) {
      a[i] = random();
      b[i] = random();
    }
    std::vector<int32_t> before(64);
    for (int i = 0; i < 64; ++i) {
      before[i] = i - 20;
    }
    uint64_t out = device.upload(before);
    ASSERT_EQ(device.run({1, 1, 1}, {32, 1, 1}, out, device.upload(a), device.upload(b)), LaunchError::None)
        << device.findings();
    EXPECT_EQ(device.findings(), "");
    auto got = device.download<int32_t>(out, 64);
    auto value = [&](const std::vector<uint32_t> &from, unsigned row, unsigned k) {
      unsigned at = (row * c.k + k) * c.bits;
      int raw = int(from[at / 32] >> at % 32 & ((1U << c.bits) - 1));
      return type == "s4" && raw >= 8 ? raw - 16 : raw;
    };
    for (unsigned i = 0; i < 64; ++i) {
      int want = before[i];
      for (unsigned k = 0; k < c.k; ++k) {
        int x = value(a, i / 8, k), y = value(b, i % 8, k);
        want += operation == ".xor.popc" ? x ^ y : x * y;
      }
      EXPECT_EQ(got[i], want) << type << operation << " element " << i;
    }
  }
}

TEST(Wgmma, SingleBits) {
  // A: 64 rows of 256 bits, B: 8 rows, without swizzle: core matrices of 8 rows of 16 bytes, the two of K 128 bytes
  // apart.
  const std::string text = kernel(".param .u64 out, .param .u64 in", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<16>; .reg .pred %p<4>;
  .shared .align 1024 .b8 s[2304];
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd2, [in];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, s;
  mov.u32 %r3, %r1;
FILL:
  shl.b32 %r4, %r3, 2;
  cvt.u64.u32 %rd3, %r4;
  add.u64 %rd3, %rd2, %rd3;
  ld.global.u32 %r5, [%rd3];
  add.u32 %r4, %r2, %r4;
  st.shared.u32 [%r4], %r5;
  add.u32 %r3, %r3, 128;
  setp.lt.u32 %p1, %r3, 576;
  @%p1 bra FILL;
  mov.u32 %r10, 5;
  mov.u32 %r11, 6;
  mov.u32 %r12, 7;
  mov.u32 %r13, 8;
  fence.proxy.async;
  bar.sync 0;
  shr.u32 %r6, %r2, 4;
  cvt.u64.u32 %rd4, %r6;
  or.b64 %rd4, %rd4, 68719476736;
  or.b64 %rd4, %rd4, 524288;
  add.u64 %rd5, %rd4, 128;
  wgmma.fence.sync.aligned;
  setp.eq.u32 %p2, %r1, %r1;
  wgmma.mma_async.sync.aligned.m64n8k256.s32.b1.b1.and.popc {%r10, %r11, %r12, %r13}, %rd4, %rd5, %p2;
  wgmma.commit_group.sync.aligned;
  wgmma.wait_group.sync.aligned 0;
  mul.wide.u32 %rd6, %r1, 16;
  add.u64 %rd1, %rd1, %rd6;
  st.global.v4.u32 [%rd1], {%r10, %r11, %r12, %r13};
  ret;)");
  std::mt19937 random(3);
  std::vector<uint32_t> words(576);
  for (uint32_t &word : words) {
    word = random();
  }
  // Row r, word k of eight: core matrix (r / 8, k / 4), row r % 8 of it.
  auto word = [&](unsigned base, unsigned row, unsigned k) {
    return words[base + row / 8 * 64 + k / 4 * 32 + row % 8 * 4 + k % 4];
  };
  for (Timing timing : timings) {
    Device device;
    ASSERT_TRUE(device.load(text));
    device.options.timing = timing;
    uint64_t out = device.upload(std::vector<uint32_t>(512)), in = device.upload(words);
    ASSERT_EQ(device.run({1, 1, 1}, {128, 1, 1}, out, in), LaunchError::None) << device.findings();
    EXPECT_EQ(device.findings(), "");
    auto got = device.download<uint32_t>(out, 512);
    for (unsigned t = 0; t < 128; ++t) {
      for (unsigned i = 0; i < 4; ++i) {
        unsigned row = t / 32 * 16 + t % 32 / 4 + (i & 2 ? 8 : 0), column = t % 4 * 2 + (i & 1), want = 5 + i;
        for (unsigned k = 0; k < 8; ++k) {
          want += unsigned(__builtin_popcount(word(0, row, k) & word(512, column, k)));
        }
        ASSERT_EQ(got[t * 4 + i], want) << "thread " << t << " register " << i;
      }
    }
  }
}

TEST(Calls, ParametersOutsideOfTheirSpaceAreFaults) {
  const std::string callee = ".func (.param .b32 r) f(.param .b32 a) { .reg .b32 %x; ld.param.b32 %x, [a]; "
                             "st.param.b32 [r], %x; ret; }\n";
  const std::string right = R"(
  .reg .b32 %r<4>; .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, 7;
  .param .b32 argument;
  .param .b32 result;
  st.param.b32 [argument+0], %r1;
  call (result), f, (argument);
  ld.param.b32 %r2, [result+0];
  st.global.u32 [%rd1], %r2;
  ret;)";
  auto errorOf = [&](const std::string &body) {
    Device device;
    EXPECT_TRUE(device.load(kernel(".param .u64 out", body, callee)));
    uint64_t out = device.upload(std::vector<uint32_t>(1));
    LaunchError error = device.run({1, 1, 1}, {32, 1, 1}, out);
    EXPECT_EQ(device.found(FindingKind::OutOfBounds), error != LaunchError::None) << device.findings();
    return error;
  };
  EXPECT_EQ(errorOf(right), LaunchError::None);
  EXPECT_EQ(errorOf(with(right, "argument+0", "argument+-4")), LaunchError::IllegalAddress);
  EXPECT_EQ(errorOf(with(right, "argument+0", "argument+8")), LaunchError::IllegalAddress);
  EXPECT_EQ(errorOf(with(right, "result+0", "result+4")), LaunchError::IllegalAddress);
  EXPECT_EQ(errorOf(with(right, "[out]", "[out+-8]")), LaunchError::IllegalAddress);
}

TEST(Calls, FunctionsWithoutABodyAreRefusedWhenLoaded) {
  auto refusal = [](const std::string &name) {
    const std::string text = kernel(".param .u64 out", R"(
  .param .b64 a; .param .b32 r; .reg .b64 %rd<4>;
  mov.b64 %rd1, 0;
  st.param.b64 [a], %rd1;
  call.uni (r), )" + name + R"(, (a);
  ret;)",
                                    ".extern .func (.param .b32 r) " + name + "(.param .b64 a);");
    auto parsed = ptx::parseModule(text);
    auto *module = std::get_if<ptx::Module>(&parsed);
    EXPECT_TRUE(module) << name;
    DeviceMemory memory;
    auto program = Program::load(*module, memory, 0);
    return program.ok() ? std::string("none") : std::string(program.status().message());
  };
  EXPECT_NE(refusal("cudaLaunchDeviceV2").find("launches from the device are not supported"), std::string::npos);
  EXPECT_NE(refusal("other").find("a call of other, which has no body in this module"), std::string::npos);
}

TEST(Printf, OnlyWhatCudaHasIsFormatted) {
  // `*` would read an argument that is not there, `%n` write through one.
  const std::string text = kernel("", R"(
  .reg .b64 %rd<4>; .reg .b32 %r<2>;
  .local .align 8 .b8 values[16];
  mov.u64 %rd1, format;
  cvta.global.u64 %rd1, %rd1;
  mov.u64 %rd2, values;
  cvta.local.u64 %rd3, %rd2;
  st.local.u32 [%rd2], 42;
  st.local.u32 [%rd2+4], 43;
  call (%r1), vprintf, (%rd1, %rd3);
  ret;)",
                                  ".extern .func (.reg .b32 r) vprintf(.reg .b64 a, .reg .b64 b);\n"
                                  ".global .align 1 .b8 format[16] = {37, 100, 32, 37, 42, 100, 32, 37, 110, 32, 37, "
                                  "52, 100, 33, 0, 0};\n");
  Device device;
  ASSERT_TRUE(device.load(text));
  std::string printed;
  device.config.print = [&](const std::string &piece) { printed += piece; };
  ASSERT_EQ(device.run({1, 1, 1}, {1, 1, 1}), LaunchError::None) << device.findings();
  EXPECT_EQ(printed, "42 %*d %n   43!");
}
