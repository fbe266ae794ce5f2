//===- Calibration.h - What is measured, and its file -----------*- C++ -*-===//
//
// Every figure is a sum over tokens in f64, added up sequence by sequence in the
// order of the text, so that a run that was interrupted and resumed gives the
// same bytes. The file is one safetensors file (docs/calibration.md): means as
// F64 tensors, ids and their split, and a JSON text in the metadata.
//
// Definitions (arXiv 2503.18908 section 3, 2403.03853, 2406.15786); x_l is the
// stream before layer l, a_l and f_l what its attention and FFN add, h_l = a_l +
// f_l; all are means over tokens:
//
//   dependency[i, j]           1 - cos(h_j, h_j with layer i removed), j > i
//   block_influence[l]         1 - cos(x_l, x_l+1)
//   attention_contribution[l]  1 - cos(x_l, x_l + a_l)
//   *_norm_ratio[l]            |h_l| / |x_l|, |a_l| / |x_l|, |f_l| / |x_l + a_l|
//   *_removed_*[l]             KL(full || changed), loss and share of equal winners
//                              when the attention, or the whole layer, is removed
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_CALIBRATION_H
#define MOE_TOOLS_MOERUN_CALIBRATE_CALIBRATION_H

#include "runtime/readers/Fingerprint.h"
#include "tools/moe-run/Console.h"
#include "tools/moe-run/calibrate/Compare.h"
#include "tools/moe-run/calibrate/Sublayers.h"
#include "tools/moe-run/calibrate/TensorFile.h"
#include "tools/moe-run/calibrate/WindowTable.h"

#include <functional>

namespace moerun {

/// The tokens to measure on.
struct CalibrationText {
  struct Sequence {
    std::vector<int32_t> ids;
    int64_t domain = 0;
    /// Not measured here: kept for judging what is built on the calibration.
    bool heldOut = false;
  };
  std::vector<std::string> domains;
  std::vector<Sequence> sequences;

  /// SHA-256 of everything above.
  std::string digest() const;
  /// Sequences that are held out, or those that are not: all of them, or of every domain by turns as many as it takes
  /// to have `tokens`; without those that it takes to have `skip`. In the order of the text.
  std::vector<const Sequence *> pick(bool heldOut, int64_t tokens = 0, int64_t skip = 0) const;
};

class Calibration {
public:
  Calibration(int64_t layers, int64_t domains);

  /// Called with how many of the sequence's parts are done, and their number.
  using Step = std::function<void(int64_t done, int64_t total)>;
  /// Adds one sequence.
  moert::Status measure(Sublayers &model, const CalibrationText::Sequence &sequence, int64_t vocabulary,
                        const Step &step);

  /// Adds what became of the windows that begin at the next layer.
  void addWindows(std::vector<WindowRow> rows);
  /// So many layers have their windows already.
  int64_t layersWithWindows() const { return windowLayers; }

  int64_t sequences() const { return sequenceCount; }
  int64_t tokens() const { return tokenCount; }
  double loss() const { return baseLoss[0] / double(lossTokens); }
  /// Means for people and --json.
  Json summary() const;

  /// Writes the finished file.
  moert::Status write(const std::string &path, const CalibrationText &text, const Json &facts) const;
  /// Writes and reads back the sums of an unfinished run; `key` names what they are of. Without a file everything stays
  /// at zero; sums of another run are an error, since saving would write over them.
  moert::Status save(const std::string &path, const std::string &key) const;
  moert::Status resume(const std::string &path, const std::string &key);

private:
  moert::Status readUnfinished(const std::string &path);
  /// A figure per layer (or per pair of layers).
  struct Figure {
    const char *name;
    std::vector<double> *sums;
    /// Divided by the tokens that have a next one, instead of by all.
    bool perLossToken = false;
    bool perPair = false;
  };
  std::vector<Figure> figures();
  std::vector<Figure> figures() const { return const_cast<Calibration *>(this)->figures(); }
  std::vector<double> means(const Figure &figure) const;
  void addWindows(std::map<std::string, OutputTensor> &tensors) const;

  int64_t layers, domainCount, windowLayers = 0;
  std::vector<WindowRow> windows;
  int64_t sequenceCount = 0, tokenCount = 0, lossTokens = 0;
  std::vector<double> baseLoss, dependency, blockInfluence, attentionContribution, blockNorm, attentionNorm, ffnNorm;
  struct Removal {
    std::vector<double> kl, loss, sameWinner;
  };
  Removal attentionRemoved, layerRemoved;
};

/// The tokens of a calibration file, and the JSON text of its metadata.
moert::Result<CalibrationText> readCalibrationText(const std::string &path, Json &facts);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_CALIBRATION_H
