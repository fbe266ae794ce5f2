//===- Place.cpp - moec place: which rank holds which expert ----------------===//

#include "passes/Analysis/Placement/MapFile.h"
#include "passes/Analysis/Placement/Split.h"
#include "passes/Analysis/Placement/Statistics.h"
#include "tools/moec/Console.h"
#include "tools/moec/OutputFile.h"
#include "tools/moec/place/Bake.h"
#include "tools/moec/place/PlaceReport.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>
#include <numeric>

using namespace moec;
using namespace moe::placement;

static ExitCode fail(const Status &status) {
  printError(status.message());
  return status.code() == Code::Internal ? kInternalError : kUserError;
}

/// Nodes, groups and experts per token: from the options, else the model, else the topology or the statistics.
static Status completeOptions(const PlaceCommand &command, const std::optional<ModelFacts> &model,
                              const std::optional<Topology> &topology, const Statistics &statistics,
                              PlanOptions &options) {
  int nodes = static_cast<int>(command.nodes);
  if (nodes == 0) {
    nodes = 1;
    if (topology && command.ranks > topology->ranksPerNode) {
      if (command.ranks % topology->ranksPerNode != 0) {
        return moert::error(Code::InvalidArgument, "ranks (", command.ranks, ") must be a multiple of the ",
                            topology->ranksPerNode, " GPUs of a node of ", topology->name, ", or say --nodes");
      }
      nodes = static_cast<int>(command.ranks) / topology->ranksPerNode;
    }
  }
  options.cluster = {static_cast<int>(command.ranks), static_cast<int>(command.slots), nodes};
  RoutingModel &routing = options.routing;
  routing = model ? model->routing : RoutingModel{1, 1, 1};
  if (command.topK != 0) {
    routing.expertsPerToken = static_cast<int>(command.topK);
  } else if (!model) {
    if (statistics.expertsPerToken == 0 && (nodes > 1 || command.tokensPerStep > 0)) {
      return moert::error(Code::InvalidArgument, "traffic and time need the experts per token, which the statistics do "
                                                 "not say; give --top-k or --model");
    }
    routing.expertsPerToken = std::max(1, statistics.expertsPerToken);
  }
  if (command.groups != 0) {
    routing.groups = static_cast<int>(command.groups);
    routing.topGroups = std::max(1, routing.groups / 2);
  }
  if (command.topGroups != 0) {
    routing.topGroups = static_cast<int>(command.topGroups);
  }
  if (routing.topGroups > routing.groups || routing.expertsPerToken > statistics.model.experts) {
    return moert::error(Code::InvalidArgument, "a token cannot choose ", routing.topGroups, " of ", routing.groups,
                        " groups and ", routing.expertsPerToken, " of ", statistics.model.experts, " experts");
  }
  options.wholeGroups = !command.bake.empty() && routing.groups > 1;
  options.localityWeight = command.locality;
  options.importance = command.weights;
  options.maxMoves = command.maxMoves;
  options.seed = static_cast<uint64_t>(command.seed);
  options.resamples = static_cast<int>(command.resamples);
  options.effort = command.effort;
  options.timeBudget = command.timeBudget;
  return Status();
}

/// Fails on numbers that are none: ranges of options let NaN through.
static Status checkNumbers(const PlaceCommand &command) {
  for (const auto &[name, value] :
       {std::pair("--max-moves", command.maxMoves), std::pair("--locality", command.locality),
        std::pair("--effort", command.effort), std::pair("--time-budget", command.timeBudget),
        std::pair("--tokens-per-step", command.tokensPerStep), std::pair("--replan-every", command.replanEvery),
        std::pair("--bandwidth", command.bandwidth), std::pair("--expert-bytes", command.expertBytes)}) {
    if (!std::isfinite(value)) {
      return moert::error(Code::InvalidArgument, name, " is ", value, ", but must be a finite number");
    }
  }
  if (command.maxMoves < 1 && command.previous.empty()) {
    return moert::error(Code::InvalidArgument, "--max-moves ", command.maxMoves,
                        " counts moves from a map in use, but there is none: name it with --previous");
  }
  return Status();
}

/// Fails on outputs that cannot be written, that are one another, or that something else would be lost for, before
/// anything is planned.
static llvm::Error checkOutputs(const PlaceCommand &command) {
  auto fail = [](const llvm::Twine &message) {
    return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
  };
  if (command.output == "-" && command.json) {
    return fail("-o - and --json would both write to standard output; name a file for -o");
  }
  llvm::SmallVector<std::pair<llvm::StringRef, std::string>> outputs;
  for (const auto &[option, name] : {std::pair<llvm::StringRef, std::string>("-o", command.output),
                                     {"--html", command.html},
                                     {"--bake", llvm::StringRef(command.bake).rtrim('/').str()}}) {
    if (name.empty() && option != "-o") {
      continue;
    }
    if (name.empty()) {
      return fail("-o is empty; name a file for the map");
    }
    for (const auto &[otherOption, other] : outputs) {
      if (other == name) {
        return fail(name + ": is the output of " + otherOption + " and of " + option + "; choose two names");
      }
    }
    outputs.push_back({option, name});
    llvm::StringRef parent = llvm::sys::path::parent_path(name);
    parent = parent.empty() ? "." : parent;
    // What lies in the checkpoint that is baked is written after it.
    const bool isBaked = !command.bake.empty() && parent == llvm::StringRef(command.bake).rtrim('/');
    if (name != "-" && !isBaked && !llvm::sys::fs::is_directory(parent)) {
      return fail(name + ": cannot be written: there is no directory " + parent);
    }
    if (option != "--bake" && llvm::sys::fs::is_directory(name)) {
      return fail(name + ": is a directory, but the output of " + option + " is one file; name a file");
    }
  }
  if (llvm::Error error =
          checkReplaced(command.output, [](llvm::StringRef begin) { return startsLikeMap(begin.str()); })) {
    return error;
  }
  return command.html.empty() ? llvm::Error::success() : checkReplaced(command.html, "<!DOCTYPE html>");
}

/// Fails when --bake cannot work out, before anything is planned.
static Status checkBake(const PlaceCommand &command) {
  if (command.bake.empty()) {
    return Status();
  }
  if (command.model.empty() || !command.previous.empty()) {
    return moert::error(Code::InvalidArgument, command.model.empty()
                                                   ? "--bake needs --model: the checkpoint whose experts are renumbered"
                                                   : "--bake and --previous exclude one another: a checkpoint is "
                                                     "renumbered from its own order");
  }
  std::error_code code;
  if (llvm::sys::fs::exists(command.bake) &&
      (!llvm::sys::fs::is_directory(command.bake) ||
       llvm::sys::fs::directory_iterator(command.bake, code) != llvm::sys::fs::directory_iterator())) {
    return moert::error(Code::InvalidArgument, command.bake,
                        ": exists and is not an empty directory; choose another name for --bake");
  }
  return Status();
}

/// How replicas should share the load of their expert, for engines of ours: the best split of the profiles' mean load.
static void addShares(Map &map, const Statistics &statistics, const PlanOptions &options) {
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    Loads mean(map.model.experts);
    for (size_t i = 0; i < statistics.profiles.size(); ++i) {
      const Loads &loads = statistics.profiles[i].layers[layer];
      const double sum = std::accumulate(loads.begin(), loads.end(), 0.0);
      const double weight = options.importance.empty() ? 1 : options.importance[i];
      for (size_t expert = 0; expert < loads.size(); ++expert) {
        mean[expert] += weight * loads[expert] / sum;
      }
    }
    map.shares.push_back(sharesOf(map.layers[layer], mean, options.cluster));
  }
}

ExitCode moec::runPlace(const PlaceCommand &command) {
  Progress progress(command, 3);
  for (Status (*check)(const PlaceCommand &) : {checkNumbers, checkBake}) {
    if (Status status = check(command); !status.ok()) {
      return ::fail(status);
    }
  }
  if (llvm::Error error = checkOutputs(command)) {
    return moec::fail(std::move(error));
  }
  progress.begin("read statistics");
  std::optional<ModelFacts> model;
  std::optional<Topology> topology;
  if (!command.model.empty()) {
    Result<ModelFacts> facts = readModelFacts(command.model);
    if (!facts.ok()) {
      return ::fail(facts.status());
    }
    model = *facts;
  }
  if (!command.topology.empty()) {
    Result<Topology> read = readTopology(command.topology);
    if (!read.ok()) {
      return ::fail(read.status());
    }
    topology = *read;
  }
  Result<Statistics> statistics = readAllStatistics(command.statistics, model ? model->layers : ModelHint());
  if (!statistics.ok()) {
    return ::fail(statistics.status());
  }
  PlanOptions options;
  if (Status status = completeOptions(command, model, topology, *statistics, options); !status.ok()) {
    return ::fail(status);
  }
  Result<MapFormat> format = parseMapFormat(command.format);
  if (!format.ok()) {
    return ::fail(format.status());
  }
  // SGLang takes a name that ends otherwise for the map itself, vllm-ascend refuses it.
  const bool needsName = *format == MapFormat::Sglang || *format == MapFormat::VllmAscend;
  if (needsName && command.output != "-" && !llvm::StringRef(command.output).ends_with(".json")) {
    return ::fail(moert::error(Code::InvalidArgument, command.output, ": ", command.format,
                               " loads a map only from a file whose name ends in .json; choose such a name for -o"));
  }
  std::optional<Map> previous;
  if (!command.previous.empty()) {
    Result<Map> read = readMap(command.previous, statistics->model, options.cluster.ranks);
    if (!read.ok()) {
      return ::fail(read.status());
    }
    previous = std::move(*read);
    options.previous = &*previous;
  }
  progress.begin("plan " + std::to_string(statistics->model.layerIds.size()) + " layers");
  if (!command.quiet && llvm::sys::Process::StandardErrIsDisplayed()) {
    options.progress = [](int done, int total) {
      llvm::errs() << llvm::formatv("\r[2/3] plan: layer {0} of {1} ... ", done, total);
    };
  }
  Result<Plan> plan = planPlacement(*statistics, options);
  if (!plan.ok()) {
    return ::fail(plan.status());
  }
  if (*format == MapFormat::Json) {
    addShares(plan->map, *statistics, options);
  }
  progress.begin("check and write " + command.output);
  const std::string text = writeMap(plan->map, *format);
  if (Status status = checkMapFile(plan->map, *format, text); !status.ok()) {
    return ::fail(status);
  }
  llvm::json::Object report = describePlan(command, {*statistics, options, *plan, model, topology});
  report["format"] = command.format;
  report["rules"] = llvm::json::Array(engineRules(*format));
  if (!command.bake.empty()) {
    if (Status status = checkBakeable(plan->map); !status.ok()) {
      return ::fail(status);
    }
    llvm::Expected<PackageWriter> directory = PackageWriter::create(command.bake);
    if (!directory) {
      return moec::fail(directory.takeError());
    }
    if (Status status = bakeCheckpoint(command.model, plan->map, directory->getDirectory().str()); !status.ok()) {
      return ::fail(status);
    }
    if (llvm::Error error = directory->commit()) {
      return moec::fail(std::move(error));
    }
  }
  if (!command.html.empty()) {
    if (llvm::Error error = writeOutput(command.html, renderPlan(report))) {
      return moec::fail(std::move(error));
    }
  }
  if (llvm::Error error = writeOutput(command.output, text)) {
    return moec::fail(std::move(error));
  }
  progress.end();
  if (command.json) {
    printJson(std::move(report));
  } else if (command.output != "-") {
    printPlan(report);
  }
  return kSuccess;
}
