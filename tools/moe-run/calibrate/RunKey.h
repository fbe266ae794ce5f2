//===- RunKey.h - Which run an unfinished calibration is of -----*- C++ -*-===//
//
// What is done of a calibration is kept beside its output (docs/calibration.md).
// Another run may go on with it only if it would have computed the same: here is
// everything that its sums depend on.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_RUNKEY_H
#define MOE_TOOLS_MOERUN_CALIBRATE_RUNKEY_H

#include "tools/moe-run/Commands.h"

namespace moerun {

/// What is found out before anything is measured.
struct RunFacts {
  std::string fingerprint; ///< of the weights
  std::string text;        ///< CalibrationText::digest()
  std::string variant;     ///< of the kernels that run
  int64_t length = 0;      ///< tokens of a sequence
};

/// The same for runs that compute the same sums, on any number of threads.
std::string runKey(const CalibrateCommand &command, const RunFacts &facts);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_RUNKEY_H
