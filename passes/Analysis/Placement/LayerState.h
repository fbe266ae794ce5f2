//===- LayerState.h - A map under change, with its loads --------*- C++ -*-===//
//
// The search changes maps by two moves: two slots swap their experts, or a
// slot with a redundant replica takes another expert. This class applies them
// in time of what they touch and keeps the rank loads, replica counts and
// locality terms up to date. It never lets a rank hold an expert twice, nor an
// expert lose its last replica.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_LAYERSTATE_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_LAYERSTATE_H

#include "passes/Analysis/Placement/LayerProblem.h"

namespace moe::placement {

class LayerState {
public:
  LayerState(const LayerProblem &problem, const LayerMap &map);

  /// Starts again from another map.
  void reset(const LayerMap &map);

  const LayerMap &map() const { return slots; }
  int expertAt(int slot) const { return slots[slot]; }
  int replicas(int expert) const { return counts[expert]; }
  int rankOf(int slot) const { return ranks[slot]; }
  bool holds(int rank, int expert) const { return held[rank * experts + expert] != 0; }
  const std::vector<int> &slotsOf(int expert) const { return holders[expert]; }
  /// [rank * profiles + profile].
  const std::vector<double> &loads() const { return load; }
  int moves() const { return static_cast<int>(moved.size()); }
  /// Slots that hold what their rank did not hold before, in no order that means anything.
  const std::vector<int> &movedSlots() const { return moved; }
  /// Load of one replica in a profile.
  double share(int expert, int profile) const { return shares[expert * profiles + profile]; }

  /// Whether the experts of two slots on different ranks may change places.
  bool canSwap(int p, int q) const {
    const int a = slots[p], b = slots[q], g = ranks[p], h = ranks[q];
    return a != b && g != h && !holds(h, a) && !holds(g, b);
  }
  void swap(int p, int q);

  /// Whether slot `p` may take `expert` in place of the redundant replica that it holds.
  bool canReplace(int p, int expert) const { return counts[slots[p]] > 1 && !holds(ranks[p], expert); }
  void replace(int p, int expert);

  /// How the locality changes with a move; 0 without locality.
  double localityOfSwap(int p, int q) const;
  double localityOfReplace(int p, int expert) const;
  /// How the number of moved slots changes with a move.
  int movesOfSwap(int p, int q) const;
  int movesOfReplace(int p, int expert) const;

  /// Loads anew from the map: sums of many small changes drift.
  void refresh();

private:
  void setExpert(int slot, int expert);
  void setMoved(int slot, bool isMoved);
  /// Node shares of `expert` after its replica on `leave` is gone and one on `enter` is there (-1: none).
  void changeOfShares(int expert, int leave, int enter, double *change) const;
  double localityOf(int a, const double *changeA, int b, const double *changeB) const;
  void applyShares(int expert, const double *change);
  bool isForeign(int slot, int expert) const { return !wasHeld.empty() && !wasHeld[ranks[slot] * experts + expert]; }

  const LayerProblem &problem;
  int experts, profiles, nodes;
  LayerMap slots;
  std::vector<int> ranks, nodeOfRank, counts;
  std::vector<std::vector<int>> holders;
  std::vector<uint8_t> held, wasHeld;
  std::vector<double> load, shares;
  /// The moved slots, and where each slot is among them (-1: it is not).
  std::vector<int> moved, placeAmongMoved;
  /// With pairs: [expert * N + node], how much of the expert's company is on the node.
  std::vector<double> company;
  std::vector<double> nodeShares;
  mutable std::vector<double> scratchA, scratchB;
};

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_LAYERSTATE_H
