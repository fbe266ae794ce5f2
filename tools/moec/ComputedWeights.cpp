//===- ComputedWeights.cpp - The bytes of weight values, computed or stored -===//

#include "tools/moec/ComputedWeights.h"
#include "lowering/MoeToSched/MoeToSched.h"
#include "lowering/SchedToProgram/SchedToProgram.h"
#include "passes/Json/JsonFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace moec;
using llvm::Error;
using llvm::Expected;
using mlir::moe::makeError;

/// The kernels that compute weights: of the least CPU that is supported, so that the same bytes come out on any.
static constexpr llvm::StringLiteral kTarget = "x86-64-v3";

Expected<std::vector<mlir::sched::PackagedWeights>>
moec::packWeightFiles(PackageWriter &package, const moert::readers::Checkpoint &checkpoint,
                      llvm::ArrayRef<moert::readers::Checkpoint> files) {
  std::vector<mlir::sched::PackagedWeights> packaged;
  unsigned number = 0;
  auto isTaken = [&](const std::string &name) {
    return llvm::any_of(checkpoint.files(),
                        [&](const moert::readers::CheckpointFile &file) { return file.name == name; });
  };
  for (const moert::readers::Checkpoint &file : files) {
    std::string name;
    do {
      name = "maps-" + std::to_string(++number) + ".safetensors";
    } while (isTaken(name));
    Expected<std::string> sha256 = package.copyWeights(file.files().front().path, name);
    if (!sha256) {
      return sha256.takeError();
    }
    packaged.push_back({&file, name, *sha256});
  }
  return packaged;
}

/// What went wrong inside the compiler was printed by the handler of the context.
static Error compileError() { return makeError("the weights of the model cannot be computed (see above)"); }

Expected<std::unique_ptr<ComputedWeights>>
ComputedWeights::create(Model &model, llvm::ArrayRef<std::pair<std::string, mlir::Value>> computed,
                        llvm::StringRef place) {
  std::unique_ptr<ComputedWeights> result(new ComputedWeights(model));
  if (computed.empty()) {
    return result;
  }
  Expected<RuntimeLibrary> runtime = RuntimeLibrary::open();
  if (!runtime) {
    return runtime.takeError();
  }
  result->runtime.emplace(std::move(*runtime));
  Expected<PackageWriter> package = PackageWriter::create((place + ".weights").str());
  if (!package) {
    return package.takeError();
  }
  result->package.emplace(std::move(*package));
  mlir::moe::SchedOptions options;
  options.targets.push_back(mlir::moe::cpu::findTarget(kTarget));
  options.maxTokens = 1;
  for (const auto &[name, value] : computed) {
    options.weights.push_back({name, value});
  }
  mlir::FailureOr<mlir::moe::LoweredProgram> lowered = mlir::moe::lowerMoeToSched(*model.module, options);
  if (mlir::failed(lowered)) {
    return compileError();
  }
  for (const auto &[wanted, name] : llvm::zip_equal(computed, lowered->weightNames)) {
    result->names[wanted.second] = name;
  }
  mlir::FailureOr<mlir::sched::ProgramOp> program = mlir::sched::getProgram(*lowered->module);
  if (mlir::failed(program)) {
    return compileError();
  }
  llvm::SmallString<256> checkpoint(model.directory);
  if (std::error_code code = llvm::sys::fs::make_absolute(checkpoint)) {
    return makeError(checkpoint + ": " + code.message());
  }
  program->setCheckpoint(checkpoint);
  llvm::SmallVector<mlir::sched::KernelBlob> blobs;
  for (mlir::moe::CompiledKernels &kernels : lowered->kernels) {
    blobs.push_back({std::move(kernels.target), std::move(kernels.bytes)});
  }
  const std::string directory = result->package->getDirectory().str();
  Expected<std::vector<moert::readers::Checkpoint>> weightFiles = openWeightFiles(model);
  if (!weightFiles) {
    return weightFiles.takeError();
  }
  Expected<std::vector<mlir::sched::PackagedWeights>> packaged =
      packWeightFiles(*result->package, *model.checkpoint, *weightFiles);
  if (!packaged) {
    return packaged.takeError();
  }
  if (mlir::failed(mlir::sched::writePackage(*lowered->module, blobs, *model.checkpoint, directory, *packaged))) {
    return compileError();
  }
  Expected<std::unique_ptr<RuntimeWeights>> weights = result->runtime->openWeights(directory, checkpoint.str().str());
  if (!weights) {
    return weights.takeError();
  }
  result->weights = std::move(*weights);
  return result;
}

Expected<llvm::StringRef> ComputedWeights::read(mlir::Value value) {
  if (auto found = names.find(value); found != names.end()) {
    return weights->read(found->second);
  }
  auto get = value.getDefiningOp<mlir::moe::GetWeightOp>();
  assert(get && "computed weights were announced");
  auto declared = model.module->lookupSymbol<mlir::moe::WeightOp>(get.getWeightAttr());
  const moert::readers::TensorInfo *tensor = model.checkpoint->find(declared.getTensorName());
  if (!tensor) {
    return makeError("the checkpoint has no tensor '" + declared.getTensorName() + "'");
  }
  const std::string &path = model.checkpoint->files()[tensor->file].path;
  auto buffer = llvm::MemoryBuffer::getFileSlice(path, tensor->bytes, static_cast<int64_t>(tensor->offset));
  if (!buffer) {
    return makeError(path + ": cannot be read: " + buffer.getError().message());
  }
  mapped = std::move(*buffer);
  return mapped->getBuffer();
}
