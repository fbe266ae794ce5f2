//===- Recording.cpp - Which experts a run chose --------------------------===//
#include "tools/moe-run/Recording.h"

#include "passes/Analysis/Placement/Facts.h"
#include "passes/Analysis/Placement/LoadMetrics.h"
#include "runtime/readers/File.h"
#include "runtime/readers/OutputFile.h"

#include <cmath>

using namespace moert;
using namespace moerun;
using namespace moe::placement;

/// Windows that are chosen by themselves: between half of this and this.
static constexpr size_t kMostWindows = 32;
/// Of the sums of probabilities, as the kernel adds them up (lowering/CPU/Kernels.h, RoutingStatisticsKernel).
static constexpr double kProbabilityUnit = 4294967296.0;

Result<RoutingCounters> moerun::readRoutingCounters(Session &session) {
  RoutingCounters counters;
  MOERT_ASSIGN(counts, session.layerCounters("expert_counts."));
  MOERT_ASSIGN(first, session.layerCounters("expert_first."));
  MOERT_ASSIGN(probabilities, session.layerCounters("expert_probabilities."));
  MOERT_ASSIGN(pairs, session.layerCounters("expert_pairs."));
  counters = {std::move(counts), std::move(first), std::move(probabilities), std::move(pairs)};
  return counters;
}

/// Which decoder layers have experts: the package's config.json if it says so and fits, else all of them.
static Result<ModelLayers> findLayers(const std::string &package, const RoutingCounters::Rows &counts,
                                      int &expertsPerToken) {
  ModelLayers model;
  model.experts = static_cast<int>(counts.front().size());
  for (size_t layer = 0; layer < counts.size(); ++layer) {
    if (counts[layer].size() != counts.front().size()) {
      return error(Code::InvalidArgument, package, ": MoE layer ", layer, " has ", counts[layer].size(),
                   " experts, but layer 0 has ", counts.front().size(),
                   "; a recording holds one number of experts: record the model before layers are fused");
    }
  }
  if (readers::exists(readers::joinPath(package, "config.json"))) {
    MOERT_ASSIGN(facts, readModelFacts(package));
    if (facts.layers.moeLayers.size() != counts.size() || facts.layers.experts != model.experts) {
      return error(Code::InvalidArgument, package, ": config.json has ", facts.layers.moeLayers.size(),
                   " MoE layers of ", facts.layers.experts, " experts, but the program counts ", counts.size(), " of ",
                   model.experts);
    }
    model.totalLayers = facts.layers.totalLayers;
    model.layerIds = facts.layers.moeLayers;
    expertsPerToken = facts.routing.expertsPerToken;
    return model;
  }
  model.totalLayers = static_cast<int>(counts.size());
  for (int layer = 0; layer < model.totalLayers; ++layer) {
    model.layerIds.push_back(layer);
  }
  return model;
}

/// After minus before, layer by layer.
static RoutingCounters::Rows subtract(RoutingCounters::Rows after, const RoutingCounters::Rows &before) {
  for (size_t layer = 0; layer < after.size(); ++layer) {
    for (size_t i = 0; i < after[layer].size(); ++i) {
      after[layer][i] -= before[layer][i];
    }
  }
  return after;
}

static std::vector<Loads> toLoads(const RoutingCounters::Rows &rows) {
  std::vector<Loads> loads;
  for (const std::vector<int64_t> &row : rows) {
    loads.emplace_back(row.begin(), row.end());
  }
  return loads;
}

Result<Statistics> moerun::makeStatistics(const RoutingCounters &growth, const std::string &package,
                                          const std::string &name) {
  Statistics statistics;
  MOERT_ASSIGN(model, findLayers(package, growth.counts, statistics.expertsPerToken));
  statistics.model = model;
  Profile &profile = statistics.profiles.emplace_back();
  profile.name = name;
  profile.layers = toLoads(growth.counts);
  // A layer whose ids come from elsewhere has counts only; then the recording has no more of any layer.
  if (growth.first.size() != growth.counts.size()) {
    return statistics;
  }
  profile.firstCounts = toLoads(growth.first);
  profile.probabilities = toLoads(growth.probabilities);
  const auto experts = static_cast<size_t>(model.experts);
  for (size_t layer = 0; layer < growth.pairs.size(); ++layer) {
    double tokens = 0;
    for (double count : profile.firstCounts[layer]) {
      tokens += count;
    }
    for (double &value : profile.probabilities[layer]) {
      value = tokens > 0 ? std::round(value / kProbabilityUnit / tokens * 1e9) / 1e9 : 0;
    }
    std::vector<Pair> &pairs = profile.pairs.emplace_back();
    for (size_t i = 0; i < experts; ++i) {
      for (size_t j = i + 1; j < experts; ++j) {
        if (const int64_t count = growth.pairs[layer][i * experts + j]) {
          pairs.push_back({static_cast<int>(i), static_cast<int>(j), static_cast<double>(count)});
        }
      }
    }
  }
  return statistics;
}

//===----------------------------------------------------------------------===//
// RoutingRecorder
//===----------------------------------------------------------------------===//

/// "out/english.json" as "english".
static std::string nameOf(const std::string &file) {
  const size_t slash = file.rfind('/');
  const std::string name = slash == std::string::npos ? file : file.substr(slash + 1);
  const size_t dot = name.rfind('.');
  return dot == std::string::npos || dot == 0 ? name : name.substr(0, dot);
}

Result<std::unique_ptr<RoutingRecorder>> RoutingRecorder::begin(Session &session, const std::string &package,
                                                                const RecordingOptions &options) {
  std::unique_ptr<RoutingRecorder> recorder(new RoutingRecorder(session, options));
  static_cast<Engine &>(*recorder) = session;
  MOERT_ASSIGN(start, readRoutingCounters(session));
  if (start.counts.empty()) {
    return error(Code::InvalidArgument, package, ": the model has no experts, so there is no routing to record");
  }
  int expertsPerToken = 0; // A config that does not fit is known before anything runs.
  MOERT_TRY(findLayers(package, start.counts, expertsPerToken).status());
  recorder->package = package;
  recorder->windowStart = start.counts;
  recorder->start = std::move(start);
  recorder->stepsPerWindow = std::max<int64_t>(1, options.window);
  return recorder;
}

void RoutingRecorder::closeWindow(RoutingCounters::Rows now) {
  windows.push_back(toLoads(subtract(now, windowStart)));
  windowStart = std::move(now);
  stepsInWindow = 0;
  if (options.window != 0 || windows.size() < kMostWindows) {
    return;
  }
  // Twice as long ones from here on: neighbours become one.
  for (size_t i = 0; i < windows.size() / 2; ++i) {
    std::vector<Loads> sum = std::move(windows[2 * i]);
    for (size_t layer = 0; layer < sum.size(); ++layer) {
      for (size_t expert = 0; expert < sum[layer].size(); ++expert) {
        sum[layer][expert] += windows[2 * i + 1][layer][expert];
      }
    }
    windows[i] = std::move(sum);
  }
  windows.resize(windows.size() / 2);
  stepsPerWindow *= 2;
}

Status RoutingRecorder::step(const moert_step_input &input, float *logits) {
  MOERT_TRY(session.step(input, logits));
  return afterStep();
}

Status RoutingRecorder::pick(const moert_step_input &input, int32_t *tokens) {
  MOERT_TRY(session.pick(input, tokens));
  return afterStep();
}

Status RoutingRecorder::afterStep() {
  if (++stepsInWindow == stepsPerWindow) {
    MOERT_ASSIGN(now, session.layerCounters("expert_counts."));
    closeWindow(std::move(now));
  }
  return Status();
}

Result<Statistics> RoutingRecorder::finish() {
  MOERT_ASSIGN(now, readRoutingCounters(session));
  if (stepsInWindow > 0) {
    closeWindow(now.counts);
  }
  const RoutingCounters growth{subtract(now.counts, start.counts), subtract(now.first, start.first),
                               subtract(now.probabilities, start.probabilities), subtract(now.pairs, start.pairs)};
  MOERT_ASSIGN(statistics, makeStatistics(growth, package, nameOf(options.file)));
  if (windows.size() > 1) {
    statistics.profiles.front().windows = windows;
  }
  return std::move(statistics);
}

//===----------------------------------------------------------------------===//
// Output
//===----------------------------------------------------------------------===//

Status moerun::writeRoutingFile(const std::string &file, const Statistics &statistics, bool quiet) {
  if (Status status = checkStatistics(statistics); !status.ok()) {
    return error(status.code(), file, ": not written: ", status.message());
  }
  MOERT_TRY(readers::writeWholeFile(file, writeRecording(statistics)));
  const Profile &profile = statistics.profiles.front();
  if (!quiet) {
    printNote(concat(file, ": routing of ", profile.layers.size(), " MoE layers in ", profile.windows.size(),
                     " windows", profile.pairs.empty() ? "" : ", with pairs"));
  }
  if (profile.pairs.empty()) {
    printNote(concat("moe-run: note: ", file,
                     " holds counts only: which experts are chosen together is counted in a "
                     "package that was compiled with --instrument routing"));
  }
  return Status();
}

Json moerun::describeBalance(const Statistics &statistics) {
  const Profile &profile = statistics.profiles.front();
  const int perToken = statistics.expertsPerToken;
  Json result = {{"layers", Json::array()}};
  for (size_t layer = 0; layer < profile.layers.size(); ++layer) {
    const RoutingBalance balance = measureBalance(profile, layer, perToken);
    Json row = {{"layer", statistics.model.layerIds[layer]},
                {"cv", balance.variation},
                {"mse_fraction", balance.errorOfFractions},
                {"mse_count", balance.errorOfCounts}};
    if (balance.hasLosses) {
      row["switch_loss"] = balance.switchLoss;
      row["gshard_loss"] = balance.gshardLoss;
      row["huggingface_loss"] = balance.huggingFaceLoss;
    }
    if (balance.tokens > 0) {
      for (double factor : {1.0, 1.25, 2.0}) {
        const int64_t capacity = megatronCapacity(static_cast<int64_t>(balance.tokens), statistics.model.experts,
                                                  std::max(1, perToken), factor);
        row["dropped"].push_back({{"factor", factor},
                                  {"capacity", capacity},
                                  {"fraction", droppedFraction(profile.layers[layer], capacity)}});
      }
    }
    result["layers"].push_back(std::move(row));
  }
  if (!profile.firstCounts.empty()) {
    result["huggingface_loss"] = huggingFaceLossOfLayers(profile);
  }
  return result;
}
