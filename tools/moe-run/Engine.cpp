//===- Engine.cpp - A session that runs steps -----------------------------===//
//
// The C ABI with its statuses and handles as values that free themselves.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/Engine.h"

using namespace moert;
using namespace moerun;

namespace {

const char *textOrNull(const std::string &text) { return text.empty() ? nullptr : text.c_str(); }
std::string textOrEmpty(const char *text) { return text == nullptr ? "" : text; }

void forwardProgress(void *user, const char *stage, uint64_t done, uint64_t total) {
  const auto &options = *static_cast<const SessionOptions *>(user);
  if (options.progress) {
    options.progress(stage, done, total);
  }
}

} // namespace

Status moerun::takeStatus(moert_status *status) {
  if (status == nullptr) {
    return Status();
  }
  Status result(static_cast<Code>(moert_status_code(status)), moert_status_message(status));
  moert_status_free(status);
  return result;
}

Result<Package> Package::load(const std::string &path) {
  moert_program *program = nullptr;
  MOERT_TRY(takeStatus(moert_program_load(path.c_str(), &program)));
  Package package;
  package.program.reset(program, moert_program_free);
  moert_program_info info = {};
  MOERT_TRY(takeStatus(moert_program_get_info(program, &info)));
  package.facts = {textOrEmpty(info.compiler),
                   textOrEmpty(info.model_json),
                   textOrEmpty(info.checkpoint_hint),
                   info.vocab,
                   info.max_tokens,
                   info.max_context};
  int isDistributed = 0;
  MOERT_TRY(takeStatus(moert_program_get_ranks(program, &package.facts.ranks, &isDistributed)));
  package.facts.isDistributed = isDistributed != 0;
  return package;
}

Result<std::unique_ptr<Session>> Session::create(const Package &package, const SessionOptions &options) {
  std::unique_ptr<Session> result(new Session());
  MOERT_TRY(result->open(package, options));
  return result;
}

Status Session::open(const Package &package, const SessionOptions &given) {
  options = given;
  program = package.program;
  moert_session_options raw = {};
  raw.struct_size = sizeof(raw);
  raw.weights = textOrNull(options.weights);
  raw.cache = textOrNull(options.cache);
  raw.variant = textOrNull(options.variant);
  raw.sequences = options.sequences;
  raw.context = options.context;
  raw.max_tokens = options.maxTokens;
  raw.threads = options.threads;
  raw.verify_weights = options.verifyWeights;
  raw.deadline_seconds = options.deadlineSeconds;
  raw.progress = forwardProgress;
  raw.progress_user = &options;
  raw.pin = options.pin;
  raw.group = options.group;
  raw.rank = options.rank;
  raw.device = textOrNull(options.device);
  raw.graphs = options.graphs;
  raw.dependent_launch = options.dependentLaunch ? 0 : -1;
  moert_session *created = nullptr;
  MOERT_TRY(takeStatus(moert_session_create(package.program.get(), &raw, &created)));
  session.reset(created, moert_session_free);
  const char *device = nullptr, *name = nullptr;
  MOERT_TRY(takeStatus(moert_session_get_device(created, &device, &name)));
  kind = device;
  canPick = moert_session_can_pick(created) != 0;
  vocabulary = package.info().vocabulary;
  maxTokens = options.maxTokens != 0 ? options.maxTokens : package.info().maxTokens;
  sequences = options.sequences;
  context = options.context;
  return Status();
}

Status Engine::pick(const moert_step_input & /*input*/, int32_t * /*tokens*/) {
  return error(Code::Internal, "this engine has logits only");
}

Status Session::pick(const moert_step_input &input, int32_t *tokens) {
  return takeStatus(moert_session_pick(session.get(), &input, tokens));
}

Status Session::step(const moert_step_input &input, float *logits) {
  return takeStatus(moert_session_step(session.get(), &input, logits));
}

Result<std::vector<EntryInfo>> Session::entries() {
  std::vector<EntryInfo> result;
  for (size_t e = 0; e < moert_session_entry_count(session.get()); ++e) {
    moert_entry_info info = {};
    MOERT_TRY(takeStatus(moert_session_get_entry(session.get(), e, &info)));
    EntryInfo entry{info.name, {}, {}};
    for (size_t i = 0; i < info.input_count; ++i) {
      entry.inputs.push_back({info.inputs[i].name, info.inputs[i].per_token, info.inputs[i].per_row});
    }
    for (size_t i = 0; i < info.output_count; ++i) {
      entry.outputs.push_back({info.outputs[i].name, info.outputs[i].per_token, info.outputs[i].per_row});
    }
    result.push_back(std::move(entry));
  }
  return result;
}

Status Session::run(size_t entry, const moert_step_input &input, const void *const *inputs, void *const *outputs) {
  return takeStatus(moert_session_run(session.get(), entry, &input, inputs, outputs));
}

Status Session::trace(bool on) { return takeStatus(moert_session_trace(session.get(), on)); }
Status Session::writeTrace(const std::string &path) {
  return takeStatus(moert_session_write_trace(session.get(), path.c_str()));
}

Result<std::string> Session::report() {
  const char *json = nullptr;
  MOERT_TRY(takeStatus(moert_session_report(session.get(), &json)));
  return std::string(json);
}

Result<std::vector<std::vector<int64_t>>> Session::layerCounters(const std::string &prefix) {
  std::vector<std::vector<int64_t>> layers;
  while (true) {
    std::string name = concat(prefix, layers.size());
    size_t size = 0;
    Status status = takeStatus(moert_session_read(session.get(), name.c_str(), nullptr, 0, &size));
    if (status.code() == Code::NotFound) {
      return layers;
    }
    MOERT_TRY(status);
    std::vector<int64_t> counts(size / sizeof(int64_t));
    MOERT_TRY(takeStatus(
        moert_session_read(session.get(), name.c_str(), counts.data(), counts.size() * sizeof(int64_t), &size)));
    layers.push_back(std::move(counts));
  }
}
