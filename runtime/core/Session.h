//===- Session.h - Buffers, weights and plans bound together ------*- C++ -*-===//
//
// Stages `prepare` (choose the variant, open the backend, allocate) and `initialize` (kernels, weights, plans) in
// create; stage `run` in step, which checks its input and then neither allocates, locks nor looks anything up.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_SESSION_H
#define MOERT_CORE_SESSION_H

#include "runtime/core/Agreement.h"
#include "runtime/core/Initializers.h"
#include "runtime/core/StepPlan.h"
#include "runtime/core/VariantChoice.h"

namespace moert {

class Session {
public:
  /// `group`: of the ranks that the session is one of; null: there is one.
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<Program> program, std::shared_ptr<Group> group,
                                                 const moert_session_options &options);

  Status step(const moert_step_input &input, float *logits);

  size_t entryCount() const;
  moert_entry_info entryInfo(size_t entry) const;
  /// One step of an entry on the caller's arguments.
  Status run(size_t entry, const moert_step_input &input, const void *const *inputs, void *const *outputs);

  Status read(const std::string &buffer, void *out, size_t capacity, size_t *size);
  Status reset();
  void enableTrace(bool on);
  Status writeTrace(const std::string &path) const;
  /// JSON, valid until the next call.
  const char *report();

  /// Whether everything that kernels use may be freed; waits for stragglers up to the deadline. After a failure between
  /// processes a message may still be on its way out of a buffer.
  bool canBeFreed() {
    const bool mayStillSend = communicator && group->ownRank() >= 0 && !communicator->failure().ok();
    return !mayStillSend && (!isStuck || backend->synchronize());
  }

private:
  /// An entry with its plans, one per range of T.
  struct Entry {
    std::string name;
    /// Buffers that are the caller's memory, inputs first, and what the caller is told of them.
    std::vector<uint32_t> buffers;
    std::vector<moert_argument> arguments;
    size_t inputCount = 0;
    /// The pointers of the step at hand.
    std::vector<void *> pointers;
    std::vector<StepPlan> plans;
  };

  Session() = default;
  Status checkOptions(const moert_session_options &options);
  Status joinGroup(std::shared_ptr<Group> group, const moert_session_options &options);
  Status prepare(const moert_session_options &options);
  Status openEntries();
  Status allocateBuffers();
  Status checkInput(const moert_step_input &input) const;
  void fillInputs(const moert_step_input &input, int64_t tokens);
  std::string checkTokens(const moert_step_input &input) const;
  Status runStep(Entry &entry, const moert_step_input &input, const Status &checked);
  Status failedStep(uint32_t command);

  std::shared_ptr<Program> program;
  std::shared_ptr<Group> group;
  /// Null: the only rank.
  Communicator *communicator = nullptr;
  std::unique_ptr<Agreement> agreement;
  RankPlace place;
  const format::Variant *variant = nullptr;
  size_t variantIndex = 0;
  std::vector<VariantChoice> choices;
  std::unique_ptr<Backend> backend;
  std::vector<void *> kernels;
  Weights weights;
  std::unique_ptr<Initializers> initializers;
  /// As the caller knows them; kernels see one slot more for padding where ranks have inputs of their own, and rows for
  /// it in every slot.
  int64_t sequences = 0, context = 0, maxTokens = 0;
  int64_t boundSequences = 0, boundContext = 0;
  double deadlineSeconds = 30;
  std::vector<uint8_t *> buffers;
  std::vector<uint64_t> bufferBytes;
  uint64_t arenaBytes = 0, stateBytes = 0;
  int32_t *tokensInput = nullptr, *seqInput = nullptr, *posInput = nullptr, *runsInput = nullptr, *rowsInput = nullptr;
  /// The first is "step".
  std::vector<Entry> entries;
  Trace trace;
  std::vector<std::string> notes;
  std::string cacheFolder, reportText;
  uint64_t steps = 0, stepTokens = 0;
  int64_t stepNs = 0, createNs = 0;
  bool isStuck = false;
};

} // namespace moert

#endif // MOERT_CORE_SESSION_H
