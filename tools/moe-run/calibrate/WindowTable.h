//===- WindowTable.h - What became of every window --------------*- C++ -*-===//
//
// Figures of fused windows, means over the held-out tokens that they were judged
// on; what a calibration keeps of WindowFit's results.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_WINDOWTABLE_H
#define MOE_TOOLS_MOERUN_CALIBRATE_WINDOWTABLE_H

#include "tools/moe-run/Console.h"
#include "tools/moe-run/calibrate/WindowFit.h"

namespace moerun {

/// The held-out text that windows are judged on.
struct JudgedText {
  std::vector<int64_t> tokens, domains; ///< Of each sequence.
  int64_t domainCount = 0;

  int64_t tokenCount() const;
  /// Mean over the tokens of each domain, from sums over sequences; NaN for a domain without any.
  std::vector<double> perDomain(const std::vector<double> &sums) const;
};

struct WindowRow {
  Window window;
  /// |fused - sequential| / |sequential - input| behind the window.
  double error = 0, errorRepaired = 0;
  double kl = 0, klRepaired = 0, klBound = 0, sameWinner = 0;
  int32_t stages = 0;
  std::vector<double> klDomains;
};

WindowRow summarize(const WindowResult &result, const JudgedText &text);

/// A row for --json, without its domains; null for what is not finite.
Json describe(const WindowRow &row);

/// Rows as numbers, for a file.
std::vector<double> pack(const std::vector<WindowRow> &rows);
moert::Result<std::vector<WindowRow>> unpackRows(const std::vector<double> &numbers, int64_t domains);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_WINDOWTABLE_H
