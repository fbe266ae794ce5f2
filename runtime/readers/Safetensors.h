//===- Safetensors.h - Tensors of a checkpoint, by name ---------*- C++ -*-===//
//
// Reads the headers of safetensors files (never the data: a sparse file of
// 800 GB opens in the time its header takes) and, for sharded checkpoints, the
// index that says which file holds which tensor. Strict where the format is:
// no holes, no overlap, no duplicate name, exact end, all arithmetic checked.
// Alignment is not assumed. What a tensor means is the importer's business.
//
//   MOERT_ASSIGN(checkpoint, Checkpoint::open("Mixtral-8x7B"));
//   const TensorInfo *head = checkpoint.find("lm_head.weight");
//   // checkpoint.files()[head->file].path, head->offset, head->bytes
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_SAFETENSORS_H
#define MOERT_READERS_SAFETENSORS_H

#include "runtime/core/Status.h"
#include "runtime/format/Checksum.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace moert::readers {

/// The element types of the format.
enum class ElementType : uint8_t {
  Bool,
  F4,
  F6E2M3,
  F6E3M2,
  U8,
  I8,
  F8E5M2,
  F8E4M3,
  F8E8M0,
  F8E4M3FNUZ,
  F8E5M2FNUZ, // clang-format off
  I16, U16, F16, BF16, I32, U32, F32, C64, F64, I64, U64
}; // clang-format on

/// As the format spells it: "BF16", "F8_E4M3".
std::string_view elementTypeName(ElementType type);
/// Bits per element: 4 for F4.
unsigned elementTypeBits(ElementType type);

/// A tensor in a file: C order, little-endian, any alignment.
struct TensorInfo {
  std::string name;
  ElementType type;
  std::vector<int64_t> shape;
  uint32_t file = 0;   ///< Index into Checkpoint::files().
  uint64_t offset = 0; ///< Of the first byte, from the start of the file.
  uint64_t bytes = 0;
};

/// A file of weights and what identifies it.
struct CheckpointFile {
  std::string name; ///< Plain file name.
  std::string path;
  uint64_t size = 0;
  int64_t mtimeNs = 0;
  /// Bytes of the header: of safetensors 8 bytes of length and the text, of GGUF all before the data.
  uint64_t headerBytes = 0;
  /// Of these bytes, which name every tensor with its shape, type and place.
  format::Digest headerSha256 = {};
  std::map<std::string, std::string> metadata;
};

/// Parts of a file's header.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors; ///< By name; `file` is 0.
  std::map<std::string, std::string> metadata;
};

/// Parses the text of a header (without its 8 bytes of length) of a file of `fileSize` bytes; `path` is for messages.
Result<SafetensorsHeader> parseSafetensorsHeader(const std::string &path, std::string_view header, uint64_t fileSize);

/// Opens the file at `path` and parses its header. `file` receives the facts of the file.
Result<SafetensorsHeader> readSafetensorsHeader(const std::string &path, CheckpointFile &file);

/// The weight map of an index file: tensor to plain file name, by tensor name.
using WeightMap = std::vector<std::pair<std::string, std::string>>;
Result<WeightMap> parseSafetensorsIndex(const std::string &path, std::string_view text);

/// All tensors of a checkpoint directory.
class Checkpoint {
public:
  /// `path`: a directory (looks for model.safetensors.index.json, model.safetensors, then Mistral's
  /// consolidated.safetensors.index.json and consolidated.safetensors), or one file, safetensors or GGUF.
  static Result<Checkpoint> open(const std::string &path);
  /// One file whose header was parsed already.
  static Checkpoint of(CheckpointFile file, std::vector<TensorInfo> tensors);

  /// In order of name.
  const std::vector<CheckpointFile> &files() const { return allFiles; }
  /// In order of name; of an index, exactly the tensors that it maps.
  const std::vector<TensorInfo> &tensors() const { return allTensors; }
  /// The tensor of that name, or null.
  const TensorInfo *find(std::string_view name) const;

private:
  static Result<Checkpoint> openFile(const std::string &path);
  static Result<Checkpoint> openIndex(const std::string &directory, const std::string &index);

  std::vector<CheckpointFile> allFiles;
  std::vector<TensorInfo> allTensors;
};

} // namespace moert::readers

#endif // MOERT_READERS_SAFETENSORS_H
