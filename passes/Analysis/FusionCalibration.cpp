//===- FusionCalibration.cpp - What was measured on a model, as plans need it ===//

#include "passes/Analysis/FusionCalibration.h"
#include "passes/Json/JsonFile.h"
#include "runtime/readers/File.h"
#include "runtime/readers/Safetensors.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>
#include <set>

using namespace mlir::moe;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
using moert::readers::ElementType;
using moert::readers::TensorInfo;
namespace json = llvm::json;

static constexpr llvm::StringLiteral kFormat = "moe-opt calibration";
static constexpr int64_t kMaxVersion = 2;
/// Limits of what a file may claim.
static constexpr int64_t kMaxLayers = 65536, kMaxWindows = 1 << 22, kMaxTokens = int64_t(1) << 40;

namespace {

/// Reads tensors of one file; the first fault is kept.
class TensorReader {
public:
  TensorReader(StringRef path, const moert::readers::SafetensorsHeader &header, moert::readers::InputFile &file)
      : path(path), header(header), file(file) {}

  const TensorInfo *find(StringRef name) const {
    auto found = llvm::find_if(header.tensors, [&](const TensorInfo &tensor) { return tensor.name == name; });
    return found == header.tensors.end() ? nullptr : &*found;
  }

  /// A dim of -1 may be any. `mayLack`: some values are not known, and no numbers.
  template <typename T>
  std::vector<T> read(StringRef name, ElementType type, std::vector<int64_t> shape, bool mayLack = false) {
    const TensorInfo *tensor = find(name);
    if (!tensor) {
      fail("has no tensor '" + name + "'");
      return {};
    }
    bool fits = tensor->type == type && tensor->shape.size() == shape.size();
    for (size_t i = 0; fits && i < shape.size(); ++i) {
      fits = shape[i] < 0 || tensor->shape[i] == shape[i];
    }
    if (!fits) {
      fail("tensor '" + name + "' is " + spell(tensor->type, tensor->shape) + ", but must be " + spell(type, shape));
      return {};
    }
    std::vector<T> values(tensor->bytes / sizeof(T));
    moert::Status status = file.read(tensor->offset, values.data(), tensor->bytes);
    if (!status.ok()) {
      fail(Twine("tensor '") + name + "': " + status.message());
      return {};
    }
    if constexpr (std::is_floating_point_v<T>) {
      for (auto [index, value] : llvm::enumerate(values)) {
        if (!std::isfinite(value) && !mayLack) {
          fail("tensor '" + name + "' has no number at " + Twine(index));
        }
      }
    }
    return values;
  }

  void fail(const Twine &message) {
    if (fault.empty()) {
      fault = (path + ": " + message).str();
    }
  }
  std::string fault;

private:
  static std::string spell(ElementType type, llvm::ArrayRef<int64_t> shape) {
    std::string text(moert::readers::elementTypeName(type));
    text += " [";
    for (auto [i, dim] : llvm::enumerate(shape)) {
      text += (i ? ", " : "") + (dim < 0 ? std::string("any") : std::to_string(dim));
    }
    return text + "]";
  }

  StringRef path;
  const moert::readers::SafetensorsHeader &header;
  moert::readers::InputFile &file;
};

} // namespace

const MeasuredWindow *FusionCalibration::find(int64_t first, int64_t length, FusionForm form) const {
  auto found = llvm::find_if(windows, [&](const MeasuredWindow &window) {
    return window.first == first && window.length == length && window.form == form;
  });
  return found == windows.end() ? nullptr : &*found;
}

/// What the text in the metadata says.
static void readFacts(TensorReader &reader, const json::Value &value, FusionCalibration &result) {
  const json::Object *root = value.getAsObject();
  if (!root || root->getString("format") != kFormat) {
    reader.fail("is not a calibration: its metadata has no \"format\": \"" + kFormat + "\"");
    return;
  }
  std::optional<int64_t> version = root->getInteger("version");
  if (!version || *version < 1 || *version > kMaxVersion) {
    reader.fail("'version' is " + (root->get("version") ? describe(*root->get("version")) : std::string("missing")) +
                ", but 1 to " + Twine(kMaxVersion) + " are known");
    return;
  }
  auto number = [&](StringRef key, int64_t min, int64_t max) {
    std::optional<int64_t> found = root->getInteger(key);
    if (!found || *found < min || *found > max) {
      reader.fail("'" + key + "' must be an integer from " + Twine(min) + " to " + Twine(max));
    }
    return found.value_or(min);
  };
  result.layers = number("layers", 1, kMaxLayers);
  result.hidden = number("hidden", 1, kMaxLayers * 64);
  result.sequences = number("sequences", 0, kMaxTokens);
  result.tokens = number("tokens", 0, kMaxTokens);
  // Absent without windows: then nothing was judged.
  result.judgedTokens = root->get("judged_tokens") ? number("judged_tokens", 0, kMaxTokens) : 0;
  result.fingerprint = root->getString("fingerprint").value_or("").str();
  const json::Array *domains = root->getArray("domains");
  for (const json::Value &domain : domains ? *domains : json::Array()) {
    result.domains.push_back(domain.getAsString().value_or("").str());
  }
  if (result.domains.empty()) {
    reader.fail("'domains' must be an array of names");
  }
}

/// The text that was kept for judging.
static void readHeldOut(TensorReader &reader, FusionCalibration &result) {
  std::vector<int32_t> lengths = reader.read<int32_t>("text.lengths", ElementType::I32, {-1});
  const auto count = static_cast<int64_t>(lengths.size());
  std::vector<int32_t> domains = reader.read<int32_t>("text.domain", ElementType::I32, {count});
  std::vector<int32_t> heldOut = reader.read<int32_t>("text.held_out", ElementType::I32, {count});
  if (!reader.fault.empty()) {
    return;
  }
  std::vector<int32_t> ids = reader.read<int32_t>("text.ids", ElementType::I32, {-1});
  std::set<int32_t> seen;
  int64_t total = 0;
  for (auto [sequence, length, domain, held] : llvm::zip(llvm::seq(count), lengths, domains, heldOut)) {
    if (length < 1 || domain < 0 || domain >= static_cast<int64_t>(result.domains.size())) {
      reader.fail("sequence " + Twine(sequence) + " has " + Twine(length) + " tokens and is of domain " +
                  Twine(domain) + ", but sequences have one or more and there are " + Twine(result.domains.size()) +
                  " domains");
      return;
    }
    total += length;
    if (held) {
      ++result.heldOutSequences;
      result.heldOutTokens += length;
      seen.insert(domain);
    }
  }
  if (reader.fault.empty() && total != static_cast<int64_t>(ids.size())) {
    reader.fail("has sequences of " + Twine(total) + " tokens, but " + Twine(ids.size()) + " ids");
  }
  result.heldOutDomains = static_cast<int64_t>(seen.size());
}

static void readWindows(TensorReader &reader, FusionCalibration &result) {
  if (!reader.find("windows")) {
    return;
  }
  std::vector<int32_t> places = reader.read<int32_t>("windows", ElementType::I32, {-1, 3});
  const auto count = static_cast<int64_t>(places.size() / 3), domains = static_cast<int64_t>(result.domains.size());
  if (count > kMaxWindows) {
    reader.fail("has " + Twine(count) + " windows, but may have " + Twine(kMaxWindows));
    return;
  }
  auto figures = [&](StringRef name) { return reader.read<double>(name, ElementType::F64, {count}); };
  std::vector<double> error = figures("window_error"), errorRepaired = figures("window_error_repaired"),
                      kl = figures("window_kl"), klRepaired = figures("window_kl_repaired"),
                      bound = reader.read<double>("window_kl_bound", ElementType::F64, {count}, /*mayLack=*/true),
                      winner = figures("window_same_winner");
  std::vector<double> perDomain =
      reader.read<double>("window_kl_domains", ElementType::F64, {count, domains}, /*mayLack=*/true);
  if (!reader.fault.empty()) {
    return;
  }
  for (int64_t w = 0; w < count; ++w) {
    MeasuredWindow window;
    window.first = places[3 * w];
    window.length = places[3 * w + 1];
    const int32_t form = places[3 * w + 2];
    if (window.first < 0 || window.length < 1 || window.first + window.length > result.layers || form < 0 || form > 2) {
      reader.fail("window " + Twine(w) + " is layer " + Twine(window.first) + ", length " + Twine(window.length) +
                  ", form " + Twine(form) + ", but the model has " + Twine(result.layers) +
                  " layers and forms are 0 to 2");
      return;
    }
    // Rounding makes a KL of 0 negative by less than this.
    if (kl[w] < -1e-6 || klRepaired[w] < -1e-6) {
      reader.fail("window " + Twine(w) + " has a KL of " + llvm::formatv("{0:e3}", std::min(kl[w], klRepaired[w])) +
                  ", but a KL is not below 0");
      return;
    }
    window.form = static_cast<FusionForm>(form);
    window.error = error[w];
    window.errorRepaired = errorRepaired[w];
    window.kl = kl[w];
    window.klRepaired = klRepaired[w];
    window.klBound = bound[w];
    window.sameWinner = winner[w];
    window.klDomains.assign(perDomain.begin() + w * domains, perDomain.begin() + (w + 1) * domains);
    result.windows.push_back(std::move(window));
  }
}

Expected<FusionCalibration> mlir::moe::readFusionCalibration(StringRef path) {
  moert::readers::CheckpointFile facts;
  moert::Result<moert::readers::SafetensorsHeader> header = moert::readers::readSafetensorsHeader(path.str(), facts);
  if (!header.ok()) {
    return makeError(header.status().message());
  }
  moert::Result<moert::readers::InputFile> file = moert::readers::InputFile::open(path.str());
  if (!file.ok()) {
    return makeError(file.status().message());
  }
  auto text = header->metadata.find("calibration");
  if (text == header->metadata.end()) {
    return makeError(path + ": is not a finished calibration: 'moe-run calibrate' writes one");
  }
  Expected<json::Value> value = parseJson(text->second, path);
  if (!value) {
    return value.takeError();
  }
  FusionCalibration result;
  TensorReader reader(path, *header, *file);
  readFacts(reader, *value, result);
  if (reader.fault.empty()) {
    const int64_t layers = result.layers;
    result.dependency = reader.read<double>("dependency", ElementType::F64, {layers, layers});
    result.blockInfluence = reader.read<double>("block_influence", ElementType::F64, {layers});
    result.attentionContribution = reader.read<double>("attention_contribution", ElementType::F64, {layers});
    result.attentionRemovedKl = reader.read<double>("attention_removed_kl", ElementType::F64, {layers});
    std::vector<double> loss = reader.read<double>("base_loss", ElementType::F64, {});
    result.baseLoss = loss.empty() ? 0 : loss.front();
    readHeldOut(reader, result);
    readWindows(reader, result);
  }
  if (!reader.fault.empty()) {
    return makeError(reader.fault);
  }
  return result;
}
