//===- Gguf.h - The header of a GGUF file -----------------------*- C++ -*-===//
//
// Reads what stands before the data of a GGUF file (versions 2 and 3, little
// endian): metadata by key, tensors by name. As strict as the reader of
// safetensors: every count is bounded by the bytes that follow it, offsets are
// aligned, tensors follow each other without holes or overlap, the file ends
// where the last one does. Tensors of unquantised types only. What a key or a
// tensor means is the importer's business; the data is never read.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_GGUF_H
#define MOERT_READERS_GGUF_H

#include "runtime/core/Status.h"
#include "runtime/readers/Safetensors.h"

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace moert::readers {

/// A value of the metadata. All widths of integers are one here, and so are both of floats; an array of booleans is one
/// of integers. Arrays of arrays are refused.
using GgufValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<double>,
                               std::vector<std::string>>;

struct GgufHeader {
  std::map<std::string, GgufValue> metadata;
  /// By name; `file` is 0. Shapes in C order: the format's first dimension, the contiguous one, is the last here.
  std::vector<TensorInfo> tensors;
  /// Where the data begins.
  uint64_t bytes = 0;
};

/// Whether the file at `path` can be read and begins like a GGUF file.
bool isGguf(const std::string &path);

/// Opens the file at `path` and parses its header. `facts` receives the facts of the file.
Result<GgufHeader> readGgufHeader(const std::string &path, CheckpointFile &facts);

} // namespace moert::readers

#endif // MOERT_READERS_GGUF_H
