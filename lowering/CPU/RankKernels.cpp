//===- RankKernels.cpp - What differs between ranks --------------------------===//
//
// Choices of experts become slots of a rank; padding chooses nobody; a rank's
// part of a weight is copied out of the whole. Exchanges between ranks are no
// kernels but commands.
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

// Scalar, as the sort by expert and for the same reason: every choice depends on
// how many were counted before.
void LocalizeKernel::emit(KernelBuilder &b) const {
  Value experts = b.nextPointer();
  Int rows = b.nextInt(), k = b.nextInt();
  Value to = b.nextPointer(), begins = b.nextPointer(), slots = b.nextPointer(), shares = b.nextPointer(),
        totals = b.nextPointer(), taken = b.nextPointer(), counts = b.nextPointer();
  Int e = b.nextInt(), s = b.nextInt(), perRank = b.nextInt(), rank = b.nextInt();
  Type wide = b.getI64Type();
  Int zero = b.i64(0), first = rank * perRank;
  auto count = [&](Value base, Int index) { return Int{&b, b.load(b.at(base, index, wide), wide)}; };
  auto increase = [&](Value base, Int index) { b.store(count(base, index) + 1, b.at(base, index, wide)); };
  // taken: choices of every expert, then those of every replica, in this step.
  b.loop(zero, e + s, 1, [&](Int i) { b.store(zero, b.at(taken, i, wide)); });
  b.loop(zero, rows * k, 1, [&](Int choice) {
    Int expert = b.loadI32(experts, choice);
    b.ifElse(
        b.i64(-1) < expert,
        [&] {
          Int next = count(taken, expert) + 1, total = b.loadI32(totals, expert);
          Int begin = b.loadI32(begins, expert), end = b.loadI32(begins, expert + 1);
          auto behind = [&](Int replica) {
            return next * b.loadI32(shares, replica) - count(taken, e + replica) * total;
          };
          SmallVector<Value> best =
              b.loop(begin + 1, end, 1, ValueRange{begin, behind(begin)}, [&](Int replica, ValueRange carried) {
                Int value = behind(replica);
                Value more = Int{&b, carried[1]} < value;
                return SmallVector<Value>{b.select(more, replica, {&b, carried[0]}),
                                          b.select(more, value, {&b, carried[1]})};
              });
          Int replica{&b, best[0]};
          increase(taken, expert);
          increase(taken, e + replica);
          Int slot = b.loadI32(slots, replica) - first;
          Int below = b.select(slot < perRank, slot, b.i64(-1)), local = b.select(slot < zero, b.i64(-1), below);
          b.storeI32(local, to, choice);
          if (countOwn) {
            b.ifThen(b.i64(-1) < local, [&] { increase(counts, expert); });
          } else {
            increase(counts, expert);
          }
        },
        [&] { b.storeI32(b.i64(-1), to, choice); });
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
