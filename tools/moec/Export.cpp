//===- Export.cpp - moec export: a model to a checkpoint for an engine ------===//

#include "lowering/MoeToHF/ExportModel.h"
#include "passes/Json/JsonFile.h"
#include "tools/moec/ComputedWeights.h"
#include "llvm/Support/FileSystem.h"

using namespace moec;
using llvm::Error;
using llvm::Expected;
using mlir::moe::ExportFacts;
using mlir::moe::makeError;
using mlir::moe::ModelExport;

static Expected<Model> loadModel(mlir::MLIRContext &context, const ExportCommand &command) {
  Expected<mlir::moe::CheckpointDirectory> directory = mlir::moe::openCheckpointDirectory(command.directory);
  if (!directory) {
    return directory.takeError();
  }
  // Activations are computed by whoever loads the result.
  return importDirectory(context, std::move(*directory), {"f32", command.allowUnusedTensors});
}

static Expected<PackageWriter> createDirectory(llvm::StringRef output) {
  return PackageWriter::create(output, "checkpoint that moec exported", mlir::moe::kExportMarker);
}

/// Writes `model` at the output, whole or not at all.
static Error writeExport(const ExportCommand &command, Progress &progress, Model &model, ModelExport &planned) {
  const std::string output = llvm::StringRef(command.output).rtrim('/').str();
  std::optional<PackageWriter> directory;
  if (planned.isOneFile()) {
    if (llvm::sys::fs::is_directory(output)) {
      return makeError(output + ": is a directory, but a GGUF model is one file; name a file");
    }
    removeLeftovers(output);
  } else {
    Expected<PackageWriter> created = createDirectory(output);
    if (!created) {
      return created.takeError();
    }
    directory.emplace(std::move(*created));
  }
  progress.begin("compile what is computed (" + std::to_string(planned.getFacts().computedTensors) + " of " +
                 std::to_string(planned.getFacts().tensors) + " tensors)");
  Expected<std::unique_ptr<ComputedWeights>> weights =
      ComputedWeights::create(model, planned.getComputedWeights(), output);
  if (!weights) {
    return weights.takeError();
  }
  progress.begin("write " + output);
  const std::string path = directory ? directory->getDirectory().str() : output;
  auto update = [&](size_t done, size_t total) { progress.update(done, total); };
  if (Error error = planned.write(path, **weights, update)) {
    return error;
  }
  return directory ? directory->commit() : Error::success();
}

static llvm::json::Object describeExport(const ExportCommand &command, const ExportFacts &facts) {
  return llvm::json::Object{{"output", command.output},
                            {"engine", command.engine},
                            {"format", mlir::moe::spell(facts.format)},
                            {"minimum_version", facts.minimumVersion},
                            {"tried_version", facts.triedVersion},
                            {"how", facts.how},
                            {"layers", facts.layers},
                            {"parameters", facts.parameters},
                            {"tensors", facts.tensors},
                            {"computed_tensors", facts.computedTensors},
                            {"bytes", facts.bytes},
                            {"files", llvm::json::Array(facts.files)},
                            {"notes", llvm::json::Array(facts.notes)}};
}

Error moec::checkExportNames(llvm::StringRef model, llvm::StringRef output) {
  if (llvm::sys::fs::is_regular_file(model)) {
    return makeError(model + ": is a file, but an export takes config.json and the tokenizer from the directory of its "
                             "model; give that, or compile a package");
  }
  return llvm::sys::fs::is_directory(output) ? createDirectory(output).takeError() : checkReplaced(output, "GGUF");
}

ExitCode moec::runExport(const ExportCommand &command) {
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  DiagnosticPrinter diagnostics(context);
  if (Error error = checkExportNames(command.directory, command.output)) {
    return fail(std::move(error));
  }
  Progress progress(command, 3);
  progress.begin("read the model");
  Expected<Model> model = loadModel(context, command);
  if (!model) {
    return fail(model.takeError());
  }
  diagnostics.setStage("the plan");
  for (const std::string &plan : command.plans) {
    if (Error error = applyPlan(*model, plan)) {
      return fail(std::move(error));
    }
  }
  diagnostics.setStage("the export");
  mlir::moe::ExportOptions options;
  options.engine = mlir::moe::findEngine(command.engine);
  options.shardBytes = command.shardBytes;
  options.preTokenizer = command.preTokenizer;
  options.storeInF32 = command.dtype == "f32";
  Expected<ModelExport> planned = ModelExport::plan(*model->module, command.directory, options);
  if (!planned) {
    return fail(planned.takeError());
  }
  for (const std::string &note : model->notes) {
    printNote(command, note);
  }
  if (Error error = writeExport(command, progress, *model, *planned)) {
    return fail(std::move(error));
  }
  progress.end();
  const ExportFacts &facts = planned->getFacts();
  for (const std::string &note : facts.notes) {
    printNote(command, note);
  }
  if (command.json) {
    llvm::json::Object result = describeExport(command, facts);
    result["notes"] = llvm::json::Array(model->notes);
    for (const std::string &note : facts.notes) {
      result.getArray("notes")->push_back(note);
    }
    printJson(std::move(result));
    return kSuccess;
  }
  llvm::outs() << command.output << ": " << mlir::moe::spell(facts.format) << ", " << facts.layers << " layers, "
               << withCommas(facts.parameters) << " parameters, for " << options.engine->product << " "
               << facts.minimumVersion << " or later"
               << (facts.triedVersion.empty() ? " (not tried here)" : " (tried with " + facts.triedVersion + ")")
               << (facts.how.empty() ? "" : "; load it with " + facts.how) << '\n';
  return kSuccess;
}
