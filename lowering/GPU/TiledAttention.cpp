//===- TiledAttention.cpp - Attention on tensor cores ---------------------===//

#include "lowering/GPU/TiledAttention.h"
#include "lowering/GPU/WarpAttention.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

static constexpr double log2e = 1.4426950408889634074;
/// Rows of (token, head) of a workgroup with many tokens: 16 per warp.
static constexpr int64_t blockRows = matmulThreads / KernelBuilder::warpSize * WarpAttention::rows;
static constexpr int64_t blockStages = 2;
/// Queries and sums of longer heads would not fit into the registers of a warp.
static constexpr int64_t maxDim = 256;
/// Splits such that the heads of one token give every multiprocessor of a large card about two workgroups.
static constexpr int64_t wantedWorkgroups = 264, maxSplits = 64;
/// Longer heads leave no registers for the bounds of splits: ptxas spills from 200 dims on.
static constexpr int64_t maxDimBesideSplits = 192;
/// Dynamic shared memory that every card since sm_80 gives a block.
static constexpr int64_t sharedLimit = 96 << 10;

static int64_t warpsOfBlock() { return matmulThreads / KernelBuilder::warpSize; }

namespace {

/// What lies in the shared memory of a block: tiles of keys and values, and the queries of its warps if these do not
/// stay in registers. Of the form for few tokens every warp has tiles of its own.
struct BlockLayout {
  HeadTile keys, values, queries;
  bool sharedQueries;

  /// A tile of keys, and the one of values behind it.
  int64_t stageElements() const { return keys.elements() + values.elements(); }
  int64_t bytes(bool many) const {
    const int64_t tiles = many ? blockStages : warpsOfBlock();
    return 2 * (tiles * stageElements() + (sharedQueries ? warpsOfBlock() * queries.elements() : 0));
  }
  /// Registers of a lane that the body of the loop over keys needs at once: sums, scores, queries (32 dims of those in
  /// shared memory).
  int64_t registers() const { return values.dim / 2 + keys.keys / 2 + (sharedQueries ? 8 : keys.dim / 4); }
};

} // namespace

// Two blocks are to run on a multiprocessor, with 255 registers per thread. Addresses, bounds and what is under way
// take nearly half of them: with more than `most` values ptxas spills (bench/results/gpu-registers.md). Long heads
// first leave their queries in shared memory, which costs one ldmatrix more for every 16 dims of a tile, then take
// tiles of half as many keys, which costs a barrier and a rescaling of the sums more often.
static BlockLayout layoutOf(const kernels::Attention &kernel) {
  constexpr int64_t most = 128;
  const int64_t keys = kernel.many ? 64 : 32;
  auto with = [&](int64_t count, bool sharedQueries) {
    return BlockLayout{
        {count, kernel.keyDim}, {count, kernel.valueDim}, {WarpAttention::rows, kernel.keyDim}, sharedQueries};
  };
  for (const BlockLayout &layout : {with(keys, false), with(keys, true)}) {
    if (layout.registers() <= most && layout.bytes(kernel.many) <= sharedLimit) {
      return layout;
    }
  }
  return with(keys / 2, true);
}
/// f32 values of the state of a row: maximum, total, sums.
static int64_t stateValues(const kernels::Attention &kernel) { return 2 + kernel.valueDim; }

bool mlir::moe::gpu::isTiled(const kernels::Attention &kernel) {
  return kernel.x.isBF16() && kernel.cache.isBF16() && kernel.keyDim % 8 == 0 && kernel.valueDim % 8 == 0 &&
         kernel.keyDim <= maxDim && kernel.valueDim <= maxDim;
}

kernels::AttentionCut mlir::moe::gpu::cutTiled(kernels::Attention &kernel, const kernels::AttentionSizes &sizes) {
  const int64_t rows = kernel.many ? blockRows : WarpAttention::rows;
  const int64_t parts = llvm::divideCeil(sizes.perHead, rows);
  const int64_t useful = sizes.context > 0 ? llvm::divideCeil(sizes.context, kernel.splitKeys) : maxSplits;
  auto splits = [&](int64_t workgroups) {
    const int64_t wanted = llvm::divideCeil(wantedWorkgroups, workgroups);
    return std::max<int64_t>(std::min({wanted, useful, maxSplits}), 1);
  };
  if (!kernel.many) {
    kernel.splits = splits(sizes.heads * parts);
    return {1, parts * kernel.splits};
  }
  // A block of tokens of several sequences goes through the keys of each, which are read once in all, but by one
  // workgroup: of 16 sequences with 8 kv heads of 8 queries there are 2 blocks, 16 workgroups. Splits make them enough
  // for the card. They cost a state per row and split, 4 KiB for 8 rows beside 128 KiB of 256 keys and values.
  const int64_t tokens = std::max<int64_t>(rows / sizes.perHead, 1);
  const bool hasRegisters = std::max(kernel.keyDim, kernel.valueDim) <= maxDimBesideSplits;
  if (sizes.mostTokens > 0 && sizes.mostTokens <= kernels::Attention::someTokens && hasRegisters) {
    const int64_t count = splits(llvm::divideCeil(sizes.leastTokens, tokens) * sizes.heads * parts);
    kernel.splits = count > 1 ? count : 0;
  }
  return {tokens, parts * std::max<int64_t>(kernel.splits, 1)};
}

int64_t mlir::moe::gpu::tiledAttentionSharedBytes(const kernels::Attention &kernel) {
  const int64_t bytes = layoutOf(kernel).bytes(kernel.many);
  // The states of the warps come where the tiles were.
  return kernel.many ? bytes : std::max(bytes, warpsOfBlock() * WarpAttention::rows * stateValues(kernel) * 4);
}

namespace {

class TiledAttentionEmitter {
public:
  TiledAttentionEmitter(const kernels::Attention &kernel, KernelBuilder &b)
      : kernel(kernel), layout(layoutOf(kernel)), b(b), warp(b, layout.keys, layout.values) {}
  void emit();

private:
  using State = WarpAttention::State;
  using Range = WarpAttention::Range;

  void emitBlock();
  void emitSplit();
  /// The tiles of keys and of values of a stage.
  Value keysOf(Int stage) { return b.at(memory, stage * layout.stageElements(), b.getI16Type()); }
  Value valuesOf(Value keys) { return b.at(keys, layout.keys.elements(), b.getI16Type()); }
  void loadQueries(llvm::function_ref<Value(Int)> rowAt);
  /// Begins the copies of thread `self` of `threads`: keys, or values, `first` and on of sequence `seq` into a tile.
  /// Rows from `end` on are the last once more.
  void copy(const HeadTile &shape, Value cache, Int seq, Int first, Int end, Value tile, Int self, int64_t threads) {
    Value begin = b.at(cache, (seq * context * g + head) * shape.dim, kernel.cache);
    Int stride = g * shape.dim, last = end - 1;
    shape.copy(b, tile, self, threads,
               [&](Int key) { return b.at(begin, b.min(first + key, last) * stride, kernel.cache); });
  }
  Int firstKey(Int position) { return b.select(b.i64(0) < window, b.max(position - window + 1, b.i64(0)), b.i64(0)); }
  /// Of a row of (token, head) in global memory.
  Value queryAt(Int token, Int queryHead) {
    return b.at(q, (token * (g * perHead) + queryHead) * kernel.keyDim, kernel.x);
  }

  /// The keys of a token at `position` that the workgroup takes: those of its split, maybe none, or all.
  Range keysAt(Int position);

  // Of the form for many tokens.
  struct Run {
    Int begin, end; ///< tokens of the block
    Int seq, firstKey, endKey;
  };
  Run nextRun(Int begin, Int end);
  State attendToRun(const Run &run);
  /// Whether the lane's row `i` is one of the run's, with keys.
  Value isOf(const Run &run, int64_t i);
  Value isRight(const Run &run, Value isOne, const State &state);
  void storeRow(const State &state, int64_t i);
  void storeState(const State &state, int64_t i);

  // Of the form for few tokens.
  void storeSplit(const State &state, Int token);

  const kernels::Attention &kernel;
  const BlockLayout layout;
  KernelBuilder &b;
  WarpAttention warp;
  Value q, seqs, positions, keys, values, out, sinks, memory;
  Int rows, g, perHead, context, window, head;
  Int split; ///< the workgroup's, if there are several
  Num scale;
  // Of a block: its tokens, heads of the group per token, and what the lane's rows are.
  Int firstToken, tokens, firstHead, heads;
  SmallVector<Int, 2> rowToken, rowHead;
  SmallVector<Num, 2> rowSink; ///< read before the loops, over which its address would take two registers
  SmallVector<Range, 2> rowKeys;
  SmallVector<Value, 2> isRow; ///< with keys of the split
};

} // namespace

/// Keys per split for `count` keys.
static Int keysPerSplit(KernelBuilder &b, Int count, int64_t splits) {
  constexpr int64_t step = kernels::Attention::splitStep;
  Int even = b.ceilDiv(b.ceilDiv(count, b.i64(splits)), b.i64(step)) * step;
  return b.max(even, b.i64(kernels::Attention::splitKeys));
}

auto TiledAttentionEmitter::keysAt(Int position) -> Range {
  Int begin = firstKey(position), end = position + 1;
  if (kernel.splits == 0) {
    return {begin, end};
  }
  Int perSplit = keysPerSplit(b, end - begin, kernel.splits), from = begin + split * perSplit;
  return {from, b.min(from + perSplit, end)};
}

void TiledAttentionEmitter::emit() {
  q = b.nextPointer();
  seqs = b.nextPointer();
  positions = b.nextPointer();
  keys = b.nextPointer();
  values = b.nextPointer();
  out = b.nextPointer();
  rows = b.nextInt();
  g = b.nextInt();
  perHead = b.nextInt();
  context = b.nextInt();
  scale = b.nextFloat() * b.number(log2e);
  window = b.nextInt();
  if (kernel.sinks && kernel.splits == 0) {
    sinks = b.nextPointer();
  }
  memory = b.sharedPointer(b.dynamicShared(128));
  b.expectBlocks(2);
  if (kernel.many) {
    emitBlock();
  } else {
    emitSplit();
  }
}

/// Behind the tiles, if they go into shared memory. Their copies belong to the group of cp.async of the first tile.
void TiledAttentionEmitter::loadQueries(llvm::function_ref<Value(Int)> rowAt) {
  if (!layout.sharedQueries) {
    warp.loadQueries(rowAt);
    return;
  }
  Value all = keysOf(b.i64(kernel.many ? blockStages : warpsOfBlock()));
  warp.loadQueries(b.at(all, b.warp * layout.queries.elements(), b.getI16Type()), rowAt);
}

//===----------------------------------------------------------------------===//
// Many tokens
//===----------------------------------------------------------------------===//

// A block may hold tokens of several sequences, one after the other. They are attended to in turn, each from an empty
// state: rows of other sequences come out wrong and are not stored. Of several splits every row has its own, by its
// position: a turn goes through those of all its rows.
//
// Of the keys of a turn a row may not see all, and gives the others a weight of 0. That is enough while their values
// are finite; 0 times Inf or NaN is NaN. Looking at every value would cost some 64 instructions per thread and tile of
// 128 dims, beside about 128 mma.sync; so the sums are looked at instead, once per turn: a lane's of one row, 32 fma.rn
// for 128 dims, and a vote in the barrier that ends the turn anyway, some 50 cycles where one tile takes over 1000. If
// they are not finite, and a row has a total that is (a key that is not finite, and that the row sees, shows in the
// total: then the row is what it must be), the turn is taken back, and its tokens have one each. In these every row
// sees every key, so that what comes out is right. It costs up to 1 + blockRows / perHead times the turn, in blocks of
// a sequence that has something not finite and no longer where its keys are not, either.
void TiledAttentionEmitter::emitBlock() {
  Int workgroup = b.workgroup;
  if (kernel.splits > 0) {
    split = workgroup % kernel.splits;
    workgroup = workgroup / kernel.splits;
  }
  Int parts = b.ceilDiv(perHead, b.i64(blockRows)), most = b.ceilDiv(perHead, parts);
  Int perBlock = b.max(b.i64(blockRows) / perHead, b.i64(1));
  Int block = workgroup / (g * parts), part = workgroup % parts;
  head = workgroup % (g * parts) / parts;
  firstToken = block * perBlock;
  tokens = b.min(perBlock, rows - firstToken);
  firstHead = part * most;
  heads = b.min(most, perHead - firstHead);
  Int used = tokens * heads;
  for (int64_t i = 0; i < WarpAttention::rowsOfLane; ++i) {
    // Rows beyond the last are the last once more, without keys; their results are not stored.
    Int row = b.warp * WarpAttention::rows + WarpAttention::row(b, i), real = b.min(row, used - 1);
    rowToken.push_back(firstToken + real / heads);
    rowHead.push_back(head * perHead + firstHead + real % heads);
    if (sinks) {
      rowSink.push_back(b.loadScalar(sinks, rowHead.back(), kernel.sinks) * b.number(log2e));
    }
    const Range own = rowKeys.emplace_back(keysAt(b.loadI32(positions, rowToken.back())));
    Value isReal = row < used;
    isRow.push_back(kernel.splits > 0 ? b.both(isReal, own.from < own.to) : isReal);
  }
  loadQueries([&](Int row) {
    Int real = b.min(b.warp * WarpAttention::rows + row, used - 1);
    return queryAt(firstToken + real / heads, head * perHead + firstHead + real % heads);
  });
  // Bit t: token t of the block begins a run of one sequence.
  Value starts;
  for (int64_t half = 0; half < 2; ++half) {
    Int t = b.lane + half * KernelBuilder::warpSize, at = firstToken + b.min(t, tokens - 1);
    Value isOther = arith::CmpIOp::create(b, arith::CmpIPredicate::ne, b.loadI32(seqs, at).value,
                                          b.loadI32(seqs, b.max(at - 1, b.i64(0))).value);
    Value isStart = b.both(t < tokens, b.either(t == b.i64(0), isOther));
    Int bits = b.fromBits(b.ballot(isStart));
    starts = half == 0 ? bits.value
                       : Value(arith::OrIOp::create(
                             b, starts, arith::ShLIOp::create(b, bits.value, b.i64(KernelBuilder::warpSize).value)));
  }
  b.loopWhileNonZero({&b, starts}, [&](Int mask) {
    // The lowest bit is this turn's begin, the next one its end.
    Int rest{&b, arith::AndIOp::create(b, mask.value, (mask - 1).value)};
    auto lowest = [&](Int bits) { return Int{&b, math::CountTrailingZerosOp::create(b, bits.value)}; };
    Int begin = lowest(mask), end = b.min(lowest(rest), tokens);
    // Over the loop over keys only this is kept of its tokens.
    Int ones{&b, arith::ShRUIOp::create(b, b.i64(-1).value, (b.i64(blockRows) - (end - begin)).value)};
    Int single{&b, arith::OrIOp::create(b, mask, arith::ShLIOp::create(b, ones.value, begin.value))};
    Run run = nextRun(firstToken + begin, firstToken + end);
    State state = warp.finish(attendToRun(run));
    Value isOne = single == mask;
    Value isDone = b.barrierAll(isRight(run, isOne, state)); // also before the copies of the next turn
    for (int64_t i = 0; i < WarpAttention::rowsOfLane; ++i) {
      b.ifThen(b.both(isDone, isOf(run, i)), [&] { storeRow(state, i); });
    }
    return b.select(isDone, rest, single);
  });
}

/// The tokens [begin, end) of one sequence, and the keys that any of them sees.
auto TiledAttentionEmitter::nextRun(Int begin, Int end) -> Run {
  Int least, most;
  for (int64_t half = 0; half < 2; ++half) {
    Range own = keysAt(b.loadI32(positions, b.min(begin + b.lane + half * KernelBuilder::warpSize, end - 1)));
    if (kernel.splits > 0) {
      Value any = own.from < own.to;
      own = {b.select(any, own.from, b.i64(INT32_MAX)), b.select(any, own.to, b.i64(0))};
    }
    least = half == 0 ? own.from : b.min(least, own.from);
    most = half == 0 ? own.to : b.max(most, own.to);
  }
  for (int64_t mask = KernelBuilder::warpSize / 2; mask > 0; mask /= 2) {
    least = b.min(least, b.shuffleXor(least, mask));
    most = b.max(most, b.shuffleXor(most, mask));
  }
  return {begin, end, b.loadI32(seqs, begin), least, most};
}

// Stage i % 2 holds tile i. The copies of a tile begin when all warps have left the one before the last, and have the
// time of the last to come.
auto TiledAttentionEmitter::attendToRun(const Run &run) -> State {
  const int64_t keyCount = layout.keys.keys;
  auto issue = [&](Int first, Int stage) {
    Value tile = keysOf(stage);
    copy(layout.keys, keys, run.seq, first, run.endKey, tile, b.thread, b.threads);
    copy(layout.values, values, run.seq, first, run.endKey, valuesOf(tile), b.thread, b.threads);
    NVVM::CpAsyncCommitGroupOp::create(b);
  };
  SmallVector<Range> ranges;
  for (int64_t i = 0; i < WarpAttention::rowsOfLane; ++i) {
    ranges.push_back({rowKeys[i].from, b.select(isOf(run, i), rowKeys[i].to, b.i64(0))});
  }
  if (kernel.splits > 0) { // there may be no keys
    b.ifThen(run.firstKey < run.endKey, [&] { issue(run.firstKey, b.i64(0)); });
  } else {
    issue(run.firstKey, b.i64(0));
  }
  SmallVector<Value> result =
      b.loop(run.firstKey, run.endKey, b.i64(keyCount), warp.begin().flatten(), [&](Int first, ValueRange carried) {
        Int stage = (first - run.firstKey) / keyCount % blockStages;
        NVVM::CpAsyncWaitGroupOp::create(b, 0);
        b.barrier();
        b.ifThen(first + keyCount < run.endKey, [&] { issue(first + keyCount, (stage + 1) % blockStages); });
        Value tile = keysOf(stage);
        return warp.addValues(warp.weigh(State::unflatten(b, carried), tile, first, ranges, scale), valuesOf(tile))
            .flatten();
      });
  return State::unflatten(b, result);
}

Value TiledAttentionEmitter::isOf(const Run &run, int64_t i) {
  return b.both(isRow[i], b.both(run.begin < rowToken[i] + 1, rowToken[i] < run.end));
}

/// Whether the sums of the lane's rows of the run have nothing of keys that the rows do not see. `isOne`: the run is of
/// one token.
Value TiledAttentionEmitter::isRight(const Run &run, Value isOne, const State &state) {
  return b.choose(
      isOne, [&] { return b.flag(true); },
      [&] {
        // 0 times what is finite is 0, all else is NaN. Every row of the warp shows what it does not see: one will do.
        Num zero = b.number(0.0), probe = zero;
        for (int64_t piece = 0; piece < warp.pieces(); ++piece) {
          for (int64_t j = 0; j < 2; ++j) {
            probe = b.fma(state.sums[piece * 4 + j], zero, probe);
          }
        }
        Value isFinite = b.equal(probe, zero), areMeant = b.flag(true);
        for (int64_t i = 0; i < WarpAttention::rowsOfLane; ++i) {
          Value isMeant = b.negate(b.equal(state.totals[i] * zero, zero));
          areMeant = b.both(areMeant, b.either(b.negate(isOf(run, i)), isMeant));
        }
        return b.either(isFinite, areMeant);
      });
}

/// The lane's row `i`, or its state of a split.
void TiledAttentionEmitter::storeRow(const State &state, int64_t i) {
  if (kernel.splits > 0) {
    storeState(state, i);
    return;
  }
  Num total = state.totals[i], factor = b.number(1.0);
  if (sinks) {
    // A sink is a key of score sinks[h] and value 0.
    Num sink = rowSink[i], largest = b.max(state.maxima[i], sink);
    factor = b.exp2(state.maxima[i] - largest);
    total = total * factor + b.exp2(sink - largest);
  }
  factor = factor / total;
  Value row = b.at(out, (rowToken[i] * (g * perHead) + rowHead[i]) * kernel.valueDim, kernel.x);
  for (int64_t piece = 0; piece < warp.pieces(); ++piece) {
    const size_t at = piece * 4 + i * 2;
    b.storePair(state.sums[at] * factor, state.sums[at + 1] * factor,
                b.at(row, WarpAttention::column(b, piece), kernel.x), kernel.x);
  }
}

/// The state of the lane's row `i`, for the kernel that joins the splits.
void TiledAttentionEmitter::storeState(const State &state, int64_t i) {
  Int row = (rowToken[i] * (g * perHead) + rowHead[i]) * kernel.splits + split;
  Value to = b.at(out, row * stateValues(kernel), b.f32());
  b.ifThen(b.lane % 4 == b.i64(0), [&] { b.storePair(state.maxima[i], state.totals[i], to, b.f32()); });
  for (int64_t piece = 0; piece < warp.pieces(); ++piece) {
    const size_t at = piece * 4 + i * 2;
    b.storePair(state.sums[at], state.sums[at + 1], b.at(to, WarpAttention::column(b, piece) + 2, b.f32()), b.f32());
  }
}

//===----------------------------------------------------------------------===//
// Few tokens
//===----------------------------------------------------------------------===//

void TiledAttentionEmitter::emitSplit() {
  constexpr int64_t most = WarpAttention::rows;
  const int64_t keyCount = layout.keys.keys;
  Int parts = b.ceilDiv(perHead, b.i64(most));
  split = b.workgroup % kernel.splits;
  Int group = b.workgroup / kernel.splits;
  Int part = group % parts, token = group / parts / g;
  head = group / parts % g;
  firstHead = part * most;
  heads = b.min(b.i64(most), perHead - firstHead);
  Int seq = b.loadI32(seqs, token), position = b.loadI32(positions, token);
  const Range own = keysAt(position);
  Int from = own.from, to = own.to;
  b.ifThen(from < to, [&] {
    loadQueries([&](Int row) { return queryAt(token, head * perHead + firstHead + b.min(row, heads - 1)); });
    Value keyMemory = keysOf(b.warp), valueMemory = valuesOf(keyMemory);
    SmallVector<Range> ranges(WarpAttention::rowsOfLane, Range{from, to});
    SmallVector<Value> state =
        b.loop(from + b.warp * keyCount, to, b.i64(b.warps() * keyCount), warp.begin().flatten(),
               [&](Int first, ValueRange carried) {
                 copy(layout.keys, keys, seq, first, to, keyMemory, b.lane, KernelBuilder::warpSize);
                 NVVM::CpAsyncCommitGroupOp::create(b);
                 copy(layout.values, values, seq, first, to, valueMemory, b.lane, KernelBuilder::warpSize);
                 NVVM::CpAsyncCommitGroupOp::create(b);
                 NVVM::CpAsyncWaitGroupOp::create(b, 1);
                 b.warpBarrier();
                 WarpAttention::Weighted weighted =
                     warp.weigh(State::unflatten(b, carried), keyMemory, first, ranges, scale);
                 NVVM::CpAsyncWaitGroupOp::create(b, 0);
                 b.warpBarrier();
                 State next = warp.addValues(weighted, valueMemory);
                 b.warpBarrier(); // before the copies of the next tile
                 return next.flatten();
               });
    storeSplit(warp.finish(State::unflatten(b, state)), token);
  });
}

/// Adds up the states of the warps and writes the split's.
void TiledAttentionEmitter::storeSplit(const State &state, Int token) {
  const int64_t width = stateValues(kernel);
  auto stateAt = [&](Int warp, Int row) { return b.at(memory, (warp * WarpAttention::rows + row) * width, b.f32()); };
  b.barrier(); // all warps have left their tiles
  for (int64_t i = 0; i < WarpAttention::rowsOfLane; ++i) {
    Value at = stateAt(b.warp, WarpAttention::row(b, i));
    b.ifThen(b.lane % 4 == b.i64(0), [&] {
      b.storeScalar(state.maxima[i], at, b.i64(0), b.f32());
      b.storeScalar(state.totals[i], at, b.i64(1), b.f32());
    });
    for (int64_t piece = 0; piece < warp.pieces(); ++piece) {
      for (int64_t j = 0; j < 2; ++j) {
        b.storeScalar(state.sums[piece * 4 + i * 2 + j], at, WarpAttention::column(b, piece) + (2 + j), b.f32());
      }
    }
  }
  b.barrier();
  // A warp takes every fourth head.
  b.loop(b.warp, heads, b.i64(b.warps()), [&](Int row) {
    SmallVector<Num> factors;
    for (int64_t w = 0; w < b.warps(); ++w) {
      factors.push_back(b.loadScalar(stateAt(b.i64(w), row), b.i64(0), b.f32()));
    }
    Num largest = factors.front();
    for (Num other : ArrayRef<Num>(factors).drop_front()) {
      largest = b.max(largest, other);
    }
    for (Num &factor : factors) {
      factor = b.exp2(factor - largest);
    }
    Int queryHead = head * perHead + firstHead + row;
    Value to = b.at(out, ((token * (g * perHead) + queryHead) * kernel.splits + split) * width, b.f32());
    b.ifThen(b.lane == b.i64(0), [&] { b.storeScalar(largest, to, b.i64(0), b.f32()); });
    b.overLanes(b.i64(width - 1), [&](Int i) {
      Num sum = b.number(0.0);
      for (auto [w, factor] : llvm::enumerate(factors)) {
        sum = b.fma(factor, b.loadScalar(stateAt(b.i64(static_cast<int64_t>(w)), row), i + 1, b.f32()), sum);
      }
      b.storeScalar(sum, to, i + 1, b.f32());
    });
  });
}

void mlir::moe::gpu::emitTiled(const kernels::Attention &kernel, KernelBuilder &b) {
  TiledAttentionEmitter(kernel, b).emit();
}

void mlir::moe::gpu::emit(const kernels::JoinSplits &kernel, KernelBuilder &b) {
  Value states = b.nextPointer(), positions = b.nextPointer(), out = b.nextPointer();
  Int heads = b.nextInt(), window = b.nextInt();
  Value sinks = kernel.sinks ? b.nextPointer() : Value();
  const int64_t width = 2 + kernel.valueDim;
  Int position = b.loadI32(positions, b.workgroup / heads), count = position + 1;
  count = b.select(b.i64(0) < window, b.min(count, window), count);
  Int splits = b.ceilDiv(count, keysPerSplit(b, count, kernel.splits));
  Value mine = b.at(states, b.workgroup * (kernel.splits * width), b.f32());
  auto valueOf = [&](Int split, Int i) { return b.loadScalar(mine, split * width + i, b.f32()); };
  Num sink = b.number(0.0), largest = valueOf(b.i64(0), b.i64(0));
  if (sinks) {
    sink = b.loadScalar(sinks, b.workgroup % heads, kernel.sinks) * b.number(log2e);
    largest = b.max(largest, sink);
  }
  largest = {&b, b.loop(b.i64(1), splits, b.i64(1), ValueRange{largest}, [&](Int split, ValueRange carried) {
               return SmallVector<Value>{b.max({&b, carried[0]}, valueOf(split, b.i64(0)))};
             })[0]};
  b.overThreads(b.i64(kernel.valueDim), [&](Int i) {
    Num total = sinks ? b.exp2(sink - largest) : b.number(0.0);
    SmallVector<Value> sums =
        b.loop(b.i64(0), splits, b.i64(1), ValueRange{total, b.number(0.0)}, [&](Int split, ValueRange carried) {
          Num factor = b.exp2(valueOf(split, b.i64(0)) - largest);
          return SmallVector<Value>{b.fma(factor, valueOf(split, b.i64(1)), {&b, carried[0]}),
                                    b.fma(factor, valueOf(split, i + 2), {&b, carried[1]})};
        });
    b.storeScalar(Num{&b, sums[1]} / Num{&b, sums[0]}, out, b.workgroup * kernel.valueDim + i, kernel.out);
  });
}
