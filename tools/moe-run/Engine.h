//===- Engine.h - A session that runs steps ---------------------*- C++ -*-===//
//
// What feeding tokens needs of a session, so that tests can put a fake in its
// place, and the session of libmoert behind it. Everything goes through the C
// ABI.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_ENGINE_H
#define MOE_TOOLS_MOERUN_ENGINE_H

#include "runtime/core/Status.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace moerun {

/// Runs steps over B slots of C tokens each.
class Engine {
public:
  virtual ~Engine() = default;
  /// logits: [row_count, vocabulary].
  virtual moert::Status step(const moert_step_input &input, float *logits) = 0;
  /// Where `canPick`: the same, of which only each row's likeliest token is wanted, as moert_session_pick has it.
  virtual moert::Status pick(const moert_step_input &input, int32_t *tokens);

  bool canPick = false;
  int64_t vocabulary = 0;
  int64_t maxTokens = 0; ///< Most tokens of one step.
  int64_t sequences = 0;
  int64_t context = 0;
};

/// What moert_program_get_info says.
struct ProgramInfo {
  std::string compiler, modelJson, checkpointHint;
  int64_t vocabulary = 0, maxTokens = 0;
  int64_t maxContext = 0; ///< 0: no limit.
  int ranks = 1;
  bool isDistributed = false; ///< Each rank has sequences of its own.
};

/// What a session is made with; see moert_session_options.
struct SessionOptions {
  std::string weights, cache, variant, device; ///< Empty: the default.
  int graphs = 0;
  bool dependentLaunch = true;
  int64_t sequences = 1, context = 1, maxTokens = 0;
  int threads = 0;
  bool verifyWeights = false, pin = false;
  double deadlineSeconds = 0;
  moert_group *group = nullptr; ///< Of ranks that run together; null: there is one.
  int rank = 0;
  std::function<void(const std::string &stage, uint64_t done, uint64_t total)> progress;
};

/// Takes over the status of a call of the C ABI.
moert::Status takeStatus(moert_status *status);

/// A loaded package.
class Package {
public:
  static moert::Result<Package> load(const std::string &path);
  const ProgramInfo &info() const { return facts; }

private:
  friend class Session;
  std::shared_ptr<moert_program> program;
  ProgramInfo facts;
};

/// An argument of an entry: bytes per token and per row of logits.
struct EntryArgument {
  std::string name;
  int64_t perToken = 0, perRow = 0;
};

/// What moert_session_get_entry says.
struct EntryInfo {
  std::string name;
  std::vector<EntryArgument> inputs, outputs;
};

/// A session of a package.
class Session : public Engine {
public:
  static moert::Result<std::unique_ptr<Session>> create(const Package &package, const SessionOptions &options);

  moert::Status step(const moert_step_input &input, float *logits) override;
  moert::Status pick(const moert_step_input &input, int32_t *tokens) override;
  /// The entries of the program; the first is the step.
  moert::Result<std::vector<EntryInfo>> entries();
  moert::Status run(size_t entry, const moert_step_input &input, const void *const *inputs, void *const *outputs);
  moert::Status trace(bool on);
  moert::Status writeTrace(const std::string &path);
  /// "cpu", "cuda" or "emulator".
  const std::string &deviceKind() const { return kind; }
  /// The session's report, JSON.
  virtual moert::Result<std::string> report();
  /// Tokens that each expert got so far, per MoE layer; empty for a model without experts.
  moert::Result<std::vector<std::vector<int64_t>>> expertCounts() { return layerCounters("expert_counts."); }
  /// The states of this name with 0, 1, ... after it, as integers.
  virtual moert::Result<std::vector<std::vector<int64_t>>> layerCounters(const std::string &prefix);

protected:
  Session() = default;
  moert::Status open(const Package &package, const SessionOptions &options);

private:
  std::string kind = "cpu";
  SessionOptions options;
  std::shared_ptr<moert_program> program;
  std::shared_ptr<moert_session> session;
};

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_ENGINE_H
