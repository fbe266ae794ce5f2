//===- Npy.h - Arrays of f32 in NumPy's file format -------------*- C++ -*-===//
//
// Version 1.0 of the .npy format for C-ordered little-endian f32, which is what
// logits are. Written in pieces, in any order, so that 10 GB of logits need no
// 10 GB of memory; appears whole or not at all.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_NPY_H
#define MOERT_READERS_NPY_H

#include "runtime/readers/OutputFile.h"

#include <cstdint>
#include <vector>

namespace moert::readers {

/// Writes an array whose shape is known beforehand.
class NpyWriter {
public:
  static Result<NpyWriter> create(const std::string &path, const std::vector<int64_t> &shape);

  /// Elements [first, first + count) in C order; each is put once.
  Status put(int64_t first, const float *values, int64_t count);
  /// Ends the file; fails unless as many elements were put as the shape has.
  Status finish();

private:
  NpyWriter(OutputFile file, int64_t elements, uint64_t start)
      : file(std::move(file)), elements(elements), missing(elements), start(start) {}
  OutputFile file;
  int64_t elements, missing;
  uint64_t start; ///< Of the data in the file.
};

/// An array in memory.
struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
Result<NpyArray> readNpy(const std::string &path);

} // namespace moert::readers

#endif // MOERT_READERS_NPY_H
