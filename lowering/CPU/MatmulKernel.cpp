//===- MatmulKernel.cpp - Linear, FFN and grouped expert products --------===//
//
// Weights are stored [out, in]: rows contiguous along K, read where they lie.
//
// Few tokens (GEMV): a block of `lanes` weight rows is dotted with x, four rows
// at a time, every row in one pass; the `lanes` partial vectors are summed by
// one transposed reduction, so that no scalar appears.
//
// Many tokens (GEMM): a panel of `tile` weight rows is transposed into scratch,
// K outermost (pairs of bf16 beside each other for vdpbf16ps, f32 otherwise);
// then tileTokens x tileVectors accumulators run over K with one broadcast per
// token. Sums of a panel stay in scratch between K blocks; bias, activation and
// residual are applied once at the end. An expert with a few tokens takes the
// GEMV form inside the same kernel.
//
//===----------------------------------------------------------------------===//

#include "lowering/CPU/Kernels.h"
#include "lowering/Kernels/Formulas.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::cpu;

/// Expert rows below this take the GEMV form inside a `many` kernel: packing a
/// panel costs about as much as one pass of the GEMV over it, a register tile
/// of six tokens is worth it from about four on.
static constexpr int64_t fewRows = 4;
/// K elements of a packed panel; with 64 outputs 256 KiB, a quarter of a
/// typical L2.
static constexpr int64_t panelBytes = 256 << 10;
/// Steps along K that are added up in one chain before they join the sum. At K = 1536 one chain is 3.3 times as far
/// from the exact sum as chains of 128; shorter ones gain little, and cost loads and stores.
static constexpr int64_t chainSteps = 128;

int64_t MatmulKernel::tile(const CpuTarget &target, bool many) { return many ? target.lanes * target.tileVectors : 32; }

bool MatmulKernel::dots(const CpuTarget &target) const {
  return target.bf16Dot && x.isBF16() && weight.isBF16() && (!gated || up.isBF16()) && !kOdd;
}

int64_t MatmulKernel::kStep(const CpuTarget &target) const { return dots(target) ? 2 * target.lanes : target.lanes; }

namespace {

/// The operands that belong to one weight (or one gate/up pair).
struct Segment {
  Value weight, up, out, bias, upBias;
  Int n;
};

class MatmulEmitter {
public:
  MatmulEmitter(const MatmulKernel &kernel, KernelBuilder &b)
      : kernel(kernel), b(b), lanes(b.lanes), dots(kernel.dots(b.target)), kStep(kernel.kStep(b.target)),
        tile(MatmulKernel::tile(b.target, kernel.many)), vectors(tile / lanes), tokens(b.target.tileTokens),
        panelType(dots ? Type(b.getBF16Type()) : b.f32()), panelK(panelBytes / (tile * (dots ? 2 : 4))) {}

  void emit();

private:
  Segment readSegment();
  void emitDense();
  void emitExperts();
  /// The row of x for row `r` of the work list, and the row of out.
  Value inputRow(Int r);
  Int outputRow(Int r);
  void finish(Num value, std::optional<Num> up, Int r, Int n);
  Num dotRows(Value weight, Type type, Int n, Value x);
  void few(Int firstRow, Int lastRow, Int n0);
  void many(Int firstRow, Int lastRow, Int n0);
  void pack(Value weight, Type type, Int n0, Int k0, Int kc);
  void multiply(Value sums, Int firstRow, Int lastRow, Int k0, Int kc);

  const MatmulKernel &kernel;
  KernelBuilder &b;
  const int lanes;
  const bool dots;
  const int64_t kStep, tile, vectors, tokens;
  const Type panelType;
  const int64_t panelK;

  Value x, slots, residual;
  Int k, topK;
  Segment segment;
  Num alpha, limit;
};

} // namespace

Segment MatmulEmitter::readSegment() {
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
  alpha = limit = b.number(0.0);
  if (kernel.activation == Activation::OssSwiglu) {
    alpha = b.splat(b.nextFloat());
    limit = b.splat(b.nextFloat());
  }
  Int chunks = kernel.many ? b.ceilDiv(rows, b.i64(MatmulKernel::chunkRows)) : b.i64(1);
  Int index = b.workgroup / chunks, chunk = b.workgroup % chunks;
  // Which segment this tile falls into.
  segment = all.front();
  Int first = b.i64(0), end = b.i64(0);
  for (int i = 0; i < kernel.segments; ++i) {
    Value here = i == 0 ? nullptr : index < end;
    if (i > 0) {
      const Segment &s = all[i];
      segment.weight = b.selectPointer(here, segment.weight, s.weight);
      segment.n = b.select(here, segment.n, s.n);
      segment.out = b.selectPointer(here, segment.out, s.out);
      if (kernel.bias) {
        segment.bias = b.selectPointer(here, segment.bias, s.bias);
      }
      first = b.select(here, first, end);
    }
    end = end + b.ceilDiv(all[i].n, b.i64(tile));
  }
  Int n0 = (index - first) * tile;
  if (!kernel.many) {
    few(b.i64(0), rows, n0);
    return;
  }
  Int from = chunk * MatmulKernel::chunkRows;
  many(from, b.min(from + MatmulKernel::chunkRows, rows), n0);
}

void MatmulEmitter::emitExperts() {
  Value active = b.nextPointer(), offsets = b.nextPointer();
  slots = b.nextPointer();
  topK = b.nextInt();
  segment = readSegment();
  alpha = limit = b.number(0.0);
  if (kernel.activation == Activation::OssSwiglu) {
    alpha = b.splat(b.nextFloat());
    limit = b.splat(b.nextFloat());
  }
  Int tiles = b.ceilDiv(segment.n, b.i64(tile));
  Int index = b.workgroup / tiles, n0 = (b.workgroup % tiles) * tile;
  b.ifThen(index < b.loadI32(active, b.i64(0)), [&] {
    Int expert = b.loadI32(active, index + 1);
    Int from = b.loadI32(offsets, expert), to = b.loadI32(offsets, expert + 1);
    for (Value *table : {&segment.weight, &segment.up, &segment.bias, &segment.upBias}) {
      if (*table) {
        *table = b.loadPointer(*table, expert);
      }
    }
    if (!kernel.many) {
      few(from, to, n0);
      return;
    }
    b.ifElse(
        to - from < b.i64(fewRows), [&] { few(from, to, n0); },
        [&] {
          b.loop(from, to, MatmulKernel::chunkRows,
                 [&](Int r) { many(r, b.min(r + MatmulKernel::chunkRows, to), n0); });
        });
  });
}

Value MatmulEmitter::inputRow(Int r) {
  Int row = kernel.experts && kernel.tokenRows ? b.loadI32(slots, r) / topK : r;
  return b.at(x, row * k, kernel.x);
}

Int MatmulEmitter::outputRow(Int r) { return kernel.experts && !kernel.tokenRows ? b.loadI32(slots, r) : r; }

/// Bias, activation, residual and the store of `lanes` outputs from column `n`
/// on.
void MatmulEmitter::finish(Num value, std::optional<Num> up, Int r, Int n) {
  std::optional<Int> count;
  if (!kernel.nDivisible) {
    count = segment.n - n;
  }
  if (kernel.bias) {
    value = value + b.loadVec(b.at(segment.bias, n, kernel.bias), kernel.bias, lanes, count);
  }
  if (kernel.upBias) {
    up = *up + b.loadVec(b.at(segment.upBias, n, kernel.upBias), kernel.upBias, lanes, count);
  }
  if (kernel.activation) {
    value = kernels::emitActivation(b, *kernel.activation, value, up, alpha, limit);
  }
  Int offset = outputRow(r) * segment.n + n;
  if (kernel.residual) {
    value = b.loadVec(b.at(residual, offset, b.f32()), b.f32(), lanes, count) + value;
  }
  b.storeVec(value, b.at(segment.out, offset, kernel.out), kernel.out, count);
}

/// The products of the `lanes` weight rows from `n` on with one row of x.
Num MatmulEmitter::dotRows(Value weight, Type type, Int n, Value xRow) {
  constexpr int group = 4; // rows in flight: enough to hide the latency of the sums
  SmallVector<Value> sums;
  for (int r = 0; r < lanes; r += group) {
    SmallVector<Value> rows;
    for (int i = 0; i < group; ++i) {
      Int row = n + (r + i);
      if (!kernel.nDivisible) {
        row = b.min(row, segment.n - 1);
      }
      rows.push_back(b.at(weight, row * k, type));
    }
    SmallVector<Value> zeros(group, b.number(0.0));
    auto step = [&](Int i, std::optional<Int> count, ValueRange carried) {
      SmallVector<Value> next;
      if (dots) {
        Value xv = b.loadRaw(b.at(xRow, i, kernel.x), kernel.x, kStep, count);
        for (int j = 0; j < group; ++j) {
          Value w = b.loadRaw(b.at(rows[j], i, type), type, kStep, count);
          next.push_back(b.dotBf16(xv, w, {&b, carried[j]}));
        }
        return next;
      }
      Num xv = b.loadVec(b.at(xRow, i, kernel.x), kernel.x, kStep, count);
      for (int j = 0; j < group; ++j) {
        Num w = b.loadVec(b.at(rows[j], i, type), type, kStep, count);
        next.push_back(b.fma(xv, w, {&b, carried[j]}));
      }
      return next;
    };
    llvm::append_range(sums, b.overVectors(k, kStep, kernel.kDivisible, zeros, step));
  }
  return b.reduceTransposed(sums);
}

void MatmulEmitter::few(Int firstRow, Int lastRow, Int n0) {
  Int end = b.min(n0 + tile, segment.n);
  b.loop(n0, end, lanes, [&](Int n) {
    b.loop(firstRow, lastRow, 1, [&](Int r) {
      Value xRow = inputRow(r);
      Num value = dotRows(segment.weight, kernel.weight, n, xRow);
      std::optional<Num> up;
      if (kernel.gated) {
        up = dotRows(segment.up, kernel.up, n, xRow);
      }
      finish(value, up, r, n);
    });
  });
}

/// Transposes rows [n0, n0 + tile) x columns [k0, k0 + kc) into scratch:
/// [k][tile] f32, or [k / 2][tile] pairs of bf16.
void MatmulEmitter::pack(Value weight, Type type, Int n0, Int k0, Int kc) {
  Type cell = dots ? Type(b.getI32Type()) : b.f32(); // what a lane holds: a pair of bf16 or one f32
  for (int64_t v = 0; v < vectors; ++v) {
    SmallVector<Value> rows;
    for (int r = 0; r < lanes; ++r) {
      // A panel is wider than a vector: its last rows may lie past N even where vectors divide N.
      Int row = b.min(n0 + (v * lanes + r), segment.n - 1);
      rows.push_back(b.at(weight, row * k + k0, type));
    }
    b.overVectors(kc, kStep, kernel.kDivisible, [&](Int i, std::optional<Int> count) {
      SmallVector<Value> block;
      for (Value row : rows) {
        Value pointer = b.at(row, i, type);
        if (dots) {
          Value raw = b.loadRaw(pointer, type, kStep, count);
          block.push_back(vector::BitCastOp::create(b, b.vec(cell, lanes), raw));
        } else {
          block.push_back(b.loadVec(pointer, type, kStep, count));
        }
      }
      b.transpose(block);
      Int firstCell = dots ? i / 2 : i;
      for (int64_t j = 0; j < lanes; ++j) {
        b.store(block[j], b.at(b.scratch, (firstCell + j) * tile + v * lanes, cell));
      }
    });
  }
}

/// sums[r - firstRow] += x[r, k0 .. k0 + kc) * panel, for every row r; rows
/// beyond the last repeat it into padding.
void MatmulEmitter::multiply(Value sums, Int firstRow, Int lastRow, Int k0, Int kc) {
  b.loop(firstRow, lastRow, tokens, [&](Int r) {
    SmallVector<Value> rows, initial;
    for (int64_t t = 0; t < tokens; ++t) {
      rows.push_back(b.at(inputRow(b.min(r + t, lastRow - 1)), k0, kernel.x));
    }
    Value sumsAt = b.at(sums, (r - firstRow) * tile, b.f32());
    auto sumPointer = [&](int64_t t, int64_t v) { return b.at(sumsAt, b.i64(t * tile + v * lanes), b.f32()); };
    initial.assign(tokens * vectors, b.number(0.0));
    Int steps = dots ? kc / 2 : kc;
    auto step = [&](Int i, ValueRange carried) {
      SmallVector<Value> panel, next;
      for (int64_t v = 0; v < vectors; ++v) {
        Value pointer = b.at(b.scratch, i * tile + v * lanes, dots ? Type(b.getI32Type()) : b.f32());
        panel.push_back(b.load(pointer, dots ? b.vec(panelType, kStep) : b.vecF32()));
      }
      for (int64_t t = 0; t < tokens; ++t) {
        Value broadcast;
        if (dots) {
          Value pair = b.load(b.at(rows[t], i, b.getI32Type()), b.getI32Type());
          Value pairs = vector::BroadcastOp::create(b, b.vec(b.getI32Type(), lanes), pair);
          broadcast = vector::BitCastOp::create(b, b.vec(b.getBF16Type(), kStep), pairs);
        } else {
          broadcast = b.splat(b.loadScalar(b.at(rows[t], i, kernel.x), kernel.x));
        }
        for (int64_t v = 0; v < vectors; ++v) {
          Num sum{&b, carried[t * vectors + v]};
          next.push_back(dots ? b.dotBf16(broadcast, panel[v], sum) : b.fma({&b, broadcast}, {&b, panel[v]}, sum));
        }
      }
      return next;
    };
    b.loop(b.i64(0), steps, chainSteps, [&](Int from) {
      SmallVector<Value> result = b.loop(from, b.min(from + chainSteps, steps), 1, initial, step);
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t v = 0; v < vectors; ++v) {
          Num before{&b, b.load(sumPointer(t, v), b.vecF32())};
          b.store(before + Num{&b, result[t * vectors + v]}, sumPointer(t, v));
        }
      }
    });
  });
}

void MatmulEmitter::many(Int firstRow, Int lastRow, Int n0) {
  // Scratch: the panel with one block of padding, then the sums of each weight
  // with tileTokens rows of padding.
  const int64_t panelSize = panelBytes + kStep * tile * 4;
  const int64_t sumRows = MatmulKernel::chunkRows + tokens;
  SmallVector<Value> sums;
  for (int64_t i = 0; i < (kernel.gated ? 2 : 1); ++i) {
    sums.push_back(b.atBytes(b.scratch, b.i64(panelSize + i * sumRows * tile * 4)));
    Int cells = (lastRow - firstRow + tokens) * tile;
    b.loop(b.i64(0), cells, lanes, [&](Int c) { b.store(b.number(0.0), b.at(sums[i], c, b.f32())); });
  }
  b.loop(b.i64(0), k, panelK, [&](Int k0) {
    Int kc = b.min(b.i64(panelK), k - k0);
    for (auto [i, sum] : llvm::enumerate(sums)) {
      pack(i == 0 ? segment.weight : segment.up, i == 0 ? kernel.weight : kernel.up, n0, k0, kc);
      multiply(sum, firstRow, lastRow, k0, kc);
    }
  });
  Int end = b.min(n0 + tile, segment.n);
  b.loop(firstRow, lastRow, 1, [&](Int r) {
    b.loop(n0, end, lanes, [&](Int n) {
      auto sumAt = [&](Value base) {
        return Num{&b, b.load(b.at(base, (r - firstRow) * tile + (n - n0), b.f32()), b.vecF32())};
      };
      std::optional<Num> up;
      if (kernel.gated) {
        up = sumAt(sums[1]);
      }
      finish(sumAt(sums[0]), up, r, n);
    });
  });
}

void MatmulKernel::emit(KernelBuilder &b) const { MatmulEmitter(*this, b).emit(); }
