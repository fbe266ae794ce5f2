//===- PickKernel.cpp - The largest logit of every row --------------------===//
//
// What a greedy choice needs of a step's logits, so that these stay where they are: one number per row instead of 4 V
// bytes. A workgroup takes a row, its threads by turns, eight loads under way in each; what threads found meets by
// shuffles, then in shared memory. The larger value wins, and of equal ones the lower index, so that the order in which
// they meet does not matter. That there is a NaN shows in a vote; only then the row is read again for the first one.
//
// By reckoning (not measured) 150,000 logits take some 6 us: a multiprocessor reads 64 bytes per cycle from the L2
// cache, where the logits lie, and spends some 8 instructions per logit, 128 of which it begins per cycle. More
// workgroups per row would have to meet in memory, in a launch of their own.
//
//===----------------------------------------------------------------------===//

#include "lowering/GPU/Kernels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

namespace {

class PickEmitter {
public:
  explicit PickEmitter(KernelBuilder &b)
      : b(b), in(b.nextPointer()), out(b.nextPointer()), count(b.nextInt()), none(b.i64(INT32_MAX)),
        row(b.at(in, b.workgroup * count, b.f32())) {}
  void emit();

private:
  /// The largest of what a thread has read, where it lies (i32), and whether there was no NaN.
  struct Found {
    Num value;
    Value index, noNaN;
    SmallVector<Value> flatten() const { return {value, index, noNaN}; }
  };
  Found take(const Found &found, Num value, Value index);
  Found search();
  void storeLargest(const Found &found);
  void storeFirstNaN();
  /// What `join` makes of all threads' values (f32 and i32). The block meets.
  SmallVector<Value> meet(ArrayRef<Value> values, llvm::function_ref<SmallVector<Value>(ValueRange, ValueRange)> join);

  KernelBuilder &b;
  Value in, out;
  Int count, none;
  Value row;
};

} // namespace

/// Indices of a thread ascend: of equal values the first stays.
auto PickEmitter::take(const Found &found, Num value, Value index) -> Found {
  Value more = b.less(found.value, value);
  return {b.select(more, value, found.value), arith::SelectOp::create(b, more, index, found.index),
          b.both(found.noNaN, b.equal(value, value))};
}

auto PickEmitter::search() -> Found {
  constexpr int64_t together = 8;
  auto foundOf = [&](ValueRange carried) { return Found{{&b, carried[0]}, carried[1], carried[2]}; };
  // The first is -inf where all are.
  Int start = b.select(b.thread < count, b.thread, none);
  SmallVector<Value> state = Found{b.number(-INFINITY), b.toI32(start), b.flag(true)}.flatten();
  state.push_back(b.thread);
  const int64_t last = (together - 1) * b.threads;
  state = b.loop(b.thread, count - last, b.i64(together * b.threads), state, [&](Int first, ValueRange carried) {
    Value begin = b.at(row, first, b.f32()), index = b.toI32(first);
    SmallVector<Num> values;
    for (int64_t i = 0; i < together; ++i) {
      values.push_back(b.loadScalar(b.at(begin, i * b.threads, b.f32()), b.f32()));
    }
    Found found = foundOf(carried);
    for (int64_t i = 0; i < together; ++i) {
      found = take(found, values[i], arith::AddIOp::create(b, index, b.i32(i * b.threads)));
    }
    SmallVector<Value> next = found.flatten();
    next.push_back(first + together * b.threads);
    return next;
  });
  Int rest{&b, state.pop_back_val()};
  state = b.loop(rest, count, b.i64(b.threads), state, [&](Int at, ValueRange carried) {
    return take(foundOf(carried), b.loadScalar(row, at, b.f32()), b.toI32(at)).flatten();
  });
  return foundOf(state);
}

SmallVector<Value> PickEmitter::meet(ArrayRef<Value> values,
                                     llvm::function_ref<SmallVector<Value>(ValueRange, ValueRange)> join) {
  static_assert(pickThreads / KernelBuilder::warpSize == KernelBuilder::warpSize, "a lane for every warp");
  auto overWarp = [&](SmallVector<Value> mine) {
    for (int64_t mask = KernelBuilder::warpSize / 2; mask > 0; mask /= 2) {
      SmallVector<Value> others;
      for (Value value : mine) {
        others.push_back(value.getType().isF32() ? b.shuffleXor(Num{&b, value}, mask).value
                                                 : b.toI32(b.shuffleXor(b.fromI32(value), mask)));
      }
      mine = join(mine, others);
    }
    return mine;
  };
  SmallVector<Value> mine = overWarp(SmallVector<Value>(values)), memory, all;
  for (Value value : mine) {
    memory.push_back(b.allocateShared(value.getType(), b.warps()));
  }
  b.ifThen(b.lane == b.i64(0), [&] {
    for (auto [value, to] : llvm::zip_equal(mine, memory)) {
      b.store(value, b.at(to, b.warp, value.getType()));
    }
  });
  b.barrier();
  for (auto [value, from] : llvm::zip_equal(mine, memory)) {
    all.push_back(b.load(b.at(from, b.lane, value.getType()), value.getType()));
  }
  return overWarp(all);
}

void PickEmitter::storeLargest(const Found &found) {
  SmallVector<Value> best = meet({found.value, found.index}, [&](ValueRange a, ValueRange c) {
    Num mine{&b, a[0]}, other{&b, c[0]};
    Value isBefore = arith::CmpIOp::create(b, arith::CmpIPredicate::slt, c[1], a[1]);
    Value wins = b.either(b.less(mine, other), b.both(b.equal(mine, other), isBefore));
    return SmallVector<Value>{b.select(wins, other, mine), arith::SelectOp::create(b, wins, c[1], a[1])};
  });
  b.ifThen(b.thread == b.i64(0), [&] { b.storeI32(b.fromI32(best[1]), out, b.workgroup); });
}

void PickEmitter::storeFirstNaN() {
  SmallVector<Value> mine =
      b.loop(b.thread, count, b.i64(b.threads), ValueRange{none}, [&](Int at, ValueRange carried) {
        Num value = b.loadScalar(row, at, b.f32());
        return SmallVector<Value>{b.min(Int{&b, carried[0]}, b.select(b.equal(value, value), none, at))};
      });
  SmallVector<Value> first = meet({b.toI32({&b, mine[0]})}, [&](ValueRange a, ValueRange c) {
    return SmallVector<Value>{arith::MinSIOp::create(b, a[0], c[0])};
  });
  b.ifThen(b.thread == b.i64(0), [&] { b.storeI32(b.i64(-1) - b.fromI32(first[0]), out, b.workgroup); });
}

void PickEmitter::emit() {
  Found found = search();
  b.ifElse(b.barrierAll(found.noNaN), [&] { storeLargest(found); }, [&] { storeFirstNaN(); });
}

void mlir::moe::gpu::emit(const kernels::Pick &, KernelBuilder &b) { PickEmitter(b).emit(); }
