//===- Repetition.h - Whether generated text repeats itself -----*- C++ -*-===//
//
// Greedy text of a damaged model falls into a loop long before its loss shows
// it. So do small models that nothing was done to: what counts is the difference.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_REPETITION_H
#define MOE_TOOLS_MOERUN_CALIBRATE_REPETITION_H

#include <cstdint>
#include <vector>

namespace moerun {

/// The share of runs of four tokens that were there before; 0 for fewer than five tokens.
double repeatedShare(const std::vector<int32_t> &tokens);

/// Whether more texts of `other` than of `base` consist of repetition by half or more: by a quarter of all, at least
/// one.
bool isCollapse(const std::vector<double> &base, const std::vector<double> &other);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_REPETITION_H
