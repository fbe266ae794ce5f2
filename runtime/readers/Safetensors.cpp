//===- Safetensors.cpp - Tensors of a checkpoint, by name -----------------===//
//
// The headers are parsed by events (no tree is built: a header may hold 200,000
// tensors), then sorted by offset to prove that the tensors tile the data, then
// by name. Index files map one name to another and are parsed the same way.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Safetensors.h"

#include "runtime/readers/File.h"
#include "runtime/readers/Gguf.h"

#include <algorithm>
#include <cstring>
#include <dirent.h>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sys/stat.h>

using namespace moert;
using namespace moert::readers;

namespace {

/// The reference reader's limit of the header's text.
constexpr uint64_t maxHeaderBytes = 100000000;
/// Index files of the largest models known are 20 MB.
constexpr uint64_t maxIndexBytes = 256u << 20;
/// The format nests three deep; unknown fields may nest a little more.
constexpr unsigned maxDepth = 16;

struct TypeRow {
  std::string_view name;
  unsigned bits;
};
/// In the order of ElementType.
constexpr TypeRow typeRows[] = {{"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
                                {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
                                {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
                                {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
                                {"I64", 64},        {"U64", 64}};

const TypeRow &rowOf(ElementType type) { return typeRows[static_cast<size_t>(type)]; }

/// What every event parser here shares: refuses by default, remembers why, limits the depth, and can skip one value.
class EventParser : public nlohmann::json_sax<nlohmann::json> {
public:
  explicit EventParser(const std::string &path) : path(path) {}
  Status take() { return std::move(failure); }

  bool null() override { return scalar("null"); }
  bool boolean(bool) override { return scalar("a boolean"); }
  bool number_integer(number_integer_t) override { return scalar("a negative number"); }
  bool number_unsigned(number_unsigned_t value) override {
    return skipping != 0 || isSkippedScalar() || onNumber(value);
  }
  bool number_float(number_float_t, const string_t &) override {
    return scalar("a number with a fraction or beyond 64 bits");
  }
  bool string(string_t &value) override { return skipping != 0 || isSkippedScalar() || onString(value); }
  bool binary(binary_t &) override { return scalar("binary data"); }

  bool start_object(size_t) override { return open(true); }
  bool start_array(size_t) override { return open(false); }
  bool end_object() override { return close(true); }
  bool end_array() override { return close(false); }
  bool key(string_t &value) override { return skipping != 0 || onKey(value); }

  bool parse_error(size_t position, const std::string &, const nlohmann::json::exception &exception) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ...": the part that says what.
    std::string_view what = exception.what();
    size_t start = what.find("syntax error");
    return fail("not valid JSON at byte ", position, start == what.npos ? "" : ": ",
                start == what.npos ? std::string_view() : what.substr(start));
  }

protected:
  virtual bool onNumber(uint64_t) { return scalar("a number"); }
  virtual bool onString(std::string &) { return scalar("a string"); }
  virtual bool onKey(std::string &key) = 0;
  virtual bool onOpen(bool object) = 0;
  virtual bool onClose() { return true; }
  /// What is being read, for messages: " of tensor 'x'" or nothing.
  virtual std::string place() const { return ""; }

  template <typename... Parts> bool fail(const Parts &...parts) {
    if (failure.ok()) {
      failure = error(Code::Corrupt, path, ": ", parts...);
    }
    return false;
  }

  /// The next value is of a key that means nothing here.
  void skipNext() { skipValue = true; }
  unsigned depth() const { return level; }

private:
  bool isSkippedScalar() { return std::exchange(skipValue, false); }
  bool scalar(const char *what) {
    if (skipping != 0 || isSkippedScalar()) {
      return true;
    }
    return fail(what, " where the format has none", place());
  }
  bool open(bool object) {
    if (++level > maxDepth) {
      return fail("JSON nested deeper than ", maxDepth, " levels", place());
    }
    if (skipping != 0 || isSkippedScalar()) {
      ++skipping;
      return true;
    }
    return onOpen(object);
  }
  bool close(bool) {
    --level;
    if (skipping != 0) {
      --skipping;
      return true;
    }
    return onClose();
  }

  const std::string &path;
  Status failure;
  unsigned level = 0, skipping = 0;
  bool skipValue = false;
};

/// Runs `parser` over `text`.
Status parseEvents(EventParser &parser, std::string_view text) {
  bool ok;
  try {
    ok = nlohmann::json::sax_parse(text.begin(), text.end(), &parser);
  } catch (const std::bad_alloc &) {
    return error(Code::OutOfMemory, "no memory to parse ", text.size(), " bytes of JSON");
  } catch (const std::exception &exception) {
    return error(Code::Internal, "JSON parser: ", exception.what());
  }
  Status failure = parser.take();
  return ok || !failure.ok() ? failure : error(Code::Internal, "JSON parser stopped without a reason");
}

/// {"name": {"dtype", "shape", "data_offsets"}, "__metadata__": {...}}
class HeaderParser : public EventParser {
public:
  HeaderParser(const std::string &path, SafetensorsHeader &out) : EventParser(path), out(out) {}

private:
  enum class Field { None, Type, Shape, Offsets };
  enum : unsigned { SawType = 1, SawShape = 2, SawOffsets = 4 };

  std::string place() const override { return tensor == nullptr ? "" : concat(" (tensor '", tensor->name, "')"); }

  bool onOpen(bool object) override {
    if (depth() == 1) {
      return object || fail("the header is not a JSON object");
    }
    if (depth() == 2 && inMetadata) {
      return object || fail("\"__metadata__\" is not an object");
    }
    if (depth() == 2) {
      return object || fail("tensor '", tensor->name, "': its entry is not an object");
    }
    bool list = !object && depth() == 3 && tensor != nullptr && (field == Field::Shape || field == Field::Offsets);
    return list || fail("unexpected ", object ? "object" : "list", place());
  }

  bool onKey(std::string &key) override {
    if (depth() == 1) {
      inMetadata = key == "__metadata__";
      if (inMetadata) {
        tensor = nullptr;
        return !std::exchange(sawMetadata, true) || fail("\"__metadata__\" appears twice");
      }
      tensor = &out.tensors.emplace_back();
      tensor->name = std::move(key);
      offsets.clear();
      seen = 0;
      return true;
    }
    if (inMetadata) {
      metadataKey = std::move(key);
      return true;
    }
    unsigned bit = key == "dtype" ? SawType : key == "shape" ? SawShape : key == "data_offsets" ? SawOffsets : 0;
    field = key == "dtype" ? Field::Type : key == "shape" ? Field::Shape : bit != 0 ? Field::Offsets : Field::None;
    if (bit == 0) {
      skipNext();
    } else if ((seen & bit) != 0) {
      return fail("tensor '", tensor->name, "': \"", key, "\" appears twice");
    }
    seen |= bit;
    return true;
  }

  bool onString(std::string &value) override {
    if (inMetadata && depth() == 2) {
      return out.metadata.emplace(std::move(metadataKey), std::move(value)).second ||
             fail("a key of \"__metadata__\" appears twice");
    }
    if (tensor == nullptr || depth() != 2 || field != Field::Type) {
      return fail("unexpected string \"", value, "\"", place());
    }
    auto row =
        std::find_if(std::begin(typeRows), std::end(typeRows), [&](const TypeRow &r) { return r.name == value; });
    if (row == std::end(typeRows)) {
      return fail("tensor '", tensor->name, "': dtype \"", value, "\" is not a safetensors dtype");
    }
    tensor->type = static_cast<ElementType>(row - typeRows);
    return true;
  }

  bool onNumber(uint64_t value) override {
    if (tensor == nullptr || depth() != 3) {
      return fail("unexpected number ", value, inMetadata ? " in \"__metadata__\", which holds strings only" : place());
    }
    if (field == Field::Offsets) {
      offsets.push_back(value);
      return offsets.size() <= 2 || fail("tensor '", tensor->name, "': \"data_offsets\" has more than 2 numbers");
    }
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return fail("tensor '", tensor->name, "': dimension ", value, " is beyond 2^63 - 1");
    }
    tensor->shape.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool onClose() override {
    if (depth() != 1) {
      return true;
    }
    if (inMetadata) {
      inMetadata = false;
      return true;
    }
    if (tensor == nullptr) {
      return true;
    }
    if (seen != (SawType | SawShape | SawOffsets)) {
      return fail("tensor '", tensor->name, "': has no ",
                  (seen & SawType) == 0    ? "\"dtype\""
                  : (seen & SawShape) == 0 ? "\"shape\""
                                           : "\"data_offsets\"");
    }
    if (offsets.size() != 2 || offsets[0] > offsets[1]) {
      return fail("tensor '", tensor->name, "': \"data_offsets\" must be [begin, end] with begin <= end, not [",
                  offsets.empty() ? "" : std::to_string(offsets[0]), offsets.size() < 2 ? "" : concat(", ", offsets[1]),
                  "]");
    }
    tensor->offset = offsets[0];
    tensor->bytes = offsets[1] - offsets[0];
    tensor = nullptr;
    return true;
  }

  SafetensorsHeader &out;
  TensorInfo *tensor = nullptr;
  std::string metadataKey;
  std::vector<uint64_t> offsets;
  Field field = Field::None;
  unsigned seen = 0;
  bool inMetadata = false, sawMetadata = false;
};

/// {"metadata": {...}, "weight_map": {"tensor": "file"}}
class IndexParser : public EventParser {
public:
  IndexParser(const std::string &path, WeightMap &out) : EventParser(path), out(out) {}
  bool sawMap = false;

private:
  bool onOpen(bool object) override {
    if (depth() > 2) {
      return fail("\"weight_map\" holds something else than file names");
    }
    return object || fail(depth() == 1 ? "the index is not a JSON object" : "\"weight_map\" is not an object");
  }
  bool onKey(std::string &key) override {
    if (depth() == 2) {
      tensor = std::move(key);
    } else if (key != "weight_map") {
      skipNext();
    } else if (std::exchange(sawMap, true)) {
      return fail("\"weight_map\" appears twice");
    }
    return true;
  }
  bool onString(std::string &value) override {
    if (depth() != 2) {
      return fail("\"weight_map\" is not an object");
    }
    out.emplace_back(std::move(tensor), std::move(value));
    return true;
  }

  WeightMap &out;
  std::string tensor;
};

/// Bytes of a tensor of that shape, from its type; false on overflow or when the bits make no whole bytes.
bool bytesOf(const TensorInfo &tensor, uint64_t &bytes) {
  uint64_t elements = 1;
  for (int64_t dim : tensor.shape) {
    if (__builtin_mul_overflow(elements, static_cast<uint64_t>(dim), &elements)) {
      return false;
    }
  }
  uint64_t bits;
  if (__builtin_mul_overflow(elements, uint64_t(elementTypeBits(tensor.type)), &bits) || bits % 8 != 0) {
    return false;
  }
  bytes = bits / 8;
  return true;
}

std::string shapeText(const TensorInfo &tensor) {
  std::string text = "[";
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(tensor.shape[i]);
  }
  return text + "] " + std::string(elementTypeName(tensor.type));
}

/// Sizes follow from shapes, tensors tile [0, data), and the file ends where the last one does.
Status checkLayout(const std::string &path, const std::vector<TensorInfo> &tensors, uint64_t dataBytes) {
  std::vector<uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(tensors[a].offset, tensors[a].bytes) < std::pair(tensors[b].offset, tensors[b].bytes);
  });
  uint64_t end = 0;
  const TensorInfo *previous = nullptr;
  for (uint32_t i : order) {
    const TensorInfo &tensor = tensors[i];
    uint64_t bytes;
    if (!bytesOf(tensor, bytes)) {
      return error(Code::Corrupt, path, ": tensor '", tensor.name, "': the size of ", shapeText(tensor),
                   " is not a number of bytes below 2^64");
    }
    if (bytes != tensor.bytes) {
      return error(Code::Corrupt, path, ": tensor '", tensor.name, "': ", shapeText(tensor), " needs ", bytes,
                   " bytes, but its data_offsets [", tensor.offset, ", ", tensor.offset + tensor.bytes, "] hold ",
                   tensor.bytes);
    }
    if (tensor.offset != end) {
      std::string before = previous == nullptr ? "the data begins" : "tensor '" + previous->name + "' ends";
      return error(Code::Corrupt, path, ": tensor '", tensor.name, "' begins at ", tensor.offset, ", but ", before,
                   " at ", end, ": tensors must follow each other without ", tensor.offset < end ? "overlap" : "holes");
    }
    end = tensor.offset + tensor.bytes;
    previous = &tensor;
  }
  if (end != dataBytes) {
    return error(Code::Corrupt, path, ": the header describes ", end, " bytes of data, but the file holds ", dataBytes,
                 end > dataBytes ? "; the download was cut short, fetch it again" : "; bytes after the last tensor");
  }
  return Status();
}

bool isPlainName(const std::string &name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos && name.find('\\') == name.npos &&
         name.find('\0') == name.npos;
}

bool byName(const TensorInfo &a, const TensorInfo &b) { return a.name < b.name; }

/// What a directory without safetensors holds instead, for the message.
std::string otherFormats(const std::string &directory) {
  std::string found;
  if (DIR *listing = ::opendir(directory.c_str())) {
    while (const dirent *entry = ::readdir(listing)) {
      std::string name = entry->d_name;
      auto endsWith = [&](std::string_view end) {
        return name.size() > end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
      };
      if (found.empty() && (endsWith(".gguf") || endsWith(".bin") || endsWith(".pt") || endsWith(".pth"))) {
        found = name;
      }
    }
    ::closedir(listing);
  }
  return found;
}

} // namespace

std::string_view moert::readers::elementTypeName(ElementType type) { return rowOf(type).name; }
unsigned moert::readers::elementTypeBits(ElementType type) { return rowOf(type).bits; }

Result<SafetensorsHeader> moert::readers::parseSafetensorsHeader(const std::string &path, std::string_view header,
                                                                 uint64_t fileSize) {
  if (header.size() > maxHeaderBytes || fileSize < 8 || header.size() > fileSize - 8) {
    return error(Code::Corrupt, path, ": a header of ", header.size(), " bytes does not fit a file of ", fileSize);
  }
  if (header.empty() || header[0] != '{') {
    return error(Code::Corrupt, path, ": the header does not begin with '{'; is this a safetensors file?");
  }
  SafetensorsHeader result;
  HeaderParser parser(path, result);
  MOERT_TRY(parseEvents(parser, header));
  std::vector<TensorInfo> &tensors = result.tensors;
  MOERT_TRY(checkLayout(path, tensors, fileSize - 8 - header.size()));
  std::sort(tensors.begin(), tensors.end(), byName);
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (i != 0 && tensors[i].name == tensors[i - 1].name) {
      return error(Code::Corrupt, path, ": tensor '", tensors[i].name, "' appears twice in the header");
    }
    tensors[i].offset += 8 + header.size();
  }
  return result;
}

Result<SafetensorsHeader> moert::readers::readSafetensorsHeader(const std::string &path, CheckpointFile &facts) {
  MOERT_ASSIGN(file, InputFile::open(path));
  facts.name = path.substr(path.rfind('/') + 1);
  facts.path = path;
  facts.size = file.size();
  facts.mtimeNs = file.mtimeNs();
  if (file.size() < 8) {
    return error(Code::Corrupt, path, ": ", file.size(), " bytes is too short for a safetensors file (at least 8)");
  }
  uint8_t prefix[8];
  MOERT_TRY(file.read(0, prefix, 8));
  if (std::memcmp(prefix, "version ", 8) == 0) {
    return error(Code::Corrupt, path,
                 ": is a pointer of Git LFS and not the file itself; fetch it with 'git lfs pull'");
  }
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) {
    length = length << 8 | prefix[i];
  }
  if (length > maxHeaderBytes) {
    return error(Code::Corrupt, path, ": a header of ", length, " bytes is more than the ", maxHeaderBytes,
                 " that the format allows; is this a safetensors file?");
  }
  if (length > file.size() - 8) {
    return error(Code::Corrupt, path, ": the header needs ", length, " bytes, but only ", file.size() - 8,
                 " follow; the download was cut short, fetch it again");
  }
  std::string header(length, '\0');
  MOERT_TRY(file.read(8, header.data(), length));
  format::Sha256 hash;
  hash.update(prefix, 8);
  hash.update(header.data(), length);
  facts.headerSha256 = hash.finish();
  facts.headerBytes = 8 + length;
  Result<SafetensorsHeader> parsed = parseSafetensorsHeader(path, header, file.size());
  if (parsed.ok()) {
    facts.metadata = parsed->metadata;
  }
  return parsed;
}

Result<WeightMap> moert::readers::parseSafetensorsIndex(const std::string &path, std::string_view text) {
  WeightMap map;
  IndexParser parser(path, map);
  MOERT_TRY(parseEvents(parser, text));
  if (!parser.sawMap) {
    return error(Code::Corrupt, path, ": has no \"weight_map\"");
  }
  std::sort(map.begin(), map.end());
  for (size_t i = 0; i < map.size(); ++i) {
    if (i != 0 && map[i].first == map[i - 1].first) {
      return error(Code::Corrupt, path, ": tensor '", map[i].first, "' appears twice in \"weight_map\"");
    }
    if (!isPlainName(map[i].second)) {
      return error(Code::Corrupt, path, ": tensor '", map[i].first, "' is mapped to \"", map[i].second,
                   "\", which is not a plain file name");
    }
  }
  return map;
}

Checkpoint Checkpoint::of(CheckpointFile file, std::vector<TensorInfo> tensors) {
  Checkpoint checkpoint;
  checkpoint.allFiles.push_back(std::move(file));
  checkpoint.allTensors = std::move(tensors);
  return checkpoint;
}

Result<Checkpoint> Checkpoint::openFile(const std::string &path) {
  CheckpointFile facts;
  if (isGguf(path)) {
    MOERT_ASSIGN(header, readGgufHeader(path, facts));
    return of(std::move(facts), std::move(header.tensors));
  }
  MOERT_ASSIGN(header, readSafetensorsHeader(path, facts));
  return of(std::move(facts), std::move(header.tensors));
}

Result<Checkpoint> Checkpoint::openIndex(const std::string &directory, const std::string &index) {
  std::string indexPath = joinPath(directory, index);
  MOERT_ASSIGN(text, readWholeFile(indexPath, maxIndexBytes));
  MOERT_ASSIGN(map, parseSafetensorsIndex(indexPath, text));
  std::map<std::string, uint64_t> uses;
  for (const auto &[tensor, file] : map) {
    ++uses[file];
  }
  std::string missing;
  unsigned missingCount = 0;
  for (const auto &[file, count] : uses) {
    if (!exists(joinPath(directory, file))) {
      missing += (missing.empty() ? "" : ", ") + file + " (" + std::to_string(count) + " tensors)";
      if (++missingCount == 4) {
        missing += ", ...";
        break;
      }
    }
  }
  if (missingCount != 0) {
    return error(Code::NotFound, directory, ": missing ", missing, ", named by ", index,
                 "; fetch the whole checkpoint");
  }

  Checkpoint checkpoint;
  for (const auto &[file, count] : uses) {
    auto number = static_cast<uint32_t>(checkpoint.allFiles.size());
    MOERT_ASSIGN(header, readSafetensorsHeader(joinPath(directory, file), checkpoint.allFiles.emplace_back()));
    for (TensorInfo &tensor : header.tensors) {
      tensor.file = number;
      checkpoint.allTensors.push_back(std::move(tensor));
    }
  }
  std::vector<TensorInfo> &tensors = checkpoint.allTensors;
  std::sort(tensors.begin(), tensors.end(), byName);
  for (size_t i = 1; i < tensors.size(); ++i) {
    if (tensors[i].name == tensors[i - 1].name) {
      return error(Code::Corrupt, directory, ": tensor '", tensors[i].name, "' is in two files, ",
                   checkpoint.allFiles[tensors[i - 1].file].name, " and ", checkpoint.allFiles[tensors[i].file].name);
    }
  }
  // Both lists are sorted by name; what the index does not map is not part of the model.
  size_t next = 0, kept = 0;
  for (const auto &[name, file] : map) {
    while (next < tensors.size() && tensors[next].name < name) {
      ++next;
    }
    if (next == tensors.size() || tensors[next].name != name) {
      return error(Code::Corrupt, directory, ": tensor '", name, "' is not in ", file, ", where ", index, " places it");
    }
    const std::string &actual = checkpoint.allFiles[tensors[next].file].name;
    if (actual != file) {
      return error(Code::Corrupt, directory, ": tensor '", name, "' is in ", actual, ", but ", index, " places it in ",
                   file);
    }
    if (kept != next) {
      tensors[kept] = std::move(tensors[next]);
    }
    ++kept;
    ++next;
  }
  tensors.resize(kept);
  return checkpoint;
}

Result<Checkpoint> Checkpoint::open(const std::string &path) {
  struct stat facts;
  if (::stat(path.c_str(), &facts) != 0) {
    return error(Code::NotFound, path, ": no such checkpoint directory or file");
  }
  if (!S_ISDIR(facts.st_mode)) {
    return openFile(path);
  }
  for (const char *name : {"model.safetensors", "consolidated.safetensors"}) {
    std::string index = std::string(name) + ".index.json";
    if (exists(joinPath(path, index))) {
      return openIndex(path, index);
    }
    if (exists(joinPath(path, name))) {
      return openFile(joinPath(path, name));
    }
  }
  std::string other = otherFormats(path);
  std::string hint;
  if (!other.empty()) {
    hint = isGguf(joinPath(path, other)) ? concat("; to read '", other, "', name that file itself")
                                         : concat("; '", other, "' is not safetensors, convert the checkpoint first");
  }
  return error(Code::NotFound, path, ": has neither model.safetensors.index.json nor model.safetensors", hint);
}

const TensorInfo *Checkpoint::find(std::string_view name) const {
  auto at = std::lower_bound(allTensors.begin(), allTensors.end(), name,
                             [](const TensorInfo &tensor, std::string_view wanted) { return tensor.name < wanted; });
  return at != allTensors.end() && at->name == name ? &*at : nullptr;
}
