//===- WarpgroupMatmul.cpp - Products for many tokens by TMA and wgmma ----===//
//
// For bf16 on cards with warpgroups (sm_90a). A workgroup has three warpgroups:
// one copies, two multiply, 64 rows each, all of the tile's outputs. They meet in
// a ring of stages (Pipeline.h), each 64 elements of K of a tile of x and of one
// or two weights, and give registers from the one that needs few to those that
// keep the sums.
//
// Weights come by TMA, through tensor maps of the host, which fill with zeros
// what lies beyond N and K. Rows of x come by cp.async, 16 bytes each: those of
// experts are gathered, which TMA does not do on these cards, and rows beyond the
// last are zeros of which nothing is read, so that T may change from step to step
// under maps that do not. With a gate, the tile's rows of the second weight lie
// behind those of the first: one wgmma makes both, and both sums of an output
// are in the same thread.
//
// The ring runs on from one of the workgroup's tiles to the next (of experts it has
// several), so that copies go ahead while results are stored.
//
//===----------------------------------------------------------------------===//

#include "lowering/GPU/Layout.h"
#include "lowering/GPU/MatmulEmitter.h"
#include "lowering/GPU/Mma.h"
#include "lowering/GPU/Pipeline.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

/// Rows and outputs of a tile.
static constexpr int64_t tileRows = 128, tileOutputs = 128;
/// Threads that copy. They are the first; all others multiply.
static constexpr int64_t copyThreads = 128;
/// Registers of a thread that copies, and of one that multiplies: together those of three times 168, with which the
/// block starts.
static constexpr int64_t copyRegisters = 72, sumRegisters = 216;
/// How many steps a thread's copies of x may be under way behind the one that begins. With as many as stages - 1, the
/// copying warps would wait for a stage to be empty before they tell that the next one is full.
static constexpr int64_t stepsUnderWay = StageRing::stages - 2;

static int64_t stageBytes(const kernels::Matmul &kernel) {
  return (tileRows + (kernel.gated ? 2 : 1) * tileOutputs) * SwizzledTile::rowBytes;
}

bool mlir::moe::gpu::usesWarpgroups(const GpuTarget &target, const kernels::Matmul &kernel) {
  return target.hasWarpgroups && isTiled(kernel);
}

kernels::MatmulTile mlir::moe::gpu::warpgroupTile() { return {tileOutputs, tileRows}; }

int64_t mlir::moe::gpu::warpgroupThreads() {
  return copyThreads + tileRows / WarpgroupMma::rows * WarpgroupMma::threads;
}

int64_t mlir::moe::gpu::warpgroupSharedBytes(const kernels::Matmul &kernel) {
  return SwizzledTile::alignment + StageRing::bytes(stageBytes(kernel));
}

// A workgroup has a multiprocessor to itself. Those of one round of the card have a stretch of the tiles, so many for
// each, and go through it side by side: what one of them is at lies beside what the others are at, always. A last round
// with fewer workgroups has a shorter stretch, and with a tile for each all take the one of their own number.
Int MatmulEmitter::goByRounds(Int all) {
  Int each = b.quickDiv(all + b.gridSize() - 1, b.gridSize()), atOnce = b.i64(b.target.multiprocessors);
  Int place = b.workgroup % atOnce, round = b.workgroup - place;
  tileStep = b.min(atOnce, b.gridSize() - round);
  firstTile = round * each + place;
  return b.min(all, (round + tileStep) * each);
}

void MatmulEmitter::multiplyByWarpgroups() {
  const int64_t multiplyingWarps = (b.threads - copyThreads) / KernelBuilder::warpSize;
  // A stage is full when every copying thread has arrived, one of them for TMA too, and empty when every multiplying
  // warp has.
  StageRing ring(b, b.dynamicShared(SwizzledTile::alignment), stageBytes(kernel), {copyThreads + 1, multiplyingWarps});
  b.ifElse(
      b.thread < b.i64(copyThreads),
      [&] {
        lowerRegisters(b, copyRegisters);
        fillStages(ring);
      },
      [&] {
        raiseRegisters(b, sumRegisters);
        emptyStages(ring);
      });
}

void MatmulEmitter::fillStages(StageRing &ring) {
  const Type element = b.getI16Type();
  const Value first = b.thread == b.i64(0);
  Int p = b.thread % SwizzledTile::pieces, firstRow = b.thread / SwizzledTile::pieces;
  constexpr int64_t rowsAtOnce = copyThreads / SwizzledTile::pieces;
  Int steps = b.ceilDiv(k, b.i64(SwizzledTile::depth));
  overTiles([&](Int number, Int from, Int to, Int n0) {
    // The host wrote the maps after earlier kernels may have read what lay there.
    b.ifThen(first, [&] {
      for (Value map : {segment.weight, segment.up}) {
        if (map) {
          b.assemble("fence.proxy.tensormap::generic.acquire.sys [$0], " + Twine(tensorMapBytes) + ";", "l",
                     {b.addressOf(map).value});
        }
      }
    });
    SmallVector<Value> rows, exist;
    for (int64_t i = 0; i < tileRows; i += rowsAtOnce) {
      Int row = from + firstRow + i;
      exist.push_back(row < to);
      rows.push_back(inputRow(b.min(row, to - 1)));
    }
    Int before = number * steps;
    b.loop(b.i64(0), steps, b.i64(1), [&](Int step) {
      Int now = before + step, column = step * SwizzledTile::depth, stage = ring.stage(now);
      ring.waitUntilEmpty(now);
      b.ifThen(first, [&] {
        ring.expect(now, weights() * tileOutputs * SwizzledTile::rowBytes);
        Int tile = stage + tileRows * SwizzledTile::rowBytes;
        copyBox(b, tile, segment.weight, n0, column, ring.full(now));
        if (kernel.gated) {
          copyBox(b, tile + tileOutputs * SwizzledTile::rowBytes, segment.up, n0, column, ring.full(now));
        }
      });
      // Pieces beyond K are zero and nothing of them is read.
      Int at = column + p * SwizzledTile::piece, source = b.min(at, k - SwizzledTile::piece);
      Value inside = at < k;
      for (auto [i, row] : llvm::enumerate(rows)) {
        Int to = SwizzledTile::pieceAddress(b, stage, firstRow + static_cast<int64_t>(i) * rowsAtOnce, p);
        Int bytes = b.select(b.both(inside, exist[i]), b.i64(16), b.i64(0));
        NVVM::CpAsyncOp::create(b, b.sharedPointer(to), b.at(row, source, element), 16, NVVM::LoadCacheModifierKind::CG,
                                b.toI32(bytes));
      }
      NVVM::CpAsyncCommitGroupOp::create(b);
      NVVM::CpAsyncWaitGroupOp::create(b, stepsUnderWay);
      b.ifThen(b.i64(stepsUnderWay - 1) < now, [&] { ring.fill(now - stepsUnderWay); });
    });
  });
  NVVM::CpAsyncWaitGroupOp::create(b, 0);
  Int all = tileCount * steps;
  for (int64_t last = stepsUnderWay; last > 0; --last) {
    b.ifThen(b.i64(last - 1) < all, [&] { ring.fill(all - last); });
  }
}

void MatmulEmitter::emptyStages(StageRing &ring) {
  const WarpgroupMma mma{weights() * tileOutputs};
  Int group = b.thread / WarpgroupMma::threads - copyThreads / WarpgroupMma::threads;
  Int ownRows = group * WarpgroupMma::rows;
  Int steps = b.ceilDiv(k, b.i64(SwizzledTile::depth));
  overTiles([&](Int number, Int from, Int to, Int n0) {
    Int before = number * steps;
    SmallVector<Value> zeros(mma.sums(), b.number(0.0).value);
    SmallVector<Value> sums = b.loop(b.i64(0), steps, b.i64(1), zeros, [&](Int step, ValueRange carried) {
      Int now = before + step, stage = ring.stage(now);
      ring.waitUntilFull(now);
      SmallVector<Value> next = mma.accumulate(b, stage + ownRows * SwizzledTile::rowBytes,
                                               stage + tileRows * SwizzledTile::rowBytes, carried);
      b.ifThen(b.lane == b.i64(0), [&] { ring.release(now); });
      return next;
    });
    finishSums(sums, from + ownRows, to, n0);
  });
}

void MatmulEmitter::finishSums(ValueRange sums, Int from, Int to, Int n0) {
  const int64_t pairs = tileOutputs / WarpgroupMma::pairColumns;
  for (int64_t upper : {0, 1}) {
    Int row = from + WarpgroupMma::row(b) + upper * WarpgroupMma::rowDistance;
    b.ifThen(row < to, [&] {
      Int rowOffset = outputRow(row) * segment.n;
      for (int64_t pair = 0; pair < pairs; ++pair) {
        Int n = n0 + WarpgroupMma::column(b, pair);
        auto sumsOf = [&](int64_t weight) {
          const int64_t at = 4 * (pair + weight * pairs) + 2 * upper;
          return SmallVector<Num>{{&b, sums[at]}, {&b, sums[at + 1]}};
        };
        SmallVector<Num> values = sumsOf(0), ups;
        if (kernel.gated) {
          ups = sumsOf(1);
        }
        if (kernel.nDivisible) {
          b.ifThen(n < segment.n, [&] { finishPair(values, ups, rowOffset, n); });
          continue;
        }
        for (int64_t i : {0, 1}) {
          std::optional<Num> up;
          if (kernel.gated) {
            up = ups[i];
          }
          b.ifThen(n + i < segment.n, [&] { finish(values[i], up, rowOffset, n + i); });
        }
      }
    });
  }
}
