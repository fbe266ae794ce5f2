//===- RankKernels.cpp - What differs between ranks -----------------------===//
//
// Choices of experts become slots of a rank; padding chooses nobody.
//
//===----------------------------------------------------------------------===//

#include "lowering/GPU/Kernels.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

void mlir::moe::gpu::emit(const kernels::MaskPadding &, KernelBuilder &b) {
  Value experts = b.nextPointer(), seq = b.nextPointer(), to = b.nextPointer();
  Int k = b.nextInt(), sequences = b.nextInt();
  Value isPadding = b.loadI32(seq, b.workgroup) == sequences - 1;
  b.overThreads(k, [&](Int j) {
    Int at = b.workgroup * k + j;
    b.storeI32(b.select(isPadding, b.i64(-1), b.loadI32(experts, at)), to, at);
  });
}

// One thread, since every choice depends on how many were counted before.
void mlir::moe::gpu::emit(const kernels::Localize &kernel, KernelBuilder &b) {
  Value experts = b.nextPointer();
  Int rows = b.nextInt(), k = b.nextInt();
  Value to = b.nextPointer(), begins = b.nextPointer(), slots = b.nextPointer(), shares = b.nextPointer(),
        totals = b.nextPointer(), taken = b.nextPointer(), counts = b.nextPointer();
  Int e = b.nextInt(), s = b.nextInt(), perRank = b.nextInt(), rank = b.nextInt();
  Int zero = b.i64(0), one = b.i64(1), first = rank * perRank;
  auto increase = [&](Value base, Int index) { b.storeI64(b.loadI64(base, index) + 1, base, index); };
  b.ifThen(b.thread == zero, [&] {
    // taken: choices of every expert, then those of every replica, in this step.
    b.loop(zero, e + s, one, [&](Int i) { b.storeI64(zero, taken, i); });
    b.loop(zero, rows * k, one, [&](Int choice) {
      Int expert = b.loadI32(experts, choice);
      b.ifElse(
          b.i64(-1) < expert,
          [&] {
            Int next = b.loadI64(taken, expert) + 1, total = b.loadI32(totals, expert);
            Int begin = b.loadI32(begins, expert), end = b.loadI32(begins, expert + 1);
            auto behind = [&](Int replica) {
              return next * b.loadI32(shares, replica) - b.loadI64(taken, e + replica) * total;
            };
            SmallVector<Value> best =
                b.loop(begin + 1, end, one, ValueRange{begin, behind(begin)}, [&](Int replica, ValueRange carried) {
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
            if (kernel.countOwn) {
              b.ifThen(b.i64(-1) < local, [&] { increase(counts, expert); });
            } else {
              increase(counts, expert);
            }
          },
          [&] { b.storeI32(b.i64(-1), to, choice); });
    });
  });
}
