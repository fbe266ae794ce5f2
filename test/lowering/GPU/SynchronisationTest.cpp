//===- SynchronisationTest.cpp - No barrier and no wait is there for nothing ---===//
//
// Takes each synchronising instruction out of the PTX of a kernel in turn and
// runs what is left. The emulator must find something every time: then it would
// have found the same mistake in the emitter.
//
//===----------------------------------------------------------------------===//

#include "test/lowering/GPU/KernelHarness.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;
using namespace mlir::moe::gpu::test;

namespace {

class GpuSynchronisationTest : public KernelTest {
protected:
  /// What the lines begin with that are taken out. Fences between proxies are not among them: the emulator has written
  /// maps and initialised barriers for all proxies long before, and counts cp.async as one with TMA. They are what the
  /// PTX ISA asks for.
  static constexpr StringRef synchronising[] = {
      "bar.sync",      "bar.warp.sync", "cp.async.wait_group", "mbarrier.try_wait", "mbarrier.arrive",
      "mbarrier.init", "wgmma.fence",   "wgmma.commit_group",  "wgmma.wait_group",  "cp.async.bulk.tensor"};

  void check(const kernels::Kernel &kernel, int64_t workgroups, const std::vector<Argument> &arguments) {
    std::string name, text = translate(kernel, name);
    SmallVector<StringRef> lines;
    StringRef(text).split(lines, '\n');
    int taken = 0;
    for (size_t i = 0; i < lines.size(); ++i) {
      StringRef line = lines[i].trim();
      if (llvm::none_of(synchronising, [&](StringRef start) { return line.starts_with(start); })) {
        continue;
      }
      SmallVector<StringRef> rest(lines);
      // Of a wait in a loop the loop ends at once.
      rest[i] = line.starts_with("mbarrier.try_wait") ? "setp.eq.u32 done, 0, 0;" : "";
      launch(llvm::join(rest, "\n"), name, kernel, workgroups, arguments);
      EXPECT_GT(moeEmulatorFindings(), 0u) << name << ": nothing misses line " << i + 1 << ": " << line.str();
      if (outcome != CUDA_SUCCESS) {
        renewContext();
      }
      moeEmulatorClearFindings();
      ++taken;
    }
    EXPECT_GT(taken, 0) << name;
  }
};

TEST_F(GpuSynchronisationTest, RMSNorm) {
  const int64_t rows = 1, groups = 2, n = 300;
  Tensor xs = random(f32, rows * groups * n), ws = random(bf16, n), ys(f32, rows * groups * n);
  check(kernels::RMSNorm{f32, bf16, f32, ScaleRounding::BeforeWeight}, rows,
        {in(xs), in(ws), out(ys), groups, n, 1e-5f});
}

TEST_F(GpuSynchronisationTest, Attention) {
  const int64_t tokens = 1, d = 64, context = 70;
  Guarded<int32_t> seq{0}, pos{66};
  Tensor qs = random(f32, d), keys = random(bf16, context * d), values = random(bf16, context * d), ys(f32, d);
  check(kernels::Attention{f32, bf16, Type(), d, d, false}, 1,
        {in(qs), in(seq), in(pos), in(keys), in(values), out(ys), tokens, int64_t(1), int64_t(1), context, 0.125f,
         int64_t(0)});
}

/// Rows of one tile and a bit, so that the ring goes on to a second in the case of experts; on warpgroups every stage
/// is used again.
TEST_F(GpuSynchronisationTest, Tiles) {
  kernels::Matmul kernel;
  kernel.x = kernel.weight = kernel.out = bf16;
  kernel.many = kernel.nDivisible = true;
  const int64_t rows = target.hasWarpgroups ? 140 : 70, k = target.hasWarpgroups ? 264 : 136, n = 64, topK = 1;
  catalogue.specialise(kernel, k, n);
  ASSERT_TRUE(isTiled(kernel));
  kernel.experts = true;
  Tensor xs = random(bf16, rows * k), ys(bf16, rows * n);
  std::vector<Tensor> table;
  table.push_back(random(bf16, n * k));
  Guarded<int32_t> active{1, 0}, offsets{0, static_cast<int32_t>(rows)}, slots(rows);
  for (int64_t i = 0; i < rows; ++i) {
    slots[i] = static_cast<int32_t>(i);
  }
  check(kernel, 1, {in(xs), k, in(active), in(offsets), in(slots), topK, matrices(table, n, k), n, out(ys)});
}

TEST_F(GpuSynchronisationTest, RouteAndSort) {
  const int64_t e = 40, k = 3, rows = 40;
  Tensor logits = random(f32, e);
  Guarded<int32_t> experts(k);
  Guarded<float> weights(k);
  kernels::Route route{Score::Softmax, Renormalize::Sum, Type(), false, GroupScore::Max};
  check(route, 1, {in(logits), out(experts), out(weights), e, k, 0.0f, 1.0f, int64_t(1), int64_t(1)});
  Guarded<int32_t> ids(rows), active(e + 1), offsets(e + 1), slots(rows);
  for (int64_t i = 0; i < rows; ++i) {
    ids[i] = static_cast<int32_t>(i * 7 % (e - 1));
  }
  Guarded<int64_t> counts(e, 0);
  check(kernels::SortByExpert{}, 1,
        {in(ids), rows, e, int64_t(1), update(active), out(offsets), update(slots), update(counts)});
}

} // namespace
