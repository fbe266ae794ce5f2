//===- FuseTrial.cpp - A plan, carried out and measured ----------------------===//
//
// Every figure comes from a command that a user can run: moe-run repair, compare
// and bench on packages that moec compile wrote. Speeds are measured in turn, base
// and plans round by round, so that a machine that gets slower is slower for all.
//
//===----------------------------------------------------------------------===//

#include "passes/Json/JsonFile.h"
#include "runtime/format/Checksum.h"
#include "tools/moec/OutputFile.h"
#include "tools/moec/fuse/Fuse.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>
#include <limits>

using namespace moec;
using namespace mlir::moe;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;

/// What the plan file of `trial` says, before it is repaired.
Expected<json::Object> TrialRunner::describePlan(const Trial &trial) const {
  if (!trial.given.empty()) {
    Expected<json::Value> plan = readJsonFile(trial.given);
    if (!plan) {
      return plan.takeError();
    }
    json::Object object = std::move(*plan->getAsObject()); // As a plan it was read before.
    if (std::optional<StringRef> maps = object.getString("maps_file"); maps && trial.hasOwnMaps) {
      // A name that their contents give: what a folder that stays remembers is of these maps and no others.
      Expected<std::string> placed = placeMaps(besidePlan(trial.given, *maps), folder.file("given.json"));
      if (!placed) {
        return placed.takeError();
      }
      object["maps_file"] = *placed;
    }
    return object;
  }
  json::Array list;
  for (const WindowChoice &window : trial.windows) {
    list.push_back(
        json::Object{{"first", window.first}, {"length", window.length}, {"form", spell(window.form).str()}});
  }
  json::Object plan{
      {"format", "moe-fusion-plan"}, {"version", 1}, {"layers", result.layers.layers}, {"windows", std::move(list)}};
  const int64_t pad = result.format ? getFormatFacts(result.format->format).widthMultiple : 1;
  if (pad > 1 && trial.repair) {
    plan["pad_width_to"] = pad;
  }
  return plan;
}

std::string moec::describeForms(llvm::ArrayRef<WindowChoice> windows) {
  for (const WindowChoice &window : windows) {
    if (window.form != windows.front().form) {
      return "mixed";
    }
  }
  return windows.empty() ? "" : spell(windows.front().form).str();
}

std::string moec::describeWindows(llvm::ArrayRef<WindowChoice> windows) {
  std::string text;
  for (const WindowChoice &window : windows) {
    text += (text.empty() ? "" : ", ") + std::to_string(window.first) +
            (window.length > 1 ? "-" + std::to_string(window.last()) : "") + " " + spell(window.form).str();
  }
  return text.empty() ? "none" : text;
}

void moec::addRanks(std::vector<std::string> &arguments, int64_t ranks) {
  if (ranks > 1) {
    arguments.insert(arguments.end(),
                     {"--ranks", std::to_string(ranks), "--parallel", "tensor", "--attention", "auto"});
  }
}

std::vector<std::string> TrialRunner::compileArguments(StringRef package, int64_t ranks) const {
  const FuseCommand &command = *result.command;
  std::vector<std::string> arguments{"compile", command.directory, "-o", package.str(), "--target",
                                     // The variant that this machine would choose, and no other.
                                     command.target == "cpu" ? "cpu:host" : command.target, "--dtype",
                                     result.model->dtype};
  addRanks(arguments, ranks);
  return arguments;
}

Error TrialRunner::compileBase() { return commands.run("moec", compileArguments(folder.file("base"), 1)).takeError(); }

Error TrialRunner::writePlan(Trial &trial) {
  Expected<json::Object> plan = describePlan(trial);
  if (!plan) {
    return plan.takeError();
  }
  const std::string text = llvm::formatv("{0:2}\n", json::Value(std::move(*plan)));
  // Named by what it says, so that a search in a folder that stays finds what an earlier one did.
  const std::string digest = moert::format::toHex(moert::format::sha256(text.data(), text.size())).substr(0, 16);
  const std::string stem = (trial.repair ? "plan-" : "plain-") + digest;
  trial.package = folder.file(stem + ".package");
  trial.planFile = folder.file(stem + ".json");
  if (Error error = writeOutput(trial.planFile, text)) {
    return error;
  }
  // A window of one layer is what it was, but in form R, where maps make up for its attention.
  auto hasMaps = [](const WindowChoice &window) { return window.length > 1 || window.form == FusionForm::Removed; };
  if (!trial.repair || trial.hasOwnMaps || llvm::none_of(trial.windows, hasMaps)) {
    return Error::success();
  }
  if (!hasInstrumented) {
    std::vector<std::string> arguments{"compile",      result.command->directory,
                                       "-o",           folder.file("instrumented"),
                                       "--instrument", "calibration",
                                       "--target",     "cpu:host"};
    if (Error error = commands.run("moec", std::move(arguments)).takeError()) {
      return error;
    }
    hasInstrumented = true;
  }
  const std::string repaired = folder.file(stem + ".repaired.json");
  std::vector<std::string> arguments{"repair",
                                     folder.file("instrumented"),
                                     "--calibration",
                                     result.command->calibration,
                                     "--plan",
                                     trial.planFile,
                                     "-o",
                                     folder.file(stem + ".maps.safetensors"),
                                     "--plan-out",
                                     repaired};
  if (result.skipTokens > 0) { // The rest is the gate's.
    arguments.insert(arguments.end(), {"--judge-tokens", std::to_string(result.skipTokens)});
  }
  trial.planFile = repaired;
  return commands.run("moe-run", std::move(arguments)).takeError();
}

/// What the plan makes of the model, without running it: sizes, and whether every window was fused.
Error TrialRunner::measureShape(Trial &trial) {
  Model fused;
  mlir::ModuleOp base = result.model->module.get();
  fused.module = base.clone();
  if (Error error = applyPlan(fused, trial.planFile)) {
    return error;
  }
  trial.shape = moec::measureShape(*fused.module);
  int64_t expected = result.baseShape.subLayers - static_cast<int64_t>(trial.removeAttention.size());
  for (const WindowChoice &window : trial.windows) {
    expected -= subLayersSaved(window.form, window.length);
  }
  if (trial.removeAttention.empty() && trial.shape.subLayers != expected) {
    std::string why;
    for (const std::string &note : fused.notes) {
      why += StringRef(note).contains("not fused") ? "\n" + note : "";
    }
    return makeError("the plan " + trial.name + " has " + Twine(trial.shape.subLayers) + " sub-layers, but " +
                     Twine(expected) + " were expected" + why);
  }
  return Error::success();
}

/// A number that a command printed; not one if it printed none, so that no rule of the gate holds for it.
static double number(const json::Object &object, StringRef key) {
  return object.getNumber(key).value_or(std::numeric_limits<double>::quiet_NaN());
}

Error TrialRunner::compare(Trial &trial) {
  if (Error error = measureShape(trial)) {
    return error;
  }
  std::vector<std::string> arguments = compileArguments(trial.package, 1);
  arguments.insert(arguments.end(), {"--plan", trial.planFile});
  if (Error error = commands.run("moec", std::move(arguments)).takeError()) {
    return error;
  }
  const FuseCommand &command = *result.command;
  Expected<json::Object> found = commands.runJson(
      "moe-run", {"compare", folder.file("base"), trial.package, "--calibration", command.calibration, "--skip-tokens",
                  std::to_string(result.skipTokens), "--greedy", std::to_string(command.greedyTokens)});
  if (!found) {
    return found.takeError();
  }
  Difference difference;
  difference.tokens = found->getInteger("tokens").value_or(0);
  difference.sequences = found->getInteger("sequences").value_or(0);
  difference.kl = number(*found, "kl");
  difference.klBound = number(*found, "kl_bound");
  difference.sameWinner = number(*found, "same_winner");
  difference.lossBase = number(*found, "loss_base");
  difference.loss = number(*found, "loss_other");
  difference.worstDomain = found->getString("worst_domain").value_or("").str();
  difference.collapsed = found->getBoolean("collapsed").value_or(false);
  const json::Array *domains = found->getArray("domains");
  for (const json::Value &value : domains ? *domains : json::Array()) {
    if (const json::Object *domain = value.getAsObject()) {
      difference.domains.push_back({domain->getString("name").value_or("").str(), number(*domain, "kl"),
                                    number(*domain, "kl_bound"), number(*domain, "same_winner")});
    }
  }
  for (double value :
       {difference.kl, difference.klBound, difference.sameWinner, difference.lossBase, difference.loss}) {
    if (!std::isfinite(value)) {
      return makeError("moe-run compare of " + trial.package + " printed a figure that is no number");
    }
  }
  if (std::string problem = findTooLittleText(difference); !problem.empty()) {
    return makeError(command.calibration + ": " + problem);
  }
  trial.difference = std::move(difference);
  return Error::success();
}

/// The package whose speed is measured: compiled for the ranks asked for.
Expected<std::string> TrialRunner::packageForSpeed(StringRef package, StringRef plan) {
  const int64_t ranks = result.command->ranks;
  if (ranks == 1) {
    return package.str();
  }
  std::string parallel = (package + "-ranks-" + Twine(ranks)).str();
  std::vector<std::string> arguments = compileArguments(parallel, ranks);
  if (!plan.empty()) {
    arguments.insert(arguments.end(), {"--plan", plan.str()});
  }
  Expected<json::Object> compiled = commands.runJson("moec", std::move(arguments));
  if (!compiled) {
    return compiled.takeError();
  }
  if (const json::Array *notes = compiled->getArray("notes"); notes && plan.empty()) {
    for (const json::Value &note : *notes) {
      result.notes.push_back("the model as it is: " + note.getAsString().value_or("").str());
    }
  }
  return parallel;
}

Error TrialRunner::measureOnce(StringRef package, Speed &speed) {
  const FuseCommand &command = *result.command;
  std::vector<std::string> arguments{"bench",
                                     package.str(),
                                     "--repeat",
                                     "1",
                                     "--no-bandwidth",
                                     "--generate",
                                     std::to_string(command.benchTokens),
                                     "--prompt-length",
                                     std::to_string(command.promptLength)};
  if (command.threads > 0) {
    arguments.insert(arguments.end(), {"--threads", std::to_string(command.threads)});
  }
  if (command.ranks > 1) {
    arguments.insert(arguments.end(), {"--thread-ranks", std::to_string(command.ranks)});
  }
  Expected<json::Object> found = commands.runJson("moe-run", std::move(arguments));
  if (!found) {
    return found.takeError();
  }
  const json::Object *decode = found->getObject("decode_tokens_per_second");
  const json::Object *prefill = found->getObject("prefill_tokens_per_second");
  if (!decode || !prefill || !(number(*decode, "median") > 0)) {
    return makeError("moe-run bench of " + package + " printed no speed of decoding");
  }
  speed.decodeMs.push_back(1000 / number(*decode, "median"));
  speed.prefillTokensPerSecond.push_back(number(*prefill, "median"));
  return Error::success();
}

Error TrialRunner::measureSpeed(llvm::MutableArrayRef<Trial *> trials) {
  Expected<std::string> base = packageForSpeed(folder.file("base"), "");
  if (!base) {
    return base.takeError();
  }
  std::vector<std::string> packages;
  for (Trial *trial : trials) {
    Expected<std::string> package = packageForSpeed(trial->package, trial->planFile);
    if (!package) {
      return package.takeError();
    }
    packages.push_back(std::move(*package));
  }
  commands.stopReuse();
  std::vector<std::vector<double>> bases(trials.size());
  for (int64_t round = 0; round < result.command->rounds; ++round) {
    for (auto [index, trial] : llvm::enumerate(trials)) {
      // The base comes first in one round and last in the next, so that a machine that slows down favours neither.
      for (bool isBase : {round % 2 == 0, round % 2 != 0}) {
        if (Error error = isBase ? measureOnce(*base, result.baseSpeed) : measureOnce(packages[index], trial->speed)) {
          return error;
        }
      }
      bases[index].push_back(result.baseSpeed.decodeMs.back());
    }
  }
  for (auto [index, trial] : llvm::enumerate(trials)) {
    trial->gain = gainOf(bases[index], trial->speed.decodeMs);
  }
  return Error::success();
}
