//===- CompleteProgram.cpp - What only checkpoint and linker know -----------===//
//
// MoeToSched names tensors and targets; here they get their places, hashes and
// keys. The key of an initializer covers its commands and the identity of every
// tensor that it reads, so that a cached result is found again exactly when it
// would be computed the same way from the same bytes.
//
//===----------------------------------------------------------------------===//

#include "lowering/SchedToProgram/ProgramTypes.h"
#include "lowering/SchedToProgram/SchedToProgram.h"
#include "mlir/IR/Builders.h"
#include "runtime/format/Checksum.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace mlir::sched;
using moert::readers::Checkpoint;
using moert::readers::CheckpointFile;
using moert::readers::TensorInfo;

std::string sched::getBlobName(StringRef target) {
  if (target.consume_front("cuda:")) {
    return ("kernels-cuda-" + target + ".ptx").str();
  }
  return ("kernels-" + target + ".so").str();
}

FailureOr<ProgramOp> sched::getProgram(ModuleOp module) {
  auto programs = llvm::to_vector(module.getOps<ProgramOp>());
  if (programs.size() != 1) {
    return module.emitError("must hold 1 sched.program, got ") << programs.size();
  }
  return programs.front();
}

/// The type of a tensor in a checkpoint, or null if no program file can name it.
static RankedTensorType getTensorType(const TensorInfo &info, MLIRContext *context) {
  Type element = fromElementType(info.type, context);
  return element ? RankedTensorType::get(info.shape, element) : RankedTensorType();
}

LogicalResult sched::locateTensors(ProgramOp program, const Checkpoint &checkpoint,
                                   ArrayRef<PackagedWeights> packaged) {
  for (auto file : llvm::make_early_inc_range(program.getBody().getOps<FileOp>())) {
    file.erase();
  }
  OpBuilder builder(program.getContext());
  SmallVector<bool> used(checkpoint.files().size()), usedPackaged(packaged.size());
  for (auto tensor : program.getBody().getOps<TensorOp>()) {
    if (tensor.getComputed()) {
      continue;
    }
    const std::string_view name(tensor.getSymName());
    const TensorInfo *info = checkpoint.find(name);
    const CheckpointFile *found = info ? &checkpoint.files()[info->file] : nullptr;
    const PackagedWeights *inPackage = nullptr;
    for (const PackagedWeights &weights : packaged) {
      const TensorInfo *here = weights.header->find(name);
      if (here && info) {
        return tensor.emitError("tensor ") << tensor.getSymNameAttr() << " is in " << found->path << " and in "
                                           << weights.header->files().front().path << ": give it another name in one";
      }
      if (here) {
        info = here;
        found = &weights.header->files().front();
        inPackage = &weights;
      }
    }
    if (!info) {
      InFlightDiagnostic error = tensor.emitError("tensor ");
      error << tensor.getSymNameAttr() << " is not in the checkpoint (" << checkpoint.tensors().size() << " tensors)";
      for (const PackagedWeights &weights : packaged) {
        error << ", nor in " << weights.header->files().front().path;
      }
      return error << ": give the one the model was imported from";
    }
    const CheckpointFile &file = *found;
    RankedTensorType type = getTensorType(*info, program.getContext());
    if (type != tensor.getTensorType()) {
      InFlightDiagnostic error = tensor.emitError("tensor ");
      error << tensor.getSymNameAttr() << " is " << tensor.getTensorType() << " in the program, but ";
      type ? error << Type(type) : error << moert::readers::elementTypeName(info->type).data();
      return error << " in " << file.path << ": give the checkpoint the model was imported from";
    }
    (inPackage ? usedPackaged[inPackage - packaged.begin()] : used[info->file]) = true;
    tensor.setFileAttr(FlatSymbolRefAttr::get(program.getContext(), inPackage ? inPackage->name : file.name));
    tensor.setOffsetAttr(builder.getI64IntegerAttr(info->offset));
  }
  builder.setInsertionPointToStart(&program.getBody().front());
  for (auto [index, file] : llvm::enumerate(checkpoint.files())) {
    if (used[index]) {
      FileOp::create(builder, program.getLoc(), builder.getStringAttr(file.name), builder.getI64IntegerAttr(file.size),
                     builder.getI64IntegerAttr(file.mtimeNs),
                     builder.getStringAttr(moert::format::toHex(file.headerSha256)), StringAttr(), UnitAttr(),
                     builder.getI64IntegerAttr(file.headerBytes));
    }
  }
  for (auto [index, weights] : llvm::enumerate(packaged)) {
    if (usedPackaged[index]) {
      const CheckpointFile &file = weights.header->files().front();
      // The time of a copy is not its identity, and would make two compilations differ.
      FileOp::create(
          builder, program.getLoc(), builder.getStringAttr(weights.name), builder.getI64IntegerAttr(file.size),
          builder.getI64IntegerAttr(0), builder.getStringAttr(moert::format::toHex(file.headerSha256)),
          builder.getStringAttr(weights.sha256), builder.getUnitAttr(), builder.getI64IntegerAttr(file.headerBytes));
    }
  }
  return success();
}

LogicalResult sched::attachKernels(ProgramOp program, ArrayRef<KernelBlob> blobs) {
  llvm::StringMap<const KernelBlob *> byTarget;
  for (const KernelBlob &blob : blobs) {
    byTarget[blob.target] = &blob;
  }
  for (auto variant : program.getBody().getOps<VariantOp>()) {
    const KernelBlob *blob = byTarget.lookup(variant.getTarget());
    if (!blob) {
      return variant.emitOpError("has no kernels: ")
             << variant.getTargetAttr() << " is not among the " << blobs.size() << " linked targets";
    }
    byTarget.erase(variant.getTarget());
    variant.setBlob(getBlobName(variant.getTarget()));
    variant.setSha256(moert::format::toHex(moert::format::sha256(blob->bytes.data(), blob->bytes.size())));
  }
  for (const KernelBlob &blob : blobs) {
    if (byTarget.count(blob.target)) {
      return program.emitOpError("has no variant for the kernels of target '") << blob.target << "'";
    }
  }
  return success();
}

/// Appends what identifies a tensor's bytes: the file's identity and the place in it, or the key of its initializer.
static LogicalResult describeTensor(StringAttr name, SymbolTable &symbols, const DenseMap<StringAttr, StringAttr> &keys,
                                    Operation *op, std::string &text) {
  auto tensor = symbols.lookup<TensorOp>(name);
  llvm::raw_string_ostream stream(text);
  stream << name << " " << tensor.getType() << " ";
  if (StringAttr key = keys.lookup(name)) {
    stream << key << "\n";
    return success();
  }
  if (!tensor.getFile()) {
    return op->emitOpError("reads tensor ") << name << ", which has no place: locate the program's tensors first";
  }
  auto file = symbols.lookup<FileOp>(*tensor.getFile());
  stream << file.getSize() << " " << static_cast<int64_t>(file.getMtimeNs()) << " " << file.getHeaderSha256() << " "
         << *tensor.getOffset() << "\n";
  if (file.getInPackage()) {
    stream << *file.getSha256() << "\n";
  }
  return success();
}

LogicalResult sched::computeInitializerKeys(ProgramOp program) {
  SymbolTable symbols(program);
  Builder builder(program.getContext());
  for (auto variant : program.getBody().getOps<VariantOp>()) {
    DenseMap<StringAttr, StringAttr> keys;
    for (auto initializer : variant.getBody().getOps<InitializerOp>()) {
      initializer.removeKeyAttr();
      std::string text;
      llvm::raw_string_ostream stream(text);
      initializer->print(stream, OpPrintingFlags().useLocalScope());
      stream << "\n";
      llvm::SetVector<StringAttr> read;
      for (auto command : initializer.getBody().getOps<CommandOpInterface>()) {
        for (Attribute operand : command.getOperandAttrs()) {
          if (auto weight = dyn_cast<WeightAttr>(operand);
              weight && weight.getTensor() != initializer.getResultAttr()) {
            read.insert(weight.getTensor().getAttr());
          } else if (auto table = dyn_cast<TableRefAttr>(operand)) {
            for (auto entry :
                 symbols.lookup<TableOp>(table.getTable().getAttr()).getEntries().getAsRange<WeightAttr>()) {
              stream << entry << "\n";
              read.insert(entry.getTensor().getAttr());
            }
          }
        }
      }
      for (StringAttr tensor : read) {
        if (failed(describeTensor(tensor, symbols, keys, initializer, text))) {
          return failure();
        }
      }
      std::string key = moert::format::toHex(moert::format::sha256(text.data(), text.size()));
      initializer.setKey(key);
      keys[initializer.getResultAttr().getAttr()] = builder.getStringAttr(key);
    }
  }
  return success();
}
