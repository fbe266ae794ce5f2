//===- GraphCache.h - Steps that a GPU runs as one graph ------------*- C++ -*-===//
//
// Launching some hundred kernels one by one takes the host longer than a GPU needs to decode a token. A step that comes
// again with the same plan, T and M differs in nothing but the contents of its inputs, which lie at fixed addresses: so
// its commands are captured once, as a graph with all their words, and run by one call from then on.
//
// Captured is what was run before (a prompt of some length comes once) and has few tokens (else the kernels take longer
// than their launches). The least recently used graph makes room. Knows nothing of what the commands are.
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
  static constexpr size_t kMaxGraphs = 16;
  static constexpr int64_t kMaxTokens = 64;

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
    Known &known = find(backend, key);
    const bool isFirst = known.uses++ == 0;
    known.lastUse = ++clock;
    if (isFirst && use == GraphUse::Repeated) {
      return issue();
    }
    if (!known.graph) {
      if (!backend.beginGraph()) {
        return false;
      }
      const bool issued = issue();
      known.graph = backend.endGraph(); // ends the capture in any case
      ++captured;
      if (!issued || !known.graph) {
        return false;
      }
    }
    ++runs;
    return backend.runGraph(known.graph);
  }

  /// Forgets all graphs: addresses in them are about to be freed.
  void clear(Backend &backend) {
    for (const Known &known : all) {
      if (known.graph) {
        backend.dropGraph(known.graph);
      }
    }
    all.clear();
  }

  uint64_t capturedCount() const { return captured; }
  uint64_t runCount() const { return runs; }

private:
  struct Known {
    Key key;
    uint64_t uses, lastUse;
    void *graph;
  };

  Known &find(Backend &backend, const Key &key) {
    for (Known &known : all) {
      if (known.key == key) {
        return known;
      }
    }
    if (all.size() < kMaxGraphs) {
      all.push_back({key, 0, 0, nullptr});
      return all.back();
    }
    Known &oldest =
        *std::min_element(all.begin(), all.end(), [](const Known &a, const Known &b) { return a.lastUse < b.lastUse; });
    if (oldest.graph) {
      backend.dropGraph(oldest.graph); // it has run: every step is waited for
    }
    oldest = {key, 0, 0, nullptr};
    return oldest;
  }

  GraphUse use = GraphUse::Repeated;
  std::vector<Known> all;
  uint64_t clock = 0, captured = 0, runs = 0;
};

} // namespace moert

#endif // MOERT_CORE_GRAPHCACHE_H
