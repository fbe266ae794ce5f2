//===- WarpAttention.cpp - Attention of 16 query rows on tensor cores ------===//

#include "lowering/GPU/WarpAttention.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include <cfloat>

using namespace mlir;
using namespace mlir::moe::gpu;

//===----------------------------------------------------------------------===//
// HeadTile
//===----------------------------------------------------------------------===//

Int HeadTile::offset(KernelBuilder &b, Int key, Int p) const {
  return p / SharedTile::pieces * (keys * SharedTile::depth) + SharedTile::offset(b, key, p % SharedTile::pieces);
}

// Eight threads, whose writes happen at once, copy four pieces of each of two rows: these lie in different banks. The
// tile is copied in bands of one, two or four SharedTiles side by side, so many that the threads come out even: then a
// thread's rows are a fixed distance apart and its piece is the same in all, and every 8 rows the permutation is too,
// so that few addresses, or one, do for all. Without that each round keeps some of its own in registers.
void HeadTile::copy(KernelBuilder &b, Value tile, Int self, int64_t threads,
                    llvm::function_ref<Value(Int)> rowAt) const {
  const Type element = b.getI16Type();
  constexpr int64_t pieces = SharedTile::pieces, piece = SharedTile::piece, samePermutation = 8, widest = 4;
  const int64_t band = std::min<int64_t>(parts() & -parts(), widest), pairPieces = 2 * pieces * band;
  const int64_t distance = 2 * threads / pairPieces; // rows of a round
  assert(threads % pairPieces == 0 && keys % distance == 0 && "every thread copies the same number of pieces");
  Int inBand = self / (2 * pieces) % band * pieces + self % pieces;
  for (int64_t first = 0; first < parts(); first += band) {
    Int key = self / pairPieces * 2 + self / pieces % 2, p = inBand + first * pieces, at = offset(b, key, p);
    for (int64_t row = 0; row < keys; row += distance) {
      if (row > 0) {
        key = key + distance;
        at = distance % samePermutation == 0 ? at + distance * SharedTile::depth : offset(b, key, p);
      }
      Value to = b.at(tile, at, element), from = rowAt(key);
      if (dim % SharedTile::depth == 0) {
        NVVM::CpAsyncOp::create(b, to, b.at(from, p * piece, element), 16, NVVM::LoadCacheModifierKind::CG, Value());
        continue;
      }
      // Pieces beyond the head are zeros, of which nothing is read.
      Value isThere = p * piece < b.i64(dim);
      Value bytes = b.toI32(b.select(isThere, b.i64(16), b.i64(0)));
      NVVM::CpAsyncOp::create(b, to, b.at(from, b.select(isThere, p * piece, b.i64(0)), element), 16,
                              NVVM::LoadCacheModifierKind::CG, bytes);
    }
  }
}

//===----------------------------------------------------------------------===//
// WarpAttention
//===----------------------------------------------------------------------===//

SmallVector<Value> WarpAttention::State::flatten() const {
  SmallVector<Value> values;
  for (const SmallVector<Num> *part : {&maxima, &totals, &sums}) {
    llvm::append_range(values, *part);
  }
  return values;
}

auto WarpAttention::State::unflatten(ImplicitLocOpBuilder &b, ValueRange values) -> State {
  auto part = [&](ValueRange of) { return llvm::map_to_vector<4>(of, [&](Value v) { return Num{&b, v}; }); };
  State state;
  state.maxima = part(values.take_front(rowsOfLane));
  state.totals = part(values.slice(rowsOfLane, rowsOfLane));
  state.sums.append(part(values.drop_front(2 * rowsOfLane)));
  return state;
}

void WarpAttention::loadQueries(llvm::function_ref<Value(Int)> rowAt) {
  constexpr int64_t depth = 16, half = 8;
  SmallVector<Value> pointers;
  for (int64_t i = 0; i < rowsOfLane; ++i) {
    pointers.push_back(rowAt(row(b, i)));
  }
  for (int64_t d = 0; d < keyTile.dim; d += depth) {
    SmallVector<Value> words;
    for (int64_t upper = 0; upper < depth; upper += half) {
      for (Value pointer : pointers) {
        words.push_back(d + upper < keyTile.dim
                            ? b.load(b.at(pointer, b.lane % 4 * 2 + d + upper, b.getI16Type()), b.getI32Type())
                            : b.i32(0));
      }
    }
    queries.push_back(words);
  }
}

auto WarpAttention::begin() -> State {
  State state;
  state.maxima.assign(rowsOfLane, b.number(-FLT_MAX));
  state.totals.assign(rowsOfLane, b.number(0.0));
  state.sums.assign(pieces() * 2 * rowsOfLane, b.number(0.0));
  return state;
}

void WarpAttention::loadQueries(Value tile, llvm::function_ref<Value(Int)> rowAt) {
  queryTile().copy(b, tile, b.lane, KernelBuilder::warpSize, rowAt);
  sharedQueries = tile;
}

/// The 16 dims of `step` of the queries, as the left side of a product.
SmallVector<Value> WarpAttention::queriesOf(int64_t step) {
  if (!sharedQueries) {
    return queries[step];
  }
  Int row = b.lane % rows, p = b.lane / rows + step * 2;
  return loadMatrices(b, b.at(sharedQueries, queryTile().offset(b, row, p), b.getI16Type()));
}

/// Of every 8 keys of the tile the four products that a lane has.
SmallVector<Value> WarpAttention::score(Value keys) {
  constexpr int64_t depth = 16;
  SmallVector<Value> scores(keyTile.keys / 2, b.number(0.0).value);
  for (int64_t step = 0; step * depth < keyTile.dim; ++step) {
    const SmallVector<Value> query = queriesOf(step);
    for (int64_t key = 0; key < keyTile.keys; key += 16) {
      // Both halves of 16 dims of keys 0 to 7, then of 8 to 15.
      Int at = b.lane / 16 * 8 + b.lane % 8 + key, p = b.lane / 8 % 2 + step * 2;
      SmallVector<Value> pair = loadMatrices(b, b.at(keys, keyTile.offset(b, at, p), b.getI16Type()));
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t first = key / 2 + 4 * half;
        llvm::copy(multiplyMatrices(b, query, {pair[2 * half], pair[2 * half + 1]}, ValueRange(scores).slice(first, 4)),
                   scores.begin() + first);
      }
    }
  }
  return scores;
}

auto WarpAttention::weigh(const State &state, Value keys, Int first, ArrayRef<Range> ranges, Num scale) -> Weighted {
  SmallVector<Num> scores;
  SmallVector<Value> from, to;
  for (const Range &range : ranges) {
    from.push_back(b.toI32(range.from - first - b.lane % 4 * 2));
    to.push_back(b.toI32(range.to - first - b.lane % 4 * 2));
  }
  for (auto [i, product] : llvm::enumerate(score(keys))) {
    // The i % 4-th product of a row's lane is of key i / 4 * 8 + 2 (lane % 4) + i % 2.
    const size_t row = i / 2 % 2;
    Value key = b.i32(static_cast<int64_t>(i / 4 * 8 + i % 2));
    Value isSeen = b.both(arith::CmpIOp::create(b, arith::CmpIPredicate::sle, from[row], key),
                          arith::CmpIOp::create(b, arith::CmpIPredicate::slt, key, to[row]));
    scores.push_back(b.select(isSeen, Num{&b, product} * scale, b.number(-INFINITY)));
  }
  Weighted result{state, {}};
  SmallVector<Num> factors;
  for (int64_t row = 0; row < rowsOfLane; ++row) {
    Num largest = state.maxima[row];
    for (size_t i = 2 * row; i < scores.size(); i += 4) {
      largest = b.max(largest, b.max(scores[i], scores[i + 1]));
    }
    largest = overRow(largest, [&](Num a, Num c) { return b.max(a, c); });
    factors.push_back(b.exp2(state.maxima[row] - largest));
    result.state.maxima[row] = largest;
    Num total = state.totals[row] * factors[row];
    for (size_t i = 2 * row; i < scores.size(); i += 4) {
      for (Num *score : {&scores[i], &scores[i + 1]}) {
        *score = b.exp2(*score - largest);
        total = total + *score;
      }
    }
    result.state.totals[row] = total;
  }
  for (auto [i, sum] : llvm::enumerate(result.state.sums)) {
    sum = sum * factors[i / 2 % 2];
  }
  for (size_t i = 0; i < scores.size(); i += 8) {
    SmallVector<Value> words;
    for (size_t pair = i; pair < i + 8; pair += 2) {
      words.push_back(b.packBF16(scores[pair], scores[pair + 1]));
    }
    result.weights.push_back(words);
  }
  return result;
}

auto WarpAttention::addValues(const Weighted &weighted, Value values) -> State {
  State state = weighted.state;
  for (auto [step, weights] : llvm::enumerate(weighted.weights)) {
    for (int64_t piece = 0; piece < pieces(); piece += 2) {
      // Keys 0 to 7 and 8 to 15 of the one piece of dims, then of the other; columns of what lies there.
      Int key = b.lane % 16 + static_cast<int64_t>(step) * 16, p = b.lane / 16 + piece;
      SmallVector<Value> pair =
          loadMatrices(b, b.at(values, valueTile.offset(b, key, p), b.getI16Type()), /*transposed=*/true);
      for (int64_t half = 0; half < 2 && piece + half < pieces(); ++half) {
        const size_t at = (piece + half) * 4;
        SmallVector<Value> sums(ArrayRef<Num>(state.sums).slice(at, 4));
        for (auto [i, sum] :
             llvm::enumerate(multiplyMatrices(b, weights, {pair[2 * half], pair[2 * half + 1]}, sums))) {
          state.sums[at + i] = {&b, sum};
        }
      }
    }
  }
  return state;
}

auto WarpAttention::finish(const State &state) -> State {
  State result = state;
  for (Num &total : result.totals) {
    total = overRow(total, [&](Num a, Num c) { return a + c; });
  }
  return result;
}
