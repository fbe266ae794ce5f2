//===- GgufFile.h - A model as one GGUF file, architecture deci -------------===//
//
// GGUF, version 3: metadata as typed keys, then names and shapes of all tensors,
// then their bytes at multiples of 32. The architecture `deci` of llama.cpp is a
// Llama whose layers have their own heads, key heads and FFN width.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOHF_GGUFFILE_H
#define MOE_LOWERING_MOETOHF_GGUFFILE_H

#include "lowering/MoeToHF/ExportTensors.h"
#include "lowering/MoeToHF/SafetensorsWriter.h"

namespace mlir::moe {

/// The metadata of a file in the making: appends keys in the order in which they are given.
class GgufMetadata {
public:
  void addString(llvm::StringRef key, llvm::StringRef value);
  void addUInt(llvm::StringRef key, int64_t value);
  void addFloat(llvm::StringRef key, double value);
  void addBool(llvm::StringRef key, bool value);
  void addStrings(llvm::StringRef key, llvm::ArrayRef<std::string> values);
  void addInts(llvm::StringRef key, llvm::ArrayRef<int64_t> values);
  void addFloats(llvm::StringRef key, llvm::ArrayRef<float> values);

  int64_t size() const { return count; }
  llvm::StringRef bytes() const { return text; }

private:
  void begin(llvm::StringRef key, uint32_t type);
  void beginArray(llvm::StringRef key, uint32_t type, size_t size);
  void append(llvm::StringRef value);
  template <typename T> void append(T value) { text.append(reinterpret_cast<const char *>(&value), sizeof(value)); }

  std::string text;
  int64_t count = 0;
};

/// The keys of architecture `deci` for `graph`. `storage`: the element type of most weights. `contextLength`: that the
/// model was made for.
void addModelKeys(GgufMetadata &metadata, const ExportGraph &graph, Type storage, llvm::StringRef name,
                  int64_t contextLength);

/// Writes the file.
llvm::Error writeGguf(llvm::StringRef path, const GgufMetadata &metadata, llvm::ArrayRef<ExportTensor> tensors,
                      WeightBytes &weights, TensorProgress progress);

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOHF_GGUFFILE_H
