//===- JsonReader.cpp - Checked members of JSON files of ours ---------------===//

#include "passes/Json/JsonReader.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir::moe;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;

static std::string describeMember(const json::Object &object, StringRef key) {
  const json::Value *value = object.get(key);
  return value ? describe(*value) : std::string("missing");
}

void JsonReader::fail(const Twine &message) {
  if (fault.empty()) {
    fault = (file + ": " + message).str();
  }
}

const json::Object *JsonReader::root(const json::Value &value, StringRef format, int64_t version, StringRef what,
                                     StringRef writer) {
  const json::Object *root = value.getAsObject();
  if (!root || root->getString("format") != format) {
    fail("is not " + what + ": an object with \"format\": \"" + format + "\" is expected" +
         (writer.empty() ? Twine() : ", as " + Twine(writer) + " writes it"));
    return nullptr;
  }
  if (root->getInteger("version") != version) {
    fail("'version' is " + describeMember(*root, "version") + ", but only version " + Twine(version) + " is known");
    return nullptr;
  }
  return root;
}

const json::Object *JsonReader::object(const json::Value &value, const Twine &place) {
  const json::Object *object = value.getAsObject();
  if (!object) {
    fail("'" + place + "' must be an object, but is " + describe(value));
  }
  return object;
}

void JsonReader::checkKeys(const json::Object &object, const Twine &where, llvm::ArrayRef<StringRef> known) {
  std::vector<StringRef> names;
  for (const auto &member : object) {
    names.push_back(member.first);
  }
  llvm::sort(names);
  for (StringRef name : names) {
    if (!llvm::is_contained(known, name)) {
      fail("'" + where + name + "' is unknown; known are " + llvm::join(known, ", "));
    }
  }
}

int64_t JsonReader::integer(const json::Object &object, const Twine &where, StringRef key, int64_t min, int64_t max,
                            std::optional<int64_t> fallback) {
  const json::Value *value = object.get(key);
  if (!value && fallback) {
    return *fallback;
  }
  std::optional<int64_t> number = value ? value->getAsInteger() : std::nullopt;
  if (!number || *number < min || *number > max) {
    fail("'" + where + key + "' must be an integer from " + Twine(min) + " to " + Twine(max) + ", but is " +
         describeMember(object, key));
    return min;
  }
  return *number;
}

const json::Array *JsonReader::array(const json::Object &object, const Twine &where, StringRef key, Presence presence) {
  const json::Value *value = object.get(key);
  const json::Array *array = value ? value->getAsArray() : nullptr;
  if (!array && (value || presence == Required)) {
    fail("'" + where + key + "' must be an array, but is " + describeMember(object, key));
  }
  return array;
}

std::vector<int64_t> JsonReader::integers(const json::Object &object, const Twine &where, StringRef key, int64_t count,
                                          int64_t max, StringRef each) {
  const json::Value *value = object.get(key);
  const json::Array *array = value ? value->getAsArray() : nullptr;
  if (!array || static_cast<int64_t>(array->size()) != count) {
    fail("'" + where + key + "' must be a list of " + Twine(count) + " numbers (one per " + each + "), but is " +
         (array ? "one of " + std::to_string(array->size()) : describeMember(object, key)));
    return {};
  }
  std::vector<int64_t> numbers;
  for (const json::Value &entry : *array) {
    std::optional<int64_t> number = entry.getAsInteger();
    if (!number || *number < 0 || *number > max) {
      fail("'" + where + key + "' must hold integers from 0 to " + Twine(max) + ", but holds " + describe(entry));
      return {};
    }
    numbers.push_back(*number);
  }
  return numbers;
}
