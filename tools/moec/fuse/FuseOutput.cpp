//===- FuseOutput.cpp - What moec fuse leaves behind -------------------------===//
//
// A plan with its maps, what the wanted engine loads, and the report beside it.
//
//===----------------------------------------------------------------------===//

#include "passes/Json/JsonFile.h"
#include "runtime/format/Checksum.h"
#include "tools/moec/OutputFile.h"
#include "tools/moec/fuse/FuseRun.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;
using namespace mlir::moe;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;

/// Where the maps of the plan at `plan` are, if it names a file that --plan-only gave it; empty otherwise.
static std::string mapsOfPlan(StringRef plan) {
  Expected<json::Value> value = readJsonFile(plan);
  const json::Object *object = value ? value->getAsObject() : nullptr;
  std::string name = object ? object->getString("maps_file").value_or("").str() : "";
  if (!value) {
    llvm::consumeError(value.takeError()); // There is none yet, or it is no plan.
  }
  if (llvm::sys::path::filename(name) != name ||
      !StringRef(name).starts_with((llvm::sys::path::stem(plan) + ".maps-").str())) {
    return "";
  }
  return besidePlan(plan, name);
}

std::string moec::besidePlan(StringRef plan, StringRef file) {
  llvm::SmallString<256> path(llvm::sys::path::parent_path(plan));
  llvm::sys::path::append(path, file);
  return path.str().str();
}

Expected<std::string> moec::placeMaps(StringRef from, StringRef plan) {
  auto buffer = llvm::MemoryBuffer::getFile(from, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer) {
    return makeError(from + ": cannot be read: " + buffer.getError().message());
  }
  StringRef bytes = (*buffer)->getBuffer();
  const std::string digest = moert::format::toHex(moert::format::sha256(bytes.data(), bytes.size()));
  std::string name = (llvm::sys::path::stem(plan) + ".maps-" + digest.substr(0, 16) + ".safetensors").str();
  if (Error error = writeOutput(besidePlan(plan, name), bytes)) {
    return std::move(error);
  }
  return name;
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
    Expected<std::string> placed = placeMaps(besidePlan(trial.planFile, *maps), command.output);
    if (!placed) {
      return placed.takeError();
    }
    object["maps_file"] = *placed;
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
    std::vector<std::string> arguments{"export", command.directory, "--plan", chosen.planFile,
                                       "--for",  command.engine,    "-o",     command.output};
    // Engines compute in the type that weights are stored in: so that it is the one the plan was measured in.
    if (command.dtype == "f32") {
      arguments.insert(arguments.end(), {"--dtype", "f32"});
    }
    return commands.run("moec", std::move(arguments)).takeError();
  }
  std::vector<std::string> arguments{"compile",      command.directory, "--plan",       chosen.planFile, "-o",
                                     command.output, "--target",        command.target, "--dtype",       model->dtype};
  addRanks(arguments, command.ranks);
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
  return commands.run("moec", {"report", stem + ".json", "-o", stem + ".html"}).takeError();
}
