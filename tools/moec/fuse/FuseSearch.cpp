//===- FuseSearch.cpp - Which plans moec fuse tries --------------------------===//
//
// Which windows a plan may have and for which format, the front of sets that the
// planner predicts, the points of it that are measured, and what is measured
// beside them. Whether a plan passes is for FuseGate.cpp to say.
//
//===----------------------------------------------------------------------===//

#include "passes/Json/JsonFile.h"
#include "tools/moec/fuse/FuseRun.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include <unistd.h>

using namespace moec;
using namespace mlir::moe;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;

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
    if (result.layers.hasExperts && !getFormatFacts(format.format).allowsExperts) {
      refused = (Twine("a ") + spell(format.format) + " has no place for experts; --for package fuses them").str();
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

/// The measured windows in one form that this model can be given, whatever the engine loads, each at the price `klOf`.
std::vector<WindowChoice> FuseRun::windowsOf(FusionForm form,
                                             llvm::function_ref<double(const MeasuredWindow &)> klOf) const {
  FusionLimits limits;
  limits.forms = {form};
  limits.fuseLast = command.fuseLast;
  limits.hidden = result.layers.hidden;
  limits.ranks = command.ranks;
  const FusionGains gains{command.subLayerGain, command.attentionGain};
  std::vector<WindowChoice> allowed;
  for (const MeasuredWindow &measured : result.calibration.windows) {
    if (findLimit(limits, measured.first, measured.length, measured.form, result.layers.widths).empty() &&
        findObstacleOf(*model->module, measured.first, measured.length, measured.form).empty()) {
      allowed.push_back(
          {measured.first, measured.length, measured.form, klOf(measured), gains.of(measured.form, measured.length)});
    }
  }
  return allowed;
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
    const double disagreement = (1 - command.minTop1) / std::max(1 - difference.sameWinner, 1e-6);
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

/// Each form alone, from one window to as many as fit, with maps and without. A form that the engine does not load is
/// among them: they say what the forms are worth, not what can be had.
std::vector<Trial> FuseRun::formsAlone() const {
  std::vector<Trial> trials;
  for (FusionForm form : {FusionForm::Removed, FusionForm::Deferred, FusionForm::Pair}) {
    std::vector<WindowChoice> allowed =
        windowsOf(form, [](const MeasuredWindow &measured) { return measured.klRepaired; });
    std::vector<PlanPoint> points = findFusionFront(result.layers.layers, allowed);
    // The first point is the model as it is.
    const auto last = static_cast<int64_t>(points.size()) - 1;
    const int64_t count = std::min(command.perForm, last);
    for (int64_t i = 0; i < count; ++i) {
      const PlanPoint &point = points[static_cast<size_t>(count == 1 ? last : 1 + i * (last - 1) / (count - 1))];
      for (bool repair : {true, false}) {
        trials.push_back(makeTrial(spell(form) + Twine(" alone, ") + Twine(point.windows.size()) + " windows" +
                                       (repair ? "" : ", no maps"),
                                   point, allowed));
        trials.back().repair = repair;
      }
    }
  }
  return trials;
}

/// Why a plan of the user's cannot be carried out; empty if it can.
std::string FuseRun::findObstacle(const FusionPlan &plan) const {
  if (plan.layers != result.layers.layers) {
    return (Twine("it is for a model of ") + Twine(plan.layers) + " layers, this one has " +
            Twine(result.layers.layers))
        .str();
  }
  for (const FusionWindow &window : plan.windows) {
    std::string obstacle = findObstacleOf(*model->module, window.first, window.length, window.form);
    if (!obstacle.empty()) {
      return (Twine("layers ") + Twine(window.first) + " to " + Twine(window.first + window.length - 1) + " in form " +
              spell(window.form) + ": " + obstacle)
          .str();
    }
  }
  return "";
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
  const std::vector<WindowChoice> removed =
      windowsOf(FusionForm::Removed, [](const MeasuredWindow &measured) { return measured.kl; });
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
      trials.back().isRecipe = true;
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
      trials.back().isRecipe = true;
    }
  }
  llvm::move(formsAlone(), std::back_inserter(trials));
  for (const std::string &path : command.also) {
    Expected<FusionPlan> plan = readFusionPlan(path);
    if (!plan) {
      return plan.takeError();
    }
    if (std::string obstacle = findObstacle(*plan); !obstacle.empty()) {
      result.notes.push_back(path + ": not measured: " + obstacle);
      continue;
    }
    Trial trial;
    trial.name = llvm::sys::path::stem(path).str();
    trial.given = path;
    trial.removeAttention = plan->removeAttention;
    for (const FusionWindow &window : plan->windows) {
      trial.hasOwnMaps |= window.maps.any();
      trial.windows.push_back({window.first, window.length, window.form, 0, 0});
      const MeasuredWindow *measured = result.calibration.find(window.first, window.length, window.form);
      trial.klPredicted += measured ? measured->klRepaired : 0;
      trial.klPlain += measured ? measured->kl : 0;
    }
    trials.push_back(std::move(trial));
  }
  auto isTried = [&](const Trial &trial) {
    return !trial.hasOwnMaps && llvm::any_of(result.trials, [&](const Trial &other) {
      return other.repair == trial.repair && !other.hasOwnMaps &&
             describeWindows(other.windows) == describeWindows(trial.windows) &&
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
