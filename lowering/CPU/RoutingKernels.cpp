//===- RoutingKernels.cpp - Scores, top-k and the sort by expert ---------===//
//
// One workgroup routes one token by one router, with the scores of its E experts in scratch. Of n routers side by side
// it sees the logits of a token as n rows, and the experts of router r as E further than those before.
// Selection takes K passes over E: the largest value and, among equals, the
// lowest index. A score that is NaN or -inf ranks last but keeps its id, so
// that whatever the logits hold, K distinct valid experts come out.
//
//===----------------------------------------------------------------------===//

#include "lowering/CPU/Kernels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include <cfloat>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::cpu;

/// The values [i, i + lanes) below `count`; lanes beyond hold `fill`.
static Num loadFilled(KernelBuilder &b, Value base, Int i, Int count, double fill) {
  Num values = b.loadVec(b.at(base, i, b.f32()), b.f32(), b.lanes);
  return b.select(b.firstLanes(count - i, b.lanes), values, b.number(fill));
}

static Num sumOf(KernelBuilder &b, Value base, Int count) {
  SmallVector<Value> sum = b.loop(b.i64(0), count, b.lanes, ValueRange{b.number(0.0)}, [&](Int i, ValueRange c) {
    return SmallVector<Value>{Num{&b, c[0]} + loadFilled(b, base, i, count, 0.0)};
  });
  return b.reduceAdd({&b, sum[0]});
}

/// Replaces `count` values at `base` (padded to whole vectors) by their softmax.
static void softmax(KernelBuilder &b, Value base, Int count) {
  SmallVector<Value> top = b.loop(b.i64(0), count, b.lanes, ValueRange{b.number(-FLT_MAX)}, [&](Int i, ValueRange c) {
    return SmallVector<Value>{b.max(loadFilled(b, base, i, count, -FLT_MAX), {&b, c[0]})};
  });
  Num largest = b.splat(b.reduceMax({&b, top[0]}));
  SmallVector<Value> sum = b.loop(b.i64(0), count, b.lanes, ValueRange{b.number(0.0)}, [&](Int i, ValueRange c) {
    Num p = b.exp(loadFilled(b, base, i, count, -INFINITY) - largest);
    b.store(p, b.at(base, i, b.f32()));
    return SmallVector<Value>{Num{&b, c[0]} + p};
  });
  Num total = b.splat(b.reduceAdd({&b, sum[0]}));
  b.loop(b.i64(0), count, b.lanes,
         [&](Int i) { b.store(b.loadVec(b.at(base, i, b.f32()), b.f32(), b.lanes) / total, b.at(base, i, b.f32())); });
}

namespace {

class RouteEmitter {
public:
  RouteEmitter(const RouteKernel &kernel, KernelBuilder &b) : kernel(kernel), b(b) {}
  void emit();

private:
  Value scoreAt(Int i) { return b.at(scores, i, b.f32()); }
  Value choiceAt(Int i) { return b.at(choices, i, b.f32()); }
  /// Index (i64) of the largest of the values [from, to) at `base`, the lowest
  /// of equals.
  Int argmax(Value base, Int from, Int to);
  void limitGroups();

  const RouteKernel &kernel;
  KernelBuilder &b;
  Value scores, choices, chosen, groupScores;
  Int e, k, groups, keep;
};

} // namespace

Int RouteEmitter::argmax(Value base, Int from, Int to) {
  Value lanes = b.laneNumbers();
  auto indices = [&](Int i) -> Value { return arith::AddIOp::create(b, lanes, b.splatI32(i)); };
  Num first = loadFilled(b, base, from, to, -INFINITY);
  SmallVector<Value> best =
      b.loop(from + b.lanes, to, b.lanes, ValueRange{first, indices(from)}, [&](Int i, ValueRange c) {
        Num value = loadFilled(b, base, i, to, -INFINITY);
        Value larger = arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, value, c[0]);
        return SmallVector<Value>{b.select(larger, value, {&b, c[0]}),
                                  arith::SelectOp::create(b, larger, indices(i), c[1])};
      });
  Num largest = b.splat(b.reduceMax({&b, best[0]}));
  Value equal = arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, best[0], largest);
  Value candidates = arith::SelectOp::create(b, equal, best[1], b.integer(INT32_MAX, b.vecI32()));
  Value lowest = vector::ReductionOp::create(b, vector::CombiningKind::MINSI, candidates);
  return b.fromI32(lowest);
}

/// Sets the choices of every group outside the `keep` best to -inf.
void RouteEmitter::limitGroups() {
  Int size = e / groups;
  b.loop(b.i64(0), groups, 1, [&](Int g) {
    Int from = g * size, to = from + size;
    Int first = argmax(choices, from, to);
    Num score = b.loadScalar(choiceAt(first), b.f32());
    if (kernel.groupScore == GroupScore::Top2Sum) {
      // The second largest: hide the first while looking. A group of one counts
      // that one alone.
      Num largest = score;
      b.storeScalar(b.number(-INFINITY, b.f32()), choiceAt(first), b.f32());
      Num second = b.loadScalar(choiceAt(argmax(choices, from, to)), b.f32());
      b.storeScalar(largest, choiceAt(first), b.f32());
      score = b.select(b.i64(1) < size, largest + second, largest);
    }
    b.storeScalar(score, b.at(groupScores, g, b.f32()), b.f32());
  });
  // A kept group is marked in a second array and hidden from the next pass.
  b.loop(b.i64(0), keep, 1, [&](Int) {
    Int g = argmax(groupScores, b.i64(0), groups);
    b.storeScalar(b.number(-INFINITY, b.f32()), b.at(groupScores, g, b.f32()), b.f32());
    b.storeScalar(b.number(1.0, b.f32()), b.at(groupScores, groups + g, b.f32()), b.f32());
  });
  b.loop(b.i64(0), groups, 1, [&](Int g) {
    Num mark = b.loadScalar(b.at(groupScores, groups + g, b.f32()), b.f32());
    Value out = arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, mark.value, b.number(0.0, b.f32()).value);
    b.ifThen(out, [&] {
      b.overVectors(size, b.lanes, false, [&](Int i, std::optional<Int> count) {
        b.storeVec(b.number(-INFINITY), choiceAt(g * size + i), b.f32(), count);
      });
    });
  });
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
  std::optional<Int> first;
  if (kernel.severalRouters) {
    first = b.workgroup % b.nextInt() * e;
  }
  // Scratch: scores, choices, chosen weights, group scores and marks; each padded to whole vectors (see scratchBytes).
  Int room = (e + 2 * b.lanes) / b.lanes * b.lanes;
  scores = b.scratch;
  choices = b.at(scores, room, b.f32());
  chosen = b.at(choices, room, b.f32());
  groupScores = b.at(chosen, room, b.f32());
  Value row = b.at(logits, b.workgroup * e, b.f32());

  b.overVectors(e, b.lanes, false, [&](Int i, std::optional<Int> count) {
    Num logit = b.loadVec(b.at(row, i, b.f32()), b.f32(), b.lanes, count);
    if (kernel.score == Score::Sigmoid) {
      logit = b.sigmoid(logit);
    }
    b.store(logit, scoreAt(i));
  });
  if (kernel.score == Score::Softmax) {
    softmax(b, scores, e);
  }
  b.overVectors(e, b.lanes, false, [&](Int i, std::optional<Int> count) {
    Num choice{&b, b.load(scoreAt(i), b.vecF32())};
    if (bias) {
      choice = choice + b.loadVec(b.at(bias, first ? *first + i : i, kernel.bias), kernel.bias, b.lanes, count);
    }
    b.store(b.max(choice, b.number(-FLT_MAX)),
            choiceAt(i)); // NaN and -inf rank last, above what is taken
  });
  if (kernel.grouped) {
    b.overVectors(groups * 2, b.lanes, false, [&](Int g, std::optional<Int> count) {
      b.storeVec(b.number(0.0), b.at(groupScores, g, b.f32()), b.f32(), count);
    });
    limitGroups();
  }
  b.loop(b.i64(0), k, 1, [&](Int j) {
    Int best = argmax(choices, b.i64(0), e);
    b.storeScalar(b.number(-INFINITY, b.f32()), choiceAt(best), b.f32());
    b.storeI32(first ? *first + best : best, experts, b.workgroup * k + j);
    b.storeScalar(b.loadScalar(scoreAt(best), b.f32()), b.at(chosen, j, b.f32()), b.f32());
  });
  if (kernel.renormalize == Renormalize::Softmax) {
    softmax(b, chosen, k);
  }
  Num factor = b.splat(scale);
  if (kernel.renormalize == Renormalize::Sum) {
    factor = factor / b.splat(sumOf(b, chosen, k) + epsilon);
  }
  b.overVectors(k, b.lanes, false, [&](Int i, std::optional<Int> count) {
    Num w = b.loadVec(b.at(chosen, i, b.f32()), b.f32(), b.lanes, count) * factor;
    b.storeVec(w, b.at(weights, b.workgroup * k + i, b.f32()), b.f32(), count);
  });
}

int64_t RouteKernel::scratchBytes(const CpuTarget &target, int64_t experts) {
  // Groups have a score and a mark each, and there are at most as many as experts.
  return 5 * (experts + 2 * target.lanes) * static_cast<int64_t>(sizeof(float));
}

void RouteKernel::emit(KernelBuilder &b) const { RouteEmitter(*this, b).emit(); }

// Counts are taken in offsets[e + 1]; the prefix sum turns each into the start
// of expert e; placing a slot moves it on, so that at the end it is the end of
// e, which is the start of e + 1.
//
// Scalar on purpose: slots of one expert depend on each other through its count,
// so vectors would need conflict detection, which AVX2 lacks, for some 5
// instructions per slot. `moe-run profile` of tiny-mixtral shows the sort at about
// 0.1 % of a step, of 512 tokens and of one.
void SortByExpertKernel::emit(KernelBuilder &b) const {
  Value experts = b.nextPointer();
  Int rows = b.nextInt(), e = b.nextInt(), k = b.nextInt();
  Value active = b.nextPointer(), offsets = b.nextPointer(), slots = b.nextPointer(), counts = b.nextPointer();
  Int zero = b.i64(0), slotCount = rows * k;
  b.loop(zero, e + 1, 1, [&](Int i) { b.storeI32(zero, offsets, i); });
  auto whenRouted = [&](Int slot, llvm::function_ref<void(Int)> then) {
    Int expert = b.loadI32(experts, slot);
    b.ifThen(b.i64(-1) < expert, [&] { then(expert); });
  };
  b.loop(zero, slotCount, 1, [&](Int slot) {
    whenRouted(slot, [&](Int expert) { b.storeI32(b.loadI32(offsets, expert + 1) + 1, offsets, expert + 1); });
  });
  SmallVector<Value> found = b.loop(zero, e, 1, ValueRange{zero, zero}, [&](Int i, ValueRange carried) {
    Int start{&b, carried[0]}, n{&b, carried[1]};
    Int count = b.loadI32(offsets, i + 1);
    Value total = b.at(counts, i, b.getI64Type());
    b.store((Int{&b, b.load(total, b.getI64Type())} + count), total);
    b.storeI32(i, active,
               n + 1); // overwritten by the next expert unless this one has work
    // offsets[i + 1] becomes the start of expert i while slots are placed,
    // and its end thereafter.
    b.storeI32(start, offsets, i + 1);
    return SmallVector<Value>{start + count, n + b.select(zero < count, b.i64(1), zero)};
  });
  b.storeI32({&b, found[1]}, active, zero);
  b.loop(zero, slotCount, 1, [&](Int slot) {
    whenRouted(slot, [&](Int expert) {
      Int at = b.loadI32(offsets, expert + 1);
      b.storeI32(slot, slots, at);
      b.storeI32(at + 1, offsets, expert + 1);
    });
  });
}

// Scalar but for the probabilities: this runs only in packages that were compiled to measure, and a token has few
// pairs.
void RoutingStatisticsKernel::emit(KernelBuilder &b) const {
  Value logits = b.nextPointer(), experts = b.nextPointer();
  Int rows = b.nextInt(), e = b.nextInt(), k = b.nextInt(), routers = b.nextInt();
  const Int own = e / routers, choices = k / routers;
  Value first = b.nextPointer(), probabilities = b.nextPointer(), pairs = b.nextPointer();
  const Type i64 = b.getI64Type();
  auto add = [&](Value base, Int index, Value amount) {
    Value place = b.at(base, index, i64);
    b.store(Int{&b, b.load(place, i64)} + Int{&b, amount}, place);
  };
  auto addProbabilities = [&](Int row, Int router) {
    const Int begin = router * own;
    add(first, b.loadI32(experts, row * k + router * choices), b.i64(1));
    b.overVectors(own, b.lanes, false, [&](Int i, std::optional<Int> count) {
      Num logit = b.loadVec(b.at(logits, row * e + begin + i, b.f32()), b.f32(), b.lanes, count);
      b.store(sigmoid ? b.sigmoid(logit) : logit, b.at(b.scratch, i, b.f32()));
    });
    Num factor = b.number(probabilityUnit, b.f32());
    if (sigmoid) {
      factor = factor / sumOf(b, b.scratch, own);
    } else {
      softmax(b, b.scratch, own);
    }
    b.loop(b.i64(0), own, 1, [&](Int i) {
      Num part = b.loadScalar(b.at(b.scratch, i, b.f32()), b.f32()) * factor;
      // Bad logits give NaN, which has no integer: such a token counts nothing here.
      Value isNumber = arith::CmpFOp::create(b, arith::CmpFPredicate::ORD, part.value, part.value);
      part = b.select(isNumber, part, b.number(0.0, b.f32()));
      add(probabilities, begin + i, arith::FPToSIOp::create(b, i64, part.value));
    });
  };
  b.loop(b.i64(0), rows, 1, [&](Int row) {
    b.ifThen(b.i64(-1) < b.loadI32(experts, row * k), [&] {
      b.loop(b.i64(0), routers, 1, [&](Int router) { addProbabilities(row, router); });
      b.loop(b.i64(0), k, 1, [&](Int i) {
        Int one = b.loadI32(experts, row * k + i);
        b.loop(i + 1, k, 1, [&](Int j) {
          Int other = b.loadI32(experts, row * k + j);
          b.ifThen(b.i64(-1) < b.min(one, other),
                   [&] { add(pairs, b.min(one, other) * e + b.max(one, other), b.i64(1)); });
        });
      });
    });
  });
}
