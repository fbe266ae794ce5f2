//===- ElementwiseKernels.cpp - Row-wise kernels: one workgroup per token ---===//
//
// Embedding, gather, add, RMSNorm, rotary embedding, cache write, combine, row
// copy: each reads and writes a few rows once, so a plain vector loop with a
// masked tail is all they need.
//
//===----------------------------------------------------------------------===//

#include "lowering/CPU/Kernels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::cpu;

std::string mlir::moe::cpu::typeName(Type type) {
  std::string name;
  llvm::raw_string_ostream(name) << type;
  return name;
}

/// out[i] = in[i] for `size` elements, converted.
static void copyRow(KernelBuilder &b, Value in, Type inType, Value out, Type outType, Int size) {
  b.overVectors(size, b.lanes, /*divisible=*/false, [&](Int i, std::optional<Int> count) {
    b.storeVec(b.loadVec(b.at(in, i, inType), inType, b.lanes, count), b.at(out, i, outType), outType, count);
  });
}

//===----------------------------------------------------------------------===//
// Embedding, gather, add, combine, copy
//===----------------------------------------------------------------------===//

std::string EmbeddingKernel::name() const { return "embedding_" + typeName(table) + "_" + typeName(out); }

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

std::string AddKernel::name() const { return "add_" + typeName(lhs) + "_" + typeName(rhs) + "_" + typeName(out); }

void AddKernel::emit(KernelBuilder &b) const {
  Value a = b.nextPointer(), c = b.nextPointer(), to = b.nextPointer();
  Int h = b.nextInt(), row = b.workgroup * h;
  b.overVectors(h, b.lanes, false, [&](Int i, std::optional<Int> count) {
    Num sum =
        b.loadVec(b.at(a, row + i, lhs), lhs, b.lanes, count) + b.loadVec(b.at(c, row + i, rhs), rhs, b.lanes, count);
    b.storeVec(sum, b.at(to, row + i, out), out, count);
  });
}

std::string CombineKernel::name() const {
  return "combine_" + typeName(y) + "_" + typeName(out) + (residual ? "_residual" : "");
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

std::string RMSNormKernel::name() const {
  return "rms_norm_" + typeName(x) + "_" + typeName(weight) + "_" + typeName(out) + "_" +
         stringifyScaleRounding(rounding).str();
}

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

/// sin and cos of f64 angles up to 2^31: reduction by pi/2 in two parts, Taylor
/// series to 1e-13 on [-pi/4, pi/4].
static std::pair<Num, Num> sinCos(KernelBuilder &b, Num angle) {
  Type type = angle.value.getType();
  auto c = [&](double v) { return b.number(v, type); };
  Num turns{&b, math::RoundEvenOp::create(b, (angle * c(0.63661977236758134308)).value)};
  Num r = b.fma(c(-1.57079632679489655800), turns, angle);
  r = b.fma(c(-6.12323399573676603587e-17), turns, r);
  Num r2 = r * r;
  Num sine = c(-7.6471637318198164759e-13), cosine = c(-1.1470745597729724714e-11);
  for (double term : {1.6059043836821614599e-10, -2.5052108385441718775e-8, 2.7557319223985890653e-6,
                      -1.9841269841269841270e-4, 8.3333333333333333333e-3, -1.6666666666666666667e-1}) {
    sine = b.fma(sine, r2, c(term));
  }
  sine = b.fma(sine * r2, r, r);
  for (double term : {2.0876756987868098979e-9, -2.7557319223985890653e-7, 2.4801587301587301587e-5,
                      -1.3888888888888888889e-3, 4.1666666666666666667e-2, -0.5, 1.0}) {
    cosine = b.fma(cosine, r2, c(term));
  }
  // Quadrant: odd turns swap sine and cosine, the second bit changes signs.
  auto vector = cast<VectorType>(type);
  Type ints = vector.clone(b.getI64Type());
  Value quadrant = arith::FPToSIOp::create(b, ints, turns.value);
  auto bitSet = [&](Value value, int64_t bit) -> Value {
    Value masked = arith::AndIOp::create(b, value, b.integer(bit, ints));
    return arith::CmpIOp::create(b, arith::CmpIPredicate::ne, masked, b.integer(0, ints));
  };
  Value one = b.integer(1, ints);
  Value odd = bitSet(quadrant, 1), flipSine = bitSet(quadrant, 2);
  Value flipCosine = bitSet(arith::AddIOp::create(b, quadrant, one), 2);
  Num s = b.select(odd, cosine, sine), k = b.select(odd, sine, cosine);
  return {b.select(flipSine, c(0.0) - s, s), b.select(flipCosine, c(0.0) - k, k)};
}

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
    auto [sine, cosine] = sinCos(b, wide);
    auto narrow = [&](Num v) { return Num{&b, arith::TruncFOp::create(b, b.vecF32(), v.value)} * factor; };
    b.storeVec(narrow(cosine), b.at(to, row + i, b.f32()), b.f32(), count);
    b.storeVec(narrow(sine), b.at(to, row + half + i, b.f32()), b.f32(), count);
  });
}

std::string RopeKernel::name() const { return "rope_" + typeName(x) + (interleaved ? "_interleaved" : ""); }

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

std::string CacheWriteKernel::name() const { return "cache_write_" + typeName(x) + "_" + typeName(cache); }

void CacheWriteKernel::emit(KernelBuilder &b) const {
  Value k = b.nextPointer(), v = b.nextPointer(), seq = b.nextPointer(), pos = b.nextPointer();
  Value keys = b.nextPointer(), values = b.nextPointer();
  Int keyRow = b.nextInt(), valueRow = b.nextInt(), context = b.nextInt();
  Int row = b.loadI32(seq, b.workgroup) * context + b.loadI32(pos, b.workgroup);
  copyRow(b, b.at(k, b.workgroup * keyRow, x), x, b.at(keys, row * keyRow, cache), cache, keyRow);
  copyRow(b, b.at(v, b.workgroup * valueRow, x), x, b.at(values, row * valueRow, cache), cache, valueRow);
}

//===----------------------------------------------------------------------===//
// Activations
//===----------------------------------------------------------------------===//

Num mlir::moe::cpu::emitActivation(KernelBuilder &b, Activation activation, Num gate, std::optional<Num> up, Num alpha,
                                   Num limit) {
  Type type = gate.value.getType();
  Num one = b.number(1.0, type);
  Num value = gate;
  switch (activation) {
  case Activation::Silu:
    value = gate * b.sigmoid(gate);
    break;
  case Activation::Gelu: {
    Num erf{&b, math::ErfOp::create(b, (gate * b.number(0.70710678118654752440, type)).value)};
    value = b.number(0.5, type) * gate * (one + erf);
    break;
  }
  case Activation::GeluTanh: {
    // 0.5 (1 + tanh(z)) is sigmoid(2z).
    Num z = b.number(0.79788456080286535588, type) * b.fma(b.number(0.044715, type) * gate * gate, gate, gate);
    value = gate * b.sigmoid(z + z);
    break;
  }
  case Activation::Relu:
    value = b.max(gate, b.number(0.0, type));
    break;
  case Activation::OssSwiglu: {
    Num g = b.min(gate, limit);
    Num u = b.max(b.min(*up, limit), b.number(0.0, type) - limit);
    return g * b.sigmoid(alpha * g) * (u + one);
  }
  }
  return up ? value * *up : value;
}
