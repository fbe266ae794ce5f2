//===- Import.cpp - moec import: a Hugging Face directory to moe IR ---------===//

#include "tools/moec/Model.h"
#include "tools/moec/OutputFile.h"

using namespace moec;

ExitCode moec::runImport(const ImportCommand &command) {
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  DiagnosticPrinter diagnostics(context);
  Progress progress(command, 3);
  progress.begin("read config and tensor headers");
  llvm::Expected<mlir::moe::CheckpointDirectory> directory = mlir::moe::openCheckpointDirectory(command.directory);
  if (!directory) {
    return fail(directory.takeError());
  }
  progress.begin("build moe IR");
  ModelOptions options{command.dtype, command.allowUnusedTensors};
  llvm::Expected<Model> model = importDirectory(context, std::move(*directory), options);
  if (!model) {
    return fail(model.takeError());
  }
  if (command.expectParameters >= 0 && model->parameters != command.expectParameters) {
    printError(command.directory + ": the model has " + llvm::Twine(model->parameters) + " parameters, but " +
               llvm::Twine(command.expectParameters) + " are expected (--expect-parameters)");
    return kUserError;
  }
  progress.begin("write " + command.output);
  if (llvm::Error error = writeOutput(command.output, printModule(*model->module, command.locations))) {
    return fail(std::move(error));
  }
  progress.end();
  for (const std::string &note : model->notes) {
    printNote(command, note);
  }
  if (command.output == "-") {
    return kSuccess;
  }
  if (command.json) {
    llvm::json::Object result = describeModel(*model);
    result["output"] = command.output;
    printJson(std::move(result));
  } else {
    llvm::outs() << command.output << ": " << summarize(*model) << '\n';
  }
  return kSuccess;
}
