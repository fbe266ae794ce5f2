// A step on a GPU: inputs go there, commands are issued (or a graph of them runs), results come back. The host waits
// once, for the results.
#include "runtime/core/Session.h"

#include <cstring>

namespace moert {

/// Everything of a step that a graph may hold: copies of the inputs, then the commands.
bool Session::issue(const Entry &entry, StepPlan &plan, int64_t tokens, int64_t rows, bool isPicking,
                    uint32_t &failed) {
  for (const Upload &upload : uploads) {
    if (upload.to && !backend->upload(upload.to, upload.from, upload.bytes(tokens, rows))) {
      return false;
    }
  }
  const uint8_t *staged = argumentStaging;
  for (size_t a = 0; a < entry.inputCount; ++a) {
    const moert_argument &argument = entry.arguments[a];
    const auto bytes = uint64_t(argument.per_token * tokens + argument.per_row * rows);
    if (!backend->upload(entry.standIns[a], staged, bytes)) {
      return false;
    }
    staged += bytes;
  }
  return plan.execute(*backend, trace, isPicking, failed);
}

/// `isNamed`: if it fails, whether `failed` is the command that did.
bool Session::runOnGpu(Entry &entry, StepPlan &plan, const Agreement::Common &common, int64_t rows, int32_t *picked,
                       uint32_t &failed, bool &isNamed) {
  const int64_t tokens = common.tokens;
  uint8_t *staged = argumentStaging;
  for (size_t a = 0; a < entry.inputCount; ++a) {
    const auto bytes = size_t(entry.arguments[a].per_token * tokens + entry.arguments[a].per_row * rows);
    if (bytes) {
      memcpy(staged, entry.pointers[a], bytes);
    }
    staged += bytes;
  }
  plan.bind(tokens, rows, entry.standIns);
  isNamed = trace.enabled();
  auto issueAll = [&] { return issue(entry, plan, tokens, rows, picked != nullptr, failed); };
  backend->beginRange(entry.name.c_str(), tokens, rows);
  const bool issued = common.mayUseGraphs && !plan.hasExchanges()
                          ? graphs.run(*backend, {&plan, tokens, rows, picked != nullptr, common.shape}, issueAll)
                          : issueAll();
  const bool taken = issued && (picked ? takeResult(picked, buffers[picks], uint64_t(rows) * sizeof(int32_t))
                                       : takeResults(entry, tokens, rows));
  const bool done = taken && backend->synchronize();
  backend->endRange();
  return done;
}

bool Session::takeResults(const Entry &entry, int64_t tokens, int64_t rows) {
  for (size_t a = entry.inputCount; a < entry.arguments.size(); ++a) {
    const auto bytes = uint64_t(entry.arguments[a].per_token * tokens + entry.arguments[a].per_row * rows);
    if (!takeResult(entry.pointers[a], entry.standIns[a], bytes)) {
      return false;
    }
  }
  return true;
}

bool Session::takeResult(void *to, const void *from, uint64_t bytes) {
  resultBytes += bytes;
  return !bytes || backend->download(to, from, bytes);
}

} // namespace moert
