//===- Fuse.cpp - moec fuse: find, decide, fuse, repair, prove, export --------===//
//
// Windows were measured one by one (moe-run calibrate); the planner knows the best
// set of them for every budget, as far as their KL adds up. The search measures
// sets end to end, from the one predicted to fit, and moves along the front by how
// far each is off. What passes the gate in quality is timed beside the model; what
// gains too little is not exported, and the answer is "no change" with the reason.
//
//===----------------------------------------------------------------------===//

#include "passes/Analysis/FusionMaps.h"
#include "passes/Json/JsonFile.h"
#include "runtime/format/Checksum.h"
#include "runtime/readers/Fingerprint.h"
#include "tools/moec/OutputFile.h"
#include "tools/moec/fuse/FuseRun.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;
using namespace mlir::moe;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;

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
  // What is wrong with a plan to measure beside is known now, not after the search.
  for (const std::string &path : command.also) {
    Expected<FusionPlan> plan = readFusionPlan(path);
    if (!plan) {
      return plan.takeError();
    }
    if (Error error = checkFusionMaps(*plan, path, result.layers.hidden)) {
      return error;
    }
  }
  result.baseShape = measureShape(*model->module);
  Expected<FusionCalibration> calibration = readFusionCalibration(command.calibration);
  if (!calibration) {
    return calibration.takeError();
  }
  result.calibration = std::move(*calibration);
  if (result.calibration.heldOutTokens - result.calibration.judgedTokens >= kEnoughTokens) {
    result.skipTokens = result.calibration.judgedTokens;
  }
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
  auto file = llvm::MemoryBuffer::getFile(command.calibration, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!file) {
    return makeError(command.calibration + ": cannot be read: " + file.getError().message());
  }
  StringRef bytes = (*file)->getBuffer();
  commands.reuseResults(*fingerprint + ' ' + moert::format::toHex(moert::format::sha256(bytes.data(), bytes.size())) +
                        ' ' + model->dtype + ' ' + command.target);
  return Error::success();
}

Error FuseRun::readWindows() {
  progress.begin("plan");
  if (Error error = chooseFormat()) {
    return error;
  }
  return command.groups.empty() ? Error::success() : chooseGroups();
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

/// A plan may take the place of a plan, but of no other JSON file: config.json of a model is one.
static Error checkPlanReplaced(StringRef path) {
  if (Error error = checkReplaced(path, "{")) {
    return error;
  }
  uint64_t size = 0;
  if (!llvm::sys::fs::is_regular_file(path) || llvm::sys::fs::file_size(path, size) || size == 0) {
    return Error::success();
  }
  Expected<json::Value> value = readJsonFile(path);
  const json::Object *object = value ? value->getAsObject() : nullptr;
  if (object && object->getString("format") == "moe-fusion-plan") {
    return Error::success();
  }
  llvm::consumeError(value.takeError());
  return makeError(path + ": exists and is no fusion plan, so it is not overwritten; choose another name");
}

static Error checkOutput(const FuseCommand &command) {
  if (command.planOnly) {
    return checkPlanReplaced(command.output);
  }
  if (command.engine == "package") {
    return PackageWriter::create(command.output).takeError();
  }
  if (Error error = checkExportNames(command.directory, command.output)) {
    return error;
  }
  // That is for either kind of output; an engine loads one of them.
  const bool isFile = findEngine(command.engine)->formats.front().format == ExportFormat::Gguf;
  if (isFile && llvm::sys::fs::is_directory(command.output)) {
    return makeError(command.output + ": is a directory, but a GGUF model is one file; name a file");
  }
  if (!isFile && llvm::sys::fs::is_regular_file(command.output)) {
    return makeError(command.output + ": is a file, but a checkpoint for " + command.engine +
                     " is a directory; choose another name");
  }
  return Error::success();
}

ExitCode moec::runFuse(const FuseCommand &command) {
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  DiagnosticPrinter diagnostics(context);
  // What cannot be exported, and a name that is taken, are known at once, not after the search.
  if (Error error = checkOutput(command)) {
    return fail(std::move(error));
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
