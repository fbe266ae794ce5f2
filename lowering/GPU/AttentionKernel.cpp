//===- AttentionKernel.cpp - Causal attention over the KV cache -----------===//
//
// The form for all types and heads (TiledAttention.cpp has those of tensor cores).
// Online softmax, sums in f32. A workgroup serves one (token, query head). Its
// warps share the keys: 32 at a time, one key per lane for the scores (the query
// lies in shared memory), then one or two value dims per lane for the weighted
// sum. Each warp has a state of its own (maximum, sum, weighted sum); they meet
// in shared memory at the end.
//
//===----------------------------------------------------------------------===//

#include "lowering/GPU/TiledAttention.h"
#include <cfloat>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

namespace {

class AttentionEmitter {
public:
  AttentionEmitter(const kernels::Attention &kernel, KernelBuilder &b)
      : kernel(kernel), b(b), perLane(kernel.valueDim % 64 == 0 ? 2 : 1),
        pieces((kernel.valueDim + KernelBuilder::warpSize * perLane - 1) / (KernelBuilder::warpSize * perLane)) {}
  void emit();

private:
  Int keyRow(Int p) { return ((seq * context + p) * g + head) * kernel.keyDim; }
  Int valueRow(Int p) { return ((seq * context + p) * g + head) * kernel.valueDim; }
  /// The first of the lane's value dims of piece `i`.
  Int valueDim(int64_t i) { return (b.lane + i * KernelBuilder::warpSize) * perLane; }
  void readQuery();
  Num score(Int p);
  SmallVector<Value> overKeys(Int first);
  void meet(ValueRange state);

  const kernels::Attention &kernel;
  KernelBuilder &b;
  const int64_t perLane, pieces;
  Value q, keys, values, out, sinks, query;
  Int token, seq, pos, g, perHead, context, head, queryHead;
  Num scale;
};

} // namespace

void AttentionEmitter::readQuery() {
  query = b.allocateShared(b.f32(), kernel.keyDim);
  Int row = (token * (g * perHead) + queryHead) * kernel.keyDim;
  b.overThreads(b.i64(kernel.keyDim),
                [&](Int i) { b.storeScalar(b.loadScalar(q, row + i, kernel.x) * scale, query, i, b.f32()); });
  b.barrier();
}

/// The scaled query times the key at `p`.
Num AttentionEmitter::score(Int p) {
  Int row = keyRow(p);
  const int64_t width = kernel.keyDim % 8 == 0 ? 8 : 1;
  SmallVector<Value> sum =
      b.loop(b.i64(0), b.i64(kernel.keyDim), b.i64(width), ValueRange{b.number(0.0)}, [&](Int d, ValueRange carried) {
        Num next{&b, carried[0]};
        Value key = b.at(keys, row + d, kernel.cache), element = b.at(query, d, b.f32());
        if (width == 1) {
          return SmallVector<Value>{b.fma(b.loadScalar(element, b.f32()), b.loadScalar(key, kernel.cache), next)};
        }
        for (auto [a, c] :
             llvm::zip_equal(b.loadVector(element, b.f32(), width), b.loadVector(key, kernel.cache, width))) {
          next = b.fma(a, c, next);
        }
        return SmallVector<Value>{next};
      });
  return {&b, sum[0]};
}

/// The warp's state over its share of the keys: the maximum, the lane's part of the sum, then the lane's weighted sums.
SmallVector<Value> AttentionEmitter::overKeys(Int first) {
  constexpr int64_t block = KernelBuilder::warpSize;
  SmallVector<Value> state{b.number(-FLT_MAX), b.number(0.0)};
  state.append(pieces * perLane, b.number(0.0));
  return b.loop(first + b.warp * block, pos + 1, b.i64(b.threads), state, [&](Int p0, ValueRange carried) {
    Num oldMax{&b, carried[0]}, sum{&b, carried[1]};
    // Lanes beyond the last key repeat it and are masked.
    Int p = p0 + b.lane;
    Num s = b.select(pos < p, b.number(-INFINITY), score(b.min(p, pos)));
    Num newMax = b.max(oldMax, b.warpMax(s));
    Num factor = b.exp(oldMax - newMax), weight = b.exp(s - newMax);
    SmallVector<Value> next{newMax, sum * factor + weight};
    for (Value value : carried.drop_front(2)) {
      next.push_back(Num{&b, value} * factor);
    }
    SmallVector<Value> sums(ArrayRef<Value>(next).drop_front(2));
    sums = b.loop(b.i64(0), b.min(pos + 1 - p0, b.i64(block)), b.i64(1), sums, [&](Int j, ValueRange inner) {
      Num w = b.shuffle(weight, j);
      Int row = valueRow(p0 + j);
      SmallVector<Value> result;
      for (int64_t i = 0; i < pieces; ++i) {
        // A lane without a dim of its own reads the last one and keeps it to itself.
        Int dim = b.min(valueDim(i), b.i64(kernel.valueDim - perLane));
        for (Num value : b.loadVector(b.at(values, row + dim, kernel.cache), kernel.cache, perLane)) {
          result.push_back(b.fma(w, value, {&b, inner[result.size()]}));
        }
      }
      return result;
    });
    next.truncate(2);
    next.append(sums);
    return next;
  });
}

/// Adds up the states of the warps and writes the result.
void AttentionEmitter::meet(ValueRange state) {
  const int64_t warps = b.warps();
  Value maxima = b.allocateShared(b.f32(), warps), totals = b.allocateShared(b.f32(), warps);
  Value sums = b.allocateShared(b.f32(), warps * kernel.valueDim);
  Num total = b.warpSum({&b, state[1]});
  b.ifThen(b.lane == b.i64(0), [&] {
    b.storeScalar({&b, state[0]}, maxima, b.warp, b.f32());
    b.storeScalar(total, totals, b.warp, b.f32());
  });
  for (int64_t i = 0; i < pieces; ++i) {
    b.ifThen(valueDim(i) < b.i64(kernel.valueDim), [&] {
      for (int64_t j = 0; j < perLane; ++j) {
        b.storeScalar({&b, state[2 + i * perLane + j]}, sums, b.warp * kernel.valueDim + valueDim(i) + j, b.f32());
      }
    });
  }
  b.barrier();
  SmallVector<Num> factors;
  for (int64_t w = 0; w < warps; ++w) {
    factors.push_back(b.loadScalar(maxima, b.i64(w), b.f32()));
  }
  Num largest = factors.front();
  for (Num other : ArrayRef<Num>(factors).drop_front()) {
    largest = b.max(largest, other);
  }
  Num sum = b.number(0.0);
  if (sinks) {
    // A sink is a key of score sinks[h] and value 0.
    Num sink = b.loadScalar(sinks, queryHead, kernel.sinks);
    largest = b.max(largest, sink);
    sum = b.exp(sink - largest);
  }
  for (auto [w, factor] : llvm::enumerate(factors)) {
    factor = b.exp(factor - largest);
    sum = b.fma(factor, b.loadScalar(totals, b.i64(static_cast<int64_t>(w)), b.f32()), sum);
  }
  Num inverse = b.number(1.0) / sum;
  Int row = (token * (g * perHead) + queryHead) * kernel.valueDim;
  b.overThreads(b.i64(kernel.valueDim), [&](Int i) {
    Num value = b.number(0.0);
    for (auto [w, factor] : llvm::enumerate(factors)) {
      value = b.fma(factor, b.loadScalar(sums, i + static_cast<int64_t>(w) * kernel.valueDim, b.f32()), value);
    }
    b.storeScalar(value * inverse, out, row + i, kernel.x);
  });
}

void AttentionEmitter::emit() {
  q = b.nextPointer();
  Value seqs = b.nextPointer(), positions = b.nextPointer();
  keys = b.nextPointer();
  values = b.nextPointer();
  out = b.nextPointer();
  b.nextInt(); // rows: the grid has them
  g = b.nextInt();
  perHead = b.nextInt();
  context = b.nextInt();
  scale = b.nextFloat();
  Int window = b.nextInt();
  if (kernel.sinks) {
    sinks = b.nextPointer();
  }
  Int heads = g * perHead;
  token = b.workgroup / heads;
  queryHead = b.workgroup % heads;
  head = queryHead / perHead;
  seq = b.loadI32(seqs, token);
  pos = b.loadI32(positions, token);
  readQuery();
  Int first = b.select(b.i64(0) < window, b.max(pos - window + 1, b.i64(0)), b.i64(0));
  meet(overKeys(first));
}

void mlir::moe::gpu::emit(const kernels::Attention &kernel, KernelBuilder &b) {
  if (isTiled(kernel)) {
    emitTiled(kernel, b);
  } else {
    AttentionEmitter(kernel, b).emit();
  }
}
