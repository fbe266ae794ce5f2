//===- AttentionKernelTest.cpp - Attention in all its forms against f64 ----===//
//
// Few tokens and many, on tensor cores and by dot products, with one workgroup
// per head and with keys split over several. Rows of the cache that no token
// sees are NaN: whatever reads one shows it.
//
//===----------------------------------------------------------------------===//

#include "lowering/GPU/TiledAttention.h"
#include "test/lowering/GPU/KernelHarness.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;
using namespace mlir::moe::gpu::test;

namespace {

/// Tokens [from, to) of a sequence.
struct Piece {
  int64_t seq, from, to;
};

/// A number of a cache that is not finite.
struct Bad {
  int64_t seq, position, dim;
  bool isKey;
  float value;
};

struct Heads {
  int64_t keyDim, valueDim, groups, perHead;
};

class GpuAttentionTest : public KernelTest {
protected:
  struct Batch {
    Guarded<int32_t> seq, pos;
    std::vector<int64_t> ends; ///< by sequence: behind the last position
    int64_t context = 1;
  };
  static Batch makeBatch(const std::vector<Piece> &pieces) {
    Batch batch;
    for (const Piece &piece : pieces) {
      batch.ends.resize(std::max<size_t>(batch.ends.size(), piece.seq + 1));
      batch.ends[piece.seq] = std::max(batch.ends[piece.seq], piece.to);
      batch.context = std::max(batch.context, piece.to + 3);
      for (int64_t p = piece.from; p < piece.to; ++p) {
        batch.seq.push_back(static_cast<int32_t>(piece.seq));
        batch.pos.push_back(static_cast<int32_t>(p));
      }
    }
    fit(batch.seq);
    fit(batch.pos);
    return batch;
  }

  /// Keys or values of which rows that exist are drawn.
  Tensor fillCache(const Batch &batch, Type type, int64_t rowSize) {
    const int64_t sequences = static_cast<int64_t>(batch.ends.size());
    Tensor cache = random(type, sequences * batch.context * rowSize);
    for (int64_t s = 0; s < sequences; ++s) {
      for (int64_t i = batch.ends[s] * rowSize; i < batch.context * rowSize; ++i) {
        cache.set(s * batch.context * rowSize + i, NAN);
      }
    }
    return cache;
  }

  /// Runs the kernel, and the one that joins its splits if there are any.
  Tensor attend(kernels::Attention kernel, const Heads &heads, const Batch &batch, std::vector<Argument> arguments,
                int64_t window, Tensor &sinks, int64_t mostTokens = 0) {
    const int64_t tokens = static_cast<int64_t>(batch.seq.size()), q = heads.groups * heads.perHead;
    // Of the form for some tokens no more splits than some of the cases fill.
    const int64_t context = mostTokens > 0 ? 1100 : 0;
    const kernels::AttentionCut cut =
        catalogue.cut(kernel, {heads.groups, heads.perHead, context, std::min<int64_t>(mostTokens, 9), mostTokens});
    const int64_t workgroups = (tokens + cut.tokens - 1) / cut.tokens * heads.groups * cut.parts;
    Tensor ys(kernel.x, tokens * q * heads.valueDim);
    const bool isSplit = kernel.splits > 0;
    Tensor states(f32, isSplit ? tokens * q * kernel.splits * (2 + heads.valueDim) : 0);
    arguments.insert(arguments.begin() + 5, isSplit ? update(states) : out(ys));
    if (!isSplit) {
      if (kernel.sinks) {
        arguments.push_back(in(sinks));
      }
      run(kernel, workgroups, arguments);
      return ys;
    }
    // Most of the states may stay what they were; a value that is read nevertheless shows.
    for (int64_t i = 0; i < states.size(); ++i) {
      states.set(i, NAN);
    }
    run(kernel, workgroups, arguments);
    std::vector<Argument> joined{in(states), arguments[2], out(ys), q, window};
    if (kernel.sinks) {
      joined.push_back(in(sinks));
    }
    run(kernels::JoinSplits{kernel.x, kernel.sinks, heads.valueDim, kernel.splits}, tokens * q, joined);
    return ys;
  }

  void check(Type type, Type cacheType, const Heads &heads, bool many, int64_t window, bool hasSinks,
             const std::vector<Piece> &pieces, int64_t mostTokens = 0, const std::vector<Bad> &bad = {}) {
    Batch batch = makeBatch(pieces);
    const int64_t tokens = static_cast<int64_t>(batch.seq.size()), q = heads.groups * heads.perHead;
    SCOPED_TRACE(testing::Message() << "key_dim " << heads.keyDim << " value_dim " << heads.valueDim << " groups "
                                    << heads.groups << " queries per head " << heads.perHead << " window " << window
                                    << " tokens " << tokens << (many ? " many" : " few"));
    Tensor qs = random(type, tokens * q * heads.keyDim), sinks = random(bf16, q);
    Tensor keys = fillCache(batch, cacheType, heads.groups * heads.keyDim);
    Tensor values = fillCache(batch, cacheType, heads.groups * heads.valueDim);
    for (const Bad &at : bad) {
      // Of the first head; those of other groups see nothing of it.
      const int64_t row = (at.seq * batch.context + at.position) * heads.groups;
      Tensor &cache = at.isKey ? keys : values;
      cache.set(row * (at.isKey ? heads.keyDim : heads.valueDim) + at.dim, at.value);
    }
    const float scale = 1.0f / std::sqrt(static_cast<float>(heads.keyDim));
    kernels::Attention kernel{type, cacheType, hasSinks ? bf16 : Type(), heads.keyDim, heads.valueDim, many};
    const bool isOnTensorCores = isTiled(kernel);
    Tensor ys = attend(kernel, heads, batch,
                       {in(qs), in(batch.seq), in(batch.pos), in(keys), in(values), tokens, heads.groups, heads.perHead,
                        batch.context, scale, window},
                       window, sinks, mostTokens);
    int64_t finite = 0, others = 0;
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < q; ++h) {
        auto row = [&](int64_t p) { return (batch.seq[t] * batch.context + p) * heads.groups + h / heads.perHead; };
        std::vector<double> sums(heads.valueDim), sizes(heads.valueDim);
        double total = hasSinks ? std::exp(double(sinks[h])) : 0;
        for (int64_t p = window ? std::max<int64_t>(0, batch.pos[t] - window + 1) : 0; p <= batch.pos[t]; ++p) {
          double score = 0;
          for (int64_t i = 0; i < heads.keyDim; ++i) {
            score += double(qs[(t * q + h) * heads.keyDim + i]) * keys[row(p) * heads.keyDim + i];
          }
          const double weight = std::exp(score * scale);
          total += weight;
          for (int64_t i = 0; i < heads.valueDim; ++i) {
            sums[i] += weight * values[row(p) * heads.valueDim + i];
            sizes[i] += weight * std::abs(values[row(p) * heads.valueDim + i]);
          }
        }
        for (int64_t i = 0; i < heads.valueDim; ++i) {
          const double expected = sums[i] / total;
          ++(std::isfinite(expected) ? finite : others);
          if (!std::isfinite(expected)) {
            ASSERT_FALSE(std::isfinite(ys[(t * q + h) * heads.valueDim + i])) << "token " << t << " head " << h;
            continue;
          }
          // The result is rounded, and on tensor cores every weight is before it meets its value.
          const double bound = 2e-5 + (type.isBF16() ? 0x1p-8 : 1e-5) * std::abs(expected) +
                               (isOnTensorCores ? 0x1p-8 * sizes[i] / total : 0);
          ASSERT_NEAR(ys[(t * q + h) * heads.valueDim + i], expected, bound) << "token " << t << " head " << h;
        }
      }
    }
    EXPECT_EQ(others > 0, !bad.empty());
    EXPECT_TRUE(finite > 0 || tokens == 0);
  }
};

TEST_F(GpuAttentionTest, ByDotProducts) {
  const std::vector<Piece> pieces{{0, 5, 6}, {1, 0, 4}, {2, 160, 163}};
  check(f32, f32, {32, 32, 2, 2}, false, 0, false, pieces);
  check(f32, bf16, {20, 20, 3, 1}, false, 7, false, pieces);
  check(f32, f32, {24, 40, 2, 2}, true, 1, true, pieces);
  check(bf16, bf16, {15, 15, 1, 2}, false, 0, true, pieces);
  check(f32, f32, {128, 128, 1, 1}, false, 130, false, pieces);
  check(f32, f32, {32, 32, 2, 2}, false, 0, false, {});
}

/// One and several splits, full and partial ones, tiles with one key; more heads than a workgroup has rows.
TEST_F(GpuAttentionTest, FewTokens) {
  check(bf16, bf16, {64, 64, 1, 3}, false, 0, false, {{0, 0, 1}, {1, 255, 256}, {2, 256, 257}});
  check(bf16, bf16, {128, 128, 2, 4}, false, 0, false, {{0, 799, 801}, {1, 31, 33}});
  check(bf16, bf16, {64, 64, 2, 8}, false, 100, true, {{0, 700, 702}, {1, 50, 51}});
  check(bf16, bf16, {64, 64, 1, 20}, false, 300, true, {{0, 600, 601}});
  check(bf16, bf16, {192, 128, 2, 1}, false, 0, false, {{0, 130, 131}});
  check(bf16, bf16, {40, 72, 1, 2}, false, 0, true, {{0, 60, 62}});
  check(bf16, bf16, {256, 256, 1, 2}, false, 0, false, {{0, 70, 71}});
  check(bf16, bf16, {200, 184, 1, 17}, false, 0, true, {{0, 300, 301}, {1, 3, 4}});
  check(bf16, bf16, {64, 64, 1, 2}, false, 0, false, {});
}

/// Blocks of one sequence and of several, with ends within and between blocks, behind a long past and without one.
TEST_F(GpuAttentionTest, ManyTokens) {
  check(bf16, bf16, {64, 64, 1, 1}, true, 0, false, {{0, 0, 65}});
  check(bf16, bf16, {64, 64, 2, 3}, true, 0, false, {{0, 0, 64}});
  check(bf16, bf16, {128, 128, 1, 4}, true, 0, false, {{0, 0, 7}, {1, 130, 131}, {2, 3, 20}, {0, 7, 9}});
  check(bf16, bf16, {64, 64, 1, 8}, true, 20, true, {{0, 90, 115}});
  check(bf16, bf16, {64, 64, 1, 70}, true, 0, true, {{0, 12, 15}});
  check(bf16, bf16, {192, 128, 1, 2}, true, 33, false, {{1, 0, 40}, {0, 60, 61}});
  check(bf16, bf16, {40, 72, 1, 5}, true, 0, false, {{0, 0, 1}, {1, 0, 30}});
  check(bf16, bf16, {256, 256, 1, 2}, true, 0, false, {{0, 0, 40}});
  check(bf16, bf16, {200, 184, 1, 3}, true, 0, true, {{0, 70, 90}, {1, 0, 3}});
  check(bf16, bf16, {64, 64, 1, 2}, true, 0, false, {{0, 0, 300}});
  check(bf16, bf16, {64, 64, 1, 2}, true, 0, false, {});
}

/// Decode of many sequences, and pieces of a prompt, with keys split over workgroups: ends of splits within a block, of
/// which some have none of a split; positions at which the splits of neighbouring tokens differ.
TEST_F(GpuAttentionTest, SomeTokens) {
  const int64_t most = kernels::Attention::someTokens;
  std::vector<Piece> sequences;
  for (int64_t s = 0; s < 16; ++s) {
    const int64_t at = std::vector<int64_t>{0, 255, 256, 511, 40, 513, 700, 3}[s % 8] + s / 8;
    sequences.push_back({s, at, at + 1});
  }
  // Few dims where there are many keys: these are recorded for the card (bench/gpu.sh), and do not compress.
  check(bf16, bf16, {16, 16, 2, 8}, true, 0, false, sequences, most);
  check(bf16, bf16, {16, 24, 1, 3}, true, 300, true, sequences, most);
  check(bf16, bf16, {128, 128, 1, 4}, true, 0, true, {{0, 508, 518}, {1, 90, 91}, {2, 250, 259}}, most);
  check(bf16, bf16, {192, 128, 1, 1}, true, 0, false, {{3, 300, 309}, {1, 0, 1}}, most);
  check(bf16, bf16, {256, 256, 1, 2}, true, 0, false, {{0, 300, 302}, {1, 0, 8}}, most);
  check(bf16, bf16, {40, 72, 1, 70}, true, 0, false, {{0, 270, 279}}, most);
  check(bf16, bf16, {64, 64, 1, 2}, true, 0, false, {}, most);
}

/// Numbers that are not finite show in the rows that see them, and in no other of the block: in those of other
/// sequences, of earlier tokens, and of later ones that see no further back than their window.
TEST_F(GpuAttentionTest, NotFinite) {
  const int64_t some = kernels::Attention::someTokens;
  const std::vector<Piece> batch{{0, 5, 14}, {1, 0, 6}, {2, 70, 71}, {3, 2, 4}};
  for (float value : {NAN, INFINITY, -INFINITY}) {
    for (int64_t most : {int64_t(0), some}) {
      SCOPED_TRACE(testing::Message() << value << (most ? " some" : " all"));
      check(bf16, bf16, {16, 16, 1, 1}, true, 0, false, {{0, 0, 62}, {1, 9, 11}}, most, {{0, 40, 3, false, value}});
      check(bf16, bf16, {16, 16, 2, 3}, true, 0, true, batch, most,
            {{1, 2, 9, false, value}, {2, 69, 0, false, value}});
      check(bf16, bf16, {16, 24, 1, 4}, true, 12, false, {{0, 70, 100}}, most, {{0, 64, 20, false, value}});
      check(bf16, bf16, {16, 16, 1, 5}, true, 0, false, batch, most, {{0, 9, 3, true, value}, {0, 9, 3, false, value}});
    }
    check(bf16, bf16, {16, 16, 1, 4}, false, 0, false, {{0, 40, 41}, {1, 300, 303}}, 0,
          {{1, 301, 3, false, value}, {0, 0, 0, false, value}});
    check(f32, f32, {16, 16, 1, 2}, true, 0, false, {{0, 5, 9}, {1, 0, 3}}, 0, {{0, 7, 3, false, value}});
  }
  check(bf16, bf16, {192, 128, 1, 2}, true, 0, false, {{1, 0, 20}, {0, 60, 61}}, 0, {{1, 12, 127, false, NAN}});
  check(bf16, bf16, {256, 256, 1, 2}, true, 0, false, {{0, 0, 20}, {1, 3, 5}}, some, {{0, 4, 255, false, INFINITY}});
  check(bf16, bf16, {16, 16, 1, 5}, true, 0, false, batch, 0, {{0, 9, 3, true, NAN}});
  // Only of rows that are a lane's second ones one has to be taken back.
  check(bf16, bf16, {16, 16, 1, 8}, true, 0, false, {{0, 5, 6}, {1, 3, 5}}, 0,
        {{1, 4, 3, true, NAN}, {1, 4, 3, false, NAN}});
  // Several blocks, and ends of splits in one.
  check(bf16, bf16, {16, 16, 1, 2}, true, 0, false, {{0, 0, 70}}, 0, {{0, 50, 1, false, NAN}});
  check(bf16, bf16, {16, 16, 1, 4}, true, 0, false, {{0, 508, 518}, {1, 90, 91}, {2, 250, 259}}, some,
        {{0, 513, 0, false, NAN}, {2, 10, 5, false, INFINITY}});
}

/// What every card since sm_80 gives a block, and so that two blocks share a multiprocessor of the larger ones.
TEST_F(GpuAttentionTest, TilesFitEveryCard) {
  for (int64_t keyDim = 8; keyDim <= 256; keyDim += 8) {
    for (int64_t valueDim = 8; valueDim <= 256; valueDim += 8) {
      for (bool many : {false, true}) {
        const kernels::Attention kernel{bf16, bf16, Type(), keyDim, valueDim, many};
        ASSERT_TRUE(isTiled(kernel));
        ASSERT_LE(getSharedBytes(target, kernel), 96 << 10) << keyDim << " " << valueDim << (many ? " many" : " few");
      }
    }
  }
}

/// Every form at 0, 1, 7, 64, 65, 300 tokens, in sequences of up to 45.
TEST_F(GpuAttentionTest, TokenCounts) {
  for (int64_t tokens : {0, 1, 7, 64, 65, 300}) {
    std::vector<Piece> pieces;
    for (int64_t first = 0; first < tokens; first += 45) {
      const int64_t from = first / 45 * 20; // each begins where another would be
      pieces.push_back({first / 45, from, from + std::min<int64_t>(tokens - first, 45)});
    }
    check(bf16, bf16, {40, 24, 2, 2}, true, 0, false, pieces);
    check(bf16, bf16, {40, 24, 1, 3}, true, 33, true, pieces);
    if (tokens <= 7) { // of more the other form takes over; every token has as many workgroups as a card can use
      check(bf16, bf16, {40, 24, 2, 2}, false, 0, false, pieces);
    }
    check(f32, f32, {24, 24, 1, 2}, false, 33, true, pieces);
  }
}

/// Keys that all weigh the same, as many as a power of two, and small integers as values: nothing is rounded.
TEST_F(GpuAttentionTest, SmallIntegersAreExact) {
  const Heads heads{64, 64, 1, 2};
  for (bool many : {false, true}) {
    Batch batch = makeBatch({{0, 511, 512}, {1, 63, 64}});
    const int64_t tokens = 2;
    Tensor qs(bf16, tokens * heads.perHead * heads.keyDim), sinks(bf16, heads.perHead);
    Tensor keys = fillCache(batch, bf16, heads.keyDim), values = fillCache(batch, bf16, heads.valueDim);
    std::vector<double> expected(tokens * heads.perHead * heads.valueDim);
    for (int64_t s = 0; s < tokens; ++s) {
      for (int64_t i = 0; i < batch.ends[s] * heads.valueDim; ++i) {
        const int64_t value = (i * 7 + i / 64 * 5) % 16;
        values.set(s * batch.context * heads.valueDim + i, static_cast<float>(value));
        for (int64_t h = 0; h < heads.perHead; ++h) {
          expected[(s * heads.perHead + h) * heads.valueDim + i % heads.valueDim] +=
              double(value) / static_cast<double>(batch.ends[s]);
        }
      }
    }
    Tensor ys = attend({bf16, bf16, Type(), heads.keyDim, heads.valueDim, many}, heads, batch,
                       {in(qs), in(batch.seq), in(batch.pos), in(keys), in(values), tokens, heads.groups, heads.perHead,
                        batch.context, 0.125f, int64_t(0)},
                       0, sinks);
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(ys[static_cast<int64_t>(i)], Tensor::widen(Tensor::narrow(static_cast<float>(expected[i])))) << i;
    }
  }
}

} // namespace
