//===- FeedingTest.cpp - Steps are legal and feeding does not matter ------===//
//
// A fake engine keeps a cache as the real one does, refuses steps that break
// the rules, and gives logits that depend on every token before: whoever mixes
// up sequences, slots or positions gets other numbers.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/Feeding.h"

#include <gtest/gtest.h>
#include <map>
#include <numeric>

using namespace moert;
using namespace moerun;

namespace {

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

constexpr int64_t vocabulary = 50;

/// A number that depends on the whole sequence.
uint64_t hashOf(const std::vector<int32_t> &tokens) {
  return std::accumulate(tokens.begin(), tokens.end(), uint64_t(7), [](uint64_t hash, int32_t token) {
    return (hash + uint64_t(token) + 1) * 0x9E3779B97F4A7C15ull;
  });
}
/// The logits after `tokens`: the largest is of one id that the hash chooses.
std::vector<float> logitsOf(const std::vector<int32_t> &tokens) {
  std::vector<float> logits;
  for (int64_t v = 0; v < vocabulary; ++v) {
    logits.push_back(float((hashOf(tokens) >> (v % 40)) % 1000) / 100);
  }
  return logits;
}

class FakeEngine : public Engine {
public:
  FakeEngine(int64_t slots, int64_t tokens, int64_t places) : cache(size_t(slots)) {
    vocabulary = ::vocabulary;
    sequences = slots;
    maxTokens = tokens;
    context = places;
  }
  Status step(const moert_step_input &input, float *logits) override {
    ++steps;
    EXPECT_GT(input.token_count, 0);
    EXPECT_LE(input.token_count, maxTokens);
    int64_t row = 0;
    for (int64_t t = 0; t < input.token_count; ++t) {
      EXPECT_TRUE(t == 0 || std::pair(input.seq[t - 1], input.pos[t - 1]) < std::pair(input.seq[t], input.pos[t]));
      EXPECT_LT(input.seq[t], sequences);
      EXPECT_LT(input.pos[t], context);
      std::vector<int32_t> &slot = cache[size_t(input.seq[t])];
      EXPECT_LE(size_t(input.pos[t]), slot.size()) << "a hole in the cache";
      slot.resize(size_t(input.pos[t]));
      slot.push_back(input.tokens[t]);
      if (row < input.row_count && input.rows[row] == t) {
        std::vector<float> values = logitsOf(slot);
        std::copy(values.begin(), values.end(), logits + row++ * vocabulary);
      }
    }
    EXPECT_EQ(row, input.row_count);
    return Status();
  }
  /// Of an engine that can: chosen as the logits say, or not a number in every step from `brokenFrom` on.
  Status pick(const moert_step_input &input, int32_t *tokens) override {
    EXPECT_TRUE(canPick);
    std::vector<float> logits(size_t(input.row_count) * size_t(vocabulary));
    MOERT_TRY(step(input, logits.data()));
    for (int64_t row = 0; row < input.row_count; ++row) {
      tokens[row] = steps > brokenFrom ? -1 - 7 : *readers::greedyToken(logits.data() + row * vocabulary, vocabulary);
    }
    ++picked;
    return Status();
  }
  int64_t steps = 0, picked = 0, brokenFrom = INT64_MAX;

private:
  std::vector<std::vector<int32_t>> cache;
};

std::vector<std::vector<int32_t>> someSequences() {
  std::vector<std::vector<int32_t>> sequences;
  for (int length : {9, 1, 30, 0, 17, 2, 5}) {
    std::vector<int32_t> &sequence = sequences.emplace_back();
    for (int i = 0; i < length; ++i) {
      sequence.push_back(int32_t((sequences.size() * 31 + size_t(i) * 7) % vocabulary));
    }
  }
  return sequences;
}

TEST(Feeding, LogitsDoNotDependOnTheWay) {
  auto sequences = someSequences();
  for (const char *way : {"one", "token", "4", "random:1", "random:2"}) {
    for (int64_t slots : {1, 3, 10}) {
      for (int64_t tokens : {1, 5, 100}) {
        SCOPED_TRACE(concat(way, " slots ", slots, " tokens ", tokens));
        FakeEngine engine(slots, tokens, 30);
        std::map<std::pair<size_t, int64_t>, int> seen;
        Result<Chunking> chunking = parseChunking(way, 0);
        ASSERT_TRUE(chunking.ok());
        Status status = feedAll(engine, sequences, *chunking, [&](size_t i, int64_t position, const float *logits) {
          std::vector<int32_t> before(sequences[i].begin(), sequences[i].begin() + position + 1);
          EXPECT_EQ(std::vector<float>(logits, logits + vocabulary), logitsOf(before));
          ++seen[{i, position}];
          return Status();
        });
        ASSERT_TRUE(status.ok()) << status.message();
        EXPECT_EQ(seen.size(), 9u + 1 + 30 + 17 + 2 + 5);
        for (const auto &[place, times] : seen) {
          EXPECT_EQ(times, 1);
        }
      }
    }
  }
}

TEST(Feeding, OneStepTakesAllThatFits) {
  FakeEngine engine(1, 100, 30);
  ASSERT_TRUE(
      feedAll(engine, someSequences(), Chunking{}, [](size_t, int64_t, const float *) { return Status(); }).ok());
  EXPECT_EQ(engine.steps, 6); // One per sequence that is not empty.
}

TEST(Feeding, AnErrorOfTheSinkStops) {
  FakeEngine engine(1, 100, 30);
  Status status = feedAll(engine, someSequences(), Chunking{},
                          [](size_t, int64_t, const float *) { return error(Code::IO, "disk full"); });
  EXPECT_EQ(status.message(), "disk full");
  EXPECT_EQ(engine.steps, 1);
}

TEST(Feeding, ChunkingNames) {
  EXPECT_EQ(parseChunking("one", 0)->kind, Chunking::One);
  EXPECT_EQ(parseChunking("token", 0)->size, 1);
  EXPECT_EQ(parseChunking("17", 0)->size, 17);
  EXPECT_EQ(parseChunking("random", 9)->seed, 9u);
  EXPECT_EQ(parseChunking("random:8", 9)->seed, 8u);
  for (const char *bad : {"", "0", "-1", "x", "random:", "random:x", "1x", "99999999999999999999"}) {
    EXPECT_SAYS(parseChunking(bad, 0).status().message(), "must be one, token, random") << bad;
  }
}

std::vector<Generation> somePrompts() {
  std::vector<Generation> generations;
  for (auto &sequence : someSequences()) {
    if (!sequence.empty()) {
      generations.emplace_back().prompt = sequence;
    }
  }
  return generations;
}

/// What greedy generation must give, by definition.
std::vector<int32_t> greedy(std::vector<int32_t> tokens, int64_t count, int32_t end) {
  std::vector<int32_t> ids;
  while (int64_t(ids.size()) < count && (ids.empty() || ids.back() != end)) {
    ids.push_back(*readers::greedyToken(logitsOf(tokens).data(), vocabulary));
    tokens.push_back(ids.back());
  }
  return ids;
}

TEST(Generate, SequencesDoNotInfluenceEachOther) {
  for (int32_t end : {-1, 3, 20}) {
    for (int64_t slots : {1, 2, 6, 9}) {
      for (int64_t tokens : {1, 4, 100}) {
        SCOPED_TRACE(concat("end ", end, " slots ", slots, " tokens ", tokens));
        FakeEngine engine(slots, tokens, 60);
        engine.canPick = slots % 2 == 0;
        std::vector<Generation> sequences = somePrompts();
        std::map<size_t, std::vector<int32_t>> streamed;
        GenerateOptions options;
        options.maxNew = 20;
        options.ends = [&](int32_t id) { return id == end; };
        Result<GenerateStats> stats = generate(engine, sequences, options, [&](size_t i, int32_t id) {
          streamed[i].push_back(id);
          return Status();
        });
        ASSERT_TRUE(stats.ok()) << stats.status().message();
        int64_t fed = 0;
        for (size_t i = 0; i < sequences.size(); ++i) {
          EXPECT_EQ(sequences[i].ids, greedy(sequences[i].prompt, 20, end));
          EXPECT_EQ(streamed[i], sequences[i].ids);
          EXPECT_EQ(sequences[i].ended, sequences[i].ids.back() == end);
          fed += int64_t(sequences[i].prompt.size() + sequences[i].ids.size()) - 1;
        }
        EXPECT_EQ(stats->prefillTokens + stats->decodeTokens, fed) << "the last token of a sequence is not fed";
        EXPECT_EQ(stats->prefillSteps + stats->decodeSteps, engine.steps);
        EXPECT_EQ(engine.picked, engine.canPick ? engine.steps : 0);
      }
    }
  }
}

TEST(Generate, APickThatIsNoNumber) {
  FakeEngine engine(1, 100, 60);
  engine.canPick = true;
  engine.brokenFrom = 3;
  std::vector<Generation> sequences = somePrompts();
  GenerateOptions options;
  options.maxNew = 20;
  EXPECT_EQ(generate(engine, sequences, options, nullptr).status().message(), "the logit of token 7 is not a number");
  EXPECT_EQ(sequences[0].ids.size(), 3u);
}

/// Drawing needs logits.
TEST(Generate, DrawsDependOnSeedAndSequenceOnly) {
  auto draw = [&](int64_t slots, int64_t tokens, uint64_t seed) {
    FakeEngine engine(slots, tokens, 60);
    engine.canPick = true;
    std::vector<Generation> sequences = somePrompts();
    GenerateOptions options;
    options.maxNew = 10;
    options.sampling = {1.0, 0, 1.0, seed};
    EXPECT_TRUE(generate(engine, sequences, options, nullptr).ok());
    EXPECT_EQ(engine.picked, 0);
    std::vector<std::vector<int32_t>> ids;
    for (const Generation &sequence : sequences) {
      ids.push_back(sequence.ids);
    }
    return ids;
  };
  EXPECT_EQ(draw(1, 100, 1), draw(6, 3, 1));
  EXPECT_NE(draw(1, 100, 1), draw(1, 100, 2));
}

TEST(Generate, ExactlyTheCache) {
  FakeEngine engine(1, 4, 12);
  std::vector<Generation> sequences(1);
  sequences[0].prompt = {1, 2, 3, 4, 5};
  GenerateOptions options;
  options.maxNew = 8; // 5 + 8 - 1 = 12
  ASSERT_TRUE(checkLength("prompt", 5, 8, 12, "--context").ok());
  EXPECT_SAYS(checkLength("prompt", 5, 9, 12, "--context").message(),
              "prompt: 5 tokens and 9 new ones need 13 places in the cache, but --context is 12");
  EXPECT_SAYS(checkLength("sequence 2", 13, 0, 12, "--context").message(), "sequence 2: 13 tokens need");
  ASSERT_TRUE(generate(engine, sequences, options, nullptr).ok());
  options.maxNew = 0;
  sequences[0].ids.clear();
  ASSERT_TRUE(generate(engine, sequences, options, nullptr).ok());
  EXPECT_TRUE(sequences[0].ids.empty());
}

TEST(Generate, IdsOutsideTheVocabulary) {
  EXPECT_TRUE(checkIds("prompt", {0, 49}, 50).ok());
  EXPECT_EQ(checkIds("prompt 2", {1, 50}, 50).message(),
            "prompt 2: id 50 at position 1 is outside the vocabulary of 50 tokens (0 to 49)");
  EXPECT_FALSE(checkIds("prompt", {-1}, 50).ok());
}

} // namespace
