//===- StreamPlanTest.cpp - What runs beside experts, and between what ------===//

#include "lowering/MoeToSched/StreamPlan.h"
#include "gtest/gtest.h"

using namespace mlir::moe;

namespace {

/// Reads `inputs`, writes `output`.
StreamedCommand command(std::initializer_list<int> inputs, int output, bool isProduct = true) {
  StreamedCommand result;
  for (int input : inputs) {
    result.accesses.push_back({input, false});
  }
  result.accesses.push_back({output, true});
  result.isProduct = isProduct;
  return result;
}

StreamedCommand experts(std::initializer_list<int> inputs, int output) {
  StreamedCommand result = command(inputs, output);
  result.endsExperts = true;
  return result;
}

/// "1 2 after 0 before 6", works apart by "; ".
std::string describe(llvm::ArrayRef<StreamedCommand> commands) {
  std::string text;
  for (const SideWork &work : planSideWork(commands)) {
    text += text.empty() ? "" : "; ";
    for (int64_t own : work.commands) {
      text += std::to_string(own) + " ";
    }
    text += "after " + std::to_string(work.after) + " before " + std::to_string(work.before);
  }
  return text;
}

// norm 0 -> 1; route 1 -> 2; experts (1, 2) -> 3.
const StreamedCommand kNorm = command({0}, 1), kRoute = command({1}, 2), kExperts = experts({1, 2}, 3);

TEST(StreamPlan, ASharedExpertWhereverItStands) {
  const StreamedCommand up = command({1}, 4), down = command({4}, 5), combine = command({3, 5}, 6, false);
  EXPECT_EQ(describe({kNorm, kRoute, kExperts, up, down, combine}), "3 4 after 0 before 5");
  EXPECT_EQ(describe({kNorm, up, down, kRoute, kExperts, combine}), "1 2 after 0 before 5");
  EXPECT_EQ(describe({kNorm, up, kRoute, down, kExperts, combine}), "1 3 after 0 before 5");
}

TEST(StreamPlan, WhatWaitsForTheExpertsStays) {
  // The second product adds to what the experts made.
  EXPECT_EQ(describe({kNorm, kRoute, kExperts, command({1}, 4), command({4, 3}, 5)}), "3 after 0 before 4");
  EXPECT_EQ(describe({kNorm, kRoute, kExperts, command({3}, 4), command({4}, 5)}), "");
  EXPECT_EQ(describe({kNorm, command({0}, 1), command({1}, 2)}), "") << "there are no experts";
}

TEST(StreamPlan, OverwritingIsADependence) {
  // The experts' input is overwritten, or what they made.
  EXPECT_EQ(describe({kNorm, kRoute, kExperts, command({0}, 1)}), "");
  EXPECT_EQ(describe({kNorm, kRoute, kExperts, command({0}, 3)}), "");
  // It overwrites what came before the experts, which nobody else needs: between that and the end.
  EXPECT_EQ(describe({kNorm, command({1}, 4), kRoute, kExperts, command({0}, 4)}), "1 4 after 0 before 5");
}

TEST(StreamPlan, ProductsAndWhatComesOfThem) {
  EXPECT_EQ(describe({kNorm, kRoute, command({2}, 7, false), kExperts}), "");
  // Statistics of routing come along with nothing.
  EXPECT_EQ(describe({kNorm, kRoute, command({2}, 7, false), kExperts, command({1}, 4)}), "4 after 0 before 5");
  // Attention beside experts: projections and their rotation, with what is added; a table of angles comes before.
  EXPECT_EQ(describe({kNorm, command({0}, 8, false), command({1}, 4), command({4, 8}, 5, false), command({5}, 6),
                      command({6}, 7, false), kRoute, kExperts, command({3, 7}, 9, false)}),
            "2 3 4 5 after 1 before 8");
}

TEST(StreamPlan, ExpertsStay) {
  EXPECT_EQ(describe({kNorm, kRoute, kExperts, command({1}, 4), experts({1, 4}, 5)}), "3 after 0 before 4");
  EXPECT_EQ(describe({kNorm, kRoute, kExperts, experts({1}, 5)}), "");
}

TEST(StreamPlan, CollectivesStay) {
  auto collective = [](int input, int output) {
    StreamedCommand result = command({input}, output, false);
    result.isCollective = true;
    return result;
  };
  // Rows and weights are gathered; the weights are of no interest to the experts.
  EXPECT_EQ(describe({command({0}, 9), command({9}, 4), collective(9, 1), collective(9, 8), kRoute, kExperts,
                      command({3, 8, 4}, 6, false)}),
            "1 after 0 before 6");
  // What was made is summed over ranks beside the experts' results, in one go.
  EXPECT_EQ(describe({kNorm, command({1}, 4), kRoute, kExperts, collective(3, 5), collective(4, 6)}),
            "1 after 0 before 4");
  // It waits for ranks that the experts do not wait for, longer than they do.
  EXPECT_EQ(describe({kNorm, kRoute, kExperts, collective(1, 4), command({4}, 5)}), "");
}

TEST(StreamPlan, BesideTheFirstCommandAndToTheLast) {
  EXPECT_EQ(describe({experts({0}, 1), command({0}, 2)}), "1 after -1 before 2");
}

TEST(StreamPlan, EveryLayerItsOwn) {
  llvm::SmallVector<StreamedCommand> commands;
  std::string expected;
  for (int layer = 0; layer < 3; ++layer) {
    const int first = 10 * layer, at = 6 * layer;
    commands.append({command({first}, first + 1), command({first + 1}, first + 2),
                     experts({first + 1, first + 2}, first + 3), command({first + 1}, first + 4),
                     command({first + 4}, first + 5), command({first + 3, first + 5}, first + 10)});
    expected += (layer ? "; " : "") + std::to_string(at + 3) + " " + std::to_string(at + 4) + " after " +
                std::to_string(at) + " before " + std::to_string(at + 5);
  }
  EXPECT_EQ(describe(commands), expected);
}

} // namespace
