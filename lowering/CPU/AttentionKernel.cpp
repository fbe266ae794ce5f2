//===- AttentionKernel.cpp - Causal attention over the KV cache ----------===//
//
// Online softmax over blocks of keys, sums in f32. A workgroup serves one kv
// head and either one token (few) or a block of tokens (many); the query heads
// that share the kv head follow each other.
//
// Few: a block of `lanes` keys is dotted with the query row by row and summed
// by one transposed reduction. Many: the block of keys is transposed into
// scratch once and used by every (token, query head) of the workgroup: scores
// of `lanes` keys come from broadcasts of the query. Tokens of different
// sequences may share a block of tokens; each run of one sequence is done by
// itself.
//
//===----------------------------------------------------------------------===//

#include "lowering/CPU/Kernels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include <cfloat>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::cpu;

int64_t AttentionKernel::scratchBytes(const CpuTarget &target, int64_t perHead) const {
  const int64_t lanes = target.lanes, vector = lanes * static_cast<int64_t>(sizeof(float));
  auto vectorsOf = [&](int64_t dim) { return (dim + lanes - 1) / lanes; };
  if (!many) {
    return vector; // the weights of a block of keys
  }
  return vector * (1 + vectorsOf(keyDim) * lanes + blockTokens * perHead * (vectorsOf(valueDim) + 1));
}

namespace {

class AttentionEmitter {
public:
  AttentionEmitter(const AttentionKernel &kernel, KernelBuilder &b)
      : kernel(kernel), b(b), lanes(b.lanes), keyVectors((kernel.keyDim + lanes - 1) / lanes),
        valueVectors((kernel.valueDim + lanes - 1) / lanes) {}
  void emit();

private:
  // The state carried from block to block for one (token, query head): maximum
  // and sum of the scores (f32), then the weighted sum of values as vectors.

  std::optional<Int> tail(int64_t dim, int64_t v);
  Value keyRow(Int seq, Int p) { return b.at(keys, ((seq * context + p) * g + head) * kernel.keyDim, kernel.cache); }
  Value valueRow(Int seq, Int p) {
    return b.at(values, ((seq * context + p) * g + head) * kernel.valueDim, kernel.cache);
  }
  Int queryHead(Int r) { return head * perHead + r; }
  Int firstKey(Int pos);
  SmallVector<Value> initialState(Int queryHead);
  /// One block of `lanes` scores, of which `count` are real, of keys from `first` on, into the state;
  /// masked scores are -inf.
  SmallVector<Value> update(ValueRange state, Num scores, Int seq, Int p0, Int first, Int count);
  void writeResult(ValueRange state, Int token, Int queryHead);
  Num maskScores(Num scores, Int p0, Int first, Int last);
  void few();
  void many();
  void run(Int from, Int to, Int seq);

  const AttentionKernel &kernel;
  KernelBuilder &b;
  const int lanes;
  const int64_t keyVectors, valueVectors;
  Value q, seqs, positions, keys, values, out, sinks;
  Int rows, g, perHead, context, window, head;
  Num scale;
};

} // namespace

std::optional<Int> AttentionEmitter::tail(int64_t dim, int64_t v) {
  int64_t left = dim - v * lanes;
  return left >= lanes ? std::nullopt : std::optional<Int>(b.i64(left));
}

Int AttentionEmitter::firstKey(Int pos) {
  Int first = b.max(pos - window + 1, b.i64(0));
  return b.select(b.i64(0) < window, first, b.i64(0));
}

SmallVector<Value> AttentionEmitter::initialState(Int queryHead) {
  Num max = b.number(-FLT_MAX, b.f32()), sum = b.number(0.0, b.f32());
  if (kernel.sinks) {
    // A sink is a key of score sinks[h] and value 0.
    max = b.loadScalar(b.at(sinks, queryHead, kernel.sinks), kernel.sinks);
    sum = b.number(1.0, b.f32());
  }
  SmallVector<Value> state{max, sum};
  state.append(valueVectors, b.number(0.0));
  return state;
}

Num AttentionEmitter::maskScores(Num scores, Int p0, Int first, Int last) {
  Value numbers = b.laneNumbers();
  Value below = arith::CmpIOp::create(b, arith::CmpIPredicate::slt, numbers, b.splatI32(first - p0));
  Value above = arith::CmpIOp::create(b, arith::CmpIPredicate::sgt, numbers, b.splatI32(last - p0));
  Value masked = arith::OrIOp::create(b, below, above);
  return b.select(masked, b.number(-INFINITY), scores);
}

SmallVector<Value> AttentionEmitter::update(ValueRange state, Num scores, Int seq, Int p0, Int first, Int count) {
  Num oldMax{&b, state[0]}, oldSum{&b, state[1]};
  // A block whose scores are all masked leaves the maximum as it is: exp(-inf -
  // max) = 0.
  Num newMax = b.max(oldMax, b.reduceMax(scores));
  Num factorVector = b.exp(b.splat(oldMax - newMax));
  Num p = b.exp(scores - b.splat(newMax));
  Num factor{&b, vector::ExtractOp::create(b, factorVector.value, ArrayRef<int64_t>{0})};
  Num newSum = oldSum * factor + b.reduceAdd(p);
  SmallVector<Value> acc;
  for (int64_t v = 0; v < valueVectors; ++v) {
    acc.push_back(Num{&b, state[2 + v]} * factorVector);
  }
  // The weights go through memory: a vector of them is cheaper to store than to
  // take apart.
  Value weights = b.scratch;
  b.store(p, weights);
  // Keys below `first` are left out: a weight of zero does not hide a value that is not finite.
  acc = b.loop(b.max(first - p0, b.i64(0)), count, 1, acc, [&](Int j, ValueRange carried) {
    Num weight = b.splat(b.loadScalar(b.at(weights, j, b.f32()), b.f32()));
    Value row = valueRow(seq, p0 + j);
    SmallVector<Value> next;
    for (int64_t v = 0; v < valueVectors; ++v) {
      Num value = b.loadVec(b.at(row, b.i64(v * lanes), kernel.cache), kernel.cache, lanes, tail(kernel.valueDim, v));
      next.push_back(b.fma(weight, value, {&b, carried[v]}));
    }
    return next;
  });
  SmallVector<Value> result{newMax, newSum};
  result.append(acc);
  return result;
}

void AttentionEmitter::writeResult(ValueRange state, Int token, Int queryHead) {
  Num inverse = b.splat(b.number(1.0, b.f32()) / Num{&b, state[1]});
  Value row = b.at(out, (token * (g * perHead) + queryHead) * kernel.valueDim, kernel.x);
  for (int64_t v = 0; v < valueVectors; ++v) {
    b.storeVec(Num{&b, state[2 + v]} * inverse, b.at(row, b.i64(v * lanes), kernel.x), kernel.x,
               tail(kernel.valueDim, v));
  }
}

void AttentionEmitter::few() {
  Int token = b.workgroup / g;
  Int seq = b.loadI32(seqs, token), pos = b.loadI32(positions, token);
  Int first = firstKey(pos), start = first / lanes * lanes;
  b.loop(b.i64(0), perHead, 1, [&](Int r) {
    Value query = b.at(q, (token * (g * perHead) + queryHead(r)) * kernel.keyDim, kernel.x);
    SmallVector<Num> qv;
    for (int64_t v = 0; v < keyVectors; ++v) {
      qv.push_back(b.loadVec(b.at(query, b.i64(v * lanes), kernel.x), kernel.x, lanes, tail(kernel.keyDim, v)) *
                   b.splat(scale));
    }
    SmallVector<Value> state =
        b.loop(start, pos + 1, lanes, initialState(queryHead(r)), [&](Int p0, ValueRange carried) {
          SmallVector<Value> sums;
          for (int j = 0; j < lanes; ++j) {
            Value row = keyRow(seq, b.min(p0 + j,
                                          pos)); // lanes beyond the last key repeat it and are masked
            Num sum = b.number(0.0);
            for (int64_t v = 0; v < keyVectors; ++v) {
              Num key =
                  b.loadVec(b.at(row, b.i64(v * lanes), kernel.cache), kernel.cache, lanes, tail(kernel.keyDim, v));
              sum = b.fma(qv[v], key, sum);
            }
            sums.push_back(sum);
          }
          Num scores = maskScores(b.reduceTransposed(sums), p0, first, pos);
          return update(carried, scores, seq, p0, first, b.min(pos + 1 - p0, b.i64(lanes)));
        });
    writeResult(state, token, queryHead(r));
  });
}

void AttentionEmitter::many() {
  Int from = b.workgroup / g * AttentionKernel::blockTokens;
  Int to = b.min(from + AttentionKernel::blockTokens, rows);
  // Runs of one sequence: the last token of a run is where the next differs.
  b.loop(from, to, 1, ValueRange{from}, [&](Int t, ValueRange carried) {
    Int begin{&b, carried[0]}, next = t + 1;
    Int seq = b.loadI32(seqs, t);
    Int following = b.loadI32(seqs, b.min(next, to - 1));
    Value atEnd = arith::OrIOp::create(b, next == to,
                                       arith::CmpIOp::create(b, arith::CmpIPredicate::ne, seq.value, following.value));
    b.ifThen(atEnd, [&] { run(begin, next, seq); });
    return SmallVector<Value>{b.select(atEnd, next, begin)};
  });
}

/// Tokens [from, to) of one sequence.
void AttentionEmitter::run(Int from, Int to, Int seq) {
  // Scratch: one vector of weights (update), the transposed keys, then a state
  // per (token, query head).
  const int64_t paddedKey = keyVectors * lanes;
  Value transposed = b.at(b.scratch, b.i64(lanes), b.f32());
  Value states = b.at(transposed, b.i64(paddedKey * lanes), b.f32());
  const int64_t stateSize = (valueVectors + 1) * lanes; // maximum and sum take the first vector
  auto stateAt = [&](Int t, Int r) { return b.at(states, ((t - from) * perHead + r) * stateSize, b.f32()); };
  auto saveState = [&](ValueRange state, Value at) {
    b.store(state[0], at);
    b.store(state[1], b.at(at, b.i64(1), b.f32()));
    for (int64_t v = 0; v < valueVectors; ++v) {
      b.store(state[2 + v], b.at(at, b.i64((v + 1) * lanes), b.f32()));
    }
  };
  auto loadState = [&](Value at) {
    SmallVector<Value> state{b.load(at, b.f32()), b.load(b.at(at, b.i64(1), b.f32()), b.f32())};
    for (int64_t v = 0; v < valueVectors; ++v) {
      state.push_back(b.load(b.at(at, b.i64((v + 1) * lanes), b.f32()), b.vecF32()));
    }
    return state;
  };
  auto overQueries = [&](llvm::function_ref<void(Int, Int)> body) {
    b.loop(from, to, 1, [&](Int t) { b.loop(b.i64(0), perHead, 1, [&](Int r) { body(t, r); }); });
  };
  overQueries([&](Int t, Int r) { saveState(initialState(queryHead(r)), stateAt(t, r)); });

  Int lastPos = b.loadI32(positions, to - 1);
  Int start = firstKey(b.loadI32(positions, from)) / lanes * lanes;
  b.loop(start, lastPos + 1, lanes, [&](Int p0) {
    for (int64_t v = 0; v < keyVectors; ++v) {
      SmallVector<Value> block;
      for (int j = 0; j < lanes; ++j) {
        Value row = keyRow(seq, b.min(p0 + j, lastPos));
        block.push_back(
            b.loadVec(b.at(row, b.i64(v * lanes), kernel.cache), kernel.cache, lanes, tail(kernel.keyDim, v)));
      }
      b.transpose(block);
      for (int j = 0; j < lanes; ++j) {
        b.store(block[j], b.at(transposed, b.i64((v * lanes + j) * lanes), b.f32()));
      }
    }
    overQueries([&](Int t, Int r) {
      Int pos = b.loadI32(positions, t), first = firstKey(pos);
      b.ifThen(arith::AndIOp::create(b, p0 < pos + 1, first < p0 + lanes), [&] {
        Value query = b.at(q, (t * (g * perHead) + queryHead(r)) * kernel.keyDim, kernel.x);
        // Two sums in turn hide half of the latency of a chain.
        SmallVector<Value> sums(2, b.number(0.0));
        const int64_t pairs = kernel.keyDim / 2 * 2;
        sums = b.loop(b.i64(0), b.i64(pairs), 2, sums, [&](Int d, ValueRange carried) {
          SmallVector<Value> next;
          for (int64_t i = 0; i < 2; ++i) {
            Num element = b.splat(b.loadScalar(b.at(query, d + i, kernel.x), kernel.x));
            Num key{&b, b.load(b.at(transposed, (d + i) * lanes, b.f32()), b.vecF32())};
            next.push_back(b.fma(element, key, {&b, carried[i]}));
          }
          return next;
        });
        Num scores = Num{&b, sums[0]} + Num{&b, sums[1]};
        if (pairs < kernel.keyDim) {
          Num element = b.splat(b.loadScalar(b.at(query, b.i64(pairs), kernel.x), kernel.x));
          Num key{&b, b.load(b.at(transposed, b.i64(pairs * lanes), b.f32()), b.vecF32())};
          scores = b.fma(element, key, scores);
        }
        scores = maskScores(scores * b.splat(scale), p0, first, pos);
        Value at = stateAt(t, r);
        saveState(update(loadState(at), scores, seq, p0, first, b.min(pos + 1 - p0, b.i64(lanes))), at);
      });
    });
  });
  overQueries([&](Int t, Int r) { writeResult(loadState(stateAt(t, r)), t, queryHead(r)); });
}

void AttentionEmitter::emit() {
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
  scale = b.nextFloat();
  window = b.nextInt();
  if (kernel.sinks) {
    sinks = b.nextPointer();
  }
  head = b.workgroup % g;
  if (kernel.many) {
    many();
  } else {
    few();
  }
}

void AttentionKernel::emit(KernelBuilder &b) const { AttentionEmitter(*this, b).emit(); }
