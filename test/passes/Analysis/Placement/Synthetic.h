//===- Synthetic.h - Expert loads that look like real ones ------*- C++ -*-===//
//
// No table of a real model is committed. These have the same shape: most
// experts near the mean, a long tail (log-normal), hottest experts 5 to 10
// times the mean, layers that differ, workloads that resemble one another.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_PASSES_ANALYSIS_PLACEMENT_SYNTHETIC_H
#define MOE_TEST_PASSES_ANALYSIS_PLACEMENT_SYNTHETIC_H

#include "passes/Analysis/Placement/Model.h"

namespace moe::placement {

/// `profiles` workloads of one model. `spread` is the standard deviation of the log load (0.65 looks like DeepSeek-R1),
/// `drift` that of the difference between workloads.
Statistics makeStatistics(int layers, int experts, int profiles, double spread = 0.65, double drift = 0.2,
                          uint64_t seed = 1);

/// A short name of maps, to say of a search that it gives the same ones.
uint64_t fingerprint(const std::vector<LayerMap> &maps);

} // namespace moe::placement

#endif // MOE_TEST_PASSES_ANALYSIS_PLACEMENT_SYNTHETIC_H
