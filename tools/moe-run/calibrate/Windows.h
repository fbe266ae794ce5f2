//===- Windows.h - Fused windows, composed of a model's pieces --*- C++ -*-===//
//
// What a window of layers computes once it is fused (docs/ffn-fusion.md), with
// maps that repair it, without compiling anything: its branches are run on the
// inputs that the form gives them.
//
// Here an input map works on what the norm gives before its scale: n = x / rms(x).
// A layer k that would have read n_k and reads n instead is given scale_k * (n m).
// A plan's maps have the scales in them, because weights are what they are
// multiplied into: storedMap() converts.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_WINDOWS_H
#define MOE_TOOLS_MOERUN_CALIBRATE_WINDOWS_H

#include "tools/moe-run/calibrate/LayerStreams.h"
#include "tools/moe-run/calibrate/Moments.h"

#include <set>

namespace moerun {

enum class Form : int32_t { Removed, Deferred, Pair };
/// 'R', 'D' or 'P'.
char formLetter(Form form);
moert::Result<Form> parseForm(const std::string &letter);

/// `length` layers from `first` on become one.
struct Window {
  int64_t first = 0, length = 0;
  Form form = Form::Deferred;
};

/// Empty maps change nothing; the lists are empty or have one map per layer.
struct WindowMaps {
  std::vector<Map> attention, ffn;
  Map output;
};

class WindowRunner {
public:
  /// Layers of `removed` have no attention, in any window.
  WindowRunner(Sublayers &model, std::set<int64_t> removed, int threads)
      : model(model), removed(std::move(removed)), threads(threads) {}

  /// Whether the window has FFNs to join and norms that can be one.
  bool isPossible(const Window &window) const;
  /// Whether a map on the sum of its FFNs can go into their weights: none has a bias.
  moert::Result<bool> takesOutputMap(const Window &window);

  /// Called with the stream behind the attentions of the first `length` layers.
  using Visit = std::function<moert::Status(int64_t length, const Stream &z)>;
  /// What `window` has in place of its attentions, from the stream `x`; visits every length up to the window's.
  moert::Status attend(const Window &window, const std::vector<Map> &maps, const Stream &x, const Visit &visit);
  /// The sum of the FFNs of `window` on `z`, before the output map.
  moert::Status feed(const Window &window, const std::vector<Map> &maps, const Stream &z, Stream &sum);
  /// The stream behind the window.
  moert::Status run(const Window &window, const WindowMaps &maps, const Stream &x, Stream &y);
  /// The rest of the model as it is, from layer `layer` on: logits.
  moert::Status finish(int64_t layer, Stream x, std::vector<float> &logits);

  bool hasAttention(int64_t layer) const { return model.has(Branch::Attention, layer) && !removed.count(layer); }
  /// eps of the norm in front of the FFNs of `window`.
  double ffnEps(const Window &window) const;
  /// The scale of the norm that the fused window has in front of `branch` of layer `layer`.
  std::vector<float> sharedScale(const Window &window, Branch branch, int64_t layer) const;
  /// An input map as a plan has it: [out, in], with both scales in it.
  std::vector<float> storedMap(const Window &window, Branch branch, int64_t layer, const Map &map) const;
  /// Sets channels of `normed` to zero that a map cannot see: those that the norm's scale has taken away.
  void hide(const std::vector<float> &shared, Stream &normed) const;

private:
  moert::Status branch(Branch kind, int64_t layer, const Stream &normed, const Map &map,
                       const std::vector<float> &shared, Stream &y);

  Sublayers &model;
  std::set<int64_t> removed;
  int threads;
  Stream hidden, mapped;
};

/// The output map as a plan has it: [out, in].
std::vector<float> transposed(const Map &map, int64_t width);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_WINDOWS_H
