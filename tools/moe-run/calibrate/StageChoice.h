//===- StageChoice.h - Which stages of repair a window keeps ----*- C++ -*-===//
//
// A stage is judged on some of the held-out sequences, as what it changes is
// large; what is left in the end is judged on all of them. Scores in, a choice
// out: nothing is run here, so that each rule can be tested by itself.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_STAGECHOICE_H
#define MOE_TOOLS_MOERUN_CALIBRATE_STAGECHOICE_H

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace moerun {

/// What fusing a window does to held-out text.
struct WindowScore {
  /// Sums over the tokens of each held-out sequence.
  std::vector<double> kl;
  double loss = 0, sameWinner = 0;
  /// Squared norms of what is wrong behind the window, and of what the window adds to the stream.
  double wrong = 0, added = 0;

  double klSum() const;
};

/// Bits of StageChoice::stages.
constexpr int32_t kAttentionMaps = 1, kFFNMaps = 2, kOutputMap = 4;

/// Stages are judged on every so many of `sequences` held-out sequences: a quarter, if there are many.
inline size_t stageEvery(size_t sequences) { return sequences >= 8 ? 4 : 1; }

struct StageChoice {
  /// What helps, and only that.
  int32_t stages = 0;
  WindowScore plain, repaired;
  /// Everything that was tried, in order: stages, and the mean KL on the sequences that stages are judged on.
  std::vector<std::pair<int32_t, double>> tried;

  /// The window as it is, on all sequences; `lengths` are their tokens.
  void begin(WindowScore score, std::vector<int64_t> lengths);
  /// The window with `mapped` stages, on the sequences that stages are judged on: kept if it lowers the KL there.
  void offer(int32_t mapped, const WindowScore &score);
  /// The window with the stages that are kept, on all sequences: if that does not lower the KL, nothing is kept.
  void settle(WindowScore score);

private:
  /// The mean KL on the sequences that stages are judged on.
  double stageKl(const WindowScore &score) const;

  std::vector<int64_t> tokens;
  double best = 0;
};

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_STAGECHOICE_H
