//===- ExchangeCost.cpp - How tokens should reach their experts -------------===//

#include "passes/Analysis/ExchangeCost.h"

using namespace mlir;
using namespace mlir::moe;

ExchangeCost &ExchangeCost::operator+=(const ExchangeCost &other) {
  rounds += other.rounds;
  reads += other.reads;
  bytes += other.bytes;
  rows += other.rows;
  seconds += other.seconds;
  secondsPerToken += other.secondsPerToken;
  return *this;
}

double moe::expectedRemoteRanks(PlacementAttr placement, int64_t choices) {
  ArrayRef<int64_t> slots = placement.getSlots().asArrayRef();
  const int64_t ranks = placement.getRanks(), perRank = placement.getSlotsPerRank(),
                experts = placement.getNumExperts();
  auto shareOf = [&](size_t slot) {
    return placement.getShares() ? static_cast<double>(placement.getShares().asArrayRef()[slot]) : 1.0;
  };
  SmallVector<double> total(experts, 0.0), onRank(ranks, 0.0);
  for (auto [slot, expert] : llvm::enumerate(slots)) {
    total[expert] += shareOf(slot);
  }
  for (auto [slot, expert] : llvm::enumerate(slots)) {
    onRank[static_cast<int64_t>(slot) / perRank] += shareOf(slot) / total[expert];
  }
  // A rank is missed by K choices without repetition of E experts, of which it has so many (a fraction, with replicas).
  double reached = 0;
  for (double own : onRank) {
    double missed = 1;
    for (int64_t i = 0; i < std::min(choices, experts); ++i) {
      missed *= std::max(0.0, 1 - own / static_cast<double>(experts - i));
    }
    reached += 1 - missed;
  }
  return reached * static_cast<double>(ranks - 1) / static_cast<double>(ranks);
}

void ExchangeCosts::add(const ExchangeShape &shape, const ExchangeMachine &machine) {
  const auto ranks = static_cast<double>(shape.placement.getRanks()), others = ranks - 1;
  const auto k = static_cast<double>(shape.choices), ids = 4 * k, weights = 4 * k;
  const auto x = static_cast<double>(shape.tokenBytes), y = static_cast<double>(shape.resultBytes),
             sum = static_cast<double>(shape.sumBytes);
  auto finish = [&](ExchangeCost &cost, double memory) {
    cost.seconds = cost.rounds * machine.latency + cost.reads * machine.hostRead;
    cost.secondsPerToken = cost.bytes / machine.linkRate + memory / machine.memoryRate;
  };
  ExchangeCost all;
  all.rounds = 4; // x, ids and weights there, sums back
  all.bytes = others * (x + ids + weights + sum);
  all.rows = ranks * k;
  // Gathered rows are written; results are zeroed and read for the sums, which are written and added up.
  finish(all, ranks * (x + 2 * k * y + 2 * sum));
  ExchangeCost few;
  few.rounds = 3; // ids; rows with their counts there, and back
  few.reads = 1;  // of the counts of both ways
  const double remote = expectedRemoteRanks(shape.placement, shape.choices);
  few.bytes = others * ids + remote * x + k * others / ranks * y;
  few.rows = k;
  // Rows are packed, which reads and writes them, and written where they arrive; results likewise, then unpacked and
  // added up.
  finish(few, 3 * remote * x + 6 * k * y + sum);
  gather += all;
  exact += few;
  ++layers;
}

ExchangePlan ExchangeCosts::choose(int64_t maxTokens) const {
  auto isExactFaster = [&](int64_t tokens) { return exact.at(tokens) < gather.at(tokens); };
  ExchangePlan plan;
  plan.isExact = isExactFaster(1);
  if (isExactFaster(maxTokens) == plan.isExact) {
    return plan;
  }
  // Two straight lines cross once.
  int64_t same = 1;
  plan.changesAt = maxTokens;
  while (plan.changesAt - same > 1) {
    const int64_t middle = same + (plan.changesAt - same) / 2;
    (isExactFaster(middle) == plan.isExact ? same : plan.changesAt) = middle;
  }
  return plan;
}
