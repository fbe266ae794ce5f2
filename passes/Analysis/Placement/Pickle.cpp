//===- Pickle.cpp - Tensors from torch.save files, without Python -----------===//

#include "passes/Analysis/Placement/Pickle.h"
#include <cmath>
#include <cstring>

using namespace moe::placement;
using moert::Code;
using moert::concat;
using moert::error;
using moert::Result;
using moert::Status;

namespace {

constexpr int64_t kMaxElements = int64_t(1) << 27;
constexpr size_t kMaxValues = 1 << 20;
constexpr size_t kMaxDimensions = 16;

/// Little-endian integer at `at`; the caller checked the bounds.
template <typename T> T load(const std::string &bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

//===----------------------------------------------------------------------===//
// Zip
//===----------------------------------------------------------------------===//

/// Where the stored bytes of each entry lie.
struct Entry {
  size_t offset, size;
};

Result<std::map<std::string, Entry>> readZip(const std::string &path, const std::string &bytes) {
  constexpr size_t kEndSize = 22, kCentralSize = 46, kLocalSize = 30;
  auto corrupt = [&](const char *what) {
    return error(Code::Corrupt, path, ": ", what, ": not a whole file of torch.save (", bytes.size(),
                 " bytes); copy it again");
  };
  if (bytes.size() < kEndSize) {
    return corrupt("is too short for a zip archive");
  }
  size_t end = std::string::npos;
  for (size_t at = bytes.size() - kEndSize + 1; at-- > 0 && bytes.size() - at <= kEndSize + 65536;) {
    if (load<uint32_t>(bytes, at) == 0x06054b50) {
      end = at;
      break;
    }
  }
  if (end == std::string::npos) {
    return corrupt("has no zip directory at its end");
  }
  const size_t count = load<uint16_t>(bytes, end + 10);
  size_t at = load<uint32_t>(bytes, end + 16);
  std::map<std::string, Entry> entries;
  for (size_t i = 0; i < count; ++i) {
    if (at > bytes.size() || bytes.size() - at < kCentralSize || load<uint32_t>(bytes, at) != 0x02014b50) {
      return corrupt("has a broken zip directory");
    }
    const size_t nameSize = load<uint16_t>(bytes, at + 28), extraSize = load<uint16_t>(bytes, at + 30),
                 commentSize = load<uint16_t>(bytes, at + 32), local = load<uint32_t>(bytes, at + 42),
                 size = load<uint32_t>(bytes, at + 20);
    if (bytes.size() - at - kCentralSize < nameSize) {
      return corrupt("has a broken zip directory");
    }
    const std::string name = bytes.substr(at + kCentralSize, nameSize);
    if (load<uint16_t>(bytes, at + 10) != 0) {
      return error(Code::Unsupported, path, ": entry '", name, "' is compressed, but torch.save stores its entries");
    }
    if (local > bytes.size() || bytes.size() - local < kLocalSize || load<uint32_t>(bytes, local) != 0x04034b50) {
      return corrupt("has a zip entry outside of it");
    }
    const size_t offset = local + kLocalSize + load<uint16_t>(bytes, local + 26) + load<uint16_t>(bytes, local + 28);
    if (offset > bytes.size() || bytes.size() - offset < size) {
      return corrupt("has a zip entry outside of it");
    }
    // Names begin with a folder of the archive's own name.
    const size_t slash = name.find('/');
    entries[slash == std::string::npos ? name : name.substr(slash + 1)] = {offset, size};
    at += kCentralSize + nameSize + extraSize + commentSize;
  }
  return entries;
}

//===----------------------------------------------------------------------===//
// Pickle
//===----------------------------------------------------------------------===//

enum class Kind { None, Number, Text, List, Tuple, Dict, Global, Storage, Tensor, Mark };

/// A value; containers hold indices into the pool, so that the memo may share them.
struct Value {
  Kind kind = Kind::None;
  double number = 0;
  int64_t integer = 0;
  std::string text;
  std::vector<int> items; ///< Of a dictionary: key, value, key, value.
  PickledTensor tensor;
};

/// Element types of torch's storages.
struct StorageType {
  const char *name;
  size_t bytes;
};
constexpr StorageType kStorages[] = {{"DoubleStorage", 8},   {"FloatStorage", 4}, {"HalfStorage", 2},
                                     {"BFloat16Storage", 2}, {"LongStorage", 8},  {"IntStorage", 4},
                                     {"ShortStorage", 2},    {"CharStorage", 1},  {"ByteStorage", 1}};

double halfToDouble(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 31) {
    return fraction ? NAN : sign * INFINITY;
  }
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25));
}

double element(const std::string &type, const std::string &bytes, size_t at) {
  if (type == "DoubleStorage") {
    return load<double>(bytes, at);
  }
  if (type == "FloatStorage") {
    return load<float>(bytes, at);
  }
  if (type == "HalfStorage") {
    return halfToDouble(load<uint16_t>(bytes, at));
  }
  if (type == "BFloat16Storage") {
    const uint32_t bits = static_cast<uint32_t>(load<uint16_t>(bytes, at)) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  if (type == "LongStorage") {
    return static_cast<double>(load<int64_t>(bytes, at));
  }
  if (type == "IntStorage") {
    return load<int32_t>(bytes, at);
  }
  if (type == "ShortStorage") {
    return load<int16_t>(bytes, at);
  }
  return type == "CharStorage" ? load<int8_t>(bytes, at) : load<uint8_t>(bytes, at);
}

/// A machine with a stack, a memo and the few instructions that data needs.
class Unpickler {
public:
  Unpickler(const std::string &path, const std::string &bytes, const std::map<std::string, Entry> &entries)
      : path(path), bytes(bytes), entries(entries) {}

  Result<PickledFile> run();

private:
  Status step(uint8_t code);
  Status corrupt(const char *what) { return error(Code::Corrupt, path, ": data.pkl: ", what, " at byte ", at - begin); }
  bool has(size_t size) const { return end - at >= size; }
  template <typename T> Status take(T &out) {
    if (!has(sizeof(T))) {
      return corrupt("ends inside an instruction");
    }
    out = load<T>(bytes, at);
    at += sizeof(T);
    return Status();
  }
  Status takeText(size_t size, std::string &out) {
    if (!has(size)) {
      return corrupt("ends inside a string");
    }
    out = bytes.substr(at, size);
    at += size;
    return Status();
  }
  Status takeLine(std::string &out) {
    const size_t newline = bytes.find('\n', at);
    if (newline == std::string::npos || newline >= end) {
      return corrupt("ends inside a name");
    }
    out = bytes.substr(at, newline - at);
    at = newline + 1;
    return Status();
  }
  Value &push(Kind kind) {
    pool.emplace_back();
    pool.back().kind = kind;
    stack.push_back(static_cast<int>(pool.size()) - 1);
    return pool.back();
  }
  Status pop(int &out) {
    if (stack.empty()) {
      return corrupt("takes a value that is not there");
    }
    out = stack.back();
    stack.pop_back();
    return Status();
  }
  Status popToMark(std::vector<int> &out);
  Status makeTuple(size_t size);
  Status addTo(Kind kind, std::vector<int> items);
  Status pushGlobal(const std::string &module, const std::string &name);
  Status reduce();
  Status pushStorage();
  Status buildTensor(const std::vector<int> &arguments);

  const std::string &path, &bytes;
  const std::map<std::string, Entry> &entries;
  size_t begin = 0, at = 0, end = 0;
  int64_t elements = 0;
  std::vector<Value> pool;
  std::vector<int> stack;
  std::map<uint32_t, int> memo;
};

} // namespace

Status Unpickler::popToMark(std::vector<int> &out) {
  size_t first = stack.size();
  while (first > 0 && pool[stack[first - 1]].kind != Kind::Mark) {
    --first;
  }
  if (first == 0) {
    return corrupt("takes values up to a mark that is not there");
  }
  out.assign(stack.begin() + static_cast<ptrdiff_t>(first), stack.end());
  stack.resize(first - 1);
  return Status();
}

Status Unpickler::makeTuple(size_t size) {
  if (stack.size() < size) {
    return corrupt("takes a value that is not there");
  }
  std::vector<int> items(stack.end() - static_cast<ptrdiff_t>(size), stack.end());
  stack.resize(stack.size() - size);
  push(Kind::Tuple).items = std::move(items);
  return Status();
}

Status Unpickler::addTo(Kind kind, std::vector<int> items) {
  if (stack.empty() || pool[stack.back()].kind != kind || (kind == Kind::Dict && items.size() % 2 != 0)) {
    return corrupt("adds to a value that is not a container of that kind");
  }
  std::vector<int> &to = pool[stack.back()].items;
  to.insert(to.end(), items.begin(), items.end());
  return Status();
}

Status Unpickler::pushGlobal(const std::string &module, const std::string &name) {
  bool allowed =
      (module == "collections" && name == "OrderedDict") || (module == "torch._utils" && name == "_rebuild_tensor_v2");
  for (const StorageType &type : kStorages) {
    allowed |= module == "torch" && name == type.name;
  }
  if (!allowed) {
    return error(
        Code::InvalidArgument, path, ": names the Python object '", module, ".", name,
        "', which is not allowed: only tensors, numbers, strings, lists and dictionaries are read, and nothing "
        "is executed");
  }
  push(Kind::Global).text = name;
  return Status();
}

/// ('storage', type, key, device, size) becomes a storage.
Status Unpickler::pushStorage() {
  int id;
  MOERT_TRY(pop(id));
  const std::vector<int> items = pool[id].items;
  if (pool[id].kind != Kind::Tuple || items.size() < 5 || pool[items[0]].text != "storage" ||
      pool[items[1]].kind != Kind::Global || pool[items[2]].kind != Kind::Text) {
    return corrupt("refers to something that is not a storage");
  }
  const std::string type = pool[items[1]].text, key = pool[items[2]].text;
  Value &storage = push(Kind::Storage);
  storage.text = type;
  storage.items = {items[2]};
  if (entries.count("data/" + key) == 0) {
    return error(Code::Corrupt, path, ": has no entry data/", key, " for a storage; copy the file again");
  }
  return Status();
}

/// _rebuild_tensor_v2(storage, offset, size, stride, ...).
Status Unpickler::buildTensor(const std::vector<int> &arguments) {
  if (arguments.size() < 4 || pool[arguments[0]].kind != Kind::Storage || pool[arguments[1]].kind != Kind::Number ||
      pool[arguments[2]].kind != Kind::Tuple || pool[arguments[3]].kind != Kind::Tuple ||
      pool[arguments[2]].items.size() != pool[arguments[3]].items.size() ||
      pool[arguments[2]].items.size() > kMaxDimensions) {
    return corrupt("builds a tensor from something else");
  }
  const std::string type = pool[arguments[0]].text;
  auto storage = entries.find("data/" + pool[pool[arguments[0]].items[0]].text);
  size_t width = 0;
  for (const StorageType &known : kStorages) {
    width = type == known.name ? known.bytes : width;
  }
  if (width == 0 || storage == entries.end()) {
    return corrupt("builds a tensor of an unknown type");
  }
  PickledTensor tensor;
  std::vector<int64_t> stride;
  const int64_t offset = pool[arguments[1]].integer, available = static_cast<int64_t>(storage->second.size / width);
  // The limits keep the sums below from running over. A tensor whose elements lie on one another would make gigabytes
  // of a small file, so its elements are no more than those stored; for the same reason an empty one has no extents.
  int64_t count = 1, last = offset;
  if (offset < 0 || offset > available) {
    return error(Code::Corrupt, path, ": a tensor begins at element ", offset, " of a storage of ", available,
                 "; copy the file again");
  }
  for (size_t i = 0; i < pool[arguments[2]].items.size(); ++i) {
    const int64_t extent = pool[pool[arguments[2]].items[i]].integer, by = pool[pool[arguments[3]].items[i]].integer;
    if (extent < 0 || extent > kMaxElements || by < 0 || by > kMaxElements || count * extent > kMaxElements) {
      return corrupt("builds a tensor of an impossible shape");
    }
    count *= extent;
    last += (extent > 0 ? extent - 1 : 0) * by;
    tensor.shape.push_back(extent);
    stride.push_back(by);
  }
  elements += count;
  if (count > 0 && last >= available) {
    return error(Code::Corrupt, path, ": a tensor reaches to element ", last, " of a storage of ", available,
                 "; copy the file again");
  }
  if (elements > kMaxElements) {
    return corrupt("builds tensors of more elements than statistics need");
  }
  if (count > available) {
    return error(Code::Unsupported, path, ": a tensor of ", count, " elements lies on a storage of ", available,
                 ": its elements share memory; save it after contiguous()");
  }
  if (count == 0) {
    tensor.shape.assign(tensor.shape.size(), 0);
  }
  tensor.values.reserve(count);
  std::vector<int64_t> index(stride.size(), 0);
  for (int64_t i = 0; i < count; ++i) {
    int64_t place = offset;
    for (size_t d = 0; d < stride.size(); ++d) {
      place += index[d] * stride[d];
    }
    tensor.values.push_back(element(type, bytes, storage->second.offset + static_cast<size_t>(place) * width));
    for (size_t d = stride.size(); d-- > 0 && ++index[d] == tensor.shape[d];) {
      index[d] = 0;
    }
  }
  push(Kind::Tensor).tensor = std::move(tensor);
  return Status();
}

Status Unpickler::reduce() {
  int arguments, callee;
  MOERT_TRY(pop(arguments));
  MOERT_TRY(pop(callee));
  if (pool[callee].kind != Kind::Global || pool[arguments].kind != Kind::Tuple) {
    return corrupt("calls something that is not a known function");
  }
  if (pool[callee].text == "OrderedDict") {
    push(Kind::Dict);
    return Status();
  }
  if (pool[callee].text != "_rebuild_tensor_v2") {
    return corrupt("calls something that is not a known function");
  }
  return buildTensor(std::vector<int>(pool[arguments].items));
}

Status Unpickler::step(uint8_t code) {
  uint8_t small;
  uint16_t medium;
  uint32_t large;
  int32_t integer;
  std::string text, name;
  auto pushNumber = [&](int64_t value) {
    Value &pushed = push(Kind::Number);
    pushed.integer = value;
    pushed.number = static_cast<double>(value);
    return Status();
  };
  auto pushText = [&](size_t size) {
    MOERT_TRY(takeText(size, text));
    push(Kind::Text).text = text;
    return Status();
  };
  auto remember = [&](uint32_t key) {
    if (stack.empty()) {
      return corrupt("remembers a value that is not there");
    }
    memo[key] = stack.back();
    return Status();
  };
  auto recall = [&](uint32_t key) {
    auto found = memo.find(key);
    if (found == memo.end()) {
      return corrupt("recalls a value that is not there");
    }
    stack.push_back(found->second);
    return Status();
  };
  std::vector<int> items;
  int value, key;
  switch (code) {
  case 0x80: // PROTO
    return take(small);
  case 0x95: { // FRAME
    uint64_t size;
    return take(size);
  }
  case '}':
    push(Kind::Dict);
    return Status();
  case ']':
    push(Kind::List);
    return Status();
  case ')':
    push(Kind::Tuple);
    return Status();
  case '(':
    push(Kind::Mark);
    return Status();
  case 'N':
    push(Kind::None);
    return Status();
  case 0x88: // NEWTRUE
    return pushNumber(1);
  case 0x89: // NEWFALSE
    return pushNumber(0);
  case 'J':
    MOERT_TRY(take(integer));
    return pushNumber(integer);
  case 'K':
    MOERT_TRY(take(small));
    return pushNumber(small);
  case 'M':
    MOERT_TRY(take(medium));
    return pushNumber(medium);
  case 0x8a: { // LONG1
    MOERT_TRY(take(small));
    MOERT_TRY(takeText(small, text));
    if (small > 8) {
      return corrupt("has an integer of more than 64 bits");
    }
    int64_t number = small > 0 && (text.back() & 0x80) ? -1 : 0;
    std::memcpy(&number, text.data(), small);
    return pushNumber(number);
  }
  case 'G': { // BINFLOAT, big-endian
    uint64_t bits;
    MOERT_TRY(take(bits));
    bits = __builtin_bswap64(bits);
    double number;
    std::memcpy(&number, &bits, 8);
    push(Kind::Number).number = number;
    return Status();
  }
  case 'X': // BINUNICODE
    MOERT_TRY(take(large));
    return pushText(large);
  case 0x8c: // SHORT_BINUNICODE
    MOERT_TRY(take(small));
    return pushText(small);
  case 'q':
    MOERT_TRY(take(small));
    return remember(small);
  case 'r':
    MOERT_TRY(take(large));
    return remember(large);
  case 0x94: // MEMOIZE
    return remember(static_cast<uint32_t>(memo.size()));
  case 'h':
    MOERT_TRY(take(small));
    return recall(small);
  case 'j':
    MOERT_TRY(take(large));
    return recall(large);
  case 't':
    MOERT_TRY(popToMark(items));
    push(Kind::Tuple).items = std::move(items);
    return Status();
  case 0x85:
  case 0x86:
  case 0x87: // TUPLE1, 2, 3
    return makeTuple(code - 0x84);
  case 'a':
    MOERT_TRY(pop(value));
    return addTo(Kind::List, {value});
  case 'e':
    MOERT_TRY(popToMark(items));
    return addTo(Kind::List, std::move(items));
  case 's':
    MOERT_TRY(pop(value));
    MOERT_TRY(pop(key));
    return addTo(Kind::Dict, {key, value});
  case 'u':
    MOERT_TRY(popToMark(items));
    return addTo(Kind::Dict, std::move(items));
  case 'c': // GLOBAL
    MOERT_TRY(takeLine(text));
    MOERT_TRY(takeLine(name));
    return pushGlobal(text, name);
  case 0x93: // STACK_GLOBAL
    MOERT_TRY(pop(value));
    MOERT_TRY(pop(key));
    return pushGlobal(pool[key].text, pool[value].text);
  case 'R':
    return reduce();
  case 'Q':
    return pushStorage();
  default:
    return error(Code::Unsupported, path, ": data.pkl: instruction ", static_cast<int>(code), " at byte ",
                 at - 1 - begin, " is not one that tensors need; save the statistics with torch.save of tensors only");
  }
}

Result<PickledFile> Unpickler::run() {
  auto program = entries.find("data.pkl");
  if (program == entries.end()) {
    return error(Code::Corrupt, path, ": has no entry data.pkl: not a file of torch.save");
  }
  if (auto order = entries.find("byteorder"); order != entries.end()) {
    if (bytes.compare(order->second.offset, order->second.size, "little") != 0) {
      return error(Code::Unsupported, path, ": was written on a big-endian machine");
    }
  }
  begin = at = program->second.offset;
  end = begin + program->second.size;
  for (;;) {
    uint8_t code;
    MOERT_TRY(take(code));
    if (code == '.') {
      break;
    }
    MOERT_TRY(step(code));
    if (pool.size() > kMaxValues) {
      return corrupt("holds more values than statistics need");
    }
  }
  int root;
  MOERT_TRY(pop(root));
  PickledFile file;
  if (pool[root].kind == Kind::Tensor) {
    file.tensors[""] = std::move(pool[root].tensor);
    return file;
  }
  if (pool[root].kind != Kind::Dict) {
    return error(Code::InvalidArgument, path, ": holds neither a tensor nor a dictionary");
  }
  for (size_t i = 0; i + 1 < pool[root].items.size(); i += 2) {
    const Value &key = pool[pool[root].items[i]];
    Value &value = pool[pool[root].items[i + 1]];
    if (key.kind == Kind::Text && value.kind == Kind::Tensor) {
      file.tensors[key.text] = value.tensor;
    } else if (key.kind == Kind::Text) {
      file.otherKeys.push_back(key.text);
    }
  }
  return file;
}

Result<PickledFile> moe::placement::parseTorchFile(const std::string &path, const std::string &bytes) {
  MOERT_ASSIGN(entries, readZip(path, bytes));
  return Unpickler(path, bytes, entries).run();
}
