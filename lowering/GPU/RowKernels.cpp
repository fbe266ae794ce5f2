//===- RowKernels.cpp - Row-wise kernels: one workgroup per token ---------===//
//
// Embedding, gather, add, RMSNorm, rotary embedding, cache write, combine: each
// reads and writes a few rows once. Neighbouring threads take neighbouring
// elements, so that a warp's accesses are one piece of memory.
//
//===----------------------------------------------------------------------===//

#include "lowering/GPU/Kernels.h"
#include "lowering/Kernels/Formulas.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

/// out[i] = in[i] for `size` elements, converted.
static void copyRow(KernelBuilder &b, Value in, Type inType, Value out, Type outType, Int size) {
  b.overThreads(size, [&](Int i) { b.storeScalar(b.loadScalar(in, i, inType), out, i, outType); });
}

//===----------------------------------------------------------------------===//
// Embedding, gather, add, combine
//===----------------------------------------------------------------------===//

void mlir::moe::gpu::emit(const kernels::Embedding &kernel, KernelBuilder &b) {
  Value tokens = b.nextPointer(), rows = b.nextPointer(), to = b.nextPointer();
  Int h = b.nextInt();
  Int token = b.loadI32(tokens, b.workgroup);
  copyRow(b, b.at(rows, token * h, kernel.table), kernel.table, b.at(to, b.workgroup * h, kernel.out), kernel.out, h);
}

void mlir::moe::gpu::emit(const kernels::GatherRows &, KernelBuilder &b) {
  Value x = b.nextPointer(), rows = b.nextPointer(), to = b.nextPointer();
  Int h = b.nextInt();
  Int row = b.loadI32(rows, b.workgroup);
  copyRow(b, b.at(x, row * h, b.f32()), b.f32(), b.at(to, b.workgroup * h, b.f32()), b.f32(), h);
}

void mlir::moe::gpu::emit(const kernels::Add &kernel, KernelBuilder &b) {
  Value a = b.nextPointer(), c = b.nextPointer(), to = b.nextPointer();
  Int h = b.nextInt(), row = b.workgroup * h;
  b.overThreads(h, [&](Int i) {
    Num sum = b.loadScalar(a, row + i, kernel.lhs) + b.loadScalar(c, row + i, kernel.rhs);
    b.storeScalar(sum, to, row + i, kernel.out);
  });
}

void mlir::moe::gpu::emit(const kernels::Combine &kernel, KernelBuilder &b) {
  Value from = b.nextPointer(), weights = b.nextPointer(), to = b.nextPointer();
  Int h = b.nextInt(), k = b.nextInt();
  Value base = kernel.residual ? b.nextPointer() : Value();
  Int token = b.workgroup;
  b.overThreads(h, [&](Int i) {
    SmallVector<Value> sum = b.loop(b.i64(0), k, b.i64(1), ValueRange{b.number(0.0)}, [&](Int j, ValueRange carried) {
      Int slot = token * k + j;
      Num weight = b.loadScalar(weights, slot, b.f32()), value = b.loadScalar(from, slot * h + i, kernel.y);
      return SmallVector<Value>{b.fma(weight, value, {&b, carried[0]})};
    });
    Num value{&b, sum[0]};
    if (kernel.residual) {
      value = b.loadScalar(base, token * h + i, b.f32()) + value;
    }
    b.storeScalar(value, to, token * h + i, kernel.out);
  });
}

//===----------------------------------------------------------------------===//
// RMSNorm
//===----------------------------------------------------------------------===//

void mlir::moe::gpu::emit(const kernels::RMSNorm &kernel, KernelBuilder &b) {
  Value in = b.nextPointer(), scale = b.nextPointer(), to = b.nextPointer();
  Int groups = b.nextInt(), n = b.nextInt();
  Num eps = b.nextFloat();
  Value partials = b.allocateShared(b.f32(), b.warps());
  b.loop(b.i64(0), groups, b.i64(1), [&](Int g) {
    Int row = (b.workgroup * groups + g) * n;
    SmallVector<Value> sum =
        b.loop(b.thread, n, b.i64(b.threads), ValueRange{b.number(0.0)}, [&](Int i, ValueRange carried) {
          Num v = b.loadScalar(in, row + i, kernel.x);
          return SmallVector<Value>{b.fma(v, v, {&b, carried[0]})};
        });
    Num mean = b.blockSum({&b, sum[0]}, partials) / b.toFloat(n);
    Num factor = b.number(1.0) / b.sqrt(mean + eps);
    b.overThreads(n, [&](Int i) {
      Num v = b.loadScalar(in, row + i, kernel.x) * factor;
      if (kernel.rounding == ScaleRounding::BeforeWeight) {
        v = b.round(v, kernel.out);
      }
      b.storeScalar(v * b.loadScalar(scale, i, kernel.weight), to, row + i, kernel.out);
    });
  });
}

//===----------------------------------------------------------------------===//
// Rotary embedding, cache write
//===----------------------------------------------------------------------===//

// The angle is the f32 product that transformers computes; its sine and cosine
// are then exact to f32.
void mlir::moe::gpu::emit(const kernels::RopeAngles &, KernelBuilder &b) {
  Value pos = b.nextPointer(), frequencies = b.nextPointer(), to = b.nextPointer();
  Int half = b.nextInt();
  Num factor = b.nextFloat();
  Num position = b.toFloat(b.loadI32(pos, b.workgroup));
  Int row = b.workgroup * half * 2;
  b.overThreads(half, [&](Int i) {
    Num angle = b.loadScalar(frequencies, i, b.f32()) * position;
    Num wide{&b, arith::ExtFOp::create(b, b.getF64Type(), angle.value)};
    auto [sine, cosine] = kernels::emitSinCos(b, wide);
    auto narrow = [&](Num v) { return Num{&b, arith::TruncFOp::create(b, b.f32(), v.value)} * factor; };
    b.storeScalar(narrow(cosine), to, row + i, b.f32());
    b.storeScalar(narrow(sine), to, row + half + i, b.f32());
  });
}

// A thread makes single elements: the first of a pair is a cos - c sin, the
// second c cos + a sin, and what is not turned is copied.
void mlir::moe::gpu::emit(const kernels::Rope &kernel, KernelBuilder &b) {
  Value in = b.nextPointer(), angles = b.nextPointer(), to = b.nextPointer();
  Int heads = b.nextInt(), d = b.nextInt(), half = b.nextInt(), offset = b.nextInt();
  Int row = b.workgroup * heads * d, table = b.workgroup * half * 2;
  b.overThreads(heads * d, [&](Int i) {
    Int inHead = i % d, turned = inHead - offset;
    Num value = b.loadScalar(in, row + i, kernel.x);
    Value isTurned = b.both(b.i64(-1) < turned, turned < half * 2);
    b.ifElse(
        isTurned,
        [&] {
          Int pair = kernel.interleaved ? turned / 2 : b.select(turned < half, turned, turned - half);
          Value isFirst = kernel.interleaved ? turned % 2 == b.i64(0) : turned < half;
          Int distance = kernel.interleaved ? b.i64(1) : half;
          Num other = b.loadScalar(in, row + b.select(isFirst, i + distance, i - distance), kernel.x);
          Num cosine = b.loadScalar(angles, table + pair, b.f32());
          Num sine = b.loadScalar(angles, table + half + pair, b.f32());
          Num straight = value * cosine, crossed = other * sine;
          b.storeScalar(b.select(isFirst, straight - crossed, straight + crossed), to, row + i, kernel.x);
        },
        [&] { b.storeScalar(value, to, row + i, kernel.x); });
  });
}

void mlir::moe::gpu::emit(const kernels::CacheWrite &kernel, KernelBuilder &b) {
  Value k = b.nextPointer(), v = b.nextPointer(), seq = b.nextPointer(), pos = b.nextPointer();
  Value keys = b.nextPointer(), values = b.nextPointer();
  Int keyRow = b.nextInt(), valueRow = b.nextInt(), context = b.nextInt();
  Int row = b.loadI32(seq, b.workgroup) * context + b.loadI32(pos, b.workgroup);
  Type x = kernel.x, cache = kernel.cache;
  copyRow(b, b.at(k, b.workgroup * keyRow, x), x, b.at(keys, row * keyRow, cache), cache, keyRow);
  copyRow(b, b.at(v, b.workgroup * valueRow, x), x, b.at(values, row * valueRow, cache), cache, valueRow);
}
