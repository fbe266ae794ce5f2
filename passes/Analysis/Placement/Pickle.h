//===- Pickle.h - Tensors from torch.save files, without Python -*- C++ -*-===//
//
// A `.pt` file is a zip of a pickle and raw storages. A pickle is a program;
// this reads only the instructions that build dictionaries, lists, numbers,
// strings and tensors, and refuses every global but the tensor constructors of
// torch, so that nothing of the file is ever executed. Storages are stored
// uncompressed, as torch writes them.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_PICKLE_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_PICKLE_H

#include "runtime/core/Status.h"
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace moe::placement {

/// A tensor, C order.
struct PickledTensor {
  std::vector<int64_t> shape;
  std::vector<double> values;
};

/// The tensors of a file: by key of the top-level dictionary, or under "" when the file is one tensor.
struct PickledFile {
  std::map<std::string, PickledTensor> tensors;
  /// Keys of the dictionary that hold something else.
  std::vector<std::string> otherKeys;
};

/// Parses the bytes of a `.pt` file; `path` is for messages.
moert::Result<PickledFile> parseTorchFile(const std::string &path, const std::string &bytes);

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_PICKLE_H
