//===- SortKernel.cpp - Counting sort of choices by expert, and its tiles ---===//
//
// One workgroup. The choices are cut into sections, one per warp, which each warp
// goes through twice, 32 at a time: first it counts its choices of every expert,
// then, when the counts of all are places, it puts them there. Lanes with the same
// expert find each other by match.any, and their order is that of the lanes: no
// atomics, so that the order is that of the choices whatever runs first.
//
// Work and time are those of the choices alone: 32 warps have 1024 choices under
// way, so that 32,768 of them (4096 tokens of 8) are 32 rounds of each pass. Counts
// of all sections and experts lie in shared memory; of many experts there are
// fewer sections.
//
// Behind that, every thread finds the expert of a tile of rows by bisection.
//
//===----------------------------------------------------------------------===//

#include "lowering/GPU/Kernels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

/// Counts that have room: of 32 sections and 256 experts, or 8 and 1024.
static constexpr int64_t countRoom = 8192;
static_assert(countRoom >= maxExperts && sortThreads >= maxExperts);

namespace {

class SortEmitter {
public:
  SortEmitter(const kernels::SortByExpert &kernel, KernelBuilder &b) : kernel(kernel), b(b), i32(b.getI32Type()) {}
  void emit();

private:
  /// Goes through the warp's section (overEqual). Without a choice the expert is -1.
  void overSection(llvm::function_ref<void(Int, Int, Int, Int)> body);
  void place();
  void listTiles(Int count);

  const kernels::SortByExpert &kernel;
  KernelBuilder &b;
  const Type i32;
  Value experts, list, offsets, slots, counts;
  Value table;  ///< i32 [section, E]: choices of a section, then where they begin
  Value sums;   ///< i32 [2, warps]: of choices, and of tiles or experts with work
  Value begins; ///< i32 [E]: the number of an expert's first tile
  Int e, choices, section, used;
};

} // namespace

void SortEmitter::overSection(llvm::function_ref<void(Int, Int, Int, Int)> body) {
  Int begin = b.warp * section;
  b.overEqual(experts, begin, b.min(begin + section, choices), e, body);
}

void SortEmitter::emit() {
  experts = b.nextPointer();
  Int rows = b.nextInt();
  e = b.nextInt();
  choices = rows * b.nextInt();
  list = b.nextPointer();
  offsets = b.nextPointer();
  slots = b.nextPointer();
  counts = b.nextPointer();
  table = b.allocateShared(i32, countRoom);
  sums = b.allocateShared(i32, 2 * b.warps());
  if (kernel.tileRows) {
    begins = b.allocateShared(i32, maxExperts);
  }
  Int zero = b.i64(0), one = b.i64(1), warpSize = b.i64(KernelBuilder::warpSize);
  Int sections = b.min(b.i64(b.warps()), b.i64(countRoom) / e);
  section = b.max(b.ceilDiv(b.ceilDiv(choices, sections), warpSize), one) * KernelBuilder::warpSize;
  used = b.ceilDiv(choices, section);

  b.overThreads(used * e, [&](Int i) { b.storeI32(zero, table, i); });
  b.barrier();
  overSection([&](Int, Int expert, Int below, Int number) {
    Int at = b.warp * e + expert;
    b.ifThen(b.both(b.i64(-1) < expert, below == zero), [&] { b.storeI32(b.loadI32(table, at) + number, table, at); });
    b.warpBarrier(); // another lane may count the next ones
  });
  b.barrier();

  // A thread per expert: where its choices begin, in all and by section.
  Value exists = b.thread < e;
  Int expert = b.min(b.thread, e - 1);
  Int count{&b, b.loop(zero, used, one, ValueRange{zero}, [&](Int s, ValueRange carried) {
              return SmallVector<Value>{Int{&b, carried[0]} + b.loadI32(table, s * e + expert)};
            })[0]};
  count = b.select(exists, count, zero);
  Value works = zero < count;
  // Beside it runs the number of tiles, or of experts with work.
  Int units = kernel.tileRows ? b.ceilDiv(count, b.i64(kernel.tileRows)) : b.select(works, one, zero);
  SmallVector<Int> own{count, units}, through{b.sumBelow(count), b.sumBelow(units)}, before;
  b.ifThen(b.lane == warpSize - 1, [&] {
    for (size_t i = 0; i < own.size(); ++i) {
      b.storeI32(through[i], sums, b.warp + static_cast<int64_t>(i) * b.warps());
    }
  });
  b.barrier();
  for (size_t i = 0; i < own.size(); ++i) {
    Int lower{&b, b.loop(zero, b.warp, one, ValueRange{zero}, [&](Int w, ValueRange carried) {
                return SmallVector<Value>{Int{&b, carried[0]} +
                                          b.loadI32(sums, w + static_cast<int64_t>(i) * b.warps())};
              })[0]};
    before.push_back(lower + through[i] - own[i]);
  }
  b.ifThen(exists, [&] {
    Int start = before[0], unit = before[1];
    b.storeI32(start, offsets, expert);
    b.storeI64(b.loadI64(counts, expert) + count, counts, expert);
    b.loop(zero, used, one, ValueRange{start}, [&](Int s, ValueRange carried) {
      Int at = s * e + expert, place{&b, carried[0]}, here = b.loadI32(table, at);
      b.storeI32(place, table, at);
      return SmallVector<Value>{place + here};
    });
    if (kernel.tileRows) {
      b.storeI32(unit, begins, expert);
    } else {
      b.ifThen(works, [&] { b.storeI32(expert, list, unit + 1); });
    }
    b.ifThen(expert == e - 1, [&] {
      b.storeI32(start + count, offsets, e);
      b.storeI32(unit + units, list, zero);
    });
  });
  b.barrier();
  place();
  if (kernel.tileRows) {
    Int tiles{&b, b.loop(zero, b.i64(b.warps()), one, ValueRange{zero}, [&](Int w, ValueRange carried) {
                return SmallVector<Value>{Int{&b, carried[0]} + b.loadI32(sums, w + b.warps())};
              })[0]};
    listTiles(tiles);
  }
}

void SortEmitter::place() {
  overSection([&](Int choice, Int expert, Int below, Int number) {
    Int at = b.warp * e + b.max(expert, b.i64(0)), first = b.loadI32(table, at);
    b.warpBarrier(); // all have read it
    b.ifThen(b.i64(-1) < expert, [&] {
      b.storeI32(choice, slots, first + below);
      b.ifThen(below == b.i64(0), [&] { b.storeI32(first + number, table, at); });
    });
    b.warpBarrier(); // before the next ones read it
  });
}

/// Of experts whose tiles begin at the same number all but the last have none.
void SortEmitter::listTiles(Int count) {
  b.overThreads(count, [&](Int tile) {
    Int expert = b.i64(0);
    for (int64_t step = maxExperts / 2; step > 0; step /= 2) {
      Int further = expert + step;
      Value isBehind = b.both(further < e, b.loadI32(begins, b.min(further, e - 1)) < tile + 1);
      expert = b.select(isBehind, further, expert);
    }
    Int start = b.loadI32(offsets, expert), end = b.loadI32(offsets, expert + 1);
    Int values[] = {expert, tile - b.loadI32(begins, expert), start, end - start};
    for (int64_t i = 0; i < 4; ++i) {
      b.storeI32(values[i], list, (tile + 1) * 4 + i);
    }
  });
}

void mlir::moe::gpu::emit(const kernels::SortByExpert &kernel, KernelBuilder &b) { SortEmitter(kernel, b).emit(); }
