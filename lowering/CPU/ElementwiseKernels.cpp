//===- ElementwiseKernels.cpp - Row-wise kernels: one workgroup per token ---===//
//
// Embedding, gather, add, RMSNorm, rotary embedding, cache write, combine, row
// copy: each reads and writes a few rows once, so a plain vector loop with a
// masked tail is all they need.
//
//===----------------------------------------------------------------------===//

#include "lowering/CPU/Kernels.h"
#include "lowering/Kernels/Formulas.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::cpu;

/// out[i] = in[i] for `size` elements, converted.
static void copyRow(KernelBuilder &b, Value in, Type inType, Value out, Type outType, Int size) {
  b.overVectors(size, b.lanes, /*divisible=*/false, [&](Int i, std::optional<Int> count) {
    b.storeVec(b.loadVec(b.at(in, i, inType), inType, b.lanes, count), b.at(out, i, outType), outType, count);
  });
}

//===----------------------------------------------------------------------===//
// Embedding, gather, add, combine, copy
//===----------------------------------------------------------------------===//

void EmbeddingKernel::emit(KernelBuilder &b) const {
  Value tokens = b.nextPointer(), rows = b.nextPointer(), to = b.nextPointer();
  Int h = b.nextInt();
  Int token = b.loadI32(tokens, b.workgroup);
  copyRow(b, b.at(rows, token * h, table), table, b.at(to, b.workgroup * h, out), out, h);
}

void GatherRowsKernel::emit(KernelBuilder &b) const {
  Value x = b.nextPointer(), rows = b.nextPointer(), to = b.nextPointer();
  Int h = b.nextInt();
  Int row = b.loadI32(rows, b.workgroup);
  copyRow(b, b.at(x, row * h, b.f32()), b.f32(), b.at(to, b.workgroup * h, b.f32()), b.f32(), h);
}

void AddKernel::emit(KernelBuilder &b) const {
  Value a = b.nextPointer(), c = b.nextPointer(), to = b.nextPointer();
  Int h = b.nextInt(), row = b.workgroup * h;
  b.overVectors(h, b.lanes, false, [&](Int i, std::optional<Int> count) {
    Num sum =
        b.loadVec(b.at(a, row + i, lhs), lhs, b.lanes, count) + b.loadVec(b.at(c, row + i, rhs), rhs, b.lanes, count);
    b.storeVec(sum, b.at(to, row + i, out), out, count);
  });
}

void CombineKernel::emit(KernelBuilder &b) const {
  Value from = b.nextPointer(), weights = b.nextPointer(), to = b.nextPointer();
  Int h = b.nextInt(), k = b.nextInt();
  Value base = residual ? b.nextPointer() : Value();
  Int token = b.workgroup;
  b.overVectors(h, b.lanes, false, [&](Int i, std::optional<Int> count) {
    SmallVector<Value> sum = b.loop(b.i64(0), k, 1, ValueRange{b.number(0.0)}, [&](Int j, ValueRange carried) {
      Int slot = token * k + j;
      Num weight = b.splat(b.loadScalar(b.at(weights, slot, b.f32()), b.f32()));
      Num row = b.loadVec(b.at(from, slot * h + i, y), y, b.lanes, count);
      return SmallVector<Value>{b.fma(weight, row, {&b, carried[0]})};
    });
    Num value{&b, sum[0]};
    Int at = token * h + i;
    if (residual) {
      value = b.loadVec(b.at(base, at, b.f32()), b.f32(), b.lanes, count) + value;
    }
    b.storeVec(value, b.at(to, at, out), out, count);
  });
}

void CopyRowsKernel::emit(KernelBuilder &b) const {
  Value in = b.nextPointer(), to = b.nextPointer();
  Int inBytes = b.nextInt(), outBytes = b.nextInt();
  Type byte = b.getI8Type();
  const int64_t n = b.lanes * 4;
  Value from = b.atBytes(in, b.workgroup * inBytes), into = b.atBytes(to, b.workgroup * outBytes);
  Int full = inBytes - inBytes % n;
  b.loop(b.i64(0), full, n, [&](Int i) { b.store(b.load(b.atBytes(from, i), b.vec(byte, n)), b.atBytes(into, i)); });
  b.loop(full, inBytes, 1, [&](Int i) { b.store(b.load(b.atBytes(from, i), byte), b.atBytes(into, i)); });
}

//===----------------------------------------------------------------------===//
// RMSNorm
//===----------------------------------------------------------------------===//

void RMSNormKernel::emit(KernelBuilder &b) const {
  Value in = b.nextPointer(), scale = b.nextPointer(), to = b.nextPointer();
  Int groups = b.nextInt(), n = b.nextInt();
  Num eps = b.nextFloat();
  b.loop(b.i64(0), groups, 1, [&](Int g) {
    Int row = (b.workgroup * groups + g) * n;
    SmallVector<Value> sum = b.overVectors(n, b.lanes, false, ValueRange{b.number(0.0)},
                                           [&](Int i, std::optional<Int> count, ValueRange carried) {
                                             Num v = b.loadVec(b.at(in, row + i, x), x, b.lanes, count);
                                             return SmallVector<Value>{b.fma(v, v, {&b, carried[0]})};
                                           });
    Num mean = b.reduceAdd({&b, sum[0]}) / b.toFloat(n);
    Num root{&b, math::SqrtOp::create(b, (mean + eps).value)};
    Num factor = b.splat(b.number(1.0, b.f32()) / root);
    b.overVectors(n, b.lanes, false, [&](Int i, std::optional<Int> count) {
      Num v = b.loadVec(b.at(in, row + i, x), x, b.lanes, count) * factor;
      if (rounding == ScaleRounding::BeforeWeight) {
        v = b.round(v, out);
      }
      v = v * b.loadVec(b.at(scale, i, weight), weight, b.lanes, count);
      b.storeVec(v, b.at(to, row + i, out), out, count);
    });
  });
}

//===----------------------------------------------------------------------===//
// Rotary embedding
//===----------------------------------------------------------------------===//

// The angle is the f32 product that transformers computes; its sine and cosine
// are then exact to f32.
void RopeAnglesKernel::emit(KernelBuilder &b) const {
  Value pos = b.nextPointer(), frequencies = b.nextPointer(), to = b.nextPointer();
  Int half = b.nextInt();
  Num factor = b.splat(b.nextFloat());
  Num position = b.splat(b.toFloat(b.loadI32(pos, b.workgroup)));
  Int row = b.workgroup * half * 2;
  b.overVectors(half, b.lanes, false, [&](Int i, std::optional<Int> count) {
    Num angle = b.loadVec(b.at(frequencies, i, b.f32()), b.f32(), b.lanes, count) * position;
    Num wide{&b, arith::ExtFOp::create(b, b.vec(b.getF64Type(), b.lanes), angle.value)};
    auto [sine, cosine] = kernels::emitSinCos(b, wide);
    auto narrow = [&](Num v) { return Num{&b, arith::TruncFOp::create(b, b.vecF32(), v.value)} * factor; };
    b.storeVec(narrow(cosine), b.at(to, row + i, b.f32()), b.f32(), count);
    b.storeVec(narrow(sine), b.at(to, row + half + i, b.f32()), b.f32(), count);
  });
}

void RopeKernel::emit(KernelBuilder &b) const {
  Value in = b.nextPointer(), angles = b.nextPointer(), to = b.nextPointer();
  Int heads = b.nextInt(), d = b.nextInt(), half = b.nextInt(), offset = b.nextInt();
  Value cosines = b.at(angles, b.workgroup * half * 2, b.f32());
  Value sines = b.at(cosines, half, b.f32());
  b.loop(b.i64(0), heads, 1, [&](Int head) {
    Int base = (b.workgroup * heads + head) * d;
    Int begin = base + offset;
    copyRow(b, b.at(in, base, x), x, b.at(to, base, x), x, offset);
    Int tail = offset + half * 2;
    copyRow(b, b.at(in, base + tail, x), x, b.at(to, base + tail, x), x, d - tail);
    if (interleaved) {
      // Pairs lie beside each other: a vector holds lanes / 2 of them.
      const int64_t pairs = b.lanes / 2;
      SmallVector<int64_t> even, odd, mixed;
      for (int64_t l = 0; l < pairs; ++l) {
        even.push_back(2 * l);
        odd.push_back(2 * l + 1);
        mixed.push_back(l);
        mixed.push_back(l + pairs);
      }
      b.overVectors(half, pairs, false, [&](Int i, std::optional<Int> count) {
        std::optional<Int> both;
        if (count) {
          both = *count * 2;
        }
        Num v = b.loadVec(b.at(in, begin + i * 2, x), x, b.lanes, both);
        Num a{&b, b.shuffle(v, v, even)}, c{&b, b.shuffle(v, v, odd)};
        Num cosine = b.loadVec(b.at(cosines, i, b.f32()), b.f32(), pairs, count);
        Num sine = b.loadVec(b.at(sines, i, b.f32()), b.f32(), pairs, count);
        Num first = a * cosine - c * sine, second = c * cosine + a * sine;
        b.storeVec({&b, b.shuffle(first, second, mixed)}, b.at(to, begin + i * 2, x), x, both);
      });
      return;
    }
    b.overVectors(half, b.lanes, false, [&](Int i, std::optional<Int> count) {
      Num a = b.loadVec(b.at(in, begin + i, x), x, b.lanes, count);
      Num c = b.loadVec(b.at(in, begin + half + i, x), x, b.lanes, count);
      Num cosine = b.loadVec(b.at(cosines, i, b.f32()), b.f32(), b.lanes, count);
      Num sine = b.loadVec(b.at(sines, i, b.f32()), b.f32(), b.lanes, count);
      b.storeVec(a * cosine - c * sine, b.at(to, begin + i, x), x, count);
      b.storeVec(c * cosine + a * sine, b.at(to, begin + half + i, x), x, count);
    });
  });
}

//===----------------------------------------------------------------------===//
// Cache write
//===----------------------------------------------------------------------===//

void CacheWriteKernel::emit(KernelBuilder &b) const {
  Value k = b.nextPointer(), v = b.nextPointer(), seq = b.nextPointer(), pos = b.nextPointer();
  Value keys = b.nextPointer(), values = b.nextPointer();
  Int keyRow = b.nextInt(), valueRow = b.nextInt(), context = b.nextInt();
  Int row = b.loadI32(seq, b.workgroup) * context + b.loadI32(pos, b.workgroup);
  copyRow(b, b.at(k, b.workgroup * keyRow, x), x, b.at(keys, row * keyRow, cache), cache, keyRow);
  copyRow(b, b.at(v, b.workgroup * valueRow, x), x, b.at(values, row * valueRow, cache), cache, valueRow);
}
