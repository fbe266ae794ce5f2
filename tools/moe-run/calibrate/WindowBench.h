//===- WindowBench.h - Windows fitted one layer after the other -*- C++ -*-===//
//
// What calibrate and repair share: text in both halves, moved along the model as
// windows are asked for in ascending order.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_WINDOWBENCH_H
#define MOE_TOOLS_MOERUN_CALIBRATE_WINDOWBENCH_H

#include "tools/moe-run/calibrate/Calibration.h"

namespace moerun {

class WindowBench {
public:
  struct Options {
    WindowFit::Options fit;
    /// Held-out tokens to judge on, of all domains by turns; 0: all.
    int64_t judgeTokens = 0;
    /// Layers that have lost their attention.
    std::set<int64_t> removed;
  };
  WindowBench(Sublayers &model, const CalibrationText &text, int64_t vocabulary, const Options &options);
  WindowBench(const WindowBench &) = delete;
  WindowBench &operator=(const WindowBench &) = delete;

  /// Finds the norms and where the held-out text ends; an error when one half of the text is empty.
  moert::Status open();
  const WindowRunner &windows() const { return runner; }
  WindowRunner &windows() { return runner; }
  const JudgedText &judgedText() const { return judged; }
  int64_t fittedTokens() const { return calibration.tokens(); }

  /// Repairs and judges windows that begin at one layer, which is not before that of an earlier call.
  moert::Status fit(std::vector<WindowResult> &windows, const WindowFit::Step &step);

private:
  Sublayers &model;
  WindowRunner runner;
  LayerStreams calibration, heldOut;
  std::vector<Stream> ends;
  JudgedText judged;
  int64_t vocabulary;
  WindowFit::Options options;
};

/// The forms of "R,D,P", in that order.
moert::Result<std::vector<Form>> parseForms(const std::string &list);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_WINDOWBENCH_H
