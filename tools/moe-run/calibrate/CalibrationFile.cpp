//===- CalibrationFile.cpp - Calibrations on disk -------------------------===//
//
// One safetensors file, written under a temporary name: tensors in order of
// name (the F64 ones come first, so that all are aligned), one JSON text under
// the metadata key "calibration".
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/calibrate/Calibration.h"

#include "runtime/format/Checksum.h"
#include "runtime/readers/File.h"
#include "runtime/readers/OutputFile.h"
#include "runtime/readers/Safetensors.h"

#include <cstring>
#include <map>

using namespace moert;
using namespace moert::readers;
using namespace moerun;

namespace {

/// The version of the file's contents; readers refuse others.
constexpr int kVersion = 1;
constexpr const char *kMetadata = "calibration", *kUnfinished = "unfinished calibration";

/// A tensor to be written.
struct Output {
  const char *type;
  std::vector<int64_t> shape;
  std::string bytes;
};

template <typename T> Output output(const char *type, std::vector<int64_t> shape, const std::vector<T> &values) {
  return {type, std::move(shape),
          std::string(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T))};
}

/// `tensors` by name, and one text.
Status writeSafetensors(const std::string &path, const std::map<std::string, Output> &tensors, const char *key,
                        const std::string &text) {
  Json header;
  header["__metadata__"] = {{key, text}};
  uint64_t offset = 0;
  for (const auto &[name, tensor] : tensors) {
    header[name] = {
        {"dtype", tensor.type}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string json = header.dump();
  json.resize((json.size() + 7) / 8 * 8, ' ');
  const uint64_t length = json.size();
  MOERT_ASSIGN(file, OutputFile::create(path));
  MOERT_TRY(file.write(&length, sizeof(length)));
  MOERT_TRY(file.write(json.data(), json.size()));
  for (const auto &[name, tensor] : tensors) {
    MOERT_TRY(file.write(tensor.bytes.data(), tensor.bytes.size()));
  }
  return file.commit();
}

} // namespace

std::string CalibrationText::digest() const {
  Json tree = {{"domains", domains}};
  for (const Sequence &sequence : sequences) {
    tree["sequences"].push_back({sequence.domain, sequence.heldOut, sequence.ids});
  }
  const std::string text = tree.dump();
  return format::toHex(format::sha256(text.data(), text.size()));
}

Status Calibration::write(const std::string &path, const CalibrationText &text, const Json &facts) const {
  std::map<std::string, Output> tensors;
  for (const Figure &figure : figures()) {
    std::vector<int64_t> shape{layers, layers};
    shape.resize(figure.sums == &baseLoss ? 0 : figure.perPair ? 2 : 1);
    tensors[figure.name] = output("F64", shape, means(figure));
  }
  std::vector<int32_t> ids, lengths, domains, heldOut;
  for (const CalibrationText::Sequence &sequence : text.sequences) {
    ids.insert(ids.end(), sequence.ids.begin(), sequence.ids.end());
    lengths.push_back(int32_t(sequence.ids.size()));
    domains.push_back(int32_t(sequence.domain));
    heldOut.push_back(sequence.heldOut);
  }
  const auto count = int64_t(text.sequences.size());
  tensors["text.ids"] = output("I32", {int64_t(ids.size())}, ids);
  tensors["text.lengths"] = output("I32", {count}, lengths);
  tensors["text.domain"] = output("I32", {count}, domains);
  tensors["text.held_out"] = output("I32", {count}, heldOut);
  Json json = {{"format", "moe-opt calibration"}, {"version", kVersion}};
  json.update(facts);
  json["domains"] = text.domains;
  json["sequences"] = sequenceCount;
  json["tokens"] = tokenCount;
  return writeSafetensors(path, tensors, kMetadata, json.dump());
}

Status Calibration::save(const std::string &path, const std::string &key) const {
  std::vector<double> sums{double(sequenceCount), double(tokenCount), double(lossTokens)};
  for (const Figure &figure : figures()) {
    sums.insert(sums.end(), figure.sums->begin(), figure.sums->end());
  }
  return writeSafetensors(path, {{"sums", output("F64", {int64_t(sums.size())}, sums)}}, kUnfinished, key);
}

Status Calibration::resume(const std::string &path, const std::string &key) {
  if (!exists(path)) {
    return {};
  }
  CheckpointFile facts;
  MOERT_ASSIGN(header, readSafetensorsHeader(path, facts));
  size_t count = 3;
  for (const Figure &figure : figures()) {
    count += figure.sums->size();
  }
  auto found = header.metadata.find(kUnfinished);
  if (found == header.metadata.end() || found->second != key || header.tensors.size() != 1 ||
      header.tensors[0].type != ElementType::F64 || header.tensors[0].bytes != count * sizeof(double)) {
    return {}; // of another text, model or version
  }
  std::vector<double> sums(count);
  MOERT_ASSIGN(file, InputFile::open(path));
  MOERT_TRY(file.read(header.tensors[0].offset, sums.data(), header.tensors[0].bytes));
  sequenceCount = int64_t(sums[0]);
  tokenCount = int64_t(sums[1]);
  lossTokens = int64_t(sums[2]);
  const double *next = sums.data() + 3;
  for (const Figure &figure : figures()) {
    std::copy(next, next + figure.sums->size(), figure.sums->begin());
    next += figure.sums->size();
  }
  return {};
}

Result<std::string> moerun::fingerprint(const std::string &path) {
  constexpr uint64_t kSample = 64 << 10;
  MOERT_ASSIGN(checkpoint, Checkpoint::open(path));
  format::Sha256 hash;
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
  }
  return format::toHex(hash.finish());
}
