//===- Recording.h - Which experts a run chose ------------------*- C++ -*-===//
//
// Reads the states that routing counts in (how often every expert was chosen;
// in a package compiled with `--instrument routing` also first choices,
// probabilities and pairs) and writes what was added since the recording began
// as `moe-routing`, which `moec place` reads (docs/placement.md). States are
// found by name: expert_counts.N of MoE layer N, and so on. Which decoder layers
// those are, the package's config.json says.
//
// Windows along time: every so many steps, or by themselves: as many steps per
// window as leave at most 32 of them.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_RECORDING_H
#define MOE_TOOLS_MOERUN_RECORDING_H

#include "passes/Analysis/Placement/Statistics.h"
#include "tools/moe-run/Console.h"
#include "tools/moe-run/Engine.h"

namespace moerun {

/// What --record-routing asks for.
struct RecordingOptions {
  std::string file;   ///< Empty: nothing is recorded.
  int64_t window = 0; ///< Steps per window; 0: chosen.
};

/// The counters of all MoE layers at one time. The last three are empty unless the package is instrumented.
struct RoutingCounters {
  using Rows = std::vector<std::vector<int64_t>>;
  Rows counts, first, probabilities, pairs;
};
moert::Result<RoutingCounters> readRoutingCounters(Session &session);

/// A session whose steps are recorded. The session must outlive it.
class RoutingRecorder : public Engine {
public:
  /// An error when the model has no experts. `package` is the folder.
  static moert::Result<std::unique_ptr<RoutingRecorder>> begin(Session &session, const std::string &package,
                                                               const RecordingOptions &options);

  moert::Status step(const moert_step_input &input, float *logits) override;
  moert::Status pick(const moert_step_input &input, int32_t *tokens) override;
  /// After a step that somebody else ran on the session.
  moert::Status afterStep();
  /// What was recorded so far, as one profile named after the file.
  moert::Result<moe::placement::Statistics> finish();

private:
  RoutingRecorder(Session &session, const RecordingOptions &options) : session(session), options(options) {}
  void closeWindow(RoutingCounters::Rows now);

  Session &session;
  RecordingOptions options;
  std::string package;
  RoutingCounters start;
  RoutingCounters::Rows windowStart;
  /// [window][layer][expert], complete ones.
  std::vector<std::vector<moe::placement::Loads>> windows;
  int64_t stepsPerWindow = 1, stepsInWindow = 0;
};

/// Writes the recording and says so, and on stderr what it lacks.
moert::Status writeRoutingFile(const std::string &file, const moe::placement::Statistics &statistics, bool quiet);

/// Statistics of how even each layer was, as JSON.
Json describeBalance(const moe::placement::Statistics &statistics);

/// What counters grew by, as one profile without windows.
moert::Result<moe::placement::Statistics> makeStatistics(const RoutingCounters &growth, const std::string &package,
                                                         const std::string &name = "");

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_RECORDING_H
