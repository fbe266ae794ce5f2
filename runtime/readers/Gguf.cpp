//===- Gguf.cpp - The header of a GGUF file -------------------------------===//
//
// The header has no length of its own: it is read through a window that moves
// over the file, and hashed on the way. Before anything is stored, its count is
// compared with the bytes that are left, so that memory is bounded by the file.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Gguf.h"

#include "runtime/readers/File.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

using namespace moert;
using namespace moert::readers;

namespace {

/// As of safetensors: larger headers are refused. Vocabularies with their merges take some 10 MB.
constexpr uint64_t maxHeaderBytes = 100000000;
constexpr uint64_t maxKeyBytes = 65535, maxTensorNameBytes = 255;
constexpr uint32_t maxRank = 4;
constexpr uint64_t maxAlignment = 1 << 20;

/// The numbers of the format for the types of values, in its order.
enum ValueType : uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64, ValueTypes };
/// Bytes of one value; 0: no fixed size.
constexpr uint32_t valueBytes[ValueTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

/// A type of tensors: its number in the format and its name there.
struct TypeRow {
  uint32_t number;
  const char *name;
  ElementType type;
};
constexpr TypeRow plainTypes[] = {
    {0, "F32", ElementType::F32},  {1, "F16", ElementType::F16},  {30, "BF16", ElementType::BF16},
    {28, "F64", ElementType::F64}, {24, "I8", ElementType::I8},   {25, "I16", ElementType::I16},
    {26, "I32", ElementType::I32}, {27, "I64", ElementType::I64},
};
struct NamedNumber {
  uint32_t number;
  const char *name;
};
constexpr NamedNumber quantisedTypes[] = {
    {2, "Q4_0"},     {3, "Q4_1"},    {6, "Q5_0"},     {7, "Q5_1"},   {8, "Q8_0"},    {9, "Q8_1"},
    {10, "Q2_K"},    {11, "Q3_K"},   {12, "Q4_K"},    {13, "Q5_K"},  {14, "Q6_K"},   {15, "Q8_K"},
    {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},
    {22, "IQ2_S"},   {23, "IQ4_XS"}, {29, "IQ1_M"},   {34, "TQ1_0"}, {35, "TQ2_0"},  {39, "MXFP4"},
};

/// Reads a file from front to back through a window, and hashes what it passes.
class Cursor {
public:
  Cursor(const std::string &path, const InputFile &file) : path(path), file(file) {}

  uint64_t position() const { return at; }
  /// Bytes that may still be read: of the file, and of the largest header.
  uint64_t left() const { return std::min(file.size(), maxHeaderBytes) - at; }

  /// Reads `size` bytes; `what` names them in the error.
  Status read(void *out, uint64_t size, const char *what) {
    if (size > left()) {
      return file.size() > maxHeaderBytes
                 ? error(Code::Corrupt, path, ": the header is longer than the ", maxHeaderBytes,
                         " bytes that are read; at byte ", at, " follow ", size, " bytes of ", what)
                 : error(Code::Corrupt, path, ": ", what, " at byte ", at, " needs ", size, " bytes, but only ", left(),
                         " follow; the download was cut short, fetch it again");
    }
    auto *bytes = static_cast<uint8_t *>(out);
    while (size != 0) {
      if (at == windowStart + window.size()) {
        windowStart = at;
        window.resize(static_cast<size_t>(std::min<uint64_t>(file.size() - at, 256 << 10)));
        MOERT_TRY(file.read(windowStart, window.data(), window.size()));
      }
      const uint64_t piece = std::min<uint64_t>(size, windowStart + window.size() - at);
      std::memcpy(bytes, window.data() + (at - windowStart), piece);
      hash.update(bytes, piece);
      bytes += piece;
      at += piece;
      size -= piece;
    }
    return Status();
  }

  template <typename T> Status number(T &out, const char *what) {
    uint8_t bytes[sizeof(T)];
    MOERT_TRY(read(bytes, sizeof(T), what));
    uint64_t value = 0;
    for (size_t i = sizeof(T); i-- > 0;) {
      value = value << 8 | bytes[i];
    }
    out = static_cast<T>(value);
    return Status();
  }

  Status string(std::string &out, uint64_t limit, const char *what) {
    uint64_t length = 0;
    MOERT_TRY(number(length, what));
    if (length > limit) {
      return error(Code::Corrupt, path, ": ", what, " at byte ", at, " has ", length, " bytes, which must be at most ",
                   limit);
    }
    if (length > left()) {
      return read(nullptr, length, what); // which says so
    }
    out.resize(static_cast<size_t>(length));
    return read(out.data(), length, what);
  }

  format::Digest digest() { return hash.finish(); }

private:
  const std::string &path;
  const InputFile &file;
  std::vector<uint8_t> window;
  uint64_t windowStart = 0, at = 0;
  format::Sha256 hash;
};

class Parser {
public:
  Parser(const std::string &path, const InputFile &file) : path(path), fileSize(file.size()), cursor(path, file) {}

  Status parse(GgufHeader &out);
  format::Digest digest() { return cursor.digest(); }

private:
  Status parseValue(uint32_t type, const std::string &key, GgufValue &out);
  Status parseArray(const std::string &key, GgufValue &out);
  /// A number of any type as one of the two that are kept; `isReal` says which.
  Status parseNumber(uint32_t type, const std::string &key, int64_t &integer, double &real, bool &isReal);
  Status parseTensor(TensorInfo &out);
  Status checkLayout(std::vector<TensorInfo> &tensors, uint64_t dataStart, uint64_t alignment) const;

  template <typename... Parts> Status corrupt(const Parts &...parts) const {
    return error(Code::Corrupt, path, ": ", parts...);
  }

  const std::string &path;
  const uint64_t fileSize;
  Cursor cursor;
};

Status Parser::parseNumber(uint32_t type, const std::string &key, int64_t &integer, double &real, bool &isReal) {
  uint64_t bits = 0;
  uint8_t bytes[8];
  MOERT_TRY(cursor.read(bytes, valueBytes[type], "a number of the metadata"));
  for (size_t i = valueBytes[type]; i-- > 0;) {
    bits = bits << 8 | bytes[i];
  }
  isReal = type == F32 || type == F64;
  switch (type) {
  case I8:
    integer = static_cast<int8_t>(bits);
    break;
  case I16:
    integer = static_cast<int16_t>(bits);
    break;
  case I32:
    integer = static_cast<int32_t>(bits);
    break;
  case F32: {
    const auto word = static_cast<uint32_t>(bits);
    float value;
    std::memcpy(&value, &word, sizeof(value));
    real = static_cast<double>(value);
    break;
  }
  case F64:
    std::memcpy(&real, &bits, sizeof(real));
    break;
  case U64:
    if (bits > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return corrupt("'", key, "': ", bits, " is beyond 2^63 - 1");
    }
    integer = static_cast<int64_t>(bits);
    break;
  case Bool:
    if (bits > 1) {
      return corrupt("'", key, "': a boolean must be 0 or 1, but is ", bits);
    }
    integer = static_cast<int64_t>(bits);
    break;
  default:
    integer = static_cast<int64_t>(bits);
  }
  return Status();
}

Status Parser::parseArray(const std::string &key, GgufValue &out) {
  uint32_t type = 0;
  uint64_t count = 0;
  MOERT_TRY(cursor.number(type, "an element type"));
  MOERT_TRY(cursor.number(count, "an array's length"));
  if (type >= ValueTypes || type == Array) {
    return corrupt("'", key, "': an array of type ", type, ", which is ",
                   type == Array ? "an array itself, is not supported" : "no type of the format");
  }
  // A string has at least its length.
  const uint64_t smallest = type == String ? 8 : valueBytes[type];
  if (count > cursor.left() / smallest) {
    return corrupt("'", key, "': an array of ", count, " values of at least ", smallest, " bytes each, but only ",
                   cursor.left(), " bytes follow");
  }
  if (type == String) {
    auto &strings = out.emplace<std::vector<std::string>>();
    strings.reserve(static_cast<size_t>(count));
    for (uint64_t i = 0; i < count; ++i) {
      MOERT_TRY(cursor.string(strings.emplace_back(), maxHeaderBytes, "a string"));
    }
    return Status();
  }
  std::vector<int64_t> integers;
  std::vector<double> reals;
  const bool areReals = type == F32 || type == F64;
  if (areReals) {
    reals.reserve(static_cast<size_t>(count));
  } else {
    integers.reserve(static_cast<size_t>(count));
  }
  for (uint64_t i = 0; i < count; ++i) {
    int64_t integer = 0;
    double real = 0;
    bool isReal = false;
    MOERT_TRY(parseNumber(type, key, integer, real, isReal));
    if (isReal) {
      reals.push_back(real);
    } else {
      integers.push_back(integer);
    }
  }
  if (areReals) {
    out = std::move(reals);
  } else {
    out = std::move(integers);
  }
  return Status();
}

Status Parser::parseValue(uint32_t type, const std::string &key, GgufValue &out) {
  if (type >= ValueTypes) {
    return corrupt("'", key, "' has type ", type, ", which is no type of the format");
  }
  if (type == Array) {
    return parseArray(key, out);
  }
  if (type == String) {
    return cursor.string(out.emplace<std::string>(), maxHeaderBytes, "a string");
  }
  int64_t integer = 0;
  double real = 0;
  bool isReal = false;
  MOERT_TRY(parseNumber(type, key, integer, real, isReal));
  if (type == Bool) {
    out = integer != 0;
  } else if (isReal) {
    out = real;
  } else {
    out = integer;
  }
  return Status();
}

Status Parser::parseTensor(TensorInfo &out) {
  MOERT_TRY(cursor.string(out.name, maxTensorNameBytes, "a tensor's name"));
  uint32_t rank = 0, type = 0;
  MOERT_TRY(cursor.number(rank, "a tensor's rank"));
  if (rank > maxRank) {
    return corrupt("tensor '", out.name, "' has rank ", rank, ", which must be at most ", maxRank);
  }
  uint64_t elements = 1;
  out.shape.resize(rank);
  for (uint32_t i = 0; i < rank; ++i) {
    uint64_t dim = 0;
    MOERT_TRY(cursor.number(dim, "a dimension"));
    if (dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
        __builtin_mul_overflow(elements, dim, &elements)) {
      return corrupt("tensor '", out.name, "': dimension ", dim, " makes more than 2^64 elements");
    }
    out.shape[rank - 1 - i] = static_cast<int64_t>(dim);
  }
  MOERT_TRY(cursor.number(type, "a tensor's type"));
  MOERT_TRY(cursor.number(out.offset, "a tensor's offset"));
  auto is = [&](const auto &row) { return row.number == type; };
  const auto *row = std::find_if(std::begin(plainTypes), std::end(plainTypes), is);
  if (row == std::end(plainTypes)) {
    const auto *quantised = std::find_if(std::begin(quantisedTypes), std::end(quantisedTypes), is);
    if (quantised == std::end(quantisedTypes)) {
      return corrupt("tensor '", out.name, "' has type ", type, ", which is no type of the format");
    }
    return error(Code::Unsupported, path, ": tensor '", out.name, "' has type ", quantised->name,
                 ", which is quantised and not supported yet (supported: F32, F16, BF16, F64); use a file in one of "
                 "those types");
  }
  out.type = row->type;
  if (__builtin_mul_overflow(elements, uint64_t(elementTypeBits(row->type) / 8), &out.bytes)) {
    return corrupt("tensor '", out.name, "': ", elements, " elements of ", row->name, " are more than 2^64 bytes");
  }
  return Status();
}

/// `bytes` rounded up to a multiple of `alignment`, a power of two; false when that is 2^64 or more.
bool roundUp(uint64_t bytes, uint64_t alignment, uint64_t &out) {
  return !__builtin_add_overflow(bytes, alignment - 1, &out) && ((out &= ~(alignment - 1)), true);
}

Status Parser::checkLayout(std::vector<TensorInfo> &tensors, uint64_t dataStart, uint64_t alignment) const {
  std::vector<uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(tensors[a].offset, tensors[a].bytes) < std::pair(tensors[b].offset, tensors[b].bytes);
  });
  // Where the next tensor must begin, and where the last one ended, both from the start of the data.
  uint64_t next = 0, end = 0;
  const std::string *previous = nullptr;
  for (uint32_t i : order) {
    TensorInfo &tensor = tensors[i];
    if (tensor.offset != next) {
      return corrupt("tensor '", tensor.name, "' begins at ", tensor.offset, " of the data, but ",
                     previous == nullptr ? std::string("the data begins") : "after tensor '" + *previous + "' it must",
                     " at ", next, ": tensors must follow each other, each at the next multiple of ", alignment);
    }
    if (__builtin_add_overflow(tensor.offset, tensor.bytes, &end) || !roundUp(end, alignment, next) ||
        end > fileSize - dataStart) {
      return corrupt("tensor '", tensor.name, "' has ", tensor.bytes, " bytes from ", tensor.offset,
                     " on, but the file holds ", fileSize - dataStart,
                     " bytes of data; the download was cut short, fetch it again");
    }
    tensor.offset += dataStart;
    previous = &tensor.name;
  }
  // The last tensor may be padded as the others are, or not.
  if (fileSize - dataStart > next) {
    return corrupt("the header describes ", end, " bytes of data, but the file holds ", fileSize - dataStart,
                   "; bytes after the last tensor");
  }
  return Status();
}

Status Parser::parse(GgufHeader &out) {
  char magic[4] = {};
  uint32_t version = 0;
  uint64_t tensorCount = 0, valueCount = 0;
  MOERT_TRY(cursor.read(magic, 4, "the magic number"));
  if (std::memcmp(magic, "GGUF", 4) != 0) {
    return corrupt("does not begin with 'GGUF'; is this a GGUF file?");
  }
  MOERT_TRY(cursor.number(version, "the version"));
  if ((version & 0xffff) == 0 && version != 0) {
    return error(Code::Unsupported, path, ": is big-endian, which is not supported; convert it to little-endian");
  }
  if (version != 2 && version != 3) {
    return error(Code::Unsupported, path, ": has version ", version, " of the format; supported are 2 and 3");
  }
  MOERT_TRY(cursor.number(tensorCount, "the number of tensors"));
  MOERT_TRY(cursor.number(valueCount, "the number of metadata values"));
  // A value: the length of its key, its type, one byte. A tensor: the length of its name, rank, type, offset.
  constexpr uint64_t smallestValue = 8 + 4 + 1, smallestTensor = 8 + 4 + 4 + 8;
  if (valueCount > cursor.left() / smallestValue || tensorCount > cursor.left() / smallestTensor) {
    return corrupt("announces ", valueCount, " metadata values and ", tensorCount, " tensors, but only ", cursor.left(),
                   " bytes of header can follow");
  }
  for (uint64_t i = 0; i < valueCount; ++i) {
    std::string key;
    uint32_t type = 0;
    MOERT_TRY(cursor.string(key, maxKeyBytes, "a key"));
    MOERT_TRY(cursor.number(type, "a value's type"));
    GgufValue value;
    MOERT_TRY(parseValue(type, key, value));
    if (!out.metadata.emplace(key, std::move(value)).second) {
      return corrupt("the key '", key, "' appears twice");
    }
  }
  uint64_t alignment = 32;
  if (auto found = out.metadata.find("general.alignment"); found != out.metadata.end()) {
    const auto *value = std::get_if<int64_t>(&found->second);
    if (value == nullptr || *value < 1 || static_cast<uint64_t>(*value) > maxAlignment ||
        (*value & (*value - 1)) != 0) {
      return corrupt("'general.alignment' must be a power of two, at most ", maxAlignment, ", but is ",
                     value == nullptr ? std::string("no integer") : std::to_string(*value));
    }
    alignment = static_cast<uint64_t>(*value);
  }
  out.tensors.reserve(static_cast<size_t>(tensorCount));
  for (uint64_t i = 0; i < tensorCount; ++i) {
    MOERT_TRY(parseTensor(out.tensors.emplace_back()));
  }
  uint64_t dataStart = 0;
  roundUp(cursor.position(), alignment, dataStart);
  if (dataStart > fileSize) {
    // Nothing follows the header but padding that is not there.
    dataStart = fileSize;
  }
  for (uint64_t at = cursor.position(); at < dataStart; ++at) {
    uint8_t padding;
    MOERT_TRY(cursor.read(&padding, 1, "padding"));
  }
  out.bytes = dataStart;
  MOERT_TRY(checkLayout(out.tensors, dataStart, alignment));
  std::sort(out.tensors.begin(), out.tensors.end(),
            [](const TensorInfo &a, const TensorInfo &b) { return a.name < b.name; });
  for (size_t i = 1; i < out.tensors.size(); ++i) {
    if (out.tensors[i].name == out.tensors[i - 1].name) {
      return corrupt("tensor '", out.tensors[i].name, "' appears twice");
    }
  }
  return Status();
}

} // namespace

bool moert::readers::isGguf(const std::string &path) {
  Result<InputFile> file = InputFile::open(path);
  char magic[4];
  return file.ok() && file->size() >= 4 && file->read(0, magic, 4).ok() && std::memcmp(magic, "GGUF", 4) == 0;
}

Result<GgufHeader> moert::readers::readGgufHeader(const std::string &path, CheckpointFile &facts) {
  MOERT_ASSIGN(file, InputFile::open(path));
  facts.name = path.substr(path.rfind('/') + 1);
  facts.path = path;
  facts.size = file.size();
  facts.mtimeNs = file.mtimeNs();
  GgufHeader header;
  Parser parser(path, file);
  MOERT_TRY(parser.parse(header));
  facts.headerBytes = header.bytes;
  facts.headerSha256 = parser.digest();
  return header;
}
