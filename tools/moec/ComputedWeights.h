//===- ComputedWeights.h - The bytes of weight values, computed or stored ---===//
//
// What a weight of a fused model is, is computed in one place: by the initializers
// of its package, in the runtime. So the bytes of computed weights come from there
// too: the model is compiled to a package in a temporary directory, and the runtime
// computes one tensor at a time. Weights that are not computed are the checkpoint's
// own bytes, mapped.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_COMPUTEDWEIGHTS_H
#define MOE_TOOLS_MOEC_COMPUTEDWEIGHTS_H

#include "lowering/MoeToHF/ExportTensors.h"
#include "lowering/SchedToProgram/SchedToProgram.h"
#include "tools/moec/Model.h"
#include "tools/moec/OutputFile.h"
#include "tools/moec/RuntimeLibrary.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/Support/MemoryBuffer.h"

namespace moec {

/// Copies the files with weights beside the checkpoint into the package, as maps-1.safetensors and so on.
llvm::Expected<std::vector<mlir::sched::PackagedWeights>>
packWeightFiles(PackageWriter &package, const moert::readers::Checkpoint &checkpoint,
                llvm::ArrayRef<moert::readers::Checkpoint> files);

class ComputedWeights : public mlir::moe::WeightBytes {
public:
  /// Compiles what `computed`, values of the module of `model` with names for them, needs. The package is made beside
  /// `place` and removed with this. `model` must outlive it.
  static llvm::Expected<std::unique_ptr<ComputedWeights>>
  create(Model &model, llvm::ArrayRef<std::pair<std::string, mlir::Value>> computed, llvm::StringRef place);

  llvm::Expected<llvm::StringRef> read(mlir::Value value) override;

private:
  explicit ComputedWeights(Model &model) : model(model) {}

  Model &model;
  llvm::DenseMap<mlir::Value, std::string> names;
  /// In this order, so that the library closes last and the package is removed before.
  std::optional<RuntimeLibrary> runtime;
  std::optional<PackageWriter> package;
  std::unique_ptr<RuntimeWeights> weights;
  std::unique_ptr<llvm::MemoryBuffer> mapped;
};

} // namespace moec

#endif // MOE_TOOLS_MOEC_COMPUTEDWEIGHTS_H
