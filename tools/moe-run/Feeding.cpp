//===- Feeding.cpp - Sequences to steps -----------------------------------===//
//
// Each step first decides how many tokens every slot gets, then lays them out
// in order of slots.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/Feeding.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <random>

using namespace moert;
using namespace moerun;

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

constexpr size_t nobody = SIZE_MAX;

/// Which sequence each slot works on; sequences wait in order.
class Slots {
public:
  Slots(int64_t count, size_t sequences) : of(static_cast<size_t>(count), nobody), sequences(sequences) {}
  /// Gives free slots to waiting sequences.
  void fill() {
    for (size_t &sequence : of) {
      if (sequence == nobody && next < sequences) {
        sequence = next++;
      }
    }
  }
  bool busy() const {
    return std::any_of(of.begin(), of.end(), [](size_t sequence) { return sequence != nobody; });
  }
  std::vector<size_t> of;

private:
  size_t sequences, next = 0;
};

} // namespace

void StepBatch::clear() {
  tokens.clear();
  seq.clear();
  pos.clear();
  rows.clear();
}

void StepBatch::add(int64_t slot, int64_t position, int32_t token, bool wantsLogits) {
  if (wantsLogits) {
    rows.push_back(static_cast<int32_t>(tokens.size()));
  }
  tokens.push_back(token);
  seq.push_back(static_cast<int32_t>(slot));
  pos.push_back(static_cast<int32_t>(position));
}

moert_step_input StepBatch::input() const {
  return {static_cast<int64_t>(tokens.size()), tokens.data(), seq.data(), pos.data(),
          static_cast<int64_t>(rows.size()),   rows.data()};
}

Result<Chunking> moerun::parseChunking(const std::string &text, uint64_t seed) {
  auto number = [](const std::string &digits, uint64_t &value) {
    char *end;
    errno = 0;
    value = std::strtoull(digits.c_str(), &end, 10);
    return !digits.empty() && digits[0] >= '0' && digits[0] <= '9' && *end == '\0' && errno == 0;
  };
  uint64_t value;
  if (text == "one") {
    return Chunking{};
  }
  if (text == "token") {
    return Chunking{Chunking::Fixed, 1, 0};
  }
  if (text == "random") {
    return Chunking{Chunking::Random, 0, seed};
  }
  if (text.compare(0, 7, "random:") == 0 && number(text.substr(7), value)) {
    return Chunking{Chunking::Random, 0, value};
  }
  if (number(text, value) && value >= 1 && value <= INT32_MAX) {
    return Chunking{Chunking::Fixed, static_cast<int64_t>(value), 0};
  }
  return error(Code::InvalidArgument, "--chunks \"", text,
               "\" must be one, token, random, random:SEED or a number of tokens");
}

Status moerun::checkIds(const std::string &what, const std::vector<int32_t> &ids, int64_t vocabulary) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary) {
      return error(Code::InvalidArgument, what, ": id ", ids[i], " at position ", i, " is outside the vocabulary of ",
                   vocabulary, " tokens (0 to ", vocabulary - 1, ")");
    }
  }
  return Status();
}

Status moerun::checkLength(const std::string &what, int64_t tokens, int64_t more, int64_t context,
                           const char *limitName) {
  // The last token that is generated is never fed.
  int64_t needed = tokens + std::max<int64_t>(more - 1, 0);
  if (needed <= context) {
    return Status();
  }
  std::string sum = more > 0 ? concat(tokens, " tokens and ", more, " new ones need ", needed)
                             : concat(tokens, " tokens need as many");
  return error(Code::InvalidArgument, what, ": ", sum, " places in the cache, but ", limitName, " is ", context);
}

Status moerun::feedAll(Engine &engine, const std::vector<std::vector<int32_t>> &sequences, const Chunking &chunking,
                       const LogitsSink &sink) {
  Slots slots(engine.sequences, sequences.size());
  std::vector<int64_t> fed(sequences.size(), 0);
  std::mt19937_64 random(chunking.seed);
  StepBatch batch;
  std::vector<float> logits;
  std::vector<std::pair<size_t, int64_t>> owners; // Of each row.
  while (true) {
    for (size_t &sequence : slots.of) {
      if (sequence != nobody && fed[sequence] == static_cast<int64_t>(sequences[sequence].size())) {
        sequence = nobody;
      }
    }
    slots.fill();
    if (!slots.busy()) {
      return Status();
    }
    batch.clear();
    owners.clear();
    int64_t room = engine.maxTokens;
    for (size_t slot = 0; slot < slots.of.size(); ++slot) {
      size_t sequence = slots.of[slot];
      if (sequence == nobody) {
        continue;
      }
      int64_t left = static_cast<int64_t>(sequences[sequence].size()) - fed[sequence];
      int64_t count = left;
      if (chunking.kind == Chunking::Fixed) {
        count = chunking.size;
      } else if (chunking.kind == Chunking::Random) {
        count = static_cast<int64_t>(random() % 25);
        count = count == 0 && batch.tokens.empty() ? 1 : count;
      }
      count = std::min({count, left, room});
      room -= count;
      for (; count > 0; --count, ++fed[sequence]) {
        batch.add(static_cast<int64_t>(slot), fed[sequence], sequences[sequence][static_cast<size_t>(fed[sequence])],
                  true);
        owners.emplace_back(sequence, fed[sequence]);
      }
    }
    if (batch.tokens.empty()) { // Only empty sequences.
      continue;
    }
    logits.resize(batch.rows.size() * static_cast<size_t>(engine.vocabulary));
    MOERT_TRY(engine.step(batch.input(), logits.data()));
    for (size_t row = 0; row < owners.size(); ++row) {
      MOERT_TRY(
          sink(owners[row].first, owners[row].second, logits.data() + row * static_cast<size_t>(engine.vocabulary)));
    }
  }
}

Status GreedyStep::run(Engine &engine, const moert_step_input &input) {
  vocabulary = engine.vocabulary;
  isPicked = engine.canPick;
  const auto rows = static_cast<size_t>(input.row_count);
  if (isPicked) {
    picks.resize(rows);
    return engine.pick(input, picks.data());
  }
  logits.resize(rows * static_cast<size_t>(vocabulary));
  return engine.step(input, logits.data());
}

Result<int32_t> GreedyStep::token(size_t row) const {
  return isPicked ? readers::greedyToken(picks[row])
                  : readers::greedyToken(logits.data() + row * static_cast<size_t>(vocabulary), vocabulary);
}

Result<GenerateStats> moerun::generate(Engine &engine, std::vector<Generation> &sequences,
                                       const GenerateOptions &options,
                                       const std::function<Status(size_t index, int32_t id)> &onToken) {
  GenerateStats stats;
  if (options.maxNew == 0) {
    return stats;
  }
  double start = now();
  Slots slots(engine.sequences, sequences.size());
  std::vector<size_t> fed(sequences.size(), 0);
  std::vector<readers::Sampler> samplers;
  for (size_t i = 0; i < sequences.size(); ++i) {
    samplers.emplace_back(options.sampling, i);
  }
  StepBatch batch;
  const bool isGreedy = options.sampling.temperature == 0;
  GreedyStep greedy;
  std::vector<float> logits;
  std::vector<size_t> owners; // Of each row: the slot.
  for (slots.fill(); slots.busy(); slots.fill()) {
    // Sequences past their prompt go first: one token each; prompts share the rest.
    std::vector<int64_t> counts(slots.of.size(), 0);
    int64_t room = engine.maxTokens;
    bool hasPrompt = false;
    for (bool prompts : {false, true}) {
      for (size_t slot = 0; slot < slots.of.size(); ++slot) {
        size_t i = slots.of[slot];
        if (i != nobody && (fed[i] < sequences[i].prompt.size()) == prompts) {
          int64_t wanted = prompts ? static_cast<int64_t>(sequences[i].prompt.size() - fed[i]) : 1;
          counts[slot] = std::min(wanted, room);
          room -= counts[slot];
          hasPrompt |= prompts && counts[slot] > 0;
        }
      }
    }
    batch.clear();
    owners.clear();
    for (size_t slot = 0; slot < slots.of.size(); ++slot) {
      for (; counts[slot] > 0; --counts[slot]) {
        size_t i = slots.of[slot];
        const Generation &generation = sequences[i];
        size_t at = fed[i]++;
        bool last = at + 1 >= generation.prompt.size();
        int32_t token =
            at < generation.prompt.size() ? generation.prompt[at] : generation.ids[at - generation.prompt.size()];
        batch.add(static_cast<int64_t>(slot), static_cast<int64_t>(at), token, last);
        if (last) {
          owners.push_back(slot);
        }
      }
    }
    logits.resize(isGreedy ? 0 : batch.rows.size() * static_cast<size_t>(engine.vocabulary));
    double before = now();
    MOERT_TRY(isGreedy ? greedy.run(engine, batch.input()) : engine.step(batch.input(), logits.data()));
    double seconds = now() - before;
    auto tokens = static_cast<int64_t>(batch.tokens.size());
    (hasPrompt ? stats.prefillSeconds : stats.decodeSeconds) += seconds;
    (hasPrompt ? stats.prefillTokens : stats.decodeTokens) += tokens;
    ++(hasPrompt ? stats.prefillSteps : stats.decodeSteps);
    for (size_t row = 0; row < owners.size(); ++row) {
      size_t i = slots.of[owners[row]];
      Generation &generation = sequences[i];
      MOERT_ASSIGN(id, isGreedy ? greedy.token(row)
                                : samplers[i].next(logits.data() + row * static_cast<size_t>(engine.vocabulary),
                                                   engine.vocabulary));
      generation.ids.push_back(id);
      stats.firstTokenSeconds = stats.firstTokenSeconds == 0 ? now() - start : stats.firstTokenSeconds;
      generation.ended = options.ends && options.ends(id);
      if (generation.ended || static_cast<int64_t>(generation.ids.size()) == options.maxNew) {
        slots.of[owners[row]] = nobody;
      }
      if (onToken) {
        MOERT_TRY(onToken(i, id));
      }
    }
  }
  return stats;
}
