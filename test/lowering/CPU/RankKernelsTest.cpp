//===- RankKernelsTest.cpp - Slots, padding and parts against plain loops ---===//

#include "test/lowering/CPU/KernelHarness.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::cpu;
using namespace mlir::moe::cpu::test;

namespace {

class RankKernelsTest : public KernelTest {
protected:
  /// Experts of slots and their shares, on some ranks.
  struct Placement {
    int64_t experts, ranks;
    std::vector<int32_t> slots, shares;
  };

  /// Replicas by expert, as kernels take them.
  struct Tables {
    Guarded<int32_t> begins{0}, slots, shares, totals;
  };
  static Tables tablesOf(const Placement &placement) {
    Tables tables;
    for (int64_t e = 0; e < placement.experts; ++e) {
      int32_t total = 0;
      for (size_t p = 0; p < placement.slots.size(); ++p) {
        if (placement.slots[p] == e) {
          tables.slots.push_back(static_cast<int32_t>(p));
          tables.shares.push_back(placement.shares[p]);
          total += placement.shares[p];
        }
      }
      tables.begins.push_back(static_cast<int32_t>(tables.slots.size()));
      tables.totals.push_back(total);
    }
    fit(tables.begins);
    fit(tables.slots);
    fit(tables.shares);
    fit(tables.totals);
    return tables;
  }

  /// What `rank` makes of `ids` (rows of k): its slots; choices of every expert are added to `counts`.
  Guarded<int32_t> localize(const Placement &placement, const Guarded<int32_t> &ids, int64_t k, int64_t rank,
                            Guarded<int64_t> &counts, bool countOwn = false) {
    const int64_t s = static_cast<int64_t>(placement.slots.size());
    Tables tables = tablesOf(placement);
    Guarded<int32_t> out(ids.size(), -7);
    Guarded<int64_t> taken(placement.experts + s, 99);
    run(LocalizeKernel{countOwn}, 1,
        {word(ids), word(static_cast<int64_t>(ids.size()) / k), word(k), word(out), word(tables.begins),
         word(tables.slots), word(tables.shares), word(tables.totals), word(taken), word(counts),
         word(placement.experts), word(s), word(s / placement.ranks), word(rank)});
    return out;
  }

  /// Every choice goes to one slot that holds its expert, and counts follow shares: never a whole choice too many at
  /// any point, and with two replicas never a whole one too few.
  void checkShares(const Placement &placement, const Guarded<int32_t> &ids, int64_t k) {
    const int64_t s = static_cast<int64_t>(placement.slots.size()), perRank = s / placement.ranks;
    std::vector<int64_t> slotOf(ids.size(), -1), totals(placement.experts), replicas(placement.experts);
    for (int64_t p = 0; p < s; ++p) {
      totals[placement.slots[p]] += placement.shares[p];
      ++replicas[placement.slots[p]];
    }
    for (int64_t rank = 0; rank < placement.ranks; ++rank) {
      Guarded<int64_t> counts(placement.experts, 5);
      Guarded<int32_t> local = localize(placement, ids, k, rank, counts);
      std::vector<int64_t> expected(placement.experts, 5);
      for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] >= 0) {
          ++expected[ids[i]];
        }
        if (local[i] >= 0) {
          ASSERT_LT(local[i], perRank);
          EXPECT_EQ(slotOf[i], -1) << "choice " << i << " is taken by two ranks";
          slotOf[i] = rank * perRank + local[i];
        } else {
          EXPECT_EQ(local[i], -1);
        }
      }
      EXPECT_EQ(std::vector<int64_t>(counts.begin(), counts.end()), expected);
    }
    std::vector<int64_t> taken(s), seen(placement.experts);
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0) {
        EXPECT_EQ(slotOf[i], -1) << "nobody's choice " << i;
        continue;
      }
      ASSERT_GE(slotOf[i], 0) << "choice " << i << " of expert " << ids[i] << " is taken by nobody";
      EXPECT_EQ(placement.slots[slotOf[i]], ids[i]);
      ++taken[slotOf[i]];
      ++seen[ids[i]];
      for (int64_t p = 0; p < s; ++p) {
        const int64_t e = placement.slots[p];
        const double due = double(seen[e]) * placement.shares[p] / double(totals[e]);
        EXPECT_LT(taken[p], due + 1) << "slot " << p << " after choice " << i;
        if (replicas[e] <= 2) {
          EXPECT_GT(taken[p], due - 1) << "slot " << p << " after choice " << i;
        }
      }
    }
  }
};

} // namespace

TEST_P(RankKernelsTest, LocalizeFollowsShares) {
  const Placement even{4, 2, {0, 1, 2, 3}, {1, 1, 1, 1}};
  const Placement skewed{5, 4, {0, 1, 0, 2, 0, 3, 4, 1}, {700, 1000, 299, 1000, 1, 1000, 1000, 0}};
  const Placement many{3, 4, {0, 1, 0, 2, 0, 1, 0, 2}, {3, 1, 2, 1, 1, 1, 1, 65536}};
  std::uniform_int_distribution<int32_t> any(-1, 2);
  Guarded<int32_t> random(202);
  for (int32_t &id : random) {
    id = any(generator);
  }
  checkShares(skewed, random, 2);
  checkShares(many, random, 2);
  checkShares(skewed, Guarded<int32_t>(26, 0), 2); // all on one expert
  checkShares(even, Guarded<int32_t>(0), 2);       // T = 0
}

/// The rule itself, by hand: shares 2 to 1, so every third choice goes to the second replica.
TEST_P(RankKernelsTest, LocalizeByHand) {
  const Placement placement{2, 2, {0, 1, 0, 1}, {2, 1, 1, 1}};
  const Guarded<int32_t> ids{0, 1, 0, 1, 0, 0, -1, 0};
  Guarded<int64_t> counts(2, 0);
  EXPECT_EQ(localize(placement, ids, 2, 0, counts), (Guarded<int32_t>{0, 1, -1, -1, 0, 0, -1, -1}));
  EXPECT_EQ(localize(placement, ids, 2, 1, counts), (Guarded<int32_t>{-1, -1, 0, 1, -1, -1, -1, 0}));
  EXPECT_EQ(counts, (Guarded<int64_t>{10, 4}));
  for (auto [rank, expected] : {std::pair(0, Guarded<int64_t>{3, 1}), std::pair(1, Guarded<int64_t>{2, 1})}) {
    Guarded<int64_t> own(2, 0);
    localize(placement, ids, 2, rank, own, /*countOwn=*/true);
    EXPECT_EQ(own, expected) << "rank " << rank;
  }
}

/// The lists of every rank fit together: each own choice finds its result at the place where the rank of its slot puts
/// it, and counts of who sends are those of who receives. The slots are those of localize.
TEST_P(RankKernelsTest, DispatchLists) {
  const Placement even{4, 2, {0, 1, 2, 3}, {1, 1, 1, 1}};
  const Placement skewed{5, 4, {0, 1, 0, 2, 0, 3, 4, 1}, {700, 1000, 299, 1000, 1, 1000, 1000, 1}};
  std::uniform_int_distribution<int32_t> any(-1, 4);
  for (const auto &[placement, tokens, k, one] :
       {std::tuple(even, int64_t(0), int64_t(2), false), std::tuple(even, int64_t(5), int64_t(1), true),
        std::tuple(skewed, int64_t(7), int64_t(3), false)}) {
    const int64_t ranks = placement.ranks, rows = ranks * tokens;
    const int64_t perRank = static_cast<int64_t>(placement.slots.size()) / ranks;
    const int64_t sendRoom = std::min(k, ranks), backRoom = std::min(k, perRank) * ranks;
    Guarded<int32_t> ids(rows * k);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t j = 0; j < k; ++j) { // distinct in a row, as a router's are
        do {
          ids[row * k + j] = one ? static_cast<int32_t>(j) : std::min<int32_t>(any(generator), placement.experts - 1);
        } while (ids[row * k + j] >= 0 && std::count(&ids[row * k], &ids[row * k] + j, ids[row * k + j]));
      }
    }
    struct Lists {
      Guarded<int32_t> sendRows, sendCounts, slots, backRows, backCounts, places;
    };
    std::vector<Lists> of;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      Tables tables = tablesOf(placement);
      Guarded<int64_t> taken(placement.experts + placement.slots.size(), 99), counts(placement.experts, 0);
      Lists lists = {
          Guarded<int32_t>(tokens * sendRoom, -7), Guarded<int32_t>(ranks, -7), Guarded<int32_t>(rows * k, -7),
          Guarded<int32_t>(tokens * backRoom, -7), Guarded<int32_t>(ranks, -7), Guarded<int32_t>(tokens * k, -7)};
      run(DispatchKernel{}, 1,
          {word(ids),
           word(tokens),
           word(k),
           word(ranks),
           word(lists.sendRows),
           word(lists.sendCounts),
           word(lists.slots),
           word(lists.backRows),
           word(lists.backCounts),
           word(lists.places),
           word(sendRoom),
           word(backRoom),
           word(tables.begins),
           word(tables.slots),
           word(tables.shares),
           word(tables.totals),
           word(taken),
           word(counts),
           word(placement.experts),
           word(static_cast<int64_t>(placement.slots.size())),
           word(perRank),
           word(rank)});
      Guarded<int64_t> expected(placement.experts, 0);
      Guarded<int32_t> local = localize(placement, ids, k, rank, expected, /*countOwn=*/true);
      EXPECT_EQ(counts, expected);
      // The rows that came are those of localize with a slot, in order; then nothing.
      std::vector<int32_t> slots, back;
      for (int64_t row = 0; row < rows; ++row) {
        if (std::any_of(&local[row * k], &local[row * k] + k, [](int32_t slot) { return slot >= 0; })) {
          for (int64_t j = 0; j < k; ++j) {
            if (local[row * k + j] >= 0) {
              back.push_back(static_cast<int32_t>(slots.size()));
            }
            slots.push_back(local[row * k + j]);
          }
        }
      }
      slots.resize(rows * k, -1);
      back.resize(tokens * backRoom, -1);
      EXPECT_EQ(std::vector<int32_t>(lists.slots.begin(), lists.slots.end()), slots);
      EXPECT_EQ(std::vector<int32_t>(lists.backRows.begin(), lists.backRows.end()), back);
      of.push_back(std::move(lists));
    }
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const Lists &own = of[rank];
      int64_t sent = 0, came = 0, placed = 0;
      for (int64_t other = 0; other < ranks; ++other) {
        // Tokens with a choice there, each once, in order.
        std::vector<int32_t> expected,
            sends(own.sendRows.begin() + sent, own.sendRows.begin() + sent + own.sendCounts[other]);
        for (int64_t token = 0; token < tokens; ++token) {
          bool any = false;
          for (int64_t j = 0; j < k; ++j) {
            const int32_t place = own.places[token * k + j];
            const bool there = place >= came && place < came + of[other].backCounts[rank];
            any |= there;
            placed += there;
            EXPECT_EQ(place < 0, ids[(rank * tokens + token) * k + j] < 0);
          }
          if (any) {
            expected.push_back(static_cast<int32_t>(token));
          }
        }
        EXPECT_EQ(sends, expected) << "rank " << rank << " to " << other;
        sent += own.sendCounts[other];
        came += of[other].backCounts[rank];
      }
      EXPECT_EQ(placed, came);
      EXPECT_TRUE(std::all_of(own.sendRows.begin() + sent, own.sendRows.end(), [](int32_t row) { return row == -1; }));
    }
  }
}

TEST_P(RankKernelsTest, CopyListedRows) {
  const int64_t width = 37;
  Guarded<int16_t> in(3 * width);
  for (size_t i = 0; i < in.size(); ++i) {
    in[i] = static_cast<int16_t>(i + 1);
  }
  const Guarded<int32_t> list{2, -1, 0, 2};
  for (bool zeroMissing : {false, true}) {
    Guarded<int16_t> out(4 * width, -7);
    run(CopyListedRowsKernel{zeroMissing}, 4, {word(in), word(list), word(out), word(2 * width)});
    for (int64_t row = 0; row < 4; ++row) {
      for (int64_t i = 0; i < width; ++i) {
        const int16_t expected = list[row] < 0 ? (zeroMissing ? 0 : -7) : in[list[row] * width + i];
        ASSERT_EQ(out[row * width + i], expected) << "row " << row << ", element " << i;
      }
    }
  }
}

TEST_P(RankKernelsTest, MaskPadding) {
  const Guarded<int32_t> ids{3, 1, 2, 0, 5, 4}, seq{0, 2, 3};
  Guarded<int32_t> out(6, -7);
  run(MaskPaddingKernel{}, 3, {word(ids), word(seq), word(out), word(int64_t(2)), word(int64_t(4))});
  EXPECT_EQ(out, (Guarded<int32_t>{3, 1, 2, 0, -1, -1}));
}

/// Parts of rows at every rank; two ranks share one with copies 2. 37 bf16 leave a remainder behind whole vectors.
TEST_P(RankKernelsTest, CopyPart) {
  const int64_t rows = 3, width = 37, parts = 4, stride = 41;
  Tensor whole = random(bf16, rows * width * parts);
  for (int64_t copies : {1, 2}) {
    for (int64_t rank = 0; rank < parts * copies; ++rank) {
      Tensor out(bf16, (rows - 1) * stride + width);
      run(CopyPartKernel{}, rows,
          {word(whole), word(out), word(width * 2), word(width * parts * 2), word(stride * 2), word(copies),
           word(rank)});
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < width; ++i) {
          ASSERT_EQ(out[r * stride + i], whole[(r * parts + rank / copies) * width + i]) << "rank " << rank;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, RankKernelsTest, ::testing::ValuesIn(runnableTargets()), [](const auto &info) {
  std::string name = info.param->name.str();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});
