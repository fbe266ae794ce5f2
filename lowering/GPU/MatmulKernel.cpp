//===- MatmulKernel.cpp - Linear, FFN and grouped expert products ---------===//
//
// Weights are stored [out, in]: rows contiguous along K, read where they lie.
//
// A warp makes four outputs: its lanes share K, 16 bytes of each weight row at a
// time, so that four loads are in flight per lane and every x is used four
// times; the sums are added up across the lanes at the end. A single row of x
// (decode) has a loop of its own; otherwise rows go by four, so that a weight is
// read once for four tokens.
//
//===----------------------------------------------------------------------===//

#include "lowering/GPU/Kernels.h"
#include "lowering/Kernels/Formulas.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

namespace {

/// The operands that belong to one weight (or one gate/up pair).
struct Segment {
  Value weight, up, out, bias, upBias;
  Int n;
};

class MatmulEmitter {
public:
  MatmulEmitter(const kernels::Matmul &kernel, KernelBuilder &b) : kernel(kernel), b(b) {}
  void emit();

private:
  Segment readSegment();
  void readActivation();
  void emitDense();
  void emitExperts();
  /// The row of x for row `r` of the work list, and the row of out.
  Value inputRow(Int r);
  Int outputRow(Int r);
  void finish(Num value, std::optional<Num> up, Int r, Int n);
  /// Rows [from, to) of the work list times the tile of outputs that begins at `n0`.
  void multiply(Int from, Int to, Int n0);
  /// The same for up to `count` rows from `from` on and the warp's outputs from `n` on.
  void multiplyRows(Int from, Int to, Int n, int64_t count);
  /// The sums of matmulOutputs weight rows times `xs`, across the lanes.
  SmallVector<Num> dotRows(Value weight, Type type, Int n, ArrayRef<Value> xs);

  const kernels::Matmul &kernel;
  KernelBuilder &b;
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
  Int chunks = kernel.many ? b.ceilDiv(rows, b.i64(matmulChunkRows)) : b.i64(1);
  Int index = b.workgroup / chunks, chunk = b.workgroup % chunks;
  // Which segment this tile falls into.
  segment = all.front();
  Int first = b.i64(0), end = b.ceilDiv(segment.n, b.i64(matmulTile));
  for (const Segment &s : ArrayRef<Segment>(all).drop_front()) {
    Value here = index < end;
    segment.weight = b.selectPointer(here, segment.weight, s.weight);
    segment.n = b.select(here, segment.n, s.n);
    segment.out = b.selectPointer(here, segment.out, s.out);
    if (kernel.bias) {
      segment.bias = b.selectPointer(here, segment.bias, s.bias);
    }
    first = b.select(here, first, end);
    end = end + b.ceilDiv(s.n, b.i64(matmulTile));
  }
  Int n0 = (index - first) * matmulTile;
  if (!kernel.many) {
    multiply(b.i64(0), rows, n0);
    return;
  }
  Int from = chunk * matmulChunkRows;
  multiply(from, b.min(from + matmulChunkRows, rows), n0);
}

void MatmulEmitter::emitExperts() {
  Value active = b.nextPointer(), offsets = b.nextPointer();
  slots = b.nextPointer();
  topK = b.nextInt();
  segment = readSegment();
  readActivation();
  Int tiles = b.ceilDiv(segment.n, b.i64(matmulTile));
  Int index = b.workgroup / tiles, n0 = (b.workgroup % tiles) * matmulTile;
  b.ifThen(index < b.loadI32(active, b.i64(0)), [&] {
    Int expert = b.loadI32(active, index + 1);
    Int from = b.loadI32(offsets, expert), to = b.loadI32(offsets, expert + 1);
    for (Value *table : {&segment.weight, &segment.up, &segment.bias, &segment.upBias}) {
      if (*table) {
        *table = b.loadPointer(*table, expert);
      }
    }
    multiply(from, to, n0);
  });
}

Value MatmulEmitter::inputRow(Int r) {
  Int row = kernel.experts && kernel.tokenRows ? b.loadI32(slots, r) / topK : r;
  return b.at(x, row * k, kernel.x);
}

Int MatmulEmitter::outputRow(Int r) { return kernel.experts && !kernel.tokenRows ? b.loadI32(slots, r) : r; }

/// Bias, activation, residual and the store of output `n` of row `r`.
void MatmulEmitter::finish(Num value, std::optional<Num> up, Int r, Int n) {
  if (kernel.bias) {
    value = value + b.loadScalar(segment.bias, n, kernel.bias);
  }
  if (kernel.upBias) {
    up = *up + b.loadScalar(segment.upBias, n, kernel.upBias);
  }
  if (kernel.activation) {
    value = kernels::emitActivation(b, *kernel.activation, value, up, alpha, limit);
  }
  Int offset = outputRow(r) * segment.n + n;
  if (kernel.residual) {
    value = b.loadScalar(residual, offset, b.f32()) + value;
  }
  b.storeScalar(value, segment.out, offset, kernel.out);
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
  b.ifThen(exists, [&] { finish(value, up, row, output); });
}

void MatmulEmitter::multiply(Int from, Int to, Int n0) {
  constexpr int64_t several = 4;
  Int n = n0 + b.warp * matmulOutputs;
  b.ifThen(n < segment.n, [&] {
    b.ifElse(
        to - from == b.i64(1), [&] { multiplyRows(from, to, n, 1); },
        [&] { b.loop(from, to, b.i64(several), [&](Int r) { multiplyRows(r, to, n, several); }); });
  });
}

void mlir::moe::gpu::emit(const kernels::Matmul &kernel, KernelBuilder &b) { MatmulEmitter(kernel, b).emit(); }
