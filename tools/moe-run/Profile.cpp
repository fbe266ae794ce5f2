//===- Profile.cpp - moe-run profile --------------------------------------===//
//
// Where the time goes: the runtime's own timing of every command, added up per
// kernel, for prefill and for decode; and a trace file for Perfetto.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/Commands.h"
#include "tools/moe-run/Measure.h"

#include <algorithm>
#include <map>

using namespace moert;
using namespace moerun;

namespace {

struct Cost {
  std::string description;
  double launches = 0, ns = 0;
};
using Costs = std::map<std::string, Cost>;

Costs costsOf(const Json &report) {
  Costs costs;
  for (const Json &kernel : report.value("kernels", Json::array())) {
    costs[kernel.value("kernel", std::string())] = {kernel.value("description", std::string()),
                                                    kernel.value("count", 0.0), kernel.value("ns", 0.0)};
  }
  return costs;
}

/// What `after` has more than `before`, the costliest first.
std::vector<std::pair<std::string, Cost>> difference(const Costs &before, const Costs &after) {
  std::vector<std::pair<std::string, Cost>> result;
  for (const auto &[kernel, cost] : after) {
    auto old = before.find(kernel);
    Cost more = cost;
    if (old != before.end()) {
      more.launches -= old->second.launches;
      more.ns -= old->second.ns;
    }
    if (more.launches > 0) {
      result.emplace_back(kernel, more);
    }
  }
  std::sort(result.begin(), result.end(), [](const auto &a, const auto &b) {
    return a.second.ns != b.second.ns ? a.second.ns > b.second.ns : a.first < b.first;
  });
  return result;
}

Json phaseJson(const std::vector<std::pair<std::string, Cost>> &costs, double seconds, int64_t tokens) {
  Json kernels = Json::array();
  for (const auto &[kernel, cost] : costs) {
    kernels.push_back(
        {{"kernel", kernel}, {"description", cost.description}, {"launches", cost.launches}, {"ns", cost.ns}});
  }
  return {{"tokens", tokens}, {"seconds", seconds}, {"kernels", kernels}};
}

std::string phaseText(const char *name, const std::vector<std::pair<std::string, Cost>> &costs, double seconds,
                      int64_t tokens) {
  double sum = 0;
  for (const auto &entry : costs) {
    sum += entry.second.ns;
  }
  std::vector<std::vector<std::string>> rows = {{"kernel", "launches", "ms", "us each", "share"}};
  for (const auto &[kernel, cost] : costs) {
    rows.push_back({kernel, fixed(cost.launches, 0), fixed(cost.ns / 1e6, 2), fixed(cost.ns / 1e3 / cost.launches, 1),
                    fixed(sum > 0 ? 100 * cost.ns / sum : 0, 1) + " %"});
  }
  return concat(name, ": ", tokens, " tokens in ", fixed(seconds * 1e3, 2), " ms, ", fixed(sum / 1e6, 2),
                " ms in kernels\n", table(rows));
}

} // namespace

Status moerun::runProfile(const ProfileCommand &command) {
  MOERT_ASSIGN(package, Package::load(command.package));
  int64_t context = command.promptLength + command.generate;
  MOERT_TRY(checkContext(package.info(), context));
  MOERT_ASSIGN(session, openSession(package, command, command.batch, context));
  Measurement measurement(*session, command.promptLength);
  MOERT_TRY(measurement.prefill().status()); // Warm-up.
  MOERT_TRY(measurement.decode(std::min<int64_t>(command.generate, 8), nullptr).status());

  MOERT_TRY(session->trace(true));
  MOERT_ASSIGN(start, parseReport(*session));
  MOERT_ASSIGN(prefillSeconds, measurement.prefill());
  MOERT_ASSIGN(middle, parseReport(*session));
  MOERT_ASSIGN(decodeSeconds, measurement.decode(command.generate, nullptr));
  MOERT_ASSIGN(end, parseReport(*session));
  MOERT_TRY(session->trace(false));
  if (!command.trace.empty()) {
    MOERT_TRY(session->writeTrace(command.trace));
  }
  auto prefill = difference(costsOf(start), costsOf(middle));
  auto decode = difference(costsOf(middle), costsOf(end));
  int64_t prefillTokens = command.promptLength * command.batch, decodeTokens = command.generate * command.batch;
  if (command.json) {
    Json json = {{"variant", end["variant"]},
                 {"threads", end["threads"]},
                 {"prefill", phaseJson(prefill, prefillSeconds, prefillTokens)},
                 {"decode", phaseJson(decode, decodeSeconds, decodeTokens)}};
    if (!command.trace.empty()) {
      json["trace"] = command.trace;
    }
    return outputStatus(printJson(json));
  }
  std::string text = phaseText("prefill", prefill, prefillSeconds, prefillTokens) + "\n" +
                     phaseText("decode", decode, decodeSeconds, decodeTokens);
  if (!command.trace.empty()) {
    text += concat("\ntrace in ", command.trace, ": open it at ui.perfetto.dev or in chrome://tracing\n");
  }
  return outputStatus(printOut(text));
}
