//===- Sublayers.h - A model in pieces --------------------------*- C++ -*-===//
//
// The entries that `moec compile --instrument calibration` adds (see the pass
// moe-outline-sublayers), found by name: embedding, the norm and the branch of
// every attention and FFN, head. Values of the residual stream are f32 [T, H] in
// the caller's memory; adding a branch to the stream is the caller's.
//
// A branch can also be run by itself, on what the caller puts between it and its
// norm. The norm is then the caller's to compute: scale and eps are found out by
// running the norm's entry on constant rows.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_SUBLAYERS_H
#define MOE_TOOLS_MOERUN_CALIBRATE_SUBLAYERS_H

#include "tools/moe-run/Engine.h"

#include <map>

namespace moerun {

/// One row of the stream per token.
using Stream = std::vector<float>;

enum class Branch { Attention, FFN };

/// A norm of the stream: scale * x / sqrt(mean(x^2) + eps).
struct Norm {
  std::vector<float> scale;
  double eps = 0;
};

/// x / sqrt(mean(x^2) + eps), row by row.
void normalize(const Stream &x, int64_t width, double eps, Stream &y);

class Sublayers {
public:
  /// An error when `session` is not of an instrumented package.
  static moert::Result<Sublayers> open(Session &session, const std::string &package);

  int64_t layers() const { return static_cast<int64_t>(pieces.size()); }
  int64_t hidden() const { return hiddenSize; }
  /// Whether layer `layer` has an attention (or an FFN).
  bool has(Branch branch, int64_t layer) const { return piece(branch, layer).branch != 0; }

  /// The sequence that all calls from here on are about: positions 0, 1, ... of slot 0. Kept until the next.
  void setTokens(const std::vector<int32_t> &tokens);
  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }

  moert::Status embed(Stream &x);
  /// What the sub-layer adds to the stream when it reads `x`: all zeros where the layer has none.
  moert::Status run(Branch branch, int64_t layer, const Stream &x, Stream &y);
  /// What the branch by itself gives when its norm gave it `normed`; the layer has one.
  moert::Status runBranch(Branch branch, int64_t layer, const Stream &normed, Stream &y);
  /// The norm in front of a branch that is there; after findNorms().
  const Norm &norm(Branch branch, int64_t layer) const { return piece(branch, layer).found; }
  /// Finds out scale and eps of all norms, and checks on rows of the stream that this is what they are. Sets tokens.
  moert::Status findNorms(const std::vector<int32_t> &tokens);
  /// Logits of every token, [T, V].
  moert::Status head(const Stream &x, std::vector<float> &logits);
  /// The whole model as one step, [T, V].
  moert::Status whole(std::vector<float> &logits);

private:
  /// Entries; 0 (the step) where there is none.
  struct Piece {
    size_t norm = 0, branch = 0;
    Norm found;
  };
  struct Layer {
    Piece attention, ffn;
  };
  const Piece &piece(Branch branch, int64_t layer) const {
    const Layer &both = pieces[static_cast<size_t>(layer)];
    return branch == Branch::Attention ? both.attention : both.ffn;
  }
  moert::Status run(size_t entry, const float *in, float *out, bool withRows);
  moert::Status findNorm(Piece &piece);

  Session *session = nullptr;
  size_t embedEntry = 0, headEntry = 0;
  int64_t hiddenSize = 0;
  std::vector<Layer> pieces;
  std::vector<int32_t> ids, slots, positions;
  Stream normed;
};

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_SUBLAYERS_H
