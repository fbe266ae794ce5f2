//===- TensorFile.h - Writing and reading small safetensors -----*- C++ -*-===//
//
// Tensors by name and one text in the metadata. Tensors of wide elements come
// first, so that all are aligned; the same content gives the same bytes.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_TENSORFILE_H
#define MOE_TOOLS_MOERUN_CALIBRATE_TENSORFILE_H

#include "runtime/core/Status.h"
#include "runtime/readers/Safetensors.h"

#include <map>
#include <string>
#include <vector>

namespace moerun {

/// A tensor to be written; `type` as the format spells it.
struct OutputTensor {
  const char *type;
  std::vector<int64_t> shape;
  std::string bytes;
};

template <typename T>
OutputTensor makeTensor(const char *type, std::vector<int64_t> shape, const std::vector<T> &values) {
  return {type, std::move(shape),
          std::string(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T))};
}

/// Writes the file under a temporary name and renames it. An empty `textKey`: no text.
moert::Status writeTensors(const std::string &path, const std::map<std::string, OutputTensor> &tensors,
                           const std::string &textKey, const std::string &text);

/// A file that is read tensor by tensor.
class TensorFile {
public:
  static moert::Result<TensorFile> open(const std::string &path);
  /// The text under `key`, or null.
  const std::string *text(const std::string &key) const;
  const std::vector<moert::readers::TensorInfo> &tensors() const { return header.tensors; }
  bool has(const std::string &name) const { return find(name) != nullptr; }
  /// Shape of a tensor that is there.
  const std::vector<int64_t> &shape(const std::string &name) const { return find(name)->shape; }
  /// The values of a tensor, an error when it is missing or of another type.
  template <typename T>
  moert::Result<std::vector<T>> read(const std::string &name, moert::readers::ElementType type) const {
    std::vector<T> values;
    MOERT_ASSIGN(bytes, sizeOf(name, type));
    values.resize(bytes / sizeof(T));
    MOERT_TRY(readBytes(name, values.data(), bytes));
    return values;
  }

private:
  const moert::readers::TensorInfo *find(const std::string &name) const;
  moert::Result<size_t> sizeOf(const std::string &name, moert::readers::ElementType type) const;
  moert::Status readBytes(const std::string &name, void *out, size_t bytes) const;

  std::string path;
  moert::readers::SafetensorsHeader header;
};

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_TENSORFILE_H
