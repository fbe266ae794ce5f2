//===- WeightTable.h - The tensors of a checkpoint, asked for by name -------===//
//
// Answers "the weight of this name and shape" with its storage type, and keeps
// the account: what is missing, what has another shape, what no one asked for.
// The expected shape comes with the config keys it follows from, so that a
// mismatch can be explained.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_HFTOMOE_WEIGHTTABLE_H
#define MOE_LOWERING_HFTOMOE_WEIGHTTABLE_H

#include "lowering/HFToMoe/MoeImporter.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringSet.h"

namespace mlir::moe {

/// A dim of an expected shape and the config keys it is computed from.
struct NamedDim {
  int64_t size;
  llvm::StringLiteral keys;
};

class WeightTable {
public:
  /// `config`: what messages call the source of the expected shapes.
  WeightTable(MLIRContext &context, const TensorHeaders &tensors, llvm::StringRef config)
      : context(context), tensors(tensors), config(config) {}

  bool has(llvm::StringRef name) const { return tensors.count(name) != 0; }

  /// The type of tensor `name`, which must have shape `dims`. On a mismatch the fault is noted and a type of the
  /// expected shape is returned, so that all faults are found in one run.
  RankedTensorType find(llvm::StringRef name, llvm::ArrayRef<NamedDim> dims);

  /// The type of `experts` tensors stacked: `pattern` with 0 .. experts-1 in place of `{}`.
  RankedTensorType findStacked(llvm::StringRef pattern, int64_t experts, llvm::ArrayRef<NamedDim> dims);

  /// Marks a tensor as known but not needed.
  void ignore(llvm::StringRef name) { used.insert(name); }

  /// Success, or every fault, one line each. Tensors that nobody asked for are a fault, or a note if `allowUnused`.
  llvm::Error finish(bool allowUnused, std::vector<std::string> &notes) const;

  /// Elements of everything found.
  int64_t getParameters() const { return parameters; }

private:
  /// The element type of `header`, or null after noting the dtype as unsupported.
  Type getElementType(llvm::StringRef name, const TensorHeader &header);
  Type check(llvm::StringRef name, llvm::ArrayRef<NamedDim> dims);

  MLIRContext &context;
  const TensorHeaders &tensors;
  llvm::StringRef config;
  llvm::StringSet<> used;
  int64_t parameters = 0;
  std::vector<std::string> missing, faults;
  /// Unsupported dtype -> (first tensor, how many).
  llvm::MapVector<llvm::StringRef, std::pair<std::string, size_t>> foreignTypes;
};

} // namespace mlir::moe

#endif // MOE_LOWERING_HFTOMOE_WEIGHTTABLE_H
