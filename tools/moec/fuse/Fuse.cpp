//===- Fuse.cpp - moec fuse: find, decide, fuse, repair, prove, export --------===//
//
// Windows were measured one by one (moe-run calibrate); the planner knows the best
// set of them for every budget, as far as their KL adds up. The search measures
// sets end to end, from the one predicted to fit, and moves along the front by how
// far each is off. What passes the gate in quality is timed beside the model; what
// gains too little is not exported, and the answer is "no change" with the reason.
//
//===----------------------------------------------------------------------===//

#include "tools/moec/fuse/Fuse.h"
#include "lowering/HFToMoe/JsonFile.h"
#include "runtime/format/Checksum.h"
#include "runtime/readers/Fingerprint.h"
#include "tools/moec/OutputFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include <unistd.h>

using namespace moec;
using namespace mlir::moe;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;

/// A budget as it was typed.
static std::string spellBudget(double value) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%g", value);
  return text;
}

/// Where the maps of the plan at `plan` are, if it names a file that --plan-only gave it; empty otherwise.
static std::string mapsOfPlan(StringRef plan) {
  Expected<json::Value> value = readJsonFile(plan);
  const json::Object *object = value ? value->getAsObject() : nullptr;
  std::string name = object ? object->getString("maps_file").value_or("").str() : "";
  if (!value) {
    llvm::consumeError(value.takeError()); // There is none yet, or it is no plan.
  }
  if (!StringRef(name).starts_with((llvm::sys::path::stem(plan) + ".maps-").str())) {
    return "";
  }
  llvm::SmallString<256> path(llvm::sys::path::parent_path(plan));
  llvm::sys::path::append(path, name);
  return path.str().str();
}

/// Copies the maps `from` beside `plan`, under a name that their contents give, and returns the path.
static Expected<std::string> placeMaps(StringRef from, StringRef plan) {
  auto buffer = llvm::MemoryBuffer::getFile(from, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer) {
    return makeError(from + ": cannot be read: " + buffer.getError().message());
  }
  StringRef bytes = (*buffer)->getBuffer();
  const std::string digest = moert::format::toHex(moert::format::sha256(bytes.data(), bytes.size()));
  llvm::SmallString<256> path(llvm::sys::path::parent_path(plan));
  llvm::sys::path::append(path, llvm::sys::path::stem(plan) + ".maps-" + digest.substr(0, 16) + ".safetensors");
  if (Error error = writeOutput(path, bytes)) {
    return std::move(error);
  }
  return path.str().str();
}

namespace {

class FuseRun {
public:
  FuseRun(const FuseCommand &command, mlir::MLIRContext &context, const WorkFolder &folder)
      : command(command), context(context), commands(command, folder), runner(result, commands, folder),
        progress(command, command.planOnly ? 3 : 7) {
    result.command = &command;
  }

  Expected<FuseResult *> run();

private:
  Error readModel();
  Error readWindows();
  Error planFor(const EngineFormat &format);
  Error chooseFormat();
  Error chooseGroups();
  void judgeWindows(const FusionLimits &limits);
  Expected<FusionLimits> limitsOf(const EngineFormat &format);
  Trial makeTrial(const Twine &name, const PlanPoint &point, llvm::ArrayRef<WindowChoice> from) const;
  Error search();
  Error writePlanOnly();
  Error addComparisons();
  Error tryPlan(Trial trial);
  bool judgeQuality(Trial &trial) const;
  Error measureSpeed();
  void decide();
  void noteFronts();
  void noteText();
  Error exportChosen();
  Error writeReport();

  const FuseCommand &command;
  mlir::MLIRContext &context;
  CommandRunner commands;
  TrialRunner runner;
  Progress progress;
  FuseResult result;
  std::optional<Model> model;
  /// What a plan may have, and the front of it.
  std::vector<WindowChoice> choices;
  std::vector<PlanPoint> front;
};

} // namespace

Error FuseRun::readModel() {
  progress.begin("read the model");
  Expected<CheckpointDirectory> directory = openCheckpointDirectory(command.directory);
  if (!directory) {
    return directory.takeError();
  }
  Expected<Model> imported = importDirectory(context, std::move(*directory), {command.dtype, false});
  if (!imported) {
    return imported.takeError();
  }
  model.emplace(std::move(*imported));
  result.model = &*model;
  Expected<ModelLayers> layers = describeLayers(*model->module);
  if (!layers) {
    return makeError(command.directory + ": " + llvm::toString(layers.takeError()));
  }
  result.layers = std::move(*layers);
  result.baseShape = measureShape(*model->module);
  Expected<FusionCalibration> calibration = readFusionCalibration(command.calibration);
  if (!calibration) {
    return calibration.takeError();
  }
  result.calibration = std::move(*calibration);
  moert::Result<std::string> fingerprint = moert::readers::fingerprint(command.directory);
  if (!fingerprint.ok()) {
    return makeError(fingerprint.status().message());
  }
  if (result.calibration.layers != result.layers.layers || result.calibration.hidden != result.layers.hidden ||
      result.calibration.fingerprint != *fingerprint) {
    return makeError(command.calibration + ": was measured on another model: " + Twine(result.calibration.layers) +
                     " layers, H " + Twine(result.calibration.hidden) + ", fingerprint " +
                     StringRef(result.calibration.fingerprint).take_front(16) + "..., but " + command.directory +
                     " has " + Twine(result.layers.layers) + ", H " + Twine(result.layers.hidden) + ", " +
                     StringRef(*fingerprint).take_front(16) + "...; calibrate this one");
  }
  if (result.calibration.windows.empty()) {
    return makeError(command.calibration +
                     ": measured no windows, so nothing can be planned; 'moe-run calibrate --windows 4' does");
  }
  return Error::success();
}

Expected<FusionLimits> FuseRun::limitsOf(const EngineFormat &format) {
  const FormatFacts &facts = getFormatFacts(format.format);
  FusionLimits limits;
  for (FusionForm form : facts.forms) {
    if (command.form.empty() || spell(form) == command.form) {
      limits.forms.push_back(form);
    }
  }
  if (!command.groups.empty()) {
    auto groups = parseGroups(command.groups, result.layers.layers);
    if (!groups) {
      return groups.takeError();
    }
    limits.groups = std::move(*groups);
  }
  limits.fuseLast = command.fuseLast;
  limits.needsFirstAttention = facts.needsFirstAttention;
  limits.widthMultiple = facts.widthMultiple;
  limits.hidden = result.layers.hidden;
  limits.ranks = command.ranks;
  limits.elementBytes = result.layers.elementBytes;
  limits.maxTensorBytes = static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  return limits;
}

/// Says of every measured window whether a plan may have it, and why not.
void FuseRun::judgeWindows(const FusionLimits &limits) {
  result.windows.clear();
  choices.clear();
  const FusionGains gains{command.subLayerGain, command.attentionGain};
  for (const MeasuredWindow &measured : result.calibration.windows) {
    std::string reason = findLimit(limits, measured.first, measured.length, measured.form, result.layers.widths);
    if (reason.empty()) {
      reason = findObstacleOf(*model->module, measured.first, measured.length, measured.form);
    }
    if (reason.empty()) {
      choices.push_back({measured.first, measured.length, measured.form, measured.klRepaired,
                         gains.of(measured.form, measured.length)});
    }
    result.windows.push_back({measured, std::move(reason)});
  }
}

/// Of what the engine loads, the format for which the planner predicts most.
Error FuseRun::chooseFormat() {
  result.engine = findEngine(command.engine);
  double best = -1;
  std::string refused;
  for (const EngineFormat &format : result.engine->formats) {
    Expected<FusionLimits> limits = limitsOf(format);
    if (!limits) {
      return limits.takeError();
    }
    if (limits->forms.empty()) {
      continue;
    }
    if (result.layers.hasBiases && !getFormatFacts(format.format).allowsBiases) {
      refused = (Twine("a ") + spell(format.format) + " has no place for the model's biases").str();
      continue;
    }
    std::vector<FuseWindow> windows = std::move(result.windows);
    std::vector<WindowChoice> before = std::move(choices);
    judgeWindows(*limits);
    std::vector<PlanPoint> found = findFusionFront(result.layers.layers, choices);
    const double gain = pickWithin(found, command.maxKl).gain;
    if (gain > best) {
      best = gain;
      front = std::move(found);
      result.format = &format;
    } else {
      result.windows = std::move(windows);
      choices = std::move(before);
    }
  }
  if (result.format) {
    return Error::success();
  }
  return makeError("--for " + command.engine + ": " +
                   (refused.empty()
                        ? "loads forms " + result.engine->describeForms() + ", but --form is " + command.form
                        : refused));
}

/// The user's own windows, all of them, each in the form that costs least.
Error FuseRun::chooseGroups() {
  auto groups = parseGroups(command.groups, result.layers.layers);
  if (!groups) {
    return groups.takeError();
  }
  PlanPoint point;
  for (auto [first, last] : *groups) {
    std::optional<size_t> best;
    std::string why;
    for (auto [index, choice] : llvm::enumerate(choices)) {
      if (choice.first == first && choice.last() == last && (!best || choice.kl < choices[*best].kl)) {
        best = index;
      }
    }
    for (const FuseWindow &window : result.windows) {
      if (window.measured.first == first && window.measured.last() == last && !window.reason.empty()) {
        why += (Twine("; form ") + spell(window.measured.form) + ": " + window.reason).str();
      }
    }
    if (!best) {
      return makeError("--groups: layers " + Twine(first) + " to " + Twine(last) + " cannot be planned" +
                       (why.empty()
                            ? "; " + command.calibration + " did not measure that window (moe-run calibrate --windows)"
                            : why));
    }
    point.windows.push_back(*best);
    point.kl += std::max(choices[*best].kl, 0.0);
    point.gain += choices[*best].gain;
  }
  front.resize(1);
  front.push_back(std::move(point));
  return Error::success();
}

Error FuseRun::readWindows() {
  progress.begin("plan");
  if (Error error = chooseFormat()) {
    return error;
  }
  return command.groups.empty() ? Error::success() : chooseGroups();
}

Trial FuseRun::makeTrial(const Twine &name, const PlanPoint &point, llvm::ArrayRef<WindowChoice> from) const {
  Trial trial;
  trial.name = name.str();
  trial.klPredicted = point.kl;
  for (size_t index : point.windows) {
    const WindowChoice &window = from[index];
    trial.windows.push_back(window);
    if (const MeasuredWindow *measured = result.calibration.find(window.first, window.length, window.form)) {
      trial.klPlain += measured->kl;
    }
  }
  return trial;
}

bool FuseRun::judgeQuality(Trial &trial) const {
  const Difference &difference = *trial.difference;
  if (difference.klBound > command.maxKl) {
    trial.reason = llvm::formatv("KL {0:F4} nats per token, at most {1:F4}, is above --max-kl {2}", difference.kl,
                                 difference.klBound, spellBudget(command.maxKl));
  } else if (difference.sameWinner < kMinSameWinner) {
    trial.reason = llvm::formatv("the likeliest token stays the same for {0:F2} % of tokens, {1:F0} % are needed",
                                 difference.sameWinner * 100, kMinSameWinner * 100);
  } else if (difference.collapsed) {
    trial.reason = "its greedy text repeats itself where the model's does not";
  } else {
    trial.fits = true;
    trial.reason = "quality fits";
  }
  return trial.fits;
}

Error FuseRun::tryPlan(Trial trial) {
  if (Error error = runner.writePlan(trial)) {
    return error;
  }
  if (Error error = runner.compare(trial)) {
    return error;
  }
  judgeQuality(trial);
  result.trials.push_back(std::move(trial));
  return Error::success();
}

/// Finds the point of the front with most gain that passes the quality gate. What passes at one point is taken to pass
/// at all before it.
Error FuseRun::search() {
  size_t passing = 0, failing = front.size();
  auto indexWithin = [&](double budget) { return static_cast<size_t>(&pickWithin(front, budget) - front.data()); };
  size_t next = command.groups.empty() ? indexWithin(command.maxKl) : 1;
  if (next == 0) {
    result.reason =
        front.size() < 2
            ? "no window can be fused: see the reasons of the windows in the report"
            : llvm::formatv("no window keeps the model: the best one alone costs KL {0:F4}, --max-kl is {1}",
                            front[1].kl, spellBudget(command.maxKl))
                  .str();
    return Error::success();
  }
  for (int64_t attempt = 0; attempt < command.tries && passing + 1 < failing; ++attempt) {
    next = std::clamp(next, passing + 1, failing - 1);
    const PlanPoint &point = front[next];
    Trial made = makeTrial("plan " + Twine(attempt + 1), point, choices);
    made.isOurs = true;
    if (Error error = tryPlan(std::move(made))) {
      return error;
    }
    const Trial &trial = result.trials.back();
    // How much more, or less, may be spent. Disagreement grows as the root of KL.
    const Difference &difference = *trial.difference;
    const double disagreement = (1 - kMinSameWinner) / std::max(1 - difference.sameWinner, 1e-6);
    double scale =
        std::min(command.maxKl / std::max(difference.klBound, command.maxKl / 100), disagreement * disagreement);
    if (trial.fits) {
      passing = next;
    } else {
      failing = next;
      scale = std::min(scale, difference.collapsed ? 0.5 : 0.95);
    }
    next = indexWithin(point.kl * scale);
  }
  return Error::success();
}

/// `count` points of a front, spread over its gains, without the empty set.
static std::vector<const PlanPoint *> spread(llvm::ArrayRef<PlanPoint> front, int64_t count) {
  std::vector<const PlanPoint *> points;
  const auto last = static_cast<int64_t>(front.size()) - 1;
  for (int64_t i = 1; i <= std::min(count, last); ++i) {
    points.push_back(&front[static_cast<size_t>((i * last + std::min(count, last) - 1) / std::min(count, last))]);
  }
  return points;
}

/// Plans that are measured beside, so that the report can say what the search is worth: other points of the front, the
/// published recipe (form R, no repair) on its own best windows and on ours, and the user's.
Error FuseRun::addComparisons() {
  // Beyond a nat per token a model is of no use, and its place on a front of no interest.
  constexpr double kMaxKl = 1.0;
  auto within = [&](std::vector<PlanPoint> points) {
    llvm::erase_if(points, [](const PlanPoint &point) { return point.kl > kMaxKl; });
    return points;
  };
  const FusionGains gains{command.subLayerGain, command.attentionGain};
  FusionLimits recipe;
  recipe.forms = {FusionForm::Removed};
  recipe.fuseLast = command.fuseLast;
  recipe.hidden = result.layers.hidden;
  recipe.ranks = command.ranks;
  std::vector<WindowChoice> removed;
  for (const MeasuredWindow &measured : result.calibration.windows) {
    if (findLimit(recipe, measured.first, measured.length, measured.form, result.layers.widths).empty() &&
        findObstacleOf(*model->module, measured.first, measured.length, measured.form).empty()) {
      removed.push_back(
          {measured.first, measured.length, measured.form, measured.kl, gains.of(measured.form, measured.length)});
    }
  }
  std::vector<Trial> trials;
  if (command.fronts > 0 && command.groups.empty()) {
    std::vector<PlanPoint> ours = within(front);
    for (const PlanPoint *point : spread(ours, command.fronts)) {
      trials.push_back(makeTrial("front, " + Twine(point->windows.size()) + " windows", *point, choices));
      trials.back().isOurs = true;
    }
    std::vector<PlanPoint> published = within(findFusionFront(result.layers.layers, removed));
    for (const PlanPoint *point : spread(published, command.fronts)) {
      trials.push_back(makeTrial("recipe, " + Twine(point->windows.size()) + " windows", *point, removed));
      trials.back().repair = false;
    }
  }
  auto fitting = llvm::find_if(llvm::reverse(result.trials), [](const Trial &trial) { return trial.fits; });
  if (fitting != result.trials.rend() && command.fronts > 0) {
    PlanPoint same;
    for (const WindowChoice &window : fitting->windows) {
      for (auto [index, other] : llvm::enumerate(removed)) {
        if (other.first == window.first && other.length == window.length) {
          same.windows.push_back(index);
          same.kl += other.kl;
        }
      }
    }
    if (!same.windows.empty()) {
      trials.push_back(makeTrial("recipe on the same", same, removed));
      trials.back().repair = false;
    }
  }
  for (const std::string &path : command.also) {
    Expected<FusionPlan> plan = readFusionPlan(path);
    if (!plan) {
      return plan.takeError();
    }
    Trial trial;
    trial.name = llvm::sys::path::stem(path).str();
    trial.removeAttention = plan->removeAttention;
    for (const FusionWindow &window : plan->windows) {
      trial.windows.push_back({window.first, window.length, window.form, 0, 0});
      const MeasuredWindow *measured = result.calibration.find(window.first, window.length, window.form);
      trial.klPredicted += measured ? measured->klRepaired : 0;
      trial.klPlain += measured ? measured->kl : 0;
    }
    trials.push_back(std::move(trial));
  }
  auto isTried = [&](const Trial &trial) {
    return llvm::any_of(result.trials, [&](const Trial &other) {
      return other.repair == trial.repair && describeWindows(other.windows) == describeWindows(trial.windows) &&
             other.removeAttention == trial.removeAttention;
    });
  };
  for (Trial &trial : trials) {
    if (isTried(trial)) {
      continue;
    }
    if (Error error = tryPlan(std::move(trial))) {
      return error;
    }
  }
  return Error::success();
}

/// Where the published recipe stands at equal speed: the plan of ours that is at least as fast and differs least.
void FuseRun::noteFronts() {
  int64_t ahead = 0, all = 0;
  std::string behind;
  for (const Trial &recipe : result.trials) {
    if (recipe.repair || !recipe.gain) {
      continue;
    }
    const Trial *best = nullptr;
    for (const Trial &trial : result.trials) {
      const bool isAsFast = trial.repair && trial.gain && *trial.gain >= *recipe.gain - 0.01;
      if (isAsFast && (!best || trial.difference->kl < best->difference->kl)) {
        best = &trial;
      }
    }
    ++all;
    if (best && best->difference->kl < recipe.difference->kl) {
      ++ahead;
    } else {
      behind += (behind.empty() ? "" : "; ") + recipe.name + " (" + describeWindows(recipe.windows) + ")";
    }
  }
  if (all != 0) {
    result.notes.push_back(llvm::formatv(
        "at equal speed (within 1 %) plans of ours differ less from the model than the published recipe at "
        "{0} of {1} points{2}{3}",
        ahead, all, behind.empty() ? "" : ", not at: ", behind));
  }
}

Error FuseRun::measureSpeed() {
  llvm::SmallVector<Trial *> trials;
  for (Trial &trial : result.trials) {
    trials.push_back(&trial);
  }
  if (trials.empty()) {
    return Error::success();
  }
  if (Error error = runner.measureSpeed(trials)) {
    return error;
  }
  noteFronts();
  decide();
  return Error::success();
}

/// Of the plans that pass the gate in quality, the fastest, if it gains enough.
void FuseRun::decide() {
  std::optional<size_t> best;
  const Trial *closest = nullptr;
  for (auto [index, trial] : llvm::enumerate(result.trials)) {
    if (trial.isOurs && trial.fits && (!best || *trial.gain > *result.trials[*best].gain)) {
      best = index;
    }
    if (trial.isOurs && (!closest || trial.difference->klBound < closest->difference->klBound)) {
      closest = &trial;
    }
  }
  if (!best) {
    // Without any trial the search has said why.
    if (closest) {
      result.reason = closest->reason + " (plan " + describeWindows(closest->windows) + ")";
    }
    return;
  }
  Trial &chosen = result.trials[*best];
  const std::string quality =
      llvm::formatv("KL {0:F4}, at most {1:F4}", chosen.difference->kl, chosen.difference->klBound);
  const std::string measured =
      llvm::formatv("decoding is {0:F1} % faster on {1} {2}{3}", *chosen.gain * 100, command.ranks,
                    command.ranks == 1 ? "rank" : "ranks",
                    chosen.gainBound ? llvm::formatv(", at least {0:F1} %", *chosen.gainBound * 100).str() : "");
  if (command.minGain == 0) {
    result.reason = quality + "; a gain is not asked for: " + measured;
    result.chosen = best;
    chosen.kept = true;
  } else if (*chosen.gain < command.minGain) {
    result.reason = llvm::formatv("quality fits ({0}), no gain: {1}, {2:F1} % are asked for (--min-gain)", quality,
                                  measured, command.minGain * 100);
  } else if (!chosen.gainBound || *chosen.gainBound <= 0) {
    result.reason = llvm::formatv("quality fits ({0}), but {1} rounds do not prove a gain: {2}; more --rounds or a "
                                  "quieter machine may",
                                  quality, command.rounds, measured);
  } else {
    result.reason = quality + "; " + measured;
    result.chosen = best;
    chosen.kept = true;
  }
  chosen.reason = result.reason;
}

/// On what the verdict rests, and what it does not cover.
void FuseRun::noteText() {
  for (const Trial &trial : result.trials) {
    const Difference &difference = *trial.difference;
    const auto domains = static_cast<int64_t>(difference.domains.size());
    if (difference.tokens < kEnoughTokens || domains < kEnoughDomains) {
      result.notes.push_back(llvm::formatv("the verdict rests on {0} held-out tokens in {1} {2}; {3} in {4} are "
                                           "advised",
                                           difference.tokens, domains, domains == 1 ? "domain" : "domains",
                                           kEnoughTokens, kEnoughDomains));
    }
    break;
  }
  result.notes.push_back("windows were chosen on the held-out text that the verdict rests on too");
  if (result.chosen) {
    result.notes.push_back("LoRA adapters and draft heads of the model do not fit the fused one");
    if (!result.format->how.empty()) {
      result.notes.push_back((Twine(result.engine->product) + " " + result.format->minimumVersion +
                              " or later loads it: " + result.format->how)
                                 .str());
    }
  }
}

/// Puts the plan, and the maps under a name that their contents give, into place. A kill between the two leaves the old
/// plan with its own maps.
Error FuseRun::writePlanOnly() {
  const PlanPoint &point = command.groups.empty() ? pickWithin(front, command.maxKl) : front.back();
  progress.begin("fit maps");
  Trial trial = makeTrial("plan", point, choices);
  if (Error error = runner.writePlan(trial)) {
    return error;
  }
  Expected<json::Value> plan = readJsonFile(trial.planFile);
  if (!plan) {
    return plan.takeError();
  }
  json::Object &object = *plan->getAsObject();
  std::optional<StringRef> maps = object.getString("maps_file");
  const std::string oldMaps = mapsOfPlan(command.output);
  if (maps) {
    llvm::SmallString<256> from(llvm::sys::path::parent_path(trial.planFile));
    llvm::sys::path::append(from, *maps);
    Expected<std::string> placed = placeMaps(from, command.output);
    if (!placed) {
      return placed.takeError();
    }
    object["maps_file"] = llvm::sys::path::filename(*placed).str();
  }
  if (Error error = writeOutput(command.output, llvm::formatv("{0:2}\n", *plan).str())) {
    return error;
  }
  if (!oldMaps.empty() && oldMaps != mapsOfPlan(command.output)) {
    llvm::sys::fs::remove(oldMaps);
  }
  progress.end();
  result.reason = point.windows.empty()
                      ? llvm::formatv("no window keeps KL within {0}", spellBudget(command.maxKl)).str()
                      : llvm::formatv("{0}: KL {1:F4} predicted", describeWindows(trial.windows), point.kl).str();
  return Error::success();
}

Error FuseRun::exportChosen() {
  progress.begin("export");
  if (!result.chosen) {
    return Error::success();
  }
  const Trial &chosen = result.trials[*result.chosen];
  if (result.format->format != ExportFormat::Package) {
    return commands
        .run("moec", {"export", command.directory, "--plan", chosen.planFile, "--for", command.engine, "-o",
                      command.output, "--quiet"})
        .takeError();
  }
  std::vector<std::string> arguments{"compile",      command.directory, "--plan",    chosen.planFile,
                                     "-o",           command.output,    "--quiet",   "--target",
                                     command.target, "--dtype",         model->dtype};
  if (command.ranks > 1) {
    arguments.insert(arguments.end(), {"--ranks", std::to_string(command.ranks), "--parallel", "tensor"});
  }
  return commands.run("moec", std::move(arguments)).takeError();
}

Error FuseRun::writeReport() {
  json::Value plan = nullptr;
  if (result.chosen) {
    Expected<json::Value> chosen = readJsonFile(result.trials[*result.chosen].planFile);
    if (!chosen) {
      return chosen.takeError();
    }
    plan = std::move(*chosen);
  }
  const std::string stem = result.chosen && llvm::sys::fs::is_directory(command.output)
                               ? command.output + "/moe-opt-report"
                               : StringRef(command.output).rtrim('/').str() + ".report";
  json::Object report = describeResult(result, std::move(plan));
  if (command.json) {
    printJson(json::Object(report));
  } else {
    llvm::outs() << spellResult(result);
  }
  if (Error error = writeOutput(stem + ".json", llvm::formatv("{0:2}\n", json::Value(std::move(report))).str())) {
    return error;
  }
  return commands.run("moec", {"report", stem + ".json", "-o", stem + ".html", "--quiet"}).takeError();
}

Expected<FuseResult *> FuseRun::run() {
  if (Error error = readModel()) {
    return std::move(error);
  }
  if (Error error = readWindows()) {
    return std::move(error);
  }
  if (command.planOnly) {
    if (Error error = writePlanOnly()) {
      return std::move(error);
    }
    return &result;
  }
  if (command.ranks > 1 &&
      (!commands.knows("moec", "compile", "--ranks") || !commands.knows("moe-run", "bench", "--thread-ranks"))) {
    return makeError("--ranks " + Twine(command.ranks) +
                     ": this build compiles and runs one rank only, so the gain cannot be measured; leave --ranks out");
  }
  progress.begin("compile the model as it is");
  if (Error error = runner.compileBase()) {
    return std::move(error);
  }
  progress.begin("search, measuring each plan");
  if (Error error = search()) {
    return std::move(error);
  }
  progress.begin("measure plans to compare with");
  if (Error error = addComparisons()) {
    return std::move(error);
  }
  progress.begin("measure speed, " + std::to_string(command.rounds) + " rounds of " +
                 std::to_string(result.trials.size() + 1) + " packages");
  if (Error error = measureSpeed()) {
    return std::move(error);
  }
  noteText();
  if (Error error = exportChosen()) {
    return std::move(error);
  }
  progress.end();
  for (const std::string &note : result.notes) {
    printNote(command, note);
  }
  if (Error error = writeReport()) {
    return std::move(error);
  }
  return &result;
}

ExitCode moec::runFuse(const FuseCommand &command) {
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  DiagnosticPrinter diagnostics(context);
  // A name that is taken is known at once, not after the search.
  if (!command.planOnly && command.engine == "package") {
    if (Expected<PackageWriter> package = PackageWriter::create(command.output); !package) {
      return fail(package.takeError());
    }
  }
  Expected<WorkFolder> folder = WorkFolder::create(command.output, command.work);
  if (!folder) {
    return fail(folder.takeError());
  }
  FuseRun run(command, context, *folder);
  Expected<FuseResult *> result = run.run();
  if (!result) {
    return fail(result.takeError());
  }
  if (command.planOnly) {
    if (command.json) {
      printJson(json::Object{{"output", command.output}, {"reason", (*result)->reason}});
    } else {
      llvm::outs() << command.output << ": " << (*result)->reason << '\n';
    }
  }
  return kSuccess;
}
