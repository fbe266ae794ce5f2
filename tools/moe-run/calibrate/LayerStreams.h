//===- LayerStreams.h - The stream of many sequences at a few layers -*- C++ -*-===//
//
// Moves sequences through the model as it is, layer by layer, and keeps the
// residual stream before, inside and behind the layers that are asked for: what
// lies behind is let go, so memory is that of a window and not of the model.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_LAYERSTREAMS_H
#define MOE_TOOLS_MOERUN_CALIBRATE_LAYERSTREAMS_H

#include "tools/moe-run/calibrate/Sublayers.h"

#include <deque>

namespace moerun {

class LayerStreams {
public:
  LayerStreams(Sublayers &model, std::vector<std::vector<int32_t>> sequences)
      : model(model), sequences(std::move(sequences)) {}

  size_t count() const { return sequences.size(); }
  const std::vector<int32_t> &ids(size_t sequence) const { return sequences[sequence]; }
  int64_t tokens() const;
  /// Makes `sequence` the one that the model's calls are about.
  void select(size_t sequence) { model.setTokens(sequences[sequence]); }

  /// Makes layers `first` to `last` available and forgets those before; goes forward only.
  moert::Status moveTo(int64_t first, int64_t last);
  /// The stream before `layer` (or behind the last one), and between its attention and its FFN.
  const Stream &before(size_t sequence, int64_t layer) const { return entering[size_t(layer - base)][sequence]; }
  const Stream &inside(size_t sequence, int64_t layer) const { return between[size_t(layer - base)][sequence]; }

private:
  moert::Status addLayer();

  Sublayers &model;
  std::vector<std::vector<int32_t>> sequences;
  /// The first layer that is kept.
  int64_t base = 0;
  std::deque<std::vector<Stream>> entering, between;
};

/// y += x.
void addTo(Stream &y, const Stream &x);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_LAYERSTREAMS_H
