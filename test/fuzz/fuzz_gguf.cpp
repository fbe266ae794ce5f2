//===- fuzz_gguf.cpp - libFuzzer target of the GGUF reader ----------------===//
//
// Any bytes as a GGUF file. What is accepted must lie inside the file, tensors
// apart and in the sizes of their shapes, and names in order.
//
//   fuzz_gguf -max_total_time=600 test/fuzz/corpus/gguf
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Gguf.h"

#include <algorithm>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

using namespace moert;
using namespace moert::readers;

/// Ends the run, as a finding, unless `condition` holds.
static void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

/// One file in memory for all inputs.
static const std::string &filePath(const uint8_t *data, size_t size) {
  static const int descriptor = ::memfd_create("fuzz", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  require(::ftruncate(descriptor, 0) == 0 && ::pwrite(descriptor, data, size, 0) == static_cast<ssize_t>(size));
  return path;
}

/// Bytes of all that the metadata keeps, which the file must bound: an element of one byte is kept in eight, an empty
/// string, eight bytes in the file, in a std::string.
static uint64_t keptBytes(const GgufHeader &header) {
  uint64_t bytes = 0;
  for (const auto &[key, value] : header.metadata) {
    bytes += key.size();
    if (const auto *text = std::get_if<std::string>(&value)) {
      bytes += text->size();
    } else if (const auto *integers = std::get_if<std::vector<int64_t>>(&value)) {
      bytes += integers->size() * sizeof(int64_t);
    } else if (const auto *reals = std::get_if<std::vector<double>>(&value)) {
      bytes += reals->size() * sizeof(double);
    } else if (const auto *strings = std::get_if<std::vector<std::string>>(&value)) {
      for (const std::string &text : *strings) {
        bytes += sizeof(std::string) + text.size();
      }
    }
  }
  return bytes;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  CheckpointFile file;
  Result<GgufHeader> header = readGgufHeader(filePath(data, size), file);
  if (!header.ok()) {
    require(!header.status().message().empty());
    return 0;
  }
  require(file.size == size && file.headerBytes == header->bytes && header->bytes <= size);
  require(file.headerSha256 == format::sha256(data, header->bytes));
  require(keptBytes(*header) <= 8 * size);
  std::vector<std::pair<uint64_t, uint64_t>> places;
  for (size_t i = 0; i < header->tensors.size(); ++i) {
    const TensorInfo &tensor = header->tensors[i];
    uint64_t bytes = elementTypeBits(tensor.type) / 8;
    for (int64_t dim : tensor.shape) {
      bytes *= static_cast<uint64_t>(dim);
    }
    require(tensor.bytes == bytes && tensor.offset >= header->bytes && tensor.offset + bytes <= size);
    require(i == 0 || header->tensors[i - 1].name < tensor.name);
    places.emplace_back(tensor.offset, bytes);
  }
  std::sort(places.begin(), places.end());
  for (size_t i = 1; i < places.size(); ++i) {
    require(places[i - 1].first + places[i - 1].second <= places[i].first);
  }
  return 0;
}
