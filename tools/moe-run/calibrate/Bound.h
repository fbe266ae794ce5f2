//===- Bound.h - How sure a mean over text is -------------------*- C++ -*-===//
//
// Tokens of one sequence are not independent, sequences nearly are: the spread of
// a mean is that of the sequences' means.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_BOUND_H
#define MOE_TOOLS_MOERUN_CALIBRATE_BOUND_H

#include <cstdint>
#include <vector>

namespace moerun {

/// The value that Student's t with `freedom` degrees stays below in 95 of 100 cases; to 0.1 %.
double student95(int64_t freedom);

/// Below which the mean over tokens lies with 95 %, from sums over sequences and their numbers of tokens. Infinite for
/// fewer than two sequences.
double upperBound95(const std::vector<double> &sums, const std::vector<int64_t> &tokens);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_BOUND_H
