//===- fuzz_safetensors.cpp - libFuzzer target of the checkpoint reader ---===//
//
// Any bytes as a safetensors file. What is accepted must tile the data exactly,
// in whatever order the header names its tensors.
//
//   fuzz_safetensors -max_total_time=600 test/fuzz/corpus/safetensors
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Safetensors.h"

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

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  CheckpointFile file;
  Result<SafetensorsHeader> header = readSafetensorsHeader(filePath(data, size), file);
  if (!header.ok()) {
    require(!header.status().message().empty());
    // The same bytes as the text of a header, which a random length rarely lets through.
    Result<SafetensorsHeader> text =
        parseSafetensorsHeader("x", std::string_view(reinterpret_cast<const char *>(data), size), size + 8);
    require(text.ok() || !text.status().message().empty());
    return 0;
  }
  require(file.size == size);
  std::vector<std::pair<uint64_t, uint64_t>> places;
  for (size_t i = 0; i < header->tensors.size(); ++i) {
    const TensorInfo &tensor = header->tensors[i];
    places.emplace_back(tensor.offset, tensor.bytes);
    require(i == 0 || header->tensors[i - 1].name < tensor.name);
  }
  std::sort(places.begin(), places.end());
  for (size_t i = 0; i < places.size(); ++i) {
    require(places[i].first + places[i].second == (i + 1 < places.size() ? places[i + 1].first : size));
  }
  return 0;
}
