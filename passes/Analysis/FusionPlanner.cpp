//===- FusionPlanner.cpp - Which windows to fuse, under a budget -------------===//

#include "passes/Analysis/FusionPlanner.h"
#include "passes/Json/JsonFile.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include <algorithm>

using namespace mlir::moe;
using llvm::ArrayRef;
using llvm::StringRef;
using llvm::Twine;

/// Serving engines index the joined gate and up of an FFN with signed 32-bit integers.
static constexpr int64_t kMaxElements = int64_t(1) << 31;

int64_t mlir::moe::subLayersSaved(FusionForm form, int64_t length) {
  switch (form) {
  case FusionForm::Removed:
    return 2 * length - 1;
  case FusionForm::Deferred:
    return length - 1;
  case FusionForm::Pair:
    return 2 * length - 2;
  }
  return 0;
}

double FusionGains::of(FusionForm form, int64_t length) const {
  return subLayer * static_cast<double>(subLayersSaved(form, length)) +
         (form == FusionForm::Removed ? attention * static_cast<double>(length) : 0);
}

namespace {

/// A set, as its last window and the set before it.
struct Node {
  double kl = 0, gain = 0;
  size_t count = 0;
  /// Index of the choice; none for the empty set.
  size_t choice = 0;
  const Node *before = nullptr;
};

} // namespace

/// The windows of `node`, first to last.
static std::vector<size_t> windowsOf(const Node *node) {
  std::vector<size_t> windows;
  for (; node->before; node = node->before) {
    windows.push_back(node->choice);
  }
  std::reverse(windows.begin(), windows.end());
  return windows;
}

/// Keeps what nothing else beats, ascending in KL and gain.
static void prune(std::vector<Node> &nodes, ArrayRef<WindowChoice> choices) {
  auto places = [&](const Node &node) {
    return llvm::map_to_vector(windowsOf(&node), [&](size_t choice) {
      const WindowChoice &window = choices[choice];
      return std::tuple(window.first, window.length, static_cast<int>(window.form), choice);
    });
  };
  llvm::sort(nodes, [&](const Node &a, const Node &b) {
    if (a.kl != b.kl || a.gain != b.gain || a.count != b.count) {
      return std::tuple(a.kl, -a.gain, a.count) < std::tuple(b.kl, -b.gain, b.count);
    }
    return places(a) < places(b);
  });
  size_t kept = 0;
  for (const Node &node : nodes) {
    if (kept == 0 || node.gain > nodes[kept - 1].gain) {
      nodes[kept++] = node;
    }
  }
  nodes.resize(kept);
}

std::vector<PlanPoint> mlir::moe::findFusionFront(int64_t layers, ArrayRef<WindowChoice> choices) {
  std::vector<std::vector<size_t>> endingAt(static_cast<size_t>(layers));
  for (auto [index, choice] : llvm::enumerate(choices)) {
    assert(choice.first >= 0 && choice.length >= 1 && choice.last() < layers);
    if (choice.gain > 0) {
      endingAt[static_cast<size_t>(choice.last())].push_back(index);
    }
  }
  // fronts[l]: sets within the layers before l. Nodes stay where they are once a front is finished.
  std::vector<std::vector<Node>> fronts(static_cast<size_t>(layers) + 1);
  fronts[0].push_back({});
  for (size_t layer = 0; layer < static_cast<size_t>(layers); ++layer) {
    std::vector<Node> next = fronts[layer];
    for (size_t index : endingAt[layer]) {
      const WindowChoice &choice = choices[index];
      for (const Node &before : fronts[static_cast<size_t>(choice.first)]) {
        next.push_back(
            {before.kl + std::max(choice.kl, 0.0), before.gain + choice.gain, before.count + 1, index, &before});
      }
    }
    prune(next, choices);
    fronts[layer + 1] = std::move(next);
  }
  std::vector<PlanPoint> result;
  for (const Node &node : fronts.back()) {
    result.push_back({node.kl, node.gain, windowsOf(&node)});
  }
  return result;
}

const PlanPoint &mlir::moe::pickWithin(ArrayRef<PlanPoint> front, double budget) {
  assert(!front.empty() && "the empty set is always there");
  const PlanPoint *best = &front.front();
  for (const PlanPoint &point : front) {
    best = point.kl <= budget ? &point : best;
  }
  return *best;
}

std::string mlir::moe::findLimit(const FusionLimits &limits, int64_t first, int64_t length, FusionForm form,
                                 ArrayRef<int64_t> widths) {
  const int64_t last = first + length - 1;
  if (!llvm::is_contained(limits.forms, form)) {
    std::string known;
    for (FusionForm each : limits.forms) {
      known += (known.empty() ? "" : ", ") + spell(each).str();
    }
    return ("form " + spell(form) + " is not among the forms asked for and loaded: " + known).str();
  }
  if (!limits.groups.empty() && !llvm::is_contained(limits.groups, std::pair(first, last))) {
    return "it is none of the groups given";
  }
  if (!limits.fuseLast && limits.groups.empty() && length > 1 && last + 1 == static_cast<int64_t>(widths.size())) {
    return "the last layer of the model is kept apart (--fuse-last allows it)";
  }
  if (limits.needsFirstAttention && form == FusionForm::Removed && first == 0) {
    return "layer 0 must keep its attention";
  }
  int64_t width = 0;
  for (int64_t layer = first; layer <= last; ++layer) {
    width += widths[static_cast<size_t>(layer)];
  }
  width = (width + limits.widthMultiple - 1) / limits.widthMultiple * limits.widthMultiple;
  const int64_t perRank = width * limits.hidden / limits.ranks;
  if (length > 1 && 2 * perRank >= kMaxElements) {
    return (Twine("gate and up have 2 x ") + Twine(width) + " x " + Twine(limits.hidden) + " / " + Twine(limits.ranks) +
            " = " + Twine(2 * perRank) + " elements on a rank, but must have fewer than " + Twine(kMaxElements))
        .str();
  }
  if (length > 1 && perRank * limits.elementBytes > limits.maxTensorBytes) {
    return (Twine("a fused weight has ") + Twine(perRank * limits.elementBytes) + " bytes on a rank, but there are " +
            Twine(limits.maxTensorBytes))
        .str();
  }
  return "";
}

llvm::Expected<std::vector<std::pair<int64_t, int64_t>>> mlir::moe::parseGroups(StringRef text, int64_t layers) {
  std::vector<std::pair<int64_t, int64_t>> groups;
  llvm::SmallVector<StringRef> parts;
  text.split(parts, ',');
  for (StringRef part : parts) {
    auto [left, right] = part.trim().split('-');
    int64_t first = 0, last = 0;
    if (left.getAsInteger(10, first) || right.getAsInteger(10, last) || first < 0 || last <= first || last >= layers) {
      return makeError("--groups: '" + part + "' must be FIRST-LAST with 0 <= FIRST < LAST < " + Twine(layers) +
                       ", the layers of the model");
    }
    if (!groups.empty() && first <= groups.back().second) {
      return makeError("--groups: '" + part + "' begins at layer " + Twine(first) +
                       ", but the group before it ends at " + Twine(groups.back().second) +
                       "; groups must ascend and lie apart");
    }
    groups.push_back({first, last});
  }
  return groups;
}
