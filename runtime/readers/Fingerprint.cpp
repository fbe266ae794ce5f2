// Samples of a checkpoint, hashed; see Fingerprint.h.
#include "runtime/readers/Fingerprint.h"

#include "runtime/readers/File.h"
#include "runtime/readers/Safetensors.h"

#include <algorithm>
#include <vector>

namespace moert::readers {

Result<std::string> fingerprint(const std::string &path) {
  constexpr uint64_t kSample = 64 << 10, kTensorSample = 4 << 10;
  MOERT_ASSIGN(checkpoint, Checkpoint::open(path));
  format::Sha256 hash;
  std::vector<InputFile> files;
  std::vector<uint8_t> sample;
  for (const CheckpointFile &facts : checkpoint.files()) {
    hash.update(facts.name.data(), facts.name.size() + 1);
    hash.update(&facts.size, sizeof(facts.size));
    hash.update(facts.headerSha256.data(), facts.headerSha256.size());
    MOERT_ASSIGN(file, InputFile::open(facts.path));
    sample.resize(size_t(std::min(kSample, facts.size)));
    for (uint64_t offset : {uint64_t(0), facts.size - sample.size()}) {
      MOERT_TRY(file.read(offset, sample.data(), sample.size()));
      hash.update(sample.data(), sample.size());
    }
    files.push_back(std::move(file));
  }
  for (const TensorInfo &tensor : checkpoint.tensors()) {
    sample.resize(size_t(std::min(kTensorSample, tensor.bytes)));
    MOERT_TRY(
        files[tensor.file].read(tensor.offset + (tensor.bytes - sample.size()) / 2, sample.data(), sample.size()));
    hash.update(sample.data(), sample.size());
  }
  return format::toHex(hash.finish());
}

} // namespace moert::readers
