//===- ExchangeCost.h - How tokens should reach their experts ---------------===//
//
// Ranks with tokens of their own bring them to the experts of other ranks in one
// of two ways: `gather` gives all tokens to all ranks and adds up partial sums,
// `exact` sends a token to the ranks of its experts only and their results back.
// Per layer and rank the time of either is taken to be
//
//   rounds * latency + reads * time of a read + T * (bytes over links / link rate + bytes in memory / memory rate)
//
// where a read is one of counts by the host, for which a CPU need not wait and a
// GPU must: so `gather` may win for few tokens, and what moves less for many. Experts' products are left out: both
// compute the same rows. Experts count as chosen alike, and replicas by their shares; that one rank gets more than
// another is not modelled.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_EXCHANGECOST_H
#define MOE_PASSES_ANALYSIS_EXCHANGECOST_H

#include "dialects/Moe/IR/MoeOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace mlir::moe {

/// What ranks run on. The defaults are those of ranks that are threads or processes of one machine's CPUs.
struct ExchangeMachine {
  double latency = 20e-6; ///< seconds until a rank has a message of nothing from all others
  double hostRead = 0;    ///< seconds until the host has read a number that the step computed
  double linkRate = 4e9;  ///< bytes per second that a rank receives
  double memoryRate = 8e9;

  /// Those of a machine with eight H100, as targets/dgx-h100.json has them. Before the host reads counts, a round
  /// brings those of all ranks together.
  static ExchangeMachine gpus() { return {20e-6, 20e-6 + 20e-6, 450e9, 3350e9}; }
};

/// A layer's experts and how they are placed.
struct ExchangeShape {
  PlacementAttr placement;
  int64_t choices;                 ///< K
  int64_t tokenBytes, resultBytes; ///< a row of x, and of the experts' result
  int64_t sumBytes;                ///< a row of the layer's result
};

/// Of one strategy, in one step of T tokens of a rank.
struct ExchangeCost {
  double rounds = 0, reads = 0; ///< messages that wait for each other; reads by the host
  /// Per token of a rank: bytes that the rank receives from others, and rows of results that it fills and adds up.
  double bytes = 0, rows = 0;
  double seconds = 0, secondsPerToken = 0;

  double at(int64_t tokens) const { return seconds + secondsPerToken * static_cast<double>(tokens); }
  ExchangeCost &operator+=(const ExchangeCost &other);
};

/// Which exchange is used for steps of which T.
struct ExchangePlan {
  bool isExact = false;  ///< in steps of few tokens
  int64_t changesAt = 0; ///< the T from which on it is the other one; 0: never
};

/// Both strategies, added up over layers.
struct ExchangeCosts {
  ExchangeCost gather, exact;
  int64_t layers = 0;

  void add(const ExchangeShape &shape, const ExchangeMachine &machine);
  /// The faster one for every T from 1 to `maxTokens`.
  ExchangePlan choose(int64_t maxTokens) const;
};

/// The ranks, beside its own, that a token must reach, if all experts are chosen alike.
double expectedRemoteRanks(PlacementAttr placement, int64_t choices);

/// The costs of the experts of @step on `ranks` ranks, placed as they are or in order. An error if moe-expert-parallel
/// could not divide them.
FailureOr<ExchangeCosts> priceExchanges(func::FuncOp step, int64_t ranks, const ExchangeMachine &machine);

} // namespace mlir::moe

#endif // MOE_PASSES_ANALYSIS_EXCHANGECOST_H
