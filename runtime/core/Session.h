//===- Session.h - Buffers, weights and plans bound together ------*- C++ -*-===//
//
// Stages `prepare` (choose the variant, open the backend, allocate) and `initialize` (kernels, weights, plans) in
// create; stage `run` in step, which checks its input and then neither allocates, locks nor looks anything up.
//
// On a GPU the caller's memory has stand-ins there, with fixed addresses: inputs are copied to them at the start of a
// step and results back at its end (SessionBuffers.cpp, SessionGpu.cpp).
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_SESSION_H
#define MOERT_CORE_SESSION_H

#include "runtime/core/Agreement.h"
#include "runtime/core/GraphCache.h"
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
  /// Whether `pick` can be asked for.
  bool canPick() const { return picks != kNoBuffer && !backend->usesHostMemory(); }
  /// A step of which only the likeliest token of each row comes back; see picksBuffer.
  Status pick(const moert_step_input &input, int32_t *tokens);

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
    return !mayStillSend && (!isStuck || backend->settle());
  }

  /// What the session runs on: "cpu", "cuda" or "emulator", and its name.
  const char *deviceKind() const { return backend->name(); }
  const char *deviceName() const { return deviceText.c_str(); }

private:
  /// An entry with its plans, one per range of T.
  struct Entry {
    std::string name;
    /// Buffers that are the caller's memory, inputs first, and what the caller is told of them.
    std::vector<uint32_t> buffers;
    std::vector<moert_argument> arguments;
    size_t inputCount = 0;
    /// The pointers of the step at hand, and on a GPU what stands there for them.
    std::vector<void *> pointers, standIns;
    std::vector<StepPlan> plans;
  };
  /// What a step copies to a GPU: bytes at T and M, from pinned memory.
  struct Upload {
    uint32_t buffer;
    void *to; ///< null: the step does not read it
    const void *from;
    int64_t fixed, perToken, perRow;
    uint64_t bytes(int64_t tokens, int64_t rows) const { return uint64_t(fixed + perToken * tokens + perRow * rows); }
  };

  /// Where the backend wants separate buffers: those of steps of one plan, T and M.
  struct Separate {
    const StepPlan *plan;
    int64_t tokens, rows;
    std::vector<void *> regions, standIns;
  };

  Session() = default;
  Status checkOptions(const moert_session_options &options);
  Status joinGroup(std::shared_ptr<Group> group, const moert_session_options &options);
  Status prepare(const moert_session_options &options);
  Status openBackend(const moert_session_options &options);
  Status openEntries();
  Status sizeBuffers();
  Status allocateBuffers();
  Status allocateInput(uint32_t buffer, const std::string &name);
  Status stageArguments();
  bool isCallers(uint32_t buffer) const;
  Status checkInput(const moert_step_input &input) const;
  void fillInputs(const moert_step_input &input, int64_t tokens);
  std::string checkTokens(const moert_step_input &input) const;
  /// `picked`: where picks go, which are wanted instead of results; null: results are.
  Status runStep(Entry &entry, const moert_step_input &input, const Status &checked, int32_t *picked = nullptr);
  Status separateBuffers(Entry &entry, StepPlan &plan, int64_t tokens, int64_t rows);
  Result<Separate *> separateFor(const Entry &entry, const StepPlan &plan, int64_t tokens, int64_t rows);
  bool issue(const Entry &entry, StepPlan &plan, int64_t tokens, int64_t rows, bool isPicking, uint32_t &failed);
  bool takeResults(const Entry &entry, int64_t tokens, int64_t rows);
  bool takeResult(void *to, const void *from, uint64_t bytes);
  bool runOnGpu(Entry &entry, StepPlan &plan, const Agreement::Common &common, int64_t rows, int32_t *picked,
                uint32_t &failed, bool &isNamed);
  Status failedStep(uint32_t command, bool isNamed, int64_t tokens);

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
  std::string deviceText;
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
  /// Per buffer whether it is an argument of an entry beside the step.
  std::vector<bool> isArgument;
  /// On a GPU: what stands there for buffers that are the caller's memory, the inputs, and pinned memory for those of
  /// an entry.
  std::vector<uint8_t *> standIns;
  std::vector<Upload> uploads;
  uint8_t *argumentStaging = nullptr;
  /// The state that tokens are chosen into; kNoBuffer: the variant has none.
  uint32_t picks = kNoBuffer;
  uint64_t resultBytes = 0; ///< that came back from the GPU
  GraphCache graphs;
  std::vector<Separate> separated;
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
