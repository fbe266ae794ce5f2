//===- Compile.cpp - moec compile: a model to IR or a package ---------------===//

#include "lowering/HFToMoe/JsonFile.h"
#include "lowering/MoeToLinalg/MoeToLinalg.h"
#include "mlir/Pass/PassManager.h"
#include "tools/moec/Model.h"
#include "tools/moec/OutputFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"

using namespace moec;
using llvm::Expected;
using mlir::moe::makeError;

/// A directory is imported, a file is parsed as moe IR.
static Expected<Model> loadModel(mlir::MLIRContext &context, const CompileCommand &command) {
  if (!llvm::sys::fs::exists(command.input)) {
    return makeError(command.input + ": no such file or directory");
  }
  if (llvm::sys::fs::is_directory(command.input)) {
    Expected<mlir::moe::CheckpointDirectory> directory = mlir::moe::openCheckpointDirectory(command.input);
    if (!directory) {
      return directory.takeError();
    }
    return importDirectory(context, std::move(*directory), {command.dtype, command.allowUnusedTensors});
  }
  Expected<Model> model = parseModel(context, command.input);
  if (model && !command.dtype.empty() && command.dtype != model->dtype) {
    return makeError(command.input + ": is IR with activations in " +
                     (model->dtype.empty() ? "an unknown dtype" : model->dtype) + ", but --dtype is " + command.dtype +
                     "; the dtype is chosen by 'moec import --dtype'");
  }
  return model;
}

static ExitCode emitText(const CompileCommand &command, Progress &progress, mlir::ModuleOp module) {
  progress.begin("write " + command.output);
  if (llvm::Error error = writeOutput(command.output, printModule(module, /*locations=*/false))) {
    return fail(std::move(error));
  }
  progress.end();
  return kSuccess;
}

/// Runs a pipeline; diagnostics were printed when it fails.
static bool runPipeline(DiagnosticPrinter &diagnostics, llvm::StringRef stage, mlir::ModuleOp module,
                        llvm::function_ref<void(mlir::OpPassManager &)> build) {
  diagnostics.setStage(stage);
  mlir::PassManager manager(module.getContext());
  build(manager);
  return mlir::succeeded(manager.run(module)) && !diagnostics.hasErrors();
}

ExitCode moec::runCompile(const CompileCommand &command) {
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  DiagnosticPrinter diagnostics(context);
  Progress progress(command, command.emit == "moe" ? 2 : 3);
  progress.begin("read the model");
  Expected<Model> model = loadModel(context, command);
  if (!model) {
    return fail(model.takeError());
  }
  for (const std::string &note : model->notes) {
    printNote(command, note);
  }
  if (command.emit == "moe") {
    return emitText(command, progress, *model->module);
  }
  if (command.emit == "linalg") {
    progress.begin("lower to linalg");
    if (!runPipeline(diagnostics, "the lowering to linalg", *model->module, mlir::moe::buildLinalgPipeline)) {
      return kUserError;
    }
    return emitText(command, progress, *model->module);
  }
  printError("--emit " + command.emit + " is not built in");
  return kUserError;
}
