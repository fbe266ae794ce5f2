//===- SchedToProgram.h - From sched IR to a package, and back --------------===//
//
// A sched.program maps one to one onto the program file (runtime/format/program.fbs).
// MoeToSched leaves out what only the checkpoint and the linker know: where
// tensors lie, which shared object holds the kernels, the keys of initializers.
// `writePackage` fills that in and writes the package; the steps of it are here
// too, so that tools can do one without the others.
//
// Output is deterministic: equal IR, blobs and checkpoint give equal bytes.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_SCHED_TO_PROGRAM_H
#define MOE_SCHED_TO_PROGRAM_H

#include "dialects/Sched/IR/SchedOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include <string>

namespace moert::readers {
class Checkpoint;
}

namespace mlir::sched {

/// A file with weights that is copied into the package: its header as that of a checkpoint of one file, its name in the
/// package, and the SHA-256 of all its bytes in hex.
struct PackagedWeights {
  const moert::readers::Checkpoint *header;
  std::string name, sha256;
};

/// The kernels of a variant: the bytes of the shared object linked for `target`, or the PTX of a GPU.
struct KernelBlob {
  std::string target;
  std::string bytes;
};

/// Name of the file in a package that holds the kernels of a target.
std::string getBlobName(StringRef target);

/// The one sched.program of a module; an error at the module if there is none or a second.
FailureOr<ProgramOp> getProgram(ModuleOp module);

/// Declares the files that hold tensors of the program, and says where every tensor lies: in the checkpoint, or in a
/// file of the package. An error if one is missing, is in two of them or has another type.
LogicalResult locateTensors(ProgramOp program, const moert::readers::Checkpoint &checkpoint,
                            ArrayRef<PackagedWeights> packaged = {});

/// Names and hashes the blob of every variant. An error if one has none, or a blob has no variant.
LogicalResult attachKernels(ProgramOp program, ArrayRef<KernelBlob> blobs);

/// Computes the key of every initializer from its commands, its kernels and the identity of the tensors it reads.
LogicalResult computeInitializerKeys(ProgramOp program);

/// The sealed bytes of the program file. Tensors must be located, blobs attached, keys computed.
FailureOr<std::string> serializeProgram(ProgramOp program);

/// The program of sealed bytes, as a verified module. Emits an error and returns null if they are no valid program.
OwningOpRef<ModuleOp> deserializeProgram(StringRef bytes, Location location);

/// Writes program.moep, the kernels and manifest.json into `directory`, which exists. Other files that are in it
/// already (tokenizer, configs) become files of the package: listed and checksummed. Those of `packaged` are there too,
/// but are weights: what loads a program does not read them. Reports progress by nothing; on an error the caller
/// removes the directory.
LogicalResult writePackage(ModuleOp module, ArrayRef<KernelBlob> blobs, const moert::readers::Checkpoint &checkpoint,
                           StringRef directory, ArrayRef<PackagedWeights> packaged = {});

} // namespace mlir::sched

#endif // MOE_SCHED_TO_PROGRAM_H
