//===- Gate.h - The rules that a fused model must keep ----------------------===//
//
// Measured figures in, a verdict and its reason out: nothing is run here and
// nothing read, so that every rule can be tested by itself. A figure that is not
// a number keeps no rule.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_FUSE_GATE_H
#define MOE_TOOLS_MOEC_FUSE_GATE_H

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moec {

/// How much text a judgement should rest on.
constexpr int64_t kEnoughTokens = 8192, kEnoughDomains = 3;
/// On less than this no judgement is given at all.
constexpr int64_t kMinTokens = 64, kMinSequences = 2;

/// How a plan changes what the model says: `moe-run compare`.
struct Difference {
  int64_t tokens = 0, sequences = 0;
  double kl = 0, klBound = 0, sameWinner = 0, lossBase = 0, loss = 0;
  struct Domain {
    std::string name;
    double kl = 0, klBound = 0, sameWinner = 0;
  };
  std::vector<Domain> domains;
  std::string worstDomain;
  bool collapsed = false;
};

struct GateRules {
  double maxKl = 0.02;   ///< nats per token that the upper bound of the mean KL may be
  double minTop1 = 0.95; ///< part of tokens whose likeliest successor stays the same
  double minGain = 0.02; ///< part by which decoding must be faster; 0: speed is not asked for
  int64_t ranks = 1, rounds = 5;
};

struct Verdict {
  bool passes = false;
  std::string reason;
};

/// Why no judgement can be given on so little text; empty: it can.
std::string findTooLittleText(const Difference &difference);
/// Whether the fused model says what the model says.
Verdict judgeQuality(const Difference &difference, const GateRules &rules);

/// How much faster decoding is: 0.03 is 3 %. The lower 95 % bound is there from five rounds on.
struct Gain {
  double median = 0;
  std::optional<double> bound;
};

/// Of round after round, in milliseconds per step: the base beside the plan.
Gain gainOf(const std::vector<double> &base, const std::vector<double> &plan);
/// Whether a plan of enough quality pays.
Verdict judgeGain(const Difference &difference, const Gain &gain, const GateRules &rules);

double medianOf(std::vector<double> values);
/// The lower 95 % bound of the median that `values` are drawn around (one-sided); nothing for fewer than five.
std::optional<double> lowerBoundOf(std::vector<double> values);
/// A bound as it was typed.
std::string spellBudget(double value);

} // namespace moec

#endif // MOE_TOOLS_MOEC_FUSE_GATE_H
