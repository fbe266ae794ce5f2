//===- CalibrationFile.cpp - Calibrations on disk -------------------------===//
//
// One safetensors file (TensorFile.h) with one JSON text under the metadata key
// "calibration".
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/calibrate/Calibration.h"

#include "runtime/format/Checksum.h"
#include "runtime/readers/File.h"
#include "tools/moe-run/calibrate/TensorFile.h"

#include <algorithm>

using namespace moert;
using namespace moert::readers;
using namespace moerun;

namespace {

/// Versions of the file's contents: without windows, and with them. Readers refuse others.
constexpr int kVersion = 1, kVersionWithWindows = 2;
constexpr const char *kMetadata = "calibration", *kUnfinished = "unfinished calibration";

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
  std::map<std::string, OutputTensor> tensors;
  for (const Figure &figure : figures()) {
    std::vector<int64_t> shape{layers, layers};
    shape.resize(figure.sums == &baseLoss ? 0 : figure.perPair ? 2 : 1);
    tensors[figure.name] = makeTensor("F64", shape, means(figure));
  }
  std::vector<int32_t> ids, lengths, domains, heldOut;
  for (const CalibrationText::Sequence &sequence : text.sequences) {
    ids.insert(ids.end(), sequence.ids.begin(), sequence.ids.end());
    lengths.push_back(int32_t(sequence.ids.size()));
    domains.push_back(int32_t(sequence.domain));
    heldOut.push_back(sequence.heldOut);
  }
  const auto count = int64_t(text.sequences.size());
  tensors["text.ids"] = makeTensor("I32", {int64_t(ids.size())}, ids);
  tensors["text.lengths"] = makeTensor("I32", {count}, lengths);
  tensors["text.domain"] = makeTensor("I32", {count}, domains);
  tensors["text.held_out"] = makeTensor("I32", {count}, heldOut);
  const bool hasWindows = !windows.empty();
  if (hasWindows) {
    addWindows(tensors);
  }
  Json json = {{"format", "moe-opt calibration"}, {"version", hasWindows ? kVersionWithWindows : kVersion}};
  json.update(facts);
  json["domains"] = text.domains;
  json["sequences"] = sequenceCount;
  json["tokens"] = tokenCount;
  return writeTensors(path, tensors, kMetadata, json.dump());
}

void Calibration::addWindows(std::map<std::string, OutputTensor> &tensors) const {
  const auto count = int64_t(windows.size());
  std::vector<int32_t> names, stages;
  std::vector<double> domains;
  auto add = [&](const char *name, double WindowRow::*member) {
    std::vector<double> values;
    for (const WindowRow &row : windows) {
      values.push_back(row.*member);
    }
    tensors[name] = makeTensor("F64", {count}, values);
  };
  add("window_error", &WindowRow::error);
  add("window_error_repaired", &WindowRow::errorRepaired);
  add("window_kl", &WindowRow::kl);
  add("window_kl_repaired", &WindowRow::klRepaired);
  add("window_kl_bound", &WindowRow::klBound);
  add("window_same_winner", &WindowRow::sameWinner);
  for (const WindowRow &row : windows) {
    names.insert(names.end(), {int32_t(row.window.first), int32_t(row.window.length), int32_t(row.window.form)});
    stages.push_back(row.stages);
    domains.insert(domains.end(), row.klDomains.begin(), row.klDomains.end());
  }
  tensors["windows"] = makeTensor("I32", {count, 3}, names);
  tensors["window_repair"] = makeTensor("I32", {count}, stages);
  tensors["window_kl_domains"] = makeTensor("F64", {count, domainCount}, domains);
}

Status Calibration::save(const std::string &path, const std::string &key) const {
  std::vector<double> sums{double(sequenceCount), double(tokenCount), double(lossTokens), double(windowLayers)};
  for (const Figure &figure : figures()) {
    sums.insert(sums.end(), figure.sums->begin(), figure.sums->end());
  }
  const std::vector<double> rows = pack(windows);
  return writeTensors(path,
                      {{"sums", makeTensor("F64", {int64_t(sums.size())}, sums)},
                       {"windows", makeTensor("F64", {int64_t(rows.size())}, rows)}},
                      kUnfinished, key);
}

Status Calibration::resume(const std::string &path, const std::string &key) {
  if (!exists(path)) {
    return {};
  }
  const Result<TensorFile> file = TensorFile::open(path);
  const std::string *found = file.ok() ? file->text(kUnfinished) : nullptr;
  if (found && *found != key) {
    return error(Code::InvalidArgument, path,
                 ": is of an interrupted run on another text or model or with other options: give those to go on with "
                 "it, choose another output, or remove it to start anew");
  }
  const Status status = found ? readUnfinished(path) : error(Code::Corrupt, path);
  // The reasons of a reader of checkpoints would send people to fetch the file again.
  return status.ok() || status.code() == Code::IO
             ? status
             : error(status.code(), path, ": what an earlier run left is damaged; remove the file to start anew");
}

Status Calibration::readUnfinished(const std::string &path) {
  MOERT_ASSIGN(file, TensorFile::open(path));
  MOERT_ASSIGN(sums, file.read<double>("sums", ElementType::F64));
  MOERT_ASSIGN(rows, file.read<double>("windows", ElementType::F64));
  size_t count = 4;
  for (const Figure &figure : figures()) {
    count += figure.sums->size();
  }
  auto isCount = [](double value) { return value >= 0 && value < 0x1p53; };
  if (sums.size() != count || !std::all_of(sums.begin(), sums.begin() + 4, isCount) || sums[3] > double(layers)) {
    return error(Code::Corrupt, path);
  }
  MOERT_ASSIGN(unpacked, unpackRows(rows, domainCount));
  sequenceCount = int64_t(sums[0]);
  tokenCount = int64_t(sums[1]);
  lossTokens = int64_t(sums[2]);
  windowLayers = int64_t(sums[3]);
  const double *next = sums.data() + 4;
  for (const Figure &figure : figures()) {
    std::copy(next, next + figure.sums->size(), figure.sums->begin());
    next += figure.sums->size();
  }
  windows = std::move(unpacked);
  return {};
}

Result<CalibrationText> moerun::readCalibrationText(const std::string &path, Json &facts) {
  MOERT_ASSIGN(file, TensorFile::open(path));
  const std::string *text = file.text(kMetadata);
  facts = text ? Json::parse(*text, nullptr, false) : Json();
  if (!facts.is_object()) {
    return error(Code::InvalidArgument, path, ": is no finished calibration: its metadata has no text '", kMetadata,
                 "'; make one with moe-run calibrate");
  }
  const int version = facts.value("version", 0);
  if (version != kVersion && version != kVersionWithWindows) {
    return error(Code::InvalidArgument, path, ": has version ", version, ", this moe-run reads ", kVersion, " and ",
                 kVersionWithWindows);
  }
  MOERT_ASSIGN(ids, file.read<int32_t>("text.ids", ElementType::I32));
  MOERT_ASSIGN(lengths, file.read<int32_t>("text.lengths", ElementType::I32));
  MOERT_ASSIGN(domains, file.read<int32_t>("text.domain", ElementType::I32));
  MOERT_ASSIGN(heldOut, file.read<int32_t>("text.held_out", ElementType::I32));
  CalibrationText result;
  if (facts.contains("domains") && facts["domains"].is_array()) {
    for (const Json &name : facts["domains"]) {
      result.domains.push_back(name.is_string() ? name.get<std::string>() : name.dump());
    }
  }
  size_t next = 0;
  for (size_t s = 0; s < lengths.size(); ++s) {
    const bool fits = domains.size() == lengths.size() && heldOut.size() == lengths.size() && lengths[s] >= 2 &&
                      size_t(lengths[s]) <= ids.size() - next && domains[s] >= 0 &&
                      size_t(domains[s]) < result.domains.size();
    if (!fits) {
      return error(Code::InvalidArgument, path, ": sequence ", s, " of ", lengths.size(),
                   " does not fit its ids, domains or the split; the file is damaged");
    }
    CalibrationText::Sequence &sequence = result.sequences.emplace_back();
    sequence.ids.assign(ids.begin() + int64_t(next), ids.begin() + int64_t(next) + lengths[s]);
    sequence.domain = domains[s];
    sequence.heldOut = heldOut[s] != 0;
    next += size_t(lengths[s]);
  }
  return result;
}
