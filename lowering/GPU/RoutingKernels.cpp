//===- RoutingKernels.cpp - Scores, top-k and statistics of routing -------===//
//
// One warp routes one token by one router, with the scores of its E experts in
// shared memory. Of n routers side by side it sees the logits of a token as n rows,
// and the experts of router r as E further than those before.
// Selection takes K passes over E: the largest value and, among equals, the
// lowest index. A score that is NaN or -inf ranks last but keeps its id, so
// that whatever the logits hold, K distinct valid experts come out.
//
//===----------------------------------------------------------------------===//

#include "lowering/GPU/Kernels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include <cfloat>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

/// The largest of values [0, count) at `base`, or `floor`.
static Num largestOf(KernelBuilder &b, Value base, Int count, double floor) {
  SmallVector<Value> top =
      b.loop(b.lane, count, b.i64(KernelBuilder::warpSize), ValueRange{b.number(floor)}, [&](Int i, ValueRange c) {
        return SmallVector<Value>{b.max(b.loadScalar(base, i, b.f32()), {&b, c[0]})};
      });
  return b.warpMax({&b, top[0]});
}

static Num sumOf(KernelBuilder &b, Value base, Int count) {
  SmallVector<Value> sum =
      b.loop(b.lane, count, b.i64(KernelBuilder::warpSize), ValueRange{b.number(0.0)},
             [&](Int i, ValueRange c) { return SmallVector<Value>{Num{&b, c[0]} + b.loadScalar(base, i, b.f32())}; });
  return b.warpSum({&b, sum[0]});
}

/// Replaces `count` values at `base`, each written by the lane of its number, by their softmax.
static void softmax(KernelBuilder &b, Value base, Int count) {
  Num largest = largestOf(b, base, count, -FLT_MAX);
  b.overLanes(count, [&](Int i) { b.storeScalar(b.exp(b.loadScalar(base, i, b.f32()) - largest), base, i, b.f32()); });
  Num total = sumOf(b, base, count);
  b.overLanes(count, [&](Int i) { b.storeScalar(b.loadScalar(base, i, b.f32()) / total, base, i, b.f32()); });
}

namespace {

class RouteEmitter {
public:
  RouteEmitter(const kernels::Route &kernel, KernelBuilder &b) : kernel(kernel), b(b) {}
  void emit();

private:
  /// Index of the largest of the values [from, to) at `base`, the lowest of equals. Ends with a barrier of the warp, so
  /// that the values may be changed.
  Int argmax(Value base, Int from, Int to);
  void onFirstLane(llvm::function_ref<void()> body) {
    b.ifThen(b.lane == b.i64(0), body);
    b.warpBarrier();
  }
  void limitGroups();

  const kernels::Route &kernel;
  KernelBuilder &b;
  Value scores, choices, chosen, groupScores, groupMarks;
  Int e, k, groups, keep;
};

} // namespace

Int RouteEmitter::argmax(Value base, Int from, Int to) {
  // Where all are -inf (or there are fewer values than lanes) the lowest number wins.
  SmallVector<Value> best =
      b.loop(from + b.lane, to, b.i64(KernelBuilder::warpSize), ValueRange{b.number(-INFINITY), (from + b.lane).value},
             [&](Int i, ValueRange c) {
               Num value = b.loadScalar(base, i, b.f32()), top{&b, c[0]};
               Value larger = b.less(top, value);
               return SmallVector<Value>{b.select(larger, value, top), b.select(larger, i, Int{&b, c[1]})};
             });
  Num top{&b, best[0]};
  Int index{&b, best[1]};
  for (int64_t mask = KernelBuilder::warpSize / 2; mask > 0; mask /= 2) {
    Num other = b.shuffleXor(top, mask);
    Int otherIndex = b.shuffleXor(index, mask);
    Value wins = b.either(b.less(top, other), b.both(b.equal(top, other), otherIndex < index));
    top = b.select(wins, other, top);
    index = b.select(wins, otherIndex, index);
  }
  b.warpBarrier();
  return index;
}

/// Sets the choices of every group outside the `keep` best to -inf.
void RouteEmitter::limitGroups() {
  Int size = e / groups, one = b.i64(1), zero = b.i64(0);
  Num hidden = b.number(-INFINITY);
  b.loop(zero, groups, one, [&](Int g) {
    Int from = g * size, to = from + size;
    Int first = argmax(choices, from, to);
    Num score = b.loadScalar(choices, first, b.f32());
    b.warpBarrier();
    if (kernel.groupScore == GroupScore::Top2Sum) {
      // The second largest: hide the first while looking. A group of one counts that one alone.
      Num largest = score;
      onFirstLane([&] { b.storeScalar(hidden, choices, first, b.f32()); });
      Num second = b.loadScalar(choices, argmax(choices, from, to), b.f32());
      b.warpBarrier();
      onFirstLane([&] { b.storeScalar(largest, choices, first, b.f32()); });
      score = b.select(one < size, largest + second, largest);
    }
    onFirstLane([&] {
      b.storeScalar(score, groupScores, g, b.f32());
      b.storeScalar(b.number(0.0), groupMarks, g, b.f32());
    });
  });
  // A kept group is marked in a second array and hidden from the next pass.
  b.loop(zero, keep, one, [&](Int) {
    Int g = argmax(groupScores, zero, groups);
    onFirstLane([&] {
      b.storeScalar(hidden, groupScores, g, b.f32());
      b.storeScalar(b.number(1.0), groupMarks, g, b.f32());
    });
  });
  b.overLanes(e, [&](Int i) {
    Value isOut = b.equal(b.loadScalar(groupMarks, i / size, b.f32()), b.number(0.0));
    b.ifThen(isOut, [&] { b.storeScalar(hidden, choices, i, b.f32()); });
  });
  b.warpBarrier();
}

void RouteEmitter::emit() {
  Value logits = b.nextPointer();
  Value bias = kernel.bias ? b.nextPointer() : Value();
  Value experts = b.nextPointer(), weights = b.nextPointer();
  e = b.nextInt();
  k = b.nextInt();
  Num epsilon = b.nextFloat(), scale = b.nextFloat();
  groups = b.nextInt();
  keep = b.nextInt();
  // The first expert of the workgroup's router.
  Int first = kernel.severalRouters ? b.workgroup % b.nextInt() * e : b.i64(0);
  scores = b.allocateShared(b.f32(), maxExperts);
  choices = b.allocateShared(b.f32(), maxExperts);
  chosen = b.allocateShared(b.f32(), maxExperts);
  if (kernel.grouped) {
    groupScores = b.allocateShared(b.f32(), maxExperts);
    groupMarks = b.allocateShared(b.f32(), maxExperts);
  }

  b.overLanes(e, [&](Int i) {
    Num logit = b.loadScalar(logits, b.workgroup * e + i, b.f32());
    b.storeScalar(kernel.score == Score::Sigmoid ? b.sigmoid(logit) : logit, scores, i, b.f32());
  });
  if (kernel.score == Score::Softmax) {
    softmax(b, scores, e);
  }
  b.overLanes(e, [&](Int i) {
    Num choice = b.loadScalar(scores, i, b.f32());
    if (bias) {
      choice = choice + b.loadScalar(bias, first + i, kernel.bias);
    }
    // NaN and -inf rank last, above what is taken.
    b.storeScalar(b.max(choice, b.number(-FLT_MAX)), choices, i, b.f32());
  });
  if (kernel.grouped) {
    b.warpBarrier(); // a group's choices are read by other lanes than wrote them
    limitGroups();
  }
  b.loop(b.i64(0), k, b.i64(1), [&](Int j) {
    Int best = argmax(choices, b.i64(0), e);
    onFirstLane([&] {
      b.storeScalar(b.number(-INFINITY), choices, best, b.f32());
      b.storeI32(first + best, experts, b.workgroup * k + j);
      b.storeScalar(b.loadScalar(scores, best, b.f32()), chosen, j, b.f32());
    });
  });
  if (kernel.renormalize == Renormalize::Softmax) {
    softmax(b, chosen, k);
  }
  Num factor = scale;
  if (kernel.renormalize == Renormalize::Sum) {
    factor = factor / (sumOf(b, chosen, k) + epsilon);
  }
  b.overLanes(k, [&](Int i) {
    b.storeScalar(b.loadScalar(chosen, i, b.f32()) * factor, weights, b.workgroup * k + i, b.f32());
  });
}

void mlir::moe::gpu::emit(const kernels::Route &kernel, KernelBuilder &b) { RouteEmitter(kernel, b).emit(); }

//===----------------------------------------------------------------------===//
// Statistics
//===----------------------------------------------------------------------===//

// One warp takes the tokens in turn. An expert's probability belongs to one lane and pairs to the first, so that
// nothing is added to by two.
void mlir::moe::gpu::emit(const kernels::RoutingStatistics &kernel, KernelBuilder &b) {
  Value logits = b.nextPointer(), experts = b.nextPointer();
  Int rows = b.nextInt(), e = b.nextInt(), k = b.nextInt(), routers = b.nextInt();
  Value first = b.nextPointer(), probabilities = b.nextPointer(), pairs = b.nextPointer();
  Value scores = b.allocateShared(b.f32(), maxExperts);
  Int zero = b.i64(0), one = b.i64(1), own = e / routers, choices = k / routers;
  auto add = [&](Value base, Int index, Int amount) { b.storeI64(b.loadI64(base, index) + amount, base, index); };
  auto addProbabilities = [&](Int row, Int router) {
    Int begin = router * own;
    b.overLanes(own, [&](Int i) {
      Num logit = b.loadScalar(logits, row * e + begin + i, b.f32());
      b.storeScalar(kernel.sigmoid ? b.sigmoid(logit) : logit, scores, i, b.f32());
    });
    Num factor = b.number(kernels::RoutingStatistics::probabilityUnit);
    if (kernel.sigmoid) {
      factor = factor / sumOf(b, scores, own);
    } else {
      softmax(b, scores, own);
    }
    b.overLanes(own, [&](Int i) {
      Num part = b.loadScalar(scores, i, b.f32()) * factor;
      // Bad logits give NaN, which has no integer: such a token counts nothing here.
      part = b.select(b.equal(part, part), part, b.number(0.0));
      add(probabilities, begin + i, {&b, arith::FPToSIOp::create(b, b.getI64Type(), part.value)});
    });
    b.ifThen(b.lane == zero, [&] { add(first, b.loadI32(experts, row * k + router * choices), one); });
  };
  b.loop(zero, rows, one, [&](Int row) {
    b.ifThen(b.i64(-1) < b.loadI32(experts, row * k), [&] {
      b.loop(zero, routers, one, [&](Int router) { addProbabilities(row, router); });
      b.ifThen(b.lane == zero, [&] {
        b.loop(zero, k, one, [&](Int i) {
          Int expert = b.loadI32(experts, row * k + i);
          b.loop(i + 1, k, one, [&](Int j) {
            Int other = b.loadI32(experts, row * k + j);
            b.ifThen(b.i64(-1) < b.min(expert, other),
                     [&] { add(pairs, b.min(expert, other) * e + b.max(expert, other), one); });
          });
        });
      });
    });
  });
}
