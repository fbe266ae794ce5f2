//===- RankKernels.cpp - What differs between ranks -----------------------===//
//
// Choices of experts become slots of a rank and, where only some rows travel,
// lists of those; padding chooses nobody.
//
// Which replica takes a choice depends on how many choices of that expert came
// before, and on nothing else: so one workgroup goes through the choices in
// tiles, counts them like the sort by expert does, and then every choice finds
// its slot by its number. What is in the order of rows is counted by sums over the block.
//
//===----------------------------------------------------------------------===//

#include "lowering/GPU/Kernels.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

/// Choices of a tile. Counts of them that have room: of 8 sections and 512 experts, or 4 and 1024, of which a route
/// chooses at most.
static constexpr int64_t tileChoices = 2048, tableRoom = 4096;
static_assert(tableRoom >= maxExperts);

void mlir::moe::gpu::emit(const kernels::MaskPadding &, KernelBuilder &b) {
  Value experts = b.nextPointer(), seq = b.nextPointer(), to = b.nextPointer();
  Int k = b.nextInt(), sequences = b.nextInt();
  Value isPadding = b.loadI32(seq, b.workgroup) == sequences - 1;
  b.overThreads(k, [&](Int j) {
    Int at = b.workgroup * k + j;
    b.storeI32(b.select(isPadding, b.i64(-1), b.loadI32(experts, at)), to, at);
  });
}

namespace {

/// Sums over the threads of the block.
class BlockSums {
public:
  explicit BlockSums(KernelBuilder &b) : b(b), partials(b.allocateShared(b.getI32Type(), b.warps())) {}

  /// What the threads before this one have of `value`, and what all have. The block meets before and behind.
  std::pair<Int, Int> before(Int value) {
    Int zero = b.i64(0), sum = b.sumBelow(value);
    b.barrier(); // the last sums have been read
    b.ifThen(b.lane == b.i64(KernelBuilder::warpSize - 1), [&] { b.storeI32(sum, partials, b.warp); });
    b.barrier();
    Int total = zero, mine = sum - value;
    for (int64_t w = 0; w < b.warps(); ++w) {
      Int partial = b.loadI32(partials, b.i64(w));
      mine = mine + b.select(b.i64(w) < b.warp, partial, zero);
      total = total + partial;
    }
    return {mine, total};
  }

private:
  KernelBuilder &b;
  Value partials;
};

/// The rule which replica a choice goes to (moe.localize). Reads the operands begins, slots, shares, totals, taken,
/// counts, E, S, slots per rank, rank.
///
/// An expert's choices go to the replica that is furthest behind its share. When each replica has had as many choices
/// as its share says, all are as far as at the start: so the rule repeats after `total` choices, the sum of the shares.
/// (Each is then a multiple of `total` behind, at most `total - 1` ahead, since the one that is taken is behind by at
/// least one, and all together by nothing.) What a thread goes through one by one is therefore no more than one such
/// period of an expert with several replicas, and no more than its choices in the tile.
class Replicas {
public:
  explicit Replicas(KernelBuilder &b)
      : sums(b), b(b), i32(b.getI32Type()), begins(b.nextPointer()), slots(b.nextPointer()), shares(b.nextPointer()),
        totals(b.nextPointer()), taken(b.nextPointer()), counts(b.nextPointer()), e(b.nextInt()), s(b.nextInt()),
        perRank(b.nextInt()), rank(b.nextInt()), sections(b.min(b.i64(b.warps()), b.i64(tableRoom) / e)),
        ids(b.allocateShared(i32, tileChoices)), chosen(b.allocateShared(i32, tileChoices)),
        table(b.allocateShared(i32, tableRoom)), orders(b.allocateShared(i32, tileChoices)),
        orderAt(b.allocateShared(i32, maxExperts)) {}

  /// Before the first tile. taken: choices of every expert, then those of every replica, of those with several.
  void begin() {
    b.overThreads(e + s, [&](Int i) { b.storeI64(b.i64(0), taken, i); });
  }

  /// Chooses slots for the next `count` choices, at most tileChoices, which `experts` has from `first` on. The block
  /// meets before the slots of the last tile are overwritten.
  void choose(Value experts, Int first, Int count, bool countOwn) {
    Int zero = b.i64(0), warpSize = b.i64(KernelBuilder::warpSize);
    Int section = b.max(b.ceilDiv(b.ceilDiv(count, sections), warpSize), b.i64(1)) * KernelBuilder::warpSize;
    Int used = b.ceilDiv(count, section), from = b.min(b.warp * section, count), to = b.min(from + section, count);
    b.overThreads(used * e, [&](Int i) { b.storeI32(zero, table, i); });
    b.barrier();
    number(experts, first, from, to);
    b.barrier();
    SmallVector<Value> order{zero};
    b.loop(zero, e, b.i64(b.threads), order, [&](Int base, ValueRange carried) {
      return SmallVector<Value>{goThrough(base + b.thread, used, {&b, carried[0]}, countOwn)};
    });
    b.barrier();
    b.loop(from + b.lane, to, warpSize, [&](Int i) {
      Int id = b.loadI32(ids, i);
      b.ifThen(b.i64(-1) < id, [&] { b.storeI32(slotOf(id, i), chosen, i); });
    });
    b.barrier();
  }

  /// Of the tile's choice `i`: its slot among those of all ranks, and on this one; -1: none.
  Int slot(Int i) { return b.loadI32(chosen, i); }
  Int local(Int i) { return localOf(slot(i)); }
  Int localOf(Int slot) {
    Int own = slot - rank * perRank, none = b.i64(-1);
    return b.select(own < b.i64(0), none, b.select(own < perRank, own, none));
  }

  BlockSums sums;

private:
  /// Of the warp's choices [from, to): `ids`, and in `chosen` how many of the same expert the warp had before; -1 where
  /// there is no expert. table: how many it has of each.
  void number(Value experts, Int first, Int from, Int to) {
    b.overEqual(b.at(experts, first, i32), from, to, e, [&](Int i, Int id, Int below, Int same) {
      Value isChoice = b.i64(-1) < id;
      Int at = b.warp * e + b.max(id, b.i64(0)), before = b.loadI32(table, at);
      b.warpBarrier(); // all have read it
      b.ifThen(b.both(isChoice, below == b.i64(0)), [&] { b.storeI32(before + same, table, at); });
      b.ifThen(i < to, [&] {
        b.storeI32(id, ids, i);
        b.storeI32(b.select(isChoice, before + below, b.i64(-1)), chosen, i);
      });
      b.warpBarrier(); // before the next ones read it
    });
  }

  /// table: from counts of each section to those of the sections before it. Of an expert with several replicas, which
  /// of them a period's choices go to, from place `order` in `orders` on; the result is the place behind those of the
  /// block's experts. Counts the choices.
  Int goThrough(Int expert, Int used, Int order, bool countOwn) {
    Int zero = b.i64(0), one = b.i64(1), known = b.min(expert, e - 1);
    Value exists = expert < e;
    Int count{&b, b.loop(zero, b.select(exists, used, zero), one, ValueRange{zero}, [&](Int w, ValueRange carried) {
                Int sum{&b, carried[0]}, at = w * e + expert, here = b.loadI32(table, at);
                b.storeI32(sum, table, at);
                return SmallVector<Value>{sum + here};
              })[0]};
    Int begin = b.loadI32(begins, known), end = b.loadI32(begins, known + 1), total = b.loadI32(totals, known);
    Int walked = b.select(begin + 1 < end, count, zero), periods = b.quickDiv(walked, total);
    Int left = walked - periods * total, length = b.min(walked, total);
    auto [before, all] = sums.before(length);
    Int place = order + before;
    b.ifThen(exists, [&] {
      b.storeI32(place, orderAt, expert);
      Int single = b.select(b.i64(-1) < localOf(b.loadI32(slots, begin)), count - walked, zero);
      SmallVector<Value> own = b.loop(zero, length, one, ValueRange{single}, [&](Int i, ValueRange carried) {
        Int slot = replicaOf(expert, begin, end), times = periods + b.select(i < left, one, zero);
        b.storeI32(slot, orders, place + i);
        return SmallVector<Value>{Int{&b, carried[0]} + b.select(b.i64(-1) < localOf(slot), times, zero)};
      });
      // The next tile goes on behind the last period.
      b.loop(zero, b.select(zero < periods, left, zero), one, [&](Int) { replicaOf(expert, begin, end); });
      Int counted = countOwn ? Int{&b, own[0]} : count;
      b.storeI64(b.loadI64(counts, expert) + counted, counts, expert);
    });
    return order + all;
  }

  /// The slot of the warp's choice `i`, of expert `id`.
  Int slotOf(Int id, Int i) {
    Int begin = b.loadI32(begins, id), end = b.loadI32(begins, id + 1);
    return {&b, b.choose(
                    begin + 1 < end,
                    [&] {
                      Int n = b.loadI32(table, b.warp * e + id) + b.loadI32(chosen, i), total = b.loadI32(totals, id);
                      return b.loadI32(orders, b.loadI32(orderAt, id) + n - b.quickDiv(n, total) * total).value;
                    },
                    [&] { return b.loadI32(slots, begin).value; })};
  }

  /// The slot of the replica that is furthest behind its share, the first of equals.
  Int replicaOf(Int expert, Int begin, Int end) {
    Int one = b.i64(1), next = b.loadI64(taken, expert) + 1, total = b.loadI32(totals, expert);
    b.storeI64(next, taken, expert);
    auto behind = [&](Int replica) {
      return next * b.loadI32(shares, replica) - b.loadI64(taken, e + replica) * total;
    };
    SmallVector<Value> best =
        b.loop(begin + 1, end, one, ValueRange{begin, behind(begin)}, [&](Int replica, ValueRange carried) {
          Int value = behind(replica);
          Value more = Int{&b, carried[1]} < value;
          return SmallVector<Value>{b.select(more, replica, {&b, carried[0]}), b.select(more, value, {&b, carried[1]})};
        });
    Int replica{&b, best[0]};
    b.storeI64(b.loadI64(taken, e + replica) + 1, taken, e + replica);
    return b.loadI32(slots, replica);
  }

  KernelBuilder &b;
  const Type i32;
  Value begins, slots, shares, totals, taken, counts;
  Int e, s;

public:
  Int perRank, rank;

private:
  Int sections;
  Value ids, chosen, table;
  Value orders, orderAt; ///< of every expert with several replicas the slots of a period, and where these begin
};

} // namespace

void mlir::moe::gpu::emit(const kernels::Localize &kernel, KernelBuilder &b) {
  Value experts = b.nextPointer();
  Int rows = b.nextInt(), k = b.nextInt();
  Value to = b.nextPointer();
  Replicas replicas(b);
  Int choices = rows * k, most = b.i64(tileChoices);
  replicas.begin();
  b.loop(b.i64(0), choices, most, [&](Int first) {
    Int count = b.min(choices - first, most);
    replicas.choose(experts, first, count, kernel.countOwn);
    b.overThreads(count, [&](Int i) { b.storeI32(replicas.local(i), to, first + i); });
  });
}

// A thread per token of a tile. The first part finds what comes here, and marks where own choices go: `places` holds
// -2 - r for one that goes to rank r. The second puts those in the order of ranks.
void mlir::moe::gpu::emit(const kernels::Dispatch &, KernelBuilder &b) {
  Value experts = b.nextPointer();
  Int tokens = b.nextInt(), k = b.nextInt(), ranks = b.nextInt();
  Value sendRows = b.nextPointer(), sendCounts = b.nextPointer(), slots = b.nextPointer(), backRows = b.nextPointer(),
        backCounts = b.nextPointer(), places = b.nextPointer();
  Int sendRoom = b.nextInt(), backRoom = b.nextInt();
  Replicas replicas(b);
  BlockSums &sums = replicas.sums;
  Int zero = b.i64(0), one = b.i64(1), none = b.i64(-1), tile = b.min(b.i64(b.threads), b.i64(tileChoices) / k);

  // body(token, whether the thread has one, rows and choices before it) for tiles of tokens; it gives what it found in
  // its token. What all found so far goes through the loops, from `start` on.
  using Found = std::pair<Int, Int>;
  auto overTokens = [&](ValueRange start, llvm::function_ref<void(Int, Int)> prepare,
                        llvm::function_ref<Int(Int, Value)> count,
                        llvm::function_ref<void(Int, Value, Found, Int)> write) {
    return b.loop(zero, tokens, tile, start, [&](Int first, ValueRange carried) {
      Int row{&b, carried[0]}, choice{&b, carried[1]}, here = b.min(tokens - first, tile), token = first + b.thread;
      Value has = b.thread < here;
      prepare(first, here);
      Int mine = count(token, has);
      auto [rowsBefore, allRows] = sums.before(b.select(zero < mine, one, zero));
      auto [choicesBefore, allChoices] = sums.before(mine);
      write(token, has, {row + rowsBefore, choice + choicesBefore}, mine);
      return SmallVector<Value>{row + allRows, choice + allChoices};
    });
  };
  auto countChoices = [&](Value has, llvm::function_ref<Value(Int)> condition) {
    SmallVector<Value> found = b.loop(zero, b.select(has, k, zero), one, ValueRange{zero}, [&](Int j, ValueRange sum) {
      return SmallVector<Value>{Int{&b, sum[0]} + b.select(condition(j), one, zero)};
    });
    return Int{&b, found[0]};
  };
  auto fill = [&](Value list, Int from, Int to) {
    b.overThreads(to - from, [&](Int i) { b.storeI32(none, list, from + i); });
  };
  auto onFirst = [&](llvm::function_ref<void()> store) { b.ifThen(b.thread == zero, store); };

  replicas.begin();
  SmallVector<Value> came = b.loop(zero, ranks, one, ValueRange{zero, zero}, [&](Int source, ValueRange carried) {
    Value isOwn = source == replicas.rank;
    SmallVector<Value> ofSource = overTokens(
        carried,
        [&](Int first, Int here) {
          replicas.choose(experts, (source * tokens + first) * k, here * k, /*countOwn=*/true);
        },
        [&](Int, Value has) {
          return countChoices(has, [&](Int j) { return none < replicas.local(b.thread * k + j); });
        },
        [&](Int token, Value has, Found before, Int mine) {
          b.loop(zero, b.select(has, k, zero), one, ValueRange{before.second}, [&](Int j, ValueRange next) {
            Int choice{&b, next[0]}, at = before.first * k + j, slot = replicas.slot(b.thread * k + j),
                                     local = replicas.local(b.thread * k + j);
            b.ifThen(isOwn, [&] {
              Int target = b.i64(-2) - slot / replicas.perRank;
              b.storeI32(b.select(none < slot, target, none), places, token * k + j);
            });
            b.ifThen(zero < mine, [&] { b.storeI32(local, slots, at); });
            Value isHere = none < local;
            b.ifThen(isHere, [&] { b.storeI32(at, backRows, choice); });
            return SmallVector<Value>{choice + b.select(isHere, one, zero)};
          });
        });
    onFirst([&] { b.storeI32(Int{&b, ofSource[1]} - Int{&b, carried[1]}, backCounts, source); });
    return ofSource;
  });
  fill(slots, Int{&b, came[0]} * k, ranks * tokens * k);
  fill(backRows, {&b, came[1]}, backRoom * tokens);

  SmallVector<Value> sent = b.loop(zero, ranks, one, ValueRange{zero, zero}, [&](Int target, ValueRange carried) {
    auto goes = [&](Int token, Int j) { return b.loadI32(places, token * k + j) == b.i64(-2) - target; };
    SmallVector<Value> toTarget = overTokens(
        carried, [](Int, Int) {},
        [&](Int token, Value has) { return countChoices(has, [&](Int j) { return goes(token, j); }); },
        [&](Int token, Value has, Found before, Int mine) {
          b.ifThen(zero < mine, [&] { b.storeI32(token, sendRows, before.first); });
          b.loop(zero, b.select(has, k, zero), one, ValueRange{before.second}, [&](Int j, ValueRange next) {
            Int place{&b, next[0]};
            Value isThere = goes(token, j);
            b.ifThen(isThere, [&] { b.storeI32(place, places, token * k + j); });
            return SmallVector<Value>{place + b.select(isThere, one, zero)};
          });
        });
    onFirst([&] { b.storeI32(Int{&b, toTarget[0]} - Int{&b, carried[0]}, sendCounts, target); });
    return toTarget;
  });
  fill(sendRows, {&b, sent[0]}, sendRoom * tokens);
}
