//===- Compile.cpp - moec compile: a model to IR or a package ---------------===//

#include "dialects/Moe/IR/MoeRanks.h"
#include "lowering/MoeToLinalg/MoeToLinalg.h"
#include "lowering/MoeToSched/MoeToSched.h"
#include "lowering/SchedToProgram/SchedToProgram.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Analysis/PlacementFile.h"
#include "passes/Json/JsonFile.h"
#include "passes/Passes.h"
#include "tools/moec/Assemble.h"
#include "tools/moec/ComputedWeights.h"
#include "tools/moec/Model.h"
#include "tools/moec/OutputFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace moec;
using llvm::Expected;
using mlir::moe::makeError;

/// A directory or a GGUF file is imported, another file is parsed as moe IR.
static Expected<Model> loadModel(mlir::MLIRContext &context, const CompileCommand &command) {
  if (!llvm::sys::fs::exists(command.input)) {
    return makeError(command.input + ": no such file or directory");
  }
  if (llvm::sys::fs::is_directory(command.input) || moert::readers::isGguf(command.input)) {
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

/// The CPU kinds, or the GPU kind, that --target names.
static Expected<mlir::moe::SchedOptions> readTarget(const CompileCommand &command) {
  mlir::moe::SchedOptions options;
  options.maxTokens = command.maxTokens;
  options.streams = command.streams;
  options.recordRouting = command.instruments("routing");
  llvm::StringRef target = command.target;
  if (target == "cpu") {
    for (const mlir::moe::cpu::CpuTarget &known : mlir::moe::cpu::allTargets()) {
      options.targets.push_back(&known);
    }
    return options;
  }
  options.gpu = mlir::moe::gpu::findTarget(target);
  if (options.gpu) {
    return options;
  }
  const mlir::moe::cpu::CpuTarget *chosen = nullptr;
  if (target.consume_front("cpu:") && !target.empty()) {
    chosen = mlir::moe::cpu::findTarget(target);
  }
  if (!chosen) {
    std::string names;
    for (const mlir::moe::cpu::CpuTarget &known : mlir::moe::cpu::allTargets()) {
      names += ", cpu:" + known.name.str();
    }
    for (const mlir::moe::gpu::GpuTarget &known : mlir::moe::gpu::allTargets()) {
      names += ", " + known.name.str();
    }
    return makeError("--target: '" + command.target + "' is not supported; supported: cpu (every variant), cpu:host" +
                     names);
  }
  options.targets.push_back(chosen);
  return options;
}

/// Where the weights of the model are: the directory that was imported, --weights, what the IR records, or the folder
/// of the IR, in this order.
static Expected<std::string> openModelWeights(const CompileCommand &command, Model &model) {
  llvm::SmallString<256> path(model.directory);
  if (!model.checkpoint) {
    if (!command.weights.empty()) {
      path = command.weights;
    } else if (path.empty()) {
      llvm::StringRef folder = llvm::sys::path::parent_path(command.input);
      path = folder.empty() ? "." : folder;
    }
    Expected<moert::readers::Checkpoint> checkpoint = mlir::moe::openWeights(path, &model.tokenizer);
    if (!checkpoint) {
      return makeError(llvm::toString(checkpoint.takeError()) + " (the weights of " + command.input +
                       "; --weights DIR names another place)");
    }
    model.checkpoint = std::move(*checkpoint);
  }
  if (std::error_code error = llvm::sys::fs::make_absolute(path)) {
    return makeError(path + ": " + error.message());
  }
  llvm::sys::path::remove_dots(path, /*remove_dot_dot=*/false);
  return path.str().str();
}

/// The files that moe-run looks for beside the program: those of --tokenizer, of the directory `folder`, or made from a
/// GGUF file.
static llvm::Error addModelFiles(const CompileCommand &command, PackageWriter &package, const Model &model,
                                 llvm::StringRef folder) {
  if (model.tokenizer && command.tokenizer.empty()) {
    if (!model.tokenizer->tokenizer.empty()) {
      if (llvm::Error error = package.write("tokenizer.json", model.tokenizer->tokenizer)) {
        return error;
      }
    }
    return package.write("generation_config.json", model.tokenizer->generation);
  }
  if (!command.tokenizer.empty() && !llvm::sys::fs::exists(command.tokenizer + "/tokenizer.json")) {
    return makeError(command.tokenizer + ": has no tokenizer.json (--tokenizer)");
  }
  if (!command.tokenizer.empty()) {
    folder = command.tokenizer;
  }
  for (llvm::StringRef name : {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}) {
    if (llvm::Error error = package.copy(name, folder)) {
      return error;
    }
  }
  return llvm::Error::success();
}

/// The contract of the sched level. What breaks it is a mistake of ours, not of the user.
static bool verifySched(DiagnosticPrinter &diagnostics, mlir::ModuleOp module) {
  return runPipeline(diagnostics, "the check of the schedule", module,
                     [](mlir::OpPassManager &manager) { manager.addPass(mlir::moe::createVerifySched()); });
}

static ExitCode emitSched(const CompileCommand &command, Progress &progress, DiagnosticPrinter &diagnostics,
                          Model &model, const mlir::moe::SchedOptions &options) {
  progress.begin("lower to sched");
  diagnostics.setStage("the lowering to kernels");
  mlir::FailureOr<mlir::moe::LoweredProgram> lowered =
      mlir::moe::lowerMoeToSched(*model.module, options, /*compileKernels=*/false);
  if (mlir::failed(lowered)) {
    return kUserError;
  }
  if (!verifySched(diagnostics, *lowered->module)) {
    return kInternalError;
  }
  return emitText(command, progress, *lowered->module);
}

/// The ptxas that is to assemble the kernels; empty for none, and for other targets than GPUs.
static Expected<std::string> chooseAssembler(const CompileCommand &command) {
  if (mlir::moe::gpu::findTarget(command.target) && command.emit == "package") {
    return findAssembler(command.ptxas);
  }
  if (!command.ptxas.empty()) {
    return makeError(
        "--ptxas assembles the kernels of a package for GPUs: it needs --target cuda:sm_80 or cuda:sm_90a, "
        "and --emit package");
  }
  return "";
}

/// Writes machine code beside the PTX of every target.
static llvm::Error addMachineCode(llvm::StringRef ptxas, llvm::ArrayRef<mlir::moe::CompiledKernels> kernels,
                                  PackageWriter &package, std::vector<std::string> &notes) {
  for (const mlir::moe::CompiledKernels &target : kernels) {
    Expected<MachineCode> code = assemble(ptxas, llvm::StringRef(target.target).split(':').second, target.bytes);
    if (!code) {
      return code.takeError();
    }
    llvm::append_range(notes, code->notes);
    if (llvm::Error error = package.write(getMachineCodeName(mlir::sched::getBlobName(target.target)), code->bytes)) {
      return error;
    }
  }
  return llvm::Error::success();
}

static ExitCode emitPackage(const CompileCommand &command, Progress &progress, DiagnosticPrinter &diagnostics,
                            Model &model, const mlir::moe::SchedOptions &options, llvm::StringRef ptxas) {
  Expected<std::string> weights = openModelWeights(command, model);
  if (!weights) {
    return fail(weights.takeError());
  }
  Expected<std::vector<moert::readers::Checkpoint>> weightFiles = openWeightFiles(model);
  if (!weightFiles) {
    return fail(weightFiles.takeError());
  }
  // Before the long stages, so that a name that is taken is known at once.
  Expected<PackageWriter> package = PackageWriter::create(command.output);
  if (!package) {
    return fail(package.takeError());
  }
  progress.begin("lower to sched and compile kernels");
  diagnostics.setStage("the lowering to kernels");
  mlir::FailureOr<mlir::moe::LoweredProgram> lowered = mlir::moe::lowerMoeToSched(*model.module, options);
  if (mlir::failed(lowered)) {
    return kUserError;
  }
  if (!verifySched(diagnostics, *lowered->module)) {
    return kInternalError;
  }
  if (!ptxas.empty()) {
    progress.begin("assemble kernels with " + ptxas.str());
    const size_t known = model.notes.size();
    if (llvm::Error error = addMachineCode(ptxas, lowered->kernels, *package, model.notes)) {
      return fail(std::move(error));
    }
    for (const std::string &note : llvm::ArrayRef(model.notes).drop_front(known)) {
      printNote(command, note);
    }
  }
  progress.begin("write " + command.output);
  mlir::FailureOr<mlir::sched::ProgramOp> program = mlir::sched::getProgram(*lowered->module);
  if (mlir::failed(program)) {
    return kInternalError;
  }
  program->setCompiler(getVersionString());
  // The runtime looks for files by name in a folder.
  llvm::StringRef folder =
      llvm::sys::fs::is_directory(*weights) ? llvm::StringRef(*weights) : llvm::sys::path::parent_path(*weights);
  program->setCheckpoint(folder);
  if (llvm::Error error = addModelFiles(command, *package, model, folder)) {
    return fail(std::move(error));
  }
  Expected<std::vector<mlir::sched::PackagedWeights>> packaged =
      packWeightFiles(*package, *model.checkpoint, *weightFiles);
  if (!packaged) {
    return fail(packaged.takeError());
  }
  llvm::SmallVector<mlir::sched::KernelBlob> blobs;
  for (mlir::moe::CompiledKernels &kernels : lowered->kernels) {
    blobs.push_back({std::move(kernels.target), std::move(kernels.bytes)});
  }
  if (mlir::failed(
          mlir::sched::writePackage(*lowered->module, blobs, *model.checkpoint, package->getDirectory(), *packaged))) {
    return kUserError;
  }
  if (llvm::Error error = package->commit()) {
    return fail(std::move(error));
  }
  progress.end();
  llvm::json::Array targets;
  std::string names;
  for (const mlir::sched::KernelBlob &blob : blobs) {
    targets.push_back(blob.target);
    names += (names.empty() ? "" : ", ") + blob.target;
  }
  if (command.json) {
    llvm::json::Object result = describeModel(model);
    result["output"] = command.output;
    result["max_tokens"] = command.maxTokens;
    result["ranks"] = mlir::moe::getRanks(*model.module);
    if (model.exchange) {
      result["exchange"] = std::move(*model.exchange);
    }
    result["targets"] = std::move(targets);
    result["machine_code"] = !ptxas.empty();
    result["notes"] = llvm::json::Array(model.notes);
    printJson(std::move(result));
  } else {
    llvm::outs() << command.output << ": " << summarize(model) << ", for " << names;
    if (int64_t ranks = mlir::moe::getRanks(*model.module); ranks > 1) {
      llvm::outs() << ", " << ranks << " ranks";
    }
    llvm::outs() << (ptxas.empty() ? "" : ", PTX and machine code");
    llvm::outs() << '\n';
  }
  return kSuccess;
}

/// Adds what --instrument calibration asks for; it compares values of the residual stream in f32. (What --instrument
/// routing asks for, the lowering to sched adds: readTarget.)
static bool instrument(const CompileCommand &command, DiagnosticPrinter &diagnostics, Model &model) {
  if (!command.instruments("calibration")) {
    return true;
  }
  if (model.dtype != "f32") {
    fail(makeError(command.input + ": has activations in " + (model.dtype.empty() ? "an unknown dtype" : model.dtype) +
                   ", but a calibration needs f32: leave --dtype out, or import with --dtype f32"));
    return false;
  }
  return runPipeline(diagnostics, "the instrumentation", *model.module, [](mlir::OpPassManager &manager) {
    manager.addPass(mlir::moe::createOutlineSublayers());
    manager.addPass(mlir::moe::createVerifyMoeLevel());
  });
}

ExitCode moec::runCompile(const CompileCommand &given) {
  CompileCommand command = given;
  if (command.instruments("calibration") && command.dtype.empty() && llvm::sys::fs::is_directory(command.input)) {
    command.dtype = "f32";
  }
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  DiagnosticPrinter diagnostics(context);
  Expected<std::string> ptxas = chooseAssembler(command);
  if (!ptxas) {
    return fail(ptxas.takeError());
  }
  Progress progress(command, command.emit == "moe" ? 2 : ptxas->empty() ? 3 : 4);
  progress.begin("read the model");
  Expected<Model> model = loadModel(context, command);
  if (!model) {
    return fail(model.takeError());
  }
  RankOptions ranks{
      command.ranks,    command.parallel, command.attention, "",
      command.exchange, command.topology, command.maxTokens, mlir::moe::gpu::findTarget(command.target) != nullptr};
  for (const std::string &plan : command.plans) {
    diagnostics.setStage("the plan");
    if (mlir::moe::isPlacementFile(plan)) {
      if (!ranks.map.empty()) {
        return fail(makeError(plan + ": is a second map of experts, beside " + ranks.map + "; a model has one"));
      }
      ranks.map = plan;
    } else if (llvm::Error error = applyPlan(*model, plan)) {
      return fail(std::move(error));
    }
  }
  if (!instrument(command, diagnostics, *model)) {
    return kUserError;
  }
  if (ranks.ranks > 1 || !ranks.map.empty() || !ranks.exchange.empty() || !ranks.topology.empty()) {
    if (command.instruments("routing")) {
      return fail(makeError("--instrument routing records on one rank: leave --ranks and the map out"));
    }
    diagnostics.setStage("the division among ranks");
    if (llvm::Error error = divideAmongRanks(*model, ranks)) {
      return fail(std::move(error));
    }
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
  Expected<mlir::moe::SchedOptions> options = readTarget(command);
  if (!options) {
    return fail(options.takeError());
  }
  return command.emit == "sched" ? emitSched(command, progress, diagnostics, *model, *options)
                                 : emitPackage(command, progress, diagnostics, *model, *options, *ptxas);
}
