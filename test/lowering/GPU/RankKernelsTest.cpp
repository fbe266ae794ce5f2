//===- RankKernelsTest.cpp - Which rows travel between GPUs ---------------===//
//
// Choices of experts as slots, the lists of an exact exchange and the rows that
// they name, against plain loops, at numbers of tokens below, at and above a
// tile of choices.
//
//===----------------------------------------------------------------------===//

#include "test/lowering/GPU/KernelHarness.h"

using namespace mlir::moe;
using namespace mlir::moe::gpu;
using namespace mlir::moe::gpu::test;

namespace {

/// The parameter: tokens of a rank.
class GpuRankShapesTest : public KernelTest, public testing::WithParamInterface<int64_t> {
protected:
  void fit(Guarded<int32_t> &values, const std::vector<int32_t> &from) { values.assign(from.begin(), from.end()); }

  /// Five experts in eight slots of two ranks; replicas of one have unequal shares.
  static constexpr int64_t e = 5, s = 8, perRank = 4, ranks = 2;
  std::vector<int32_t> begins{0, 1, 4, 5, 7, 8}, slots{0, 4, 1, 6, 5, 2, 7, 3}, shares{1, 2, 1, 3, 1, 1, 2, 1},
      totals{1, 6, 1, 3, 1};

  /// Distinct experts of a token, some -1; or all on the first ones.
  std::vector<int32_t> choices(int64_t rows, int64_t k, bool isSkewed) {
    std::vector<int32_t> ids;
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<int32_t> all(e);
      std::iota(all.begin(), all.end(), 0);
      if (!isSkewed) {
        std::shuffle(all.begin(), all.end(), generator);
      }
      for (int64_t j = 0; j < k; ++j) {
        ids.push_back(!isSkewed && generator() % 6 == 0 ? -1 : all[j]);
      }
    }
    return ids;
  }
  /// The slot of every choice among those of all ranks: of the replica that is furthest behind its share, the first of
  /// equals.
  std::vector<int32_t> slotsOf(const std::vector<int32_t> &ids) const {
    std::vector<int64_t> ofExpert(totals.size()), ofReplica(slots.size());
    std::vector<int32_t> chosen;
    for (int32_t expert : ids) {
      if (expert < 0) {
        chosen.push_back(-1);
        continue;
      }
      int32_t best = begins[expert];
      auto behind = [&](int32_t r) { return (ofExpert[expert] + 1) * shares[r] - ofReplica[r] * totals[expert]; };
      for (int32_t r = best + 1; r < begins[expert + 1]; ++r) {
        best = behind(r) > behind(best) ? r : best;
      }
      ++ofExpert[expert];
      ++ofReplica[best];
      chosen.push_back(slots[best]);
    }
    return chosen;
  }
  static int32_t localOf(int32_t slot, int64_t rank) {
    return slot >= 0 && slot / perRank == rank ? static_cast<int32_t>(slot - rank * perRank) : -1;
  }
};

TEST_P(GpuRankShapesTest, DispatchLists) {
  const int64_t tokens = GetParam();
  for (auto [k, isSkewed] : {std::pair<int64_t, bool>(1, true), {4, false}}) {
    const int64_t rows = ranks * tokens, sendRoom = std::min(k, ranks), backRoom = std::min(k, perRank) * ranks;
    const std::vector<int32_t> ids = choices(rows, k, isSkewed), chosen = slotsOf(ids);
    for (int64_t rank = 0; rank < ranks; ++rank) {
      // What comes: rows with a choice here, each once.
      std::vector<int32_t> slotList, backList, backCountList(ranks, 0);
      std::vector<int64_t> expectedCounts(e, 3);
      for (int64_t row = 0; row < rows; ++row) {
        bool comes = false;
        for (int64_t j = 0; j < k; ++j) {
          comes |= localOf(chosen[row * k + j], rank) >= 0;
        }
        for (int64_t j = 0; comes && j < k; ++j) {
          const int32_t local = localOf(chosen[row * k + j], rank);
          if (local >= 0) {
            backList.push_back(static_cast<int32_t>(slotList.size()));
            ++backCountList[row / tokens];
            ++expectedCounts[ids[row * k + j]];
          }
          slotList.push_back(local);
        }
      }
      slotList.resize(rows * k, -1);
      backList.resize(tokens * backRoom, -1);
      // What goes: own tokens by the rank that they go to.
      std::vector<int32_t> sendList, sendCountList(ranks, 0), placeList(tokens * k, -1);
      int32_t place = 0;
      for (int64_t target = 0; target < ranks; ++target) {
        for (int64_t token = 0; token < tokens; ++token) {
          bool goes = false;
          for (int64_t j = 0; j < k; ++j) {
            if (localOf(chosen[(rank * tokens + token) * k + j], target) >= 0) {
              placeList[token * k + j] = place++;
              goes = true;
            }
          }
          if (goes) {
            sendList.push_back(static_cast<int32_t>(token));
            ++sendCountList[target];
          }
        }
      }
      sendList.resize(tokens * sendRoom, -1);

      Guarded<int32_t> experts, begin, slot, share, total, sendRows(tokens * sendRoom), sendCounts(ranks),
          local(rows * k), backRows(tokens * backRoom), backCounts(ranks), places(tokens * k);
      fit(experts, ids);
      fit(begin, begins);
      fit(slot, slots);
      fit(share, shares);
      fit(total, totals);
      Guarded<int64_t> taken(e + s), counts(e, 3);
      run(kernels::Dispatch{}, 1, {in(experts), tokens,        k,
                                   ranks,       out(sendRows), out(sendCounts),
                                   out(local),  out(backRows), out(backCounts),
                                   out(places), sendRoom,      backRoom,
                                   in(begin),   in(slot),      in(share),
                                   in(total),   out(taken),    update(counts),
                                   int64_t(e),  int64_t(s),    int64_t(perRank),
                                   rank});
      auto same = [](const auto &have, const auto &want) {
        return have.size() == want.size() && std::equal(have.begin(), have.end(), want.begin());
      };
      EXPECT_TRUE(same(local, slotList)) << "rank " << rank << ", K " << k;
      EXPECT_TRUE(same(backRows, backList)) << "rank " << rank << ", K " << k;
      EXPECT_TRUE(same(backCounts, backCountList)) << "rank " << rank << ", K " << k;
      EXPECT_TRUE(same(counts, expectedCounts)) << "rank " << rank << ", K " << k;
      EXPECT_TRUE(same(sendRows, sendList)) << "rank " << rank << ", K " << k;
      EXPECT_TRUE(same(sendCounts, sendCountList)) << "rank " << rank << ", K " << k;
      EXPECT_TRUE(same(places, placeList)) << "rank " << rank << ", K " << k;
    }
  }
}

TEST_P(GpuRankShapesTest, SlotsOfManyChoices) {
  const int64_t rows = GetParam(), k = 4;
  const std::vector<int32_t> ids = choices(rows, k, false), chosen = slotsOf(ids);
  Guarded<int32_t> experts, begin, slot, share, total, local(rows * k);
  fit(experts, ids);
  fit(begin, begins);
  fit(slot, slots);
  fit(share, shares);
  fit(total, totals);
  for (bool countOwn : {false, true}) {
    Guarded<int64_t> taken(e + s), counts(e, 0);
    std::vector<int64_t> expected(e, 0);
    run(kernels::Localize{countOwn}, 1,
        {in(experts), rows, k, out(local), in(begin), in(slot), in(share), in(total), out(taken), update(counts),
         int64_t(e), int64_t(s), int64_t(perRank), int64_t(1)});
    for (int64_t i = 0; i < rows * k; ++i) {
      ASSERT_EQ(local[i], localOf(chosen[i], 1)) << i;
      if (ids[i] >= 0) {
        expected[ids[i]] += !countOwn || local[i] >= 0;
      }
    }
    EXPECT_TRUE(std::equal(counts.begin(), counts.end(), expected.begin()));
  }
}

/// More experts than threads, most with one replica; periods of a few choices, and of more than there are.
TEST_P(GpuRankShapesTest, SlotsOfManyExperts) {
  const int64_t rows = GetParam() * 2, k = 4;
  for (int64_t experts : {300, 1024}) {
    begins = {0};
    shares.clear();
    totals.clear();
    for (int64_t expert = 0; expert < experts; ++expert) {
      const int64_t replicas = expert % 3 == 0 ? 1 + expert / 3 % 4 : 1;
      totals.push_back(0);
      for (int64_t r = 0; r < replicas; ++r) {
        shares.push_back(static_cast<int32_t>(1 + generator() % (expert % 2 == 0 ? 3 : 2000)));
        totals.back() += shares.back();
      }
      begins.push_back(static_cast<int32_t>(shares.size()));
    }
    slots.resize(shares.size());
    std::iota(slots.begin(), slots.end(), 0);
    std::shuffle(slots.begin(), slots.end(), generator);
    std::vector<int32_t> ids(rows * k);
    for (int32_t &id : ids) { // some are chosen often
      id = static_cast<int32_t>(generator() % (generator() % 2 ? experts + 1 : 8)) - 1;
    }
    const int64_t own = static_cast<int64_t>(slots.size()) / 2;
    const std::vector<int32_t> chosen = slotsOf(ids);
    Guarded<int32_t> expertOf, begin, slot, share, total, local(rows * k);
    fit(expertOf, ids);
    fit(begin, begins);
    fit(slot, slots);
    fit(share, shares);
    fit(total, totals);
    Guarded<int64_t> taken(experts + slots.size()), counts(experts, 0);
    std::vector<int64_t> expected(experts, 0);
    run(kernels::Localize{true}, 1,
        {in(expertOf), rows, k, out(local), in(begin), in(slot), in(share), in(total), out(taken), update(counts),
         experts, static_cast<int64_t>(slots.size()), own, int64_t(1)});
    for (int64_t i = 0; i < rows * k; ++i) {
      const int32_t want = chosen[i] >= own && chosen[i] < 2 * own ? static_cast<int32_t>(chosen[i] - own) : -1;
      ASSERT_EQ(local[i], want) << experts << " experts, choice " << i;
      if (want >= 0) {
        ++expected[ids[i]];
      }
    }
    EXPECT_TRUE(std::equal(counts.begin(), counts.end(), expected.begin())) << experts;
  }
}

TEST_P(GpuRankShapesTest, CopyListedRows) {
  const int64_t rows = GetParam(), sources = 5;
  for (int64_t bytes : {48, 37}) {
    Guarded<char> from(sources * bytes);
    for (char &byte : from) {
      byte = static_cast<char>(generator());
    }
    Guarded<int32_t> list(rows);
    for (int32_t &row : list) {
      row = static_cast<int32_t>(generator() % (sources + 1)) - 1;
    }
    for (bool zeroMissing : {false, true}) {
      Guarded<char> to(rows * bytes, 'w');
      run(kernels::CopyListedRows{zeroMissing}, rows, {in(from), in(list), zeroMissing ? out(to) : update(to), bytes});
      for (int64_t i = 0; i < rows * bytes; ++i) {
        const int32_t row = list[i / bytes];
        ASSERT_EQ(to[i], row >= 0 ? from[row * bytes + i % bytes] : zeroMissing ? 0 : 'w') << i;
      }
    }
  }
}

// 700 tokens of two ranks with four choices are three tiles.
INSTANTIATE_TEST_SUITE_P(Ranks, GpuRankShapesTest, testing::Values(0, 1, 7, 64, 65, 300, 700));

} // namespace
