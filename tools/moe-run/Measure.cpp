//===- Measure.cpp - Timed prefill and decode of made-up tokens -----------===//
#include "tools/moe-run/Measure.h"

#include "tools/moe-run/Commands.h"

#include <algorithm>
#include <chrono>

using namespace moert;
using namespace moerun;

Measurement::Measurement(Engine &engine, int64_t promptLength)
    : engine(engine), next(static_cast<size_t>(engine.sequences), 0) {
  for (int64_t slot = 0; slot < engine.sequences; ++slot) {
    prompts.push_back(sampleIds(promptLength, engine.vocabulary, static_cast<uint64_t>(slot) + 1));
  }
}

Result<double> Measurement::step() {
  auto start = std::chrono::steady_clock::now();
  MOERT_TRY(greedy.run(engine, batch.input()));
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  for (size_t row = 0; row < batch.rows.size(); ++row) {
    MOERT_ASSIGN(id, greedy.token(row));
    next[static_cast<size_t>(batch.seq[static_cast<size_t>(batch.rows[row])])] = id;
  }
  return seconds.count();
}

Result<double> Measurement::prefill() {
  double seconds = 0;
  position = static_cast<int64_t>(prompts[0].size());
  batch.clear();
  for (size_t slot = 0; slot < prompts.size(); ++slot) {
    for (int64_t at = 0; at < position; ++at) {
      batch.add(static_cast<int64_t>(slot), at, prompts[slot][static_cast<size_t>(at)], at + 1 == position);
      bool isLast = slot + 1 == prompts.size() && at + 1 == position;
      if (isLast || static_cast<int64_t>(batch.tokens.size()) == engine.maxTokens) {
        MOERT_ASSIGN(taken, step());
        seconds += taken;
        batch.clear();
      }
    }
  }
  return seconds;
}

Result<double> Measurement::decode(int64_t steps, const std::function<Status()> &afterStep) {
  double seconds = 0;
  for (int64_t i = 0; i < steps; ++i, ++position) {
    batch.clear();
    for (size_t slot = 0; slot < next.size(); ++slot) {
      batch.add(static_cast<int64_t>(slot), position, next[slot], true);
      bool isLast = slot + 1 == next.size();
      if (isLast || static_cast<int64_t>(batch.tokens.size()) == engine.maxTokens) {
        MOERT_ASSIGN(taken, step());
        seconds += taken;
        batch.clear();
      }
    }
    if (afterStep) {
      MOERT_TRY(afterStep());
    }
  }
  return seconds;
}

double moerun::median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}
