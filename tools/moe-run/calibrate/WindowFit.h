//===- WindowFit.h - Repairs windows and says what is left ------*- C++ -*-===//
//
// All windows that begin at one layer, together: they share inputs, sums and
// steps. In order, as each reads what the one before gives: maps in front of the
// attentions (in form D layer by layer), maps in front of the FFNs, one map on
// their sum. Maps are fitted on the calibration text, to what the model as it is
// has in these places; each stage is kept only if it lowers the KL of the window
// on held-out text.
//
// The maps of a stage are those with the least squared error over tokens, pulled
// to the identity by `ridge` times the mean square of their inputs (Moments.h).
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_WINDOWFIT_H
#define MOE_TOOLS_MOERUN_CALIBRATE_WINDOWFIT_H

#include "tools/moe-run/calibrate/Compare.h"
#include "tools/moe-run/calibrate/StageChoice.h"
#include "tools/moe-run/calibrate/Windows.h"

#include <optional>

namespace moerun {

struct WindowResult : StageChoice {
  Window window;
  /// Of the stages that are kept.
  WindowMaps maps;
};

class WindowFit {
public:
  struct Options {
    double ridge = 1e-3;
    int threads = 1;
  };
  /// `ends`: the stream of every held-out sequence behind the last layer. The streams are at the windows' layers
  /// already when fit() is called.
  WindowFit(Sublayers &model, WindowRunner &runner, LayerStreams &calibration, LayerStreams &heldOut,
            const std::vector<Stream> &ends, int64_t vocabulary, Options options)
      : model(model), runner(runner), calibration(calibration), heldOut(heldOut), ends(ends), vocabulary(vocabulary),
        options(options) {}

  /// Called with the share that is done.
  using Step = std::function<void(double share)>;
  /// Repairs `windows`, which begin at one layer, and judges them.
  moert::Status fit(std::vector<WindowResult> &windows, const Step &step);

private:
  /// A window at work.
  struct Job {
    WindowResult *result = nullptr;
    bool attention = false, ffn = false;
    std::vector<Map> ffnMaps;
    /// Without and with FFN maps.
    Map outputs[2];
    bool takesOutput = false;
  };
  /// A way to repair a window, judged.
  struct Trial {
    Job *job = nullptr;
    bool attention = false, ffn = false, output = false;
    WindowScore score;
  };

  /// Maps of branches that all read the stream before layer `first`.
  moert::Status fitShared(Branch branch, int64_t begin, int64_t length, std::vector<Map> &maps);
  /// Maps of the attentions of form D, one after the other.
  moert::Status fitDeferred(int64_t length);
  moert::Status fitFFNs();
  moert::Status fitOutputs();
  /// Visits every job of form `form` whose attention maps are `mapped`, with the stream behind its attentions.
  moert::Status visit(Form form, bool mapped, const Stream &x,
                      const std::function<moert::Status(Job &job, const Stream &z)> &at);
  /// The same for all jobs, on a sequence of the calibration text.
  moert::Status visitAll(size_t sequence, const std::function<moert::Status(Job &job, const Stream &z)> &at);
  /// Runs every trial on every `every`-th held-out sequence.
  moert::Status judge(std::vector<Trial> &trials, size_t every, double share);
  /// Judges one more stage of every trial's window, which is kept if it helps.
  moert::Status tryStage(std::vector<Trial> &trials);
  moert::Status judgeOne(Trial &trial, size_t sequence, const Prediction &full, const Stream &z);
  /// The length of the longest window, of a form or of all.
  int64_t longest(std::optional<Form> form = {}) const;
  const std::vector<Map> &ffnMaps(const Job &job, bool mapped) const;
  /// What the norm of a branch gives in the model as it is, before its scale.
  void target(Branch branch, size_t sequence, int64_t layer, Stream &normed) const;
  void advance(double share);

  Sublayers &model;
  WindowRunner &runner;
  LayerStreams &calibration, &heldOut;
  const std::vector<Stream> &ends;
  int64_t vocabulary;
  Options options;

  int64_t first = 0;
  std::vector<Job> jobs;
  /// By form: one per layer from `first` on; windows of every length share them.
  std::vector<Map> attentionMaps[3];
  /// Of form R: what the FFNs read does not depend on the length either.
  std::vector<Map> removedFFNMaps;
  Step step;
  double done = 0;
};

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_WINDOWFIT_H
