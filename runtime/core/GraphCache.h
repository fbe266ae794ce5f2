//===- GraphCache.h - Steps that a GPU runs as one graph ------------*- C++ -*-===//
//
// Launching some hundred kernels one by one takes the host longer than a GPU needs to decode a token. A step that comes
// again with the same plan, T and M differs in nothing but the contents of its inputs, which lie at fixed addresses: so
// its commands are captured once, as a graph with all their words, and run by one call from then on.
//
// Captured is what was run before (a prompt of some length comes once) and has few tokens (else the kernels take longer
// than their launches). A graph is of one T and M, whose grids are no larger than they need be and whose kernels have T
// without a look into memory; there is room for one of every T that is captured, so that decoding a batch that grows
// and shrinks runs as graphs, too. What was seen once has a list of its own: steps that never come again push no graph
// out. Knows nothing of what the commands are.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_GRAPHCACHE_H
#define MOERT_CORE_GRAPHCACHE_H

#include "runtime/core/Backend.h"

#include <algorithm>

namespace moert {

/// When steps are captured: those of few tokens that come again, none, or every one at first sight (for tests).
enum class GraphUse { Repeated = 0, Never = -1, Always = 1 };

class GraphCache {
public:
  static constexpr int64_t kMaxTokens = 64;
  static constexpr size_t kMaxGraphs = kMaxTokens, kMaxSeen = 64;

  void setUse(GraphUse wanted) { use = wanted; }

  /// What tells steps apart; `shape` stands for what the other ranks do.
  struct Key {
    const void *plan;
    int64_t tokens, rows;
    bool isPicking;
    uint64_t shape;
    bool operator==(const Key &other) const {
      return plan == other.plan && tokens == other.tokens && rows == other.rows && isPicking == other.isPicking &&
             shape == other.shape;
    }
  };

  /// Runs a step, as a graph or by `issue`, which calls the backend. False: one of them said so.
  template <typename Issue> bool run(Backend &backend, const Key &key, Issue issue) {
    if (use == GraphUse::Never || (use == GraphUse::Repeated && key.tokens > kMaxTokens)) {
      return issue();
    }
    ++clock;
    Known *known = find(graphs, key);
    if (!known) {
      if (isFull || (use == GraphUse::Repeated && !isSeen(key))) {
        return issue();
      }
      if (!backend.beginGraph()) {
        return false;
      }
      const bool issued = issue();
      void *graph = backend.endGraph(); // ends the capture in any case
      if (!issued || (!graph && !backend.failure().ok())) {
        return false;
      }
      if (!graph) {
        isFull = true;
        return issue();
      }
      ++captured;
      known = &slot(graphs, kMaxGraphs);
      if (known->graph) {
        backend.dropGraph(known->graph); // it has run: every step is waited for
      }
      *known = {key, clock, graph};
    }
    known->lastUse = clock;
    ++runs;
    return backend.runGraph(known->graph);
  }

  /// Forgets all graphs: addresses in them are about to be freed.
  void clear(Backend &backend) {
    for (const Known &known : graphs) {
      backend.dropGraph(known.graph);
    }
    graphs.clear();
  }

  uint64_t capturedCount() const { return captured; }
  uint64_t runCount() const { return runs; }
  /// Whether the backend had no memory for another graph, so that none is made any more.
  bool hasNoRoom() const { return isFull; }

private:
  struct Known {
    Key key = {};
    uint64_t lastUse = 0;
    void *graph = nullptr; ///< null of what was seen once
  };

  static Known *find(std::vector<Known> &all, const Key &key) {
    auto found = std::find_if(all.begin(), all.end(), [&](const Known &known) { return known.key == key; });
    return found == all.end() ? nullptr : &*found;
  }
  /// A new place, or that of the least recently used one.
  static Known &slot(std::vector<Known> &all, size_t most) {
    if (all.size() < most) {
      return all.emplace_back();
    }
    return *std::min_element(all.begin(), all.end(),
                             [](const Known &a, const Known &b) { return a.lastUse < b.lastUse; });
  }
  /// Whether this step comes again, after which it is about to be a graph; if not, it is known from now on.
  bool isSeen(const Key &key) {
    if (Known *known = find(seen, key)) {
      *known = seen.back();
      seen.pop_back();
      return true;
    }
    slot(seen, kMaxSeen) = {key, clock, nullptr};
    return false;
  }

  GraphUse use = GraphUse::Repeated;
  std::vector<Known> graphs, seen;
  uint64_t clock = 0, captured = 0, runs = 0;
  bool isFull = false;
};

} // namespace moert

#endif // MOERT_CORE_GRAPHCACHE_H
