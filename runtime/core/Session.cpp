// Stages prepare, initialize and run; memory is in SessionBuffers.cpp, steps on a GPU in SessionGpu.cpp, the report in
// Report.cpp.
#include "runtime/core/Session.h"

#include "runtime/backends/cuda/Driver.h"
#include "runtime/core/Abandon.h"
#include "runtime/core/Checks.h"
#include "runtime/core/DeviceChoice.h"

#include <algorithm>
#include <cstring>

namespace moert {
namespace {

/// Seconds that a wait may take on the emulator, which is slow by nature.
constexpr double kEmulatorDeadline = 3600;

} // namespace

/// Makes the plans of every entry and finds its arguments.
Status Session::openEntries() {
  const uint32_t bufferCount = variant->buffers() ? variant->buffers()->size() : 0;
  for (uint32_t e = 0; e < moert::entryCount(*variant); ++e) {
    const EntryView view = entryOf(*variant, e);
    Entry entry;
    entry.name = view.name;
    for (const auto *arguments : {view.inputs, view.outputs}) {
      for (uint32_t i = 0; arguments && i < arguments->size(); ++i) {
        entry.buffers.push_back(arguments->Get(i));
      }
      entry.inputCount = arguments == view.inputs ? entry.buffers.size() : entry.inputCount;
    }
    for (uint32_t b = 0; e == 0 && b < bufferCount; ++b) {
      if (strcmp(program->string(variant->buffers()->Get(b)->name()), "logits") == 0) {
        entry.buffers.push_back(b);
      }
    }
    for (uint32_t b : entry.buffers) {
      const format::Buffer &buffer = *variant->buffers()->Get(b);
      entry.arguments.push_back({program->string(buffer.name()), buffer.size().per_token(), buffer.size().per_row()});
    }
    entry.pointers.resize(entry.buffers.size());
    for (uint32_t b : entry.buffers) {
      entry.standIns.push_back(standIns[b]);
    }
    for (const format::StepVariant *step : *view.steps) {
      MOERT_ASSIGN(plan, StepPlan::create({*program, *variant, kernels, buffers, entry.buffers, weights, boundSequences,
                                           boundContext, place, backend->wantsSeparateBuffers()},
                                          *step));
      entry.plans.push_back(std::move(plan));
    }
    entries.push_back(std::move(entry));
  }
  return {};
}

Status Session::checkOptions(const moert_session_options &options) {
  const format::Program &root = program->root();
  sequences = options.sequences;
  context = options.context;
  maxTokens = options.max_tokens ? options.max_tokens : root.max_tokens();
  if (sequences < 1 || sequences > INT32_MAX || context < 1 || context > INT32_MAX) {
    return error(Code::InvalidArgument, sequences, " sequences of ", context,
                 " tokens: both must be at least 1 and below 2^31");
  }
  if (root.max_context() && context > root.max_context()) {
    return error(Code::InvalidArgument, "a context of ", context, " tokens was asked for, the model goes to ",
                 root.max_context(), ": lower --context");
  }
  if (maxTokens < 1 || maxTokens > root.max_tokens()) {
    return error(Code::InvalidArgument, "steps of ", maxTokens,
                 " tokens were asked for, the package was compiled for 1 "
                 "to ",
                 root.max_tokens(), ": compile it with a larger --max-tokens");
  }
  if (!(options.deadline_seconds >= 0)) {
    return error(Code::InvalidArgument, "a deadline of ", options.deadline_seconds, " seconds: must not be negative");
  }
  deadlineSeconds = options.deadline_seconds > 0 ? options.deadline_seconds : 30;
  return {};
}

Status Session::joinGroup(std::shared_ptr<Group> given, const moert_session_options &options) {
  const int ranks = given ? given->ranks() : 1;
  if (options.ranks && options.ranks != ranks) {
    return error(Code::InvalidArgument, "a session for ", options.ranks, " ranks was asked for, its group has ", ranks);
  }
  if (!given) {
    return options.rank ? error(Code::InvalidArgument, "a session of rank ", options.rank, " needs a group") : Status();
  }
  place = {given->ownRank() < 0 ? options.rank : given->ownRank(), ranks};
  Communicator *member = given->member(place.rank);
  if (!member || (options.rank && options.rank != place.rank)) {
    return error(Code::InvalidArgument, "a session of rank ", options.rank, " was asked for, this process has ",
                 given->ownRank() < 0 ? concat("ranks 0 to ", ranks - 1) : concat("rank ", given->ownRank()));
  }
  group = std::move(given);
  communicator = ranks > 1 ? member : nullptr;
  return {};
}

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<Program> program, std::shared_ptr<Group> group,
                                                 const moert_session_options &options) {
  const int64_t begin = monotonicNs();
  std::unique_ptr<Session> session(new Session);
  session->program = std::move(program);
  MOERT_TRY(session->joinGroup(std::move(group), options));
  if (Status status = session->prepare(options); !status.ok()) {
    if (session->communicator) {
      session->communicator->abort(status.code(), status.message());
    }
    if (session->backend && status.code() == Code::Deadline && !session->backend->settle()) {
      abandon(std::move(session));
    }
    return status;
  }
  session->createNs = monotonicNs() - begin;
  return session;
}

/// The device, the variant for it, and its backend.
Status Session::openBackend(const moert_session_options &options) {
  MOERT_ASSIGN(device, chooseDevice(*program, options.device));
  if (options.graphs < -1 || options.graphs > 1) {
    return error(Code::InvalidArgument, "graphs ", options.graphs, ": must be -1, 0 or 1");
  }
  if (options.dependent_launch < -1 || options.dependent_launch > 0) {
    return error(Code::InvalidArgument, "dependent_launch ", options.dependent_launch, ": must be -1 or 0");
  }
  graphs.setUse(GraphUse(options.graphs));
  const bool isEmulator = device.kind == DeviceKind::Emulator;
  if (isEmulator && options.deadline_seconds == 0) {
    deadlineSeconds = kEmulatorDeadline;
  }
  CommonVariants common;
  if (communicator) {
    common = [&](uint64_t mine) {
      return Agreement::commonVariants(*communicator, *program, mine, int64_t(deadlineSeconds * 1e9));
    };
  }
  const BackendOptions wanted{options.threads, options.pin != 0, deadlineSeconds, communicator,
                              options.dependent_launch == 0};
  if (device.kind == DeviceKind::Cpu) {
    MOERT_ASSIGN(chosen, chooseVariant(*program, options.variant, place.ranks, nullptr, common, choices));
    variantIndex = chosen;
    MOERT_ASSIGN(opened, openCpuBackend(wanted));
    backend = std::move(opened);
  } else {
    MOERT_ASSIGN(gpu, cuda::openDevice(isEmulator, device.ordinal, communicator ? communicator->localRank() : 0));
    MOERT_ASSIGN(opened, openCudaBackend(wanted, gpu));
    backend = std::move(opened);
    const GpuFacts facts{gpu.describe(), gpu.capability, [&](size_t v) {
                           std::string refusal =
                               backend->whyNotKernels(program->blob(v), program->blobSize(v),
                                                      program->machineCodePath(v), program->variant(v));
                           if (!refusal.empty() && !options.variant) {
                             notes.push_back(concat("the variant ", program->variant(v).target()->c_str(),
                                                    " was left out, though it suits the card: ", refusal));
                           }
                           return refusal;
                         }};
    MOERT_ASSIGN(chosen, chooseVariant(*program, options.variant, place.ranks, &facts, common, choices));
    variantIndex = chosen;
  }
  variant = &program->variant(variantIndex);
  for (size_t v = 0; v < variantIndex; ++v) {
    if (choices[v].reason == kNotCommon) {
      notes.push_back(concat("the variant ", choices[v].target, " was left out: ", kNotCommon));
    }
  }
  deviceText = backend->place();
  return {};
}

/// Everything between the options and the first step.
Status Session::prepare(const moert_session_options &options) {
  Progress progress = [&](const char *stage, uint64_t done, uint64_t total) {
    if (options.progress) {
      options.progress(options.progress_user, stage, done, total);
    }
  };
  MOERT_TRY(checkOptions(options));
  MOERT_TRY(openBackend(options));
  boundSequences = sequences;
  boundContext = context;
  if (communicator) {
    agreement = std::make_unique<Agreement>(*communicator, variant->rank_inputs(), int64_t(deadlineSeconds * 1e9));
    MOERT_TRY(agreement->sameSession(sequences, context, maxTokens));
    MOERT_TRY(backend->joinRanks(collectiveKinds(*variant)));
    if (variant->rank_inputs() == format::RankInputs::Distributed) {
      boundSequences = sequences + 1;
      boundContext = std::max(context, maxTokens);
    }
  }
  picks = picksBuffer(program->root(), *variant);
  MOERT_TRY(allocateBuffers());
  MOERT_TRY(backend->loadKernels(program->blobPath(variantIndex), program->blob(variantIndex),
                                 program->blobSize(variantIndex), program->machineCodePath(variantIndex), *variant,
                                 kernels));
  MOERT_TRY(weights.open(*program, variantIndex, place, options.weights ? options.weights : "",
                         options.verify_weights != 0, *backend, progress, notes));
  cacheFolder = options.cache ? options.cache : joinPath(program->package(), "cache");
  initializers = std::make_unique<Initializers>(*program, variantIndex, place, *backend, kernels, weights, cacheFolder);
  MOERT_TRY(initializers->run(progress, notes));
  MOERT_TRY(openEntries());
  return agreement ? agreement->everyoneIsReady() : Status();
}

/// What is wrong with the tokens; empty if nothing is.
std::string Session::checkTokens(const moert_step_input &input) const {
  const int64_t vocab = program->root().vocab();
  for (int64_t i = 0; i < input.token_count; ++i) {
    const int64_t token = input.tokens[i], seq = input.seq[i], pos = input.pos[i];
    if (token < 0 || token >= vocab) {
      return concat("token id ", token, " at index ", i, " is outside the vocabulary of ", vocab, " (0 to ", vocab - 1,
                    ")");
    }
    if (seq < 0 || seq >= sequences) {
      return concat("sequence ", seq, " at index ", i, " does not exist, the session has ", sequences, " (0 to ",
                    sequences - 1, "): raise --sequences");
    }
    if (pos < 0) {
      return concat("position ", pos, " at index ", i, " is negative");
    }
    if (pos >= context) {
      return concat("position ", pos, " does not fit the KV cache of ", context, " tokens: raise --context");
    }
    if (i && (seq < input.seq[i - 1] || (seq == input.seq[i - 1] && pos <= input.pos[i - 1]))) {
      return concat("tokens ", i - 1, " and ", i, " are (sequence ", input.seq[i - 1], ", position ", input.pos[i - 1],
                    ") and (", seq, ", ", pos, "): must be sorted by sequence and position, each pair once");
    }
  }
  for (int64_t r = 0; r < input.row_count; ++r) {
    if (input.rows[r] < 0 || input.rows[r] >= input.token_count) {
      return concat("row ", r, " asks for the logits of token ", input.rows[r], " of ", input.token_count);
    }
  }
  return {};
}

Status Session::checkInput(const moert_step_input &input) const {
  if (isStuck && !backend->failure().ok()) {
    return error(backend->failure().code(), "an earlier step failed (", backend->failure().message(),
                 "), the session cannot run another: make a new one");
  }
  if (isStuck) {
    return error(Code::Deadline, "an earlier step was not done by its deadline, the session cannot run another: make a "
                                 "new one");
  }
  if (input.token_count < 0 || input.row_count < 0) {
    return error(Code::InvalidArgument, "a step of ", input.token_count, " tokens and ", input.row_count,
                 " rows: must not be negative");
  }
  if (input.token_count > maxTokens) {
    return error(Code::InvalidArgument, "a step of ", input.token_count, " tokens, the session takes at most ",
                 maxTokens, ": split it, or raise --max-tokens");
  }
  if (input.row_count > input.token_count) {
    return error(Code::InvalidArgument, input.row_count, " rows of logits for ", input.token_count,
                 " tokens: at most one per token");
  }
  if ((input.token_count && (!input.tokens || !input.seq || !input.pos)) || (input.row_count && !input.rows)) {
    return error(Code::InvalidArgument, "a step of ", input.token_count, " tokens and ", input.row_count,
                 " rows: tokens, seq, pos or rows is NULL");
  }
  std::string wrong = checkTokens(input);
  return wrong.empty() ? Status() : error(Code::InvalidArgument, wrong);
}

/// Copies the input, so that what was checked is what runs, pads it to `tokens` and derives `runs`.
void Session::fillInputs(const moert_step_input &input, int64_t tokens) {
  const size_t bytes = size_t(input.token_count) * sizeof(int32_t);
  for (auto [to, from] : {std::pair(tokensInput, input.tokens), {seqInput, input.seq}, {posInput, input.pos}}) {
    if (to && bytes) {
      memcpy(to, from, bytes);
    }
  }
  for (int64_t t = input.token_count; t < tokens; ++t) {
    for (auto [to, value] :
         {std::pair(tokensInput, int64_t(0)), {seqInput, boundSequences - 1}, {posInput, t - input.token_count}}) {
      if (to) {
        to[t] = int32_t(value);
      }
    }
  }
  if (rowsInput && input.row_count) {
    memcpy(rowsInput, input.rows, size_t(input.row_count) * sizeof(int32_t));
  }
  if (runsInput) {
    int64_t token = 0;
    for (int64_t seq = 0; seq < boundSequences; ++seq) {
      while (token < input.token_count && input.seq[token] < seq) {
        ++token;
      }
      runsInput[seq] = int32_t(token);
    }
    runsInput[boundSequences] = int32_t(tokens);
  }
}

/// After a command that did not end: why, for this rank's caller and for the others. `isNamed`: it is known that it was
/// `command`.
Status Session::failedStep(uint32_t command, bool isNamed, int64_t tokens) {
  isStuck = true;
  const char ending[] = "; the session cannot run another step";
  if (communicator && !communicator->failure().ok()) {
    const Status &failure = communicator->failure();
    return error(failure.code(), failure.message(), ending);
  }
  const std::string where =
      isNamed ? describeCommand(program->root(), *variant, command) : concat("a step of ", tokens, " tokens");
  if (const Status &failure = backend->failure(); !failure.ok()) {
    if (communicator) {
      communicator->abort(failure.code(), failure.message());
    }
    return error(failure.code(), where, ": ", failure.message(),
                 isNamed ? "" : " (moe-run profile runs commands one by one and says which it was)", ending);
  }
  Status status = error(Code::Deadline, where, " was not done within ", deadlineSeconds,
                        " seconds: is the machine overloaded? The session cannot run another step");
  if (communicator) {
    communicator->abort(status.code(), status.message());
  }
  return status;
}

/// Runs an entry whose pointers are set; `checked` is what checks of the input found.
Status Session::runStep(Entry &entry, const moert_step_input &input, const Status &checked, int32_t *picked) {
  Agreement::Common common;
  common.tokens = input.token_count;
  common.mayUseGraphs = !trace.enabled();
  if (communicator && !isStuck) {
    Status agreed = agreement->beforeStep(size_t(&entry - entries.data()), input.token_count, input.row_count,
                                          picked != nullptr, common.mayUseGraphs, checked, common);
    isStuck |= !communicator->failure().ok();
    MOERT_TRY(agreed);
  }
  MOERT_TRY(checked);
  const int64_t tokens = common.tokens;
  if (tokens == 0) {
    return {};
  }
  const int64_t begin = monotonicNs();
  fillInputs(input, tokens);
  StepPlan *plan = entry.plans.data();
  while (!plan->covers(tokens)) {
    ++plan; // the checks have found that the plans cover every T
  }
  if (backend->wantsSeparateBuffers()) {
    MOERT_TRY(separateBuffers(entry, *plan, tokens, input.row_count));
  }
  uint32_t failed = 0;
  bool isNamed = true;
  if (backend->usesHostMemory()) {
    plan->bind(tokens, input.row_count, entry.pointers);
    if (!plan->execute(*backend, trace, picked != nullptr, failed) || !backend->synchronize()) {
      return failedStep(failed, isNamed, tokens);
    }
  } else if (!runOnGpu(entry, *plan, common, input.row_count, picked, failed, isNamed)) {
    return failedStep(failed, isNamed, tokens);
  }
  ++steps;
  stepTokens += uint64_t(input.token_count);
  stepNs += monotonicNs() - begin;
  return {};
}

Status Session::step(const moert_step_input &input, float *logits) {
  Status checked = checkInput(input);
  if (checked.ok() && input.row_count && !logits) {
    checked = error(Code::InvalidArgument, "a step of ", input.row_count, " rows: logits is NULL");
  }
  std::fill(entries[0].pointers.begin(), entries[0].pointers.end(), logits);
  return runStep(entries[0], input, checked);
}

Status Session::pick(const moert_step_input &input, int32_t *tokens) {
  Status checked = checkInput(input);
  if (!canPick()) {
    checked = error(Code::Unsupported, deviceText, " does not choose tokens by this program: take its logits");
  } else if (checked.ok() && input.row_count && !tokens) {
    checked = error(Code::InvalidArgument, "a step of ", input.row_count, " rows: tokens is NULL");
  }
  int32_t none; // where there are no rows
  std::fill(entries[0].pointers.begin(), entries[0].pointers.end(), nullptr);
  return runStep(entries[0], input, checked, tokens ? tokens : &none);
}

size_t Session::entryCount() const { return entries.size(); }

moert_entry_info Session::entryInfo(size_t index) const {
  const Entry &entry = entries[index];
  return {entry.name.c_str(), entry.inputCount, entry.arguments.size() - entry.inputCount, entry.arguments.data(),
          entry.arguments.data() + entry.inputCount};
}

Status Session::run(size_t index, const moert_step_input &input, const void *const *inputs, void *const *outputs) {
  if (index >= entries.size()) {
    return error(Code::InvalidArgument, "there is no entry ", index, ", the program has ", entries.size());
  }
  Entry &entry = entries[index];
  Status checked = checkInput(input);
  for (size_t a = 0; a < entry.arguments.size() && checked.ok(); ++a) {
    const bool isInput = a < entry.inputCount;
    const void *pointer =
        isInput ? (inputs ? inputs[a] : nullptr) : (outputs ? outputs[a - entry.inputCount] : nullptr);
    const moert_argument &argument = entry.arguments[a];
    const int64_t rows = argument.per_token ? input.token_count : input.row_count;
    if (rows && (!pointer || reinterpret_cast<uintptr_t>(pointer) % sizeof(float))) {
      checked = error(Code::InvalidArgument, "entry '", entry.name, "': argument '", argument.name, "' is ",
                      pointer ? "not aligned to 4 bytes" : "NULL");
    }
    entry.pointers[a] = const_cast<void *>(pointer);
  }
  return runStep(entry, input, checked);
}

Status Session::read(const std::string &name, void *out, size_t capacity, size_t *size) {
  std::string known;
  for (uint32_t b = 0; b < buffers.size(); ++b) {
    const format::Buffer &buffer = *variant->buffers()->Get(b);
    if (!buffers[b]) {
      continue;
    }
    if (name != program->string(buffer.name())) {
      known += concat(known.empty() ? "" : ", ", program->string(buffer.name()));
      continue;
    }
    if (size) {
      *size = size_t(bufferBytes[b]);
    }
    const uint64_t bytes = std::min<uint64_t>(capacity, bufferBytes[b]);
    if (out && !(backend->usesHostMemory() ? backend->copy(out, buffers[b], bytes)
                                           : backend->download(out, buffers[b], bytes))) {
      isStuck = true;
      return !backend->failure().ok()
                 ? backend->failure()
                 : error(Code::Deadline, "buffer '", name, "' was not copied within ", deadlineSeconds, " seconds");
    }
    return {};
  }
  return error(Code::NotFound, "there is no buffer '", name, "', there are: ", known);
}

Status Session::reset() {
  for (uint32_t b = 0; b < buffers.size(); ++b) {
    if (variant->buffers()->Get(b)->kind() == format::BufferKind::State &&
        !backend->fill(buffers[b], 0, bufferBytes[b])) {
      isStuck = true;
      return !backend->failure().ok()
                 ? backend->failure()
                 : error(Code::Deadline, "states were not cleared within ", deadlineSeconds, " seconds");
    }
  }
  return {};
}

void Session::enableTrace(bool on) { trace.enable(on, variant->commands() ? variant->commands()->size() : 0); }

Status Session::writeTrace(const std::string &path) const {
  std::string json = trace.toJson(*program, *variant);
  return writeFile(path, {{json.data(), json.size()}});
}

} // namespace moert
