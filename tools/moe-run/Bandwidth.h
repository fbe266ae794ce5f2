//===- Bandwidth.h - How fast this machine reads memory ---------*- C++ -*-===//
#ifndef MOE_TOOLS_MOERUN_BANDWIDTH_H
#define MOE_TOOLS_MOERUN_BANDWIDTH_H

#include <cstdint>

namespace moerun {

/// Bytes per second that `threads` threads read of a buffer much larger than the caches (at most 1 GiB, and a quarter
/// of the free memory): the best of five passes. Zero when there is no memory for it.
double measureReadBandwidth(int threads);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_BANDWIDTH_H
