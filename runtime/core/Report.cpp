// The session's report: what was chosen, what it takes, what happened, and per command and kernel how long.
#include "runtime/core/Json.h"
#include "runtime/core/Session.h"

#include "runtime/backends/cpu/CpuFeatures.h"

namespace moert {
namespace {

void writeTotal(JsonWriter &json, const Trace::Total &total) {
  json.member("count", total.count).member("ns", total.ns);
}

void writeCommands(JsonWriter &json, const Program &program, const format::Variant &variant, const Trace &trace) {
  json.key("commands").beginArray();
  for (uint32_t c = 0; c < trace.totals().size(); ++c) {
    const Trace::Total &total = trace.totals()[c];
    if (!total.count) {
      continue;
    }
    const format::Command &command = *variant.commands()->Get(c);
    json.beginObject().member("command", c).member("name", program.string(command.name()));
    json.member("kind", kindName(command.kind()));
    if (command.kind() == format::CommandKind::Launch) {
      json.member("kernel", variant.kernels()->Get(command.target())->symbol()->c_str());
    }
    writeTotal(json, total);
    json.member("shortest_ns", total.shortest).member("longest_ns", total.longest).endObject();
  }
  json.endArray();
}

void writeKernels(JsonWriter &json, const format::Variant &variant, const Trace &trace) {
  std::vector<Trace::Total> perKernel(variant.kernels() ? variant.kernels()->size() : 0);
  for (uint32_t c = 0; c < trace.totals().size(); ++c) {
    const format::Command &command = *variant.commands()->Get(c);
    if (command.kind() == format::CommandKind::Launch) {
      perKernel[command.target()].count += trace.totals()[c].count;
      perKernel[command.target()].ns += trace.totals()[c].ns;
    }
  }
  json.key("kernels").beginArray();
  for (uint32_t k = 0; k < perKernel.size(); ++k) {
    if (perKernel[k].count) {
      const format::Kernel &kernel = *variant.kernels()->Get(k);
      json.beginObject().member("kernel", kernel.symbol()->c_str());
      json.member("description", kernel.description() ? kernel.description()->c_str() : "");
      writeTotal(json, perKernel[k]);
      json.endObject();
    }
  }
  json.endArray();
}

} // namespace

const char *Session::report() {
  JsonWriter json;
  json.beginObject().member("package", program->package()).member("compiler", program->root().compiler()->c_str());
  json.member("backend", backend->name()).member("device", deviceText).member("variant", variant->target()->c_str());
  json.key("variants").beginArray();
  for (const VariantChoice &choice : choices) {
    json.beginObject().member("target", choice.target).member("chosen", choice.chosen);
    json.member("reason", choice.reason).endObject();
  }
  json.endArray().key("cpu_features").beginArray();
  for (const std::string &feature : cpu::presentFeatures()) {
    json.value(feature);
  }
  json.endArray().member("threads", backend->threads()).member("sequences", sequences).member("context", context);
  json.member("max_tokens", maxTokens)
      .member("rank", place.rank)
      .member("ranks", place.ranks)
      .member("deadline_seconds", deadlineSeconds);
  json.member("weights", weights.checkpoint()).member("weight_bytes", weights.usedBytes());
  json.member("copied_weight_bytes", weights.copiedBytes());
  json.member("arena_bytes", arenaBytes).member("state_bytes", stateBytes).member("create_ns", createNs);

  const InitializerFacts &facts = initializers->facts();
  json.key("initializers").beginObject().member("count", facts.count).member("bytes", facts.bytes);
  json.member("cache_hits", facts.cacheHits).member("computed", facts.computed).member("stored", facts.stored);
  json.member("unchanged", facts.unchanged);
  json.member("cache", cacheFolder).endObject();

  json.key("steps").beginArray();
  for (size_t e = 0; e < entries.size(); ++e) {
    for (size_t i = 0; i < entries[e].plans.size(); ++i) {
      const StepPlan &plan = entries[e].plans[i];
      const format::StepVariant &step = *entryOf(*variant, uint32_t(e)).steps->Get(uint32_t(i));
      json.beginObject().member("entry", entries[e].name);
      json.member("min_tokens", step.min_tokens()).member("max_tokens", step.max_tokens());
      json.member("commands", step.command_count()).member("launches", plan.launchCount());
      json.member("waves", plan.waveCount()).endObject();
    }
  }
  json.endArray().member("steps_run", steps).member("tokens_run", stepTokens).member("step_ns", stepNs);
  json.member("graphs_captured", graphs.capturedCount()).member("graphs_run", graphs.runCount());
  json.member("result_bytes", resultBytes).member("exchange_waits", backend->exchangeWaits());
  if (const std::optional<uint64_t> findings = backend->findings()) {
    json.member("emulator_findings", *findings);
  }

  json.key("weight_sha256").beginArray();
  for (const std::string &digest : weights.fileDigests()) {
    json.value(digest);
  }
  json.endArray().key("notes").beginArray();
  for (const std::string &note : notes) {
    json.value(note);
  }
  if (graphs.hasNoRoom()) {
    json.value(concat(deviceText, " had no memory for more than ", graphs.capturedCount(),
                      " graphs: steps are launched kernel by kernel"));
  }
  json.endArray();
  writeCommands(json, *program, *variant, trace);
  writeKernels(json, *variant, trace);
  json.member("dropped_events", trace.droppedEvents()).endObject();
  reportText = json.take();
  return reportText.c_str();
}

} // namespace moert
