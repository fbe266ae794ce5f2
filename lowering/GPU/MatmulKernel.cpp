//===- MatmulKernel.cpp - Linear, FFN and grouped expert products ---------===//
//
// Weights are stored [out, in]: rows contiguous along K, read where they lie.
//
// Few tokens, or types that tensor cores have no product of: a warp makes four
// outputs. Its lanes share K, 16 bytes of each weight row at a time, so that four
// loads are in flight per lane and every x is used four times; the sums are added
// up across the lanes at the end. A single row of x (decode) has a loop of its
// own; otherwise rows go by four, so that a weight is read once for four tokens.
//
// Many tokens in bf16, on cards that have warpgroups: WarpgroupMatmul.cpp. On
// others: tiles of 64 rows and 64 outputs, copied ahead by a ring of
// cp.async, multiplied by mma.sync (Tiles.h), 32x32 per warp. The sums go through
// shared memory, so that what follows them (bias, activation, residual, the
// store) takes neighbouring outputs and is emitted once.
//
//===----------------------------------------------------------------------===//

#include "lowering/GPU/MatmulEmitter.h"
#include "lowering/GPU/Tiles.h"
#include "lowering/Kernels/Formulas.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

/// Tiles of rows of an expert that go through all outputs together.
static constexpr int64_t bandTiles = 16;
/// What a product of few tokens fetches of its weights before the kernel ahead of it has ended, of all workgroups
/// together, and what a fetch is a multiple of.
static constexpr int64_t prefetchBytes = 16 << 20, prefetchUnit = 16;
/// Numbers of an entry of the list of tiles.
static constexpr int64_t entrySize = 4;
/// f32 sums of a row of a tile, and padding against meeting in a bank.
static constexpr int64_t sumStride = 68;

auto MatmulEmitter::readSegment() -> Segment {
  Segment s;
  s.weight = b.nextPointer();
  if (kernel.gated) {
    s.up = b.nextPointer();
  }
  s.n = b.nextInt();
  s.out = b.nextPointer();
  if (kernel.bias) {
    s.bias = b.nextPointer();
  }
  if (kernel.upBias) {
    s.upBias = b.nextPointer();
  }
  return s;
}

void MatmulEmitter::readActivation() {
  alpha = limit = b.number(0.0);
  if (kernel.activation == Activation::OssSwiglu) {
    alpha = b.nextFloat();
    limit = b.nextFloat();
  }
}

void MatmulEmitter::emit() {
  x = b.nextPointer();
  k = b.nextInt();
  if (kernel.experts) {
    emitExperts();
  } else {
    emitDense();
  }
}

void MatmulEmitter::emitDense() {
  Int rows = b.nextInt();
  SmallVector<Segment> all;
  for (int i = 0; i < kernel.segments; ++i) {
    all.push_back(readSegment());
  }
  if (kernel.residual) {
    residual = b.nextPointer();
  }
  readActivation();
  Int chunks = kernel.many ? b.ceilDiv(rows, b.i64(tile.rows)) : b.i64(1);
  Int index = b.workgroup / chunks, chunk = b.workgroup % chunks;
  // Which segment this tile falls into.
  segment = all.front();
  Int first = b.i64(0), end = b.ceilDiv(segment.n, b.i64(tile.outputs));
  for (const Segment &s : ArrayRef<Segment>(all).drop_front()) {
    Value here = index < end;
    segment.weight = b.selectPointer(here, segment.weight, s.weight);
    segment.n = b.select(here, segment.n, s.n);
    segment.out = b.selectPointer(here, segment.out, s.out);
    if (kernel.bias) {
      segment.bias = b.selectPointer(here, segment.bias, s.bias);
    }
    first = b.select(here, first, end);
    end = end + b.ceilDiv(s.n, b.i64(tile.outputs));
  }
  Int n0 = (index - first) * tile.outputs;
  if (!kernel.many) {
    prefetchWeights(n0);
    b.awaitEarlierKernels();
    multiply(b.i64(0), rows, n0);
    return;
  }
  denseFrom = chunk * tile.rows;
  denseTo = b.min(denseFrom + tile.rows, rows);
  denseOutput = n0;
  tileCount = b.i64(1);
  makeTiles();
}

// Weights do not depend on what kernels before this one make: the first part of them is fetched into the L2 cache while
// these end, a row by one instruction of one thread. Memory brings prefetchBytes in the 3.5 us that one kernel takes to
// end and the next to begin (at 4.8 TB/s), and a cache of 50 MiB has room for them.
void MatmulEmitter::prefetchWeights(Int n0) {
  if (!b.target.launchesEarly || !kernel.kDivisible || (kernel.gated && kernel.up != kernel.weight)) {
    return;
  }
  Int row = b.thread % tile.outputs, which = b.thread / tile.outputs;
  Value weight = kernel.gated ? b.selectPointer(which == b.i64(0), segment.weight, segment.up) : segment.weight;
  Type element = kernel.weight;
  const int64_t width = element.getIntOrFloatBitWidth() / 8;
  Int share = b.quickDiv(b.i64(prefetchBytes), b.gridSize() * (tile.outputs * weights()));
  Int bytes = b.min(k * width, share / prefetchUnit * prefetchUnit);
  Value wanted = b.both(which < b.i64(weights()), b.both(n0 + row < segment.n, b.i64(0) < bytes));
  b.ifThen(wanted, [&] {
    b.assemble("cp.async.bulk.prefetch.L2.global [$0], $1;", "l,r",
               {b.addressOf(b.at(weight, (n0 + row) * k, element)).value, b.toI32(bytes)});
  });
}

auto MatmulEmitter::segmentOf(Int expert) -> Segment {
  Segment own = tables;
  for (Value *table : {&own.weight, &own.up, &own.bias, &own.upBias}) {
    if (*table && usesMaps && (table == &own.weight || table == &own.up)) {
      *table = b.at(*table, expert * tensorMapBytes, b.getI8Type());
    } else if (*table) {
      *table = b.loadPointer(*table, expert);
    }
  }
  return own;
}

void MatmulEmitter::emitExperts() {
  list = b.nextPointer();
  Value offsets = b.nextPointer();
  slots = b.nextPointer();
  topK = b.nextInt();
  tables = readSegment();
  readActivation();
  outputTiles = b.ceilDiv(tables.n, b.i64(tile.outputs));
  if (kernel.many) {
    emitListed();
    return;
  }
  Int index = b.workgroup / outputTiles, n0 = (b.workgroup % outputTiles) * tile.outputs;
  b.ifThen(index < b.loadI32(list, b.i64(0)), [&] {
    Int expert = b.loadI32(list, index + 1);
    Int from = b.loadI32(offsets, expert), to = b.loadI32(offsets, expert + 1);
    segment = segmentOf(expert);
    multiply(from, to, n0);
  });
}

// The grid is an upper bound or a number that suits the card; how much there is to do is known on the device only. A
// workgroup without a tile does nothing.
void MatmulEmitter::emitListed() {
  Int end = b.loadI32(list, b.i64(0)) * outputTiles;
  firstTile = b.workgroup;
  tileStep = b.gridSize();
  if (usesMaps) {
    end = goByRounds(end);
  }
  tileCount = b.quickDiv(b.max(end - firstTile + tileStep - 1, b.i64(0)), tileStep);
  b.ifThen(b.i64(0) < tileCount, [&] { makeTiles(); });
}

void MatmulEmitter::makeTiles() {
  if (usesMaps) {
    multiplyByWarpgroups();
  } else {
    overTiles([&](Int, Int from, Int to, Int n0) { multiply(from, to, n0); });
  }
}

// Workgroups that run at the same time work on neighbouring numbers. These are the tiles of rows of a band, for the
// first outputs, then for the next ones: while a weight is in the L2 cache, all rows of the band meet it, and the rows
// of a band (16 times 128 of K = 4096 are 16 MiB) stay there while the weights of the expert go by. An expert with few
// rows is one band, so that its weights are read from memory once.
//
// The entry of the next tile is read ahead.
void MatmulEmitter::overTiles(llvm::function_ref<void(Int, Int, Int, Int)> body) {
  if (!kernel.experts) {
    body(b.i64(0), denseFrom, denseTo, denseOutput);
    return;
  }
  const int64_t rowsOfTile = expertTileRows(b.target);
  auto indexOf = [&](Int number) { return firstTile + number * tileStep; };
  auto read = [&](Int number) {
    Int entry = b.quickDiv(indexOf(number), outputTiles);
    auto type = VectorType::get({entrySize}, b.getI32Type());
    Value pointer = b.at(list, (entry + 1) * entrySize, b.getI32Type());
    Value loaded = LLVM::LoadOp::create(b, type, pointer, static_cast<unsigned>(entrySize * 4));
    SmallVector<Value> values{entry};
    for (int64_t i = 0; i < entrySize; ++i) {
      values.push_back(LLVM::ExtractElementOp::create(b, loaded, b.i32(i)));
    }
    return values;
  };
  b.loop(b.i64(0), tileCount, b.i64(1), read(b.i64(0)), [&](Int number, ValueRange carried) {
    SmallVector<Value> next = read(b.min(number + 1, tileCount - 1));
    Int entry{&b, carried[0]}, expert = b.fromI32(carried[1]), ordinal = b.fromI32(carried[2]),
                               begin = b.fromI32(carried[3]), rows = b.fromI32(carried[4]);
    Int band = ordinal / bandTiles * bandTiles;
    Int height = b.min(b.ceilDiv(rows, b.i64(rowsOfTile)) - band, b.i64(bandTiles));
    Int inBand = indexOf(number) - (entry - ordinal + band) * outputTiles;
    Int column = b.quickDiv(inBand, height), row = band + inBand - column * height;
    Int from = begin + row * rowsOfTile;
    segment = segmentOf(expert);
    body(number, from, b.min(from + rowsOfTile, begin + rows), column * tile.outputs);
    return next;
  });
}

Value MatmulEmitter::inputRow(Int r) {
  Int row = kernel.experts && kernel.tokenRows ? b.loadI32(slots, r) / topK : r;
  return b.at(x, row * k, kernel.x);
}

Int MatmulEmitter::outputRow(Int r) { return kernel.experts && !kernel.tokenRows ? b.loadI32(slots, r) : r; }

void MatmulEmitter::finish(Num value, std::optional<Num> up, Int rowOffset, Int n) {
  if (kernel.bias) {
    value = value + b.loadScalar(segment.bias, n, kernel.bias);
  }
  if (kernel.upBias) {
    up = *up + b.loadScalar(segment.upBias, n, kernel.upBias);
  }
  if (kernel.activation) {
    value = kernels::emitActivation(b, *kernel.activation, value, up, alpha, limit);
  }
  Int offset = rowOffset + n;
  if (kernel.residual) {
    value = b.loadScalar(residual, offset, b.f32()) + value;
  }
  b.storeScalar(value, segment.out, offset, kernel.out);
}

void MatmulEmitter::finishPair(ArrayRef<Num> values, ArrayRef<Num> up, Int rowOffset, Int n) {
  SmallVector<Num> results(values), ups(up);
  auto add = [](SmallVector<Num> &sums, ArrayRef<Num> terms) {
    for (auto [sum, term] : llvm::zip_equal(sums, terms)) {
      sum = term + sum;
    }
  };
  // A bias may be a part of a tensor that begins at any element.
  auto addBias = [&](SmallVector<Num> &sums, Value base, Type type) {
    add(sums, {b.loadScalar(base, n, type), b.loadScalar(base, n + 1, type)});
  };
  if (kernel.bias) {
    addBias(results, segment.bias, kernel.bias);
  }
  if (kernel.upBias) {
    addBias(ups, segment.upBias, kernel.upBias);
  }
  for (auto [i, result] : llvm::enumerate(results)) {
    if (kernel.activation) {
      std::optional<Num> factor;
      if (kernel.gated) {
        factor = ups[i];
      }
      result = kernels::emitActivation(b, *kernel.activation, result, factor, alpha, limit);
    }
  }
  if (kernel.residual) {
    add(results, b.loadVector(b.at(residual, rowOffset + n, b.f32()), b.f32(), 2));
  }
  b.storePair(results[0], results[1], b.at(segment.out, rowOffset + n, kernel.out), kernel.out);
}

SmallVector<Num> MatmulEmitter::dotRows(Value weight, Type type, Int n, ArrayRef<Value> xs) {
  SmallVector<Value> rows;
  for (int64_t i = 0; i < matmulOutputs; ++i) {
    rows.push_back(b.at(weight, b.min(n + i, segment.n - 1) * k, type)); // beyond the last: computed, not stored
  }
  const int64_t width = kernel.kDivisible ? matmulVector : 1;
  auto read = [&](Value base, Int i, Type element, bool isWeight) {
    Value pointer = b.at(base, i, element);
    return width == 1 ? SmallVector<Num>{b.loadScalar(pointer, element)}
                      : b.loadVector(pointer, element, width, /*invariant=*/isWeight);
  };
  SmallVector<Value> zeros(matmulOutputs * xs.size(), b.number(0.0).value);
  SmallVector<Value> sums =
      b.loop(b.lane * width, k, b.i64(KernelBuilder::warpSize * width), zeros, [&](Int i, ValueRange carried) {
        SmallVector<SmallVector<Num>> weights, inputs;
        for (Value row : rows) {
          weights.push_back(read(row, i, type, /*isWeight=*/true));
        }
        for (Value row : xs) {
          inputs.push_back(read(row, i, kernel.x, /*isWeight=*/false));
        }
        SmallVector<Value> next;
        for (const SmallVector<Num> &w : weights) {
          for (const SmallVector<Num> &v : inputs) {
            Num sum{&b, carried[next.size()]};
            for (auto [a, c] : llvm::zip_equal(w, v)) {
              sum = b.fma(a, c, sum);
            }
            next.push_back(sum);
          }
        }
        return next;
      });
  return llvm::map_to_vector(sums, [&](Value sum) { return b.warpSum({&b, sum}); });
}

void MatmulEmitter::multiplyRows(Int from, Int to, Int n, int64_t count) {
  SmallVector<Value> xs;
  for (int64_t t = 0; t < count; ++t) {
    xs.push_back(inputRow(b.min(from + t, to - 1)));
  }
  SmallVector<Num> sums = dotRows(segment.weight, kernel.weight, n, xs), ups;
  if (kernel.gated) {
    ups = dotRows(segment.up, kernel.up, n, xs);
  }
  // Every lane has all sums; lane i finishes the i-th.
  auto mine = [&](ArrayRef<Num> values) {
    Num value = values.front();
    for (auto [i, other] : llvm::enumerate(values.drop_front())) {
      value = b.select(b.lane == b.i64(static_cast<int64_t>(i) + 1), other, value);
    }
    return value;
  };
  Num value = mine(sums);
  std::optional<Num> up;
  if (kernel.gated) {
    up = mine(ups);
  }
  Int row = from + b.lane % count, output = n + b.lane / count;
  Value exists = b.both(b.lane < b.i64(matmulOutputs * count), b.both(row < to, output < segment.n));
  b.ifThen(exists, [&] { finish(value, up, outputRow(row) * segment.n, output); });
}

void MatmulEmitter::multiplyByDots(Int from, Int to, Int n0) {
  constexpr int64_t several = 4;
  Int first = n0 + b.warp * matmulOutputs, end = b.min(n0 + tile.outputs, segment.n);
  b.loop(first, end, b.i64(b.warps() * matmulOutputs), [&](Int n) {
    b.ifElse(
        to - from == b.i64(1), [&] { multiplyRows(from, to, n, 1); },
        [&] { b.loop(from, to, b.i64(several), [&](Int r) { multiplyRows(r, to, n, several); }); });
  });
}

//===----------------------------------------------------------------------===//
// On tensor cores
//===----------------------------------------------------------------------===//

kernels::MatmulTile mlir::moe::gpu::matmulTile(const GpuTarget &target, const kernels::Matmul &kernel) {
  if (usesWarpgroups(target, kernel)) {
    return warpgroupTile();
  }
  return kernel.many ? kernels::MatmulTile{64, 64}
                     : kernels::MatmulTile{matmulThreads / KernelBuilder::warpSize * matmulOutputs, 0};
}

bool mlir::moe::gpu::isTiled(const kernels::Matmul &kernel) {
  return kernel.many && kernel.x.isBF16() && kernel.weight.isBF16() && (!kernel.gated || kernel.up.isBF16()) &&
         kernel.kDivisible;
}

/// The ring first, then the sums of each weight.
Value MatmulEmitter::tileMemory() {
  const int64_t weights = kernel.gated ? 2 : 1;
  const int64_t ring = CopyRing::elements(tile.rows + weights * tile.outputs) * 2;
  const int64_t sums = weights * tile.rows * sumStride * 4;
  return b.allocateShared(b.getI16Type(), std::max(ring, sums) / 2);
}

void MatmulEmitter::multiplyTile(Int from, Int to, Int n0) {
  Value memory = tileMemory();
  const SharedTile tokens{tile.rows}, outputs{tile.outputs};
  // Rows beyond the last are the last once more; their results are not stored.
  CopyRing::Source xs{tokens, {}}, gates{outputs, {}}, ups{outputs, {}};
  for (Int row : CopyRing::rowsOfThread(b, tokens)) {
    xs.rows.push_back(inputRow(b.min(from + row, to - 1)));
  }
  for (Int row : CopyRing::rowsOfThread(b, outputs)) {
    Int n = b.min(n0 + row, segment.n - 1);
    gates.rows.push_back(b.at(segment.weight, n * k, kernel.weight));
    if (kernel.gated) {
      ups.rows.push_back(b.at(segment.up, n * k, kernel.up));
    }
  }
  SmallVector<CopyRing::Source> sources{xs, gates};
  if (kernel.gated) {
    sources.push_back(ups);
  }
  // Two warps by two.
  Int row0 = b.warp / 2 * Fragments::rows, column0 = b.warp % 2 * Fragments::columns;
  const size_t weights = sources.size() - 1;
  SmallVector<Value> zeros(weights * Fragments::sums, b.number(0.0).value);
  CopyRing ring(b, memory, sources, k);
  SmallVector<Value> sums = ring.overSteps(zeros, [&](ArrayRef<Value> tiles, ValueRange carried) {
    SmallVector<Value> next;
    for (size_t w = 0; w < weights; ++w) {
      next.append(Fragments::multiply(b, tiles.front(), row0, tiles[w + 1], column0,
                                      carried.slice(w * Fragments::sums, Fragments::sums)));
    }
    return next;
  });
  auto sumsOf = [&](size_t w) { return b.at(memory, static_cast<int64_t>(w) * tile.rows * sumStride, b.f32()); };
  for (size_t w = 0; w < weights; ++w) {
    Fragments::store(b, ArrayRef<Value>(sums).slice(w * Fragments::sums, Fragments::sums), sumsOf(w), row0, column0,
                     sumStride);
  }
  b.barrier();
  b.overThreads(b.i64(tile.rows * tile.outputs), [&](Int i) {
    Int row = i / tile.outputs, column = i % tile.outputs;
    b.ifThen(b.both(from + row < to, n0 + column < segment.n), [&] {
      Int at = row * sumStride + column;
      std::optional<Num> up;
      if (kernel.gated) {
        up = b.loadScalar(sumsOf(1), at, b.f32());
      }
      finish(b.loadScalar(sumsOf(0), at, b.f32()), up, outputRow(from + row) * segment.n, n0 + column);
    });
  });
  b.barrier(); // before the memory is the ring of the next tile
}

void MatmulEmitter::multiply(Int from, Int to, Int n0) {
  if (isTiled(kernel)) {
    multiplyTile(from, to, n0);
  } else {
    multiplyByDots(from, to, n0);
  }
}

void mlir::moe::gpu::emit(const kernels::Matmul &kernel, KernelBuilder &b) { MatmulEmitter(kernel, b).emit(); }
