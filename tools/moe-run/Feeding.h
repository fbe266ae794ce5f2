//===- Feeding.h - Sequences to steps ---------------------------*- C++ -*-===//
//
// Cuts sequences into steps that a session takes: at most Tmax tokens, sorted by
// slot and position, slots reused by the next sequence as soon as one is done
// (positions start at 0 again, so nothing needs clearing). Two users: logits of
// given sequences, in several ways that must not matter; and generation, where
// each new token depends on the step before.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_FEEDING_H
#define MOE_TOOLS_MOERUN_FEEDING_H

#include "runtime/readers/Sampling.h"
#include "tools/moe-run/Engine.h"

namespace moerun {

/// The tokens of one step.
struct StepBatch {
  std::vector<int32_t> tokens, seq, pos, rows;

  void clear();
  /// Slots in rising order, positions of a slot in rising order.
  void add(int64_t slot, int64_t position, int32_t token, bool wantsLogits);
  moert_step_input input() const;
};

/// How many tokens of a sequence go into a step.
struct Chunking {
  enum Kind { One, Fixed, Random } kind = One; ///< One: as many as fit.
  int64_t size = 0;                            ///< Of Fixed.
  uint64_t seed = 0;                           ///< Of Random: 1 to 24 tokens, sometimes none of a sequence.
};
/// "one", "token", a number, "random" or "random:SEED".
moert::Result<Chunking> parseChunking(const std::string &text, uint64_t seed);

/// Logits after every token: `sink` gets them for token `position` of sequence `index`, in any order of sequences.
using LogitsSink = std::function<moert::Status(size_t index, int64_t position, const float *logits)>;
moert::Status feedAll(Engine &engine, const std::vector<std::vector<int32_t>> &sequences, const Chunking &chunking,
                      const LogitsSink &sink);

/// A step whose rows are wanted for their likeliest tokens: no logits come back where the engine can pick.
class GreedyStep {
public:
  moert::Status run(Engine &engine, const moert_step_input &input);
  moert::Result<int32_t> token(size_t row) const;

private:
  std::vector<int32_t> picks;
  std::vector<float> logits;
  int64_t vocabulary = 0;
  bool isPicked = false;
};

/// A sequence that is being generated.
struct Generation {
  std::vector<int32_t> prompt; ///< Not empty.
  std::vector<int32_t> ids;    ///< Generated so far, with the token that ended it.
  bool ended = false;          ///< By a token of `ends`; else by its length.
};

/// How to generate.
struct GenerateOptions {
  int64_t maxNew = 0;
  moert::readers::SamplingOptions sampling;
  std::function<bool(int32_t)> ends; ///< Null: nothing ends a sequence but its length.
};

/// Times of generation. A step with any token of a prompt counts as prefill, with all its tokens.
struct GenerateStats {
  int64_t prefillTokens = 0, decodeTokens = 0, prefillSteps = 0, decodeSteps = 0;
  double prefillSeconds = 0, decodeSeconds = 0, firstTokenSeconds = 0;
};

/// Generates all sequences, as many at a time as there are slots. `onToken` may be null.
moert::Result<GenerateStats> generate(Engine &engine, std::vector<Generation> &sequences,
                                      const GenerateOptions &options,
                                      const std::function<moert::Status(size_t index, int32_t id)> &onToken);

/// Errors for ids outside the vocabulary and for more tokens than the cache has; `what` names a sequence.
moert::Status checkIds(const std::string &what, const std::vector<int32_t> &ids, int64_t vocabulary);
moert::Status checkLength(const std::string &what, int64_t tokens, int64_t more, int64_t context,
                          const char *limitName);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_FEEDING_H
