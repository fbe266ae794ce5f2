//===- Measure.h - Timed prefill and decode of made-up tokens ---*- C++ -*-===//
//
// What bench and profile share: B prompts of P tokens, then N steps of B tokens,
// greedy. The tokens look random, so that routing spreads over experts.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_MEASURE_H
#define MOE_TOOLS_MOERUN_MEASURE_H

#include "tools/moe-run/Feeding.h"

namespace moerun {

/// Runs one measurement after the other on one engine of B slots.
class Measurement {
public:
  Measurement(Engine &engine, int64_t promptLength);

  /// Feeds the prompts, as many tokens per step as fit; the seconds it took.
  moert::Result<double> prefill();
  /// Runs `steps` steps after it; `afterStep` (may be null) is not counted.
  moert::Result<double> decode(int64_t steps, const std::function<moert::Status()> &afterStep);

private:
  moert::Result<double> step();
  Engine &engine;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<int32_t> next; // Of each slot.
  int64_t position = 0;
  StepBatch batch;
  GreedyStep greedy;
};

/// Middle value; the mean of two for an even count.
double median(std::vector<double> values);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_MEASURE_H
