// Which steps run as graphs, and which graphs make room: over a backend that only counts.
#include "runtime/core/GraphCache.h"

#include <gtest/gtest.h>
#include <set>

using namespace moert;

namespace {

/// Graphs are numbers.
class CountingBackend final : public Backend {
public:
  const char *name() const override { return "counting"; }
  std::string place() const override { return name(); }
  int threads() const override { return 1; }
  bool usesHostMemory() const override { return false; }
  uint64_t availableBytes() override { return 0; }
  Status loadKernels(const std::string &, const void *, size_t, const std::string &, const format::Variant &,
                     std::vector<void *> &) override {
    return {};
  }
  Result<void *> allocate(uint64_t, const std::string &, Contents) override { return notHere(); }
  void release(void *) override {}
  Result<const void *> attach(const void *, uint64_t, const std::string &) override { return notHere(); }
  bool launch(const Launch *, uint32_t, uint32_t) override { return true; }
  bool copy(void *, const void *, uint64_t, uint32_t) override { return true; }
  bool fill(void *, uint8_t, uint64_t, uint32_t) override { return true; }
  bool collectives(const CollectiveCall *, uint32_t, uint32_t) override { return true; }
  bool record(uint32_t, uint32_t) override { return true; }
  bool wait(uint32_t, uint32_t) override { return true; }
  bool synchronize() override { return true; }
  bool settle() override { return true; }

  bool beginGraph() override { return isCapturing = true; }
  void *endGraph() override {
    isCapturing = false;
    if (alive.size() == room) {
      return nullptr;
    }
    alive.insert(++made);
    return reinterpret_cast<void *>(made);
  }
  bool runGraph(void *graph) override {
    EXPECT_EQ(alive.count(uintptr_t(graph)), 1u);
    last = uintptr_t(graph);
    return true;
  }
  void dropGraph(void *graph) override { EXPECT_EQ(alive.erase(uintptr_t(graph)), 1u); }

  std::set<uintptr_t> alive;
  uintptr_t made = 0, last = 0;
  size_t room = 1000;
  bool isCapturing = false;
};

class GraphCacheTest : public testing::Test {
protected:
  /// What a step of T and M did: launches, a capture with its run, or a graph that was there.
  enum Way { kLaunched, kCaptured, kRun };
  Way step(int64_t tokens, int64_t rows) {
    int issued = 0;
    bool wasCapturing = false;
    const uint64_t runs = cache.runCount();
    const bool went = cache.run(backend, {this, tokens, rows, false, 0}, [&] {
      wasCapturing = backend.isCapturing;
      ++issued;
      return true;
    });
    EXPECT_TRUE(went);
    EXPECT_EQ(cache.runCount() - runs, wasCapturing || !issued ? 1u : 0u);
    return !issued ? kRun : wasCapturing ? kCaptured : kLaunched;
  }

  CountingBackend backend;
  GraphCache cache;
};

/// Decoding with up to 64 sequences: each size is launched once, captured once, and a graph from then on.
TEST_F(GraphCacheTest, ABatchThatGrowsAndShrinks) {
  for (const Way expected : {kLaunched, kCaptured, kRun, kRun}) {
    for (int64_t tokens = 1; tokens <= GraphCache::kMaxTokens; ++tokens) {
      EXPECT_EQ(step(tokens, tokens), expected) << tokens;
    }
  }
  EXPECT_EQ(cache.capturedCount(), 64u);
  EXPECT_EQ(backend.alive.size(), 64u);
}

TEST_F(GraphCacheTest, StepsThatComeOncePushNoneOut) {
  for (int again = 0; again < 2; ++again) {
    for (int64_t tokens = 1; tokens <= 64; ++tokens) {
      step(tokens, tokens);
    }
  }
  for (int64_t tokens = 2; tokens <= 64; ++tokens) {
    for (int64_t rows = 0; rows < tokens; ++rows) {
      EXPECT_EQ(step(tokens, rows), kLaunched);
    }
  }
  for (int64_t tokens = 1; tokens <= 64; ++tokens) {
    EXPECT_EQ(step(tokens, tokens), kRun);
  }
}

/// The one that has not run for longest.
TEST_F(GraphCacheTest, OldOnesMakeRoom) {
  for (int again = 0; again < 2; ++again) {
    for (int64_t tokens = 1; tokens <= 64; ++tokens) {
      step(tokens, tokens);
    }
  }
  EXPECT_EQ(step(1, 1), kRun); // so that 2 is the oldest
  EXPECT_EQ(step(64, 0), kLaunched);
  EXPECT_EQ(step(64, 0), kCaptured);
  EXPECT_EQ(backend.alive.size(), 64u);
  EXPECT_EQ(step(64, 0), kRun);
  EXPECT_EQ(step(1, 1), kRun);
  EXPECT_EQ(step(3, 3), kRun);
  EXPECT_EQ(step(2, 2), kLaunched);
  cache.clear(backend);
  EXPECT_EQ(backend.alive.size(), 0u);
  EXPECT_EQ(step(1, 1), kLaunched);
}

TEST_F(GraphCacheTest, WithoutMemoryForMore) {
  backend.room = 2;
  for (int64_t tokens = 1; tokens <= 3; ++tokens) {
    EXPECT_EQ(step(tokens, tokens), kLaunched);
  }
  EXPECT_EQ(step(1, 1), kCaptured);
  EXPECT_EQ(step(2, 2), kCaptured);
  EXPECT_FALSE(cache.hasNoRoom());
  EXPECT_EQ(step(3, 3), kLaunched);
  EXPECT_TRUE(cache.hasNoRoom());
  EXPECT_EQ(step(1, 1), kRun);
  EXPECT_EQ(step(3, 3), kLaunched);
  EXPECT_EQ(cache.capturedCount(), 2u);
}

TEST_F(GraphCacheTest, UseIsSaid) {
  EXPECT_EQ(step(65, 1), kLaunched);
  EXPECT_EQ(step(65, 1), kLaunched); // too large
  cache.setUse(GraphUse::Always);
  EXPECT_EQ(step(65, 1), kCaptured);
  EXPECT_EQ(step(65, 1), kRun);
  cache.setUse(GraphUse::Never);
  EXPECT_EQ(step(65, 1), kLaunched);
}

} // namespace
