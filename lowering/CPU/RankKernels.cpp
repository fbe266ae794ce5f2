//===- RankKernels.cpp - What differs between ranks --------------------------===//
//
// Choices of experts become slots of a rank, and where that is so, lists of the
// rows that travel; padding chooses nobody; a rank's part of a weight is copied
// out of the whole. Exchanges between ranks are no kernels but commands.
//
//===----------------------------------------------------------------------===//

#include "lowering/CPU/Kernels.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::cpu;

void MaskPaddingKernel::emit(KernelBuilder &b) const {
  Value experts = b.nextPointer(), seq = b.nextPointer(), to = b.nextPointer();
  Int k = b.nextInt(), sequences = b.nextInt();
  Value isPadding = b.loadI32(seq, b.workgroup) == sequences - 1;
  b.loop(b.i64(0), k, 1, [&](Int j) {
    Int at = b.workgroup * k + j;
    b.storeI32(b.select(isPadding, b.i64(-1), b.loadI32(experts, at)), to, at);
  });
}

namespace {

/// The rule which replica a choice goes to (moe.localize), as code. Reads the operands begins, slots, shares, totals,
/// taken, counts, E, S, slots per rank, rank.
class Replicas {
public:
  explicit Replicas(KernelBuilder &b) : b(b), wide(b.getI64Type()) {
    begins = b.nextPointer();
    slots = b.nextPointer();
    shares = b.nextPointer();
    totals = b.nextPointer();
    taken = b.nextPointer();
    counts = b.nextPointer();
    e = b.nextInt();
    s = b.nextInt();
    perRank = b.nextInt();
    rank = b.nextInt();
  }
  /// Before the first choice. `taken`: choices of every expert, then those of every replica, in this step.
  void begin() {
    b.loop(b.i64(0), e + s, 1, [&](Int i) { b.store(b.i64(0), b.at(taken, i, wide)); });
  }
  /// The slot, of all ranks, that the next choice of `expert` goes to.
  Int choose(Int expert) {
    Int next = count(taken, expert) + 1, total = b.loadI32(totals, expert);
    Int begin = b.loadI32(begins, expert), end = b.loadI32(begins, expert + 1);
    auto behind = [&](Int replica) { return next * b.loadI32(shares, replica) - count(taken, e + replica) * total; };
    SmallVector<Value> best =
        b.loop(begin + 1, end, 1, ValueRange{begin, behind(begin)}, [&](Int replica, ValueRange carried) {
          Int value = behind(replica);
          Value more = Int{&b, carried[1]} < value;
          return SmallVector<Value>{b.select(more, replica, {&b, carried[0]}), b.select(more, value, {&b, carried[1]})};
        });
    Int replica{&b, best[0]};
    increase(taken, expert);
    increase(taken, e + replica);
    return b.loadI32(slots, replica);
  }
  /// Its number on this rank, or -1.
  Int local(Int slot) {
    Int own = slot - rank * perRank, none = b.i64(-1);
    return b.select(own < b.i64(0), none, b.select(own < perRank, own, none));
  }
  void countChoice(Int expert) { increase(counts, expert); }

  Int perRank, rank;

private:
  Int count(Value base, Int index) { return {&b, b.load(b.at(base, index, wide), wide)}; }
  void increase(Value base, Int index) { b.store(count(base, index) + 1, b.at(base, index, wide)); }

  KernelBuilder &b;
  Type wide;
  Value begins, slots, shares, totals, taken, counts;
  Int e, s;
};

} // namespace

// Scalar, as the sort by expert and for the same reason: every choice depends on
// how many were counted before.
void LocalizeKernel::emit(KernelBuilder &b) const {
  Value experts = b.nextPointer();
  Int rows = b.nextInt(), k = b.nextInt();
  Value to = b.nextPointer();
  Replicas replicas(b);
  replicas.begin();
  b.loop(b.i64(0), rows * k, 1, [&](Int choice) {
    Int expert = b.loadI32(experts, choice);
    b.ifElse(
        b.i64(-1) < expert,
        [&] {
          Int local = replicas.local(replicas.choose(expert));
          b.storeI32(local, to, choice);
          if (countOwn) {
            b.ifThen(b.i64(-1) < local, [&] { replicas.countChoice(expert); });
          } else {
            replicas.countChoice(expert);
          }
        },
        [&] { b.storeI32(b.i64(-1), to, choice); });
  });
}

// One pass over the choices of all ranks finds what comes here and where own
// choices go; a second over the own ones puts those in the order of ranks. Until
// then `places` holds -2 - r for a choice that goes to rank r.
void DispatchKernel::emit(KernelBuilder &b) const {
  Value experts = b.nextPointer();
  Int tokens = b.nextInt(), k = b.nextInt(), ranks = b.nextInt();
  Value sendRows = b.nextPointer(), sendCounts = b.nextPointer(), slots = b.nextPointer(), backRows = b.nextPointer(),
        backCounts = b.nextPointer(), places = b.nextPointer();
  Int sendRoom = b.nextInt(), backRoom = b.nextInt();
  Replicas replicas(b);
  Int zero = b.i64(0), one = b.i64(1), none = b.i64(-1);
  auto fill = [&](Value list, Int from, Int to) { b.loop(from, to, 1, [&](Int i) { b.storeI32(none, list, i); }); };
  replicas.begin();
  SmallVector<Value> came = b.loop(zero, ranks, 1, ValueRange{zero, zero}, [&](Int source, ValueRange carried) {
    Value isOwn = source == replicas.rank;
    Int choicesBefore{&b, carried[1]};
    SmallVector<Value> ofSource = b.loop(zero, tokens, 1, carried, [&](Int token, ValueRange found) {
      Int row{&b, found[0]}, before{&b, found[1]};
      SmallVector<Value> choices = b.loop(zero, k, 1, ValueRange{before}, [&](Int j, ValueRange counted) {
        Int choice{&b, counted[0]}, own = token * k + j, at = row * k + j;
        Int expert = b.loadI32(experts, (source * tokens + token) * k + j);
        b.storeI32(none, slots, at);
        b.ifThen(isOwn, [&] { b.storeI32(none, places, own); });
        b.ifThen(none < expert, [&] {
          Int slot = replicas.choose(expert), local = replicas.local(slot);
          b.ifThen(isOwn, [&] { b.storeI32(b.i64(-2) - slot / replicas.perRank, places, own); });
          b.ifThen(none < local, [&] {
            b.storeI32(local, slots, at);
            b.storeI32(at, backRows, choice);
            replicas.countChoice(expert);
          });
        });
        return SmallVector<Value>{choice + b.select(none < b.loadI32(slots, at), one, zero)};
      });
      Int after{&b, choices[0]};
      return SmallVector<Value>{row + b.select(before < after, one, zero), after};
    });
    b.storeI32(Int{&b, ofSource[1]} - choicesBefore, backCounts, source);
    return ofSource;
  });
  fill(slots, Int{&b, came[0]} * k, ranks * tokens * k);
  fill(backRows, {&b, came[1]}, backRoom * tokens);
  SmallVector<Value> sent = b.loop(zero, ranks, 1, ValueRange{zero, zero}, [&](Int target, ValueRange carried) {
    SmallVector<Value> toTarget = b.loop(zero, tokens, 1, carried, [&](Int token, ValueRange found) {
      Int row{&b, found[0]}, before{&b, found[1]};
      SmallVector<Value> choices = b.loop(zero, k, 1, ValueRange{before}, [&](Int j, ValueRange counted) {
        Int place{&b, counted[0]}, own = token * k + j;
        Value goes = b.loadI32(places, own) == b.i64(-2) - target;
        b.ifThen(goes, [&] { b.storeI32(place, places, own); });
        return SmallVector<Value>{place + b.select(goes, one, zero)};
      });
      Int after{&b, choices[0]};
      Value any = before < after;
      b.ifThen(any, [&] { b.storeI32(token, sendRows, row); });
      return SmallVector<Value>{row + b.select(any, one, zero), after};
    });
    b.storeI32(Int{&b, toTarget[0]} - Int{&b, carried[0]}, sendCounts, target);
    return toTarget;
  });
  fill(sendRows, {&b, sent[0]}, sendRoom * tokens);
}

void CopyListedRowsKernel::emit(KernelBuilder &b) const {
  Value in = b.nextPointer(), list = b.nextPointer(), out = b.nextPointer();
  Int bytes = b.nextInt(), row = b.loadI32(list, b.workgroup), zero = b.i64(0);
  Value to = b.atBytes(out, b.workgroup * bytes);
  Type byte = b.getI8Type();
  const int64_t n = b.lanes * 4;
  Int full = bytes - bytes % n;
  auto copy = [&] {
    Value from = b.atBytes(in, row * bytes);
    b.loop(zero, full, n, [&](Int i) { b.store(b.load(b.atBytes(from, i), b.vec(byte, n)), b.atBytes(to, i)); });
    b.loop(full, bytes, 1, [&](Int i) { b.store(b.load(b.atBytes(from, i), byte), b.atBytes(to, i)); });
  };
  if (!zeroMissing) {
    b.ifThen(b.i64(-1) < row, copy);
    return;
  }
  b.ifElse(b.i64(-1) < row, copy, [&] {
    b.loop(zero, full, n, [&](Int i) { b.store(b.integer(0, b.vec(byte, n)), b.atBytes(to, i)); });
    b.loop(full, bytes, 1, [&](Int i) { b.store(b.integer(0, byte), b.atBytes(to, i)); });
  });
}

void CopyPartKernel::emit(KernelBuilder &b) const {
  Value in = b.nextPointer(), to = b.nextPointer();
  Int bytes = b.nextInt(), inStride = b.nextInt(), outStride = b.nextInt(), copies = b.nextInt(), rank = b.nextInt();
  Value from = b.atBytes(in, b.workgroup * inStride + rank / copies * bytes);
  Value into = b.atBytes(to, b.workgroup * outStride);
  Type byte = b.getI8Type();
  const int64_t n = b.lanes * 4;
  Int full = bytes - bytes % n;
  b.loop(b.i64(0), full, n, [&](Int i) { b.store(b.load(b.atBytes(from, i), b.vec(byte, n)), b.atBytes(into, i)); });
  b.loop(full, bytes, 1, [&](Int i) { b.store(b.load(b.atBytes(from, i), byte), b.atBytes(into, i)); });
}
