//===- JsonFile.cpp - JSON of untrusted files, checked before it is parsed --===//

#include "passes/Json/JsonFile.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace llvm;
using namespace mlir;

Error moe::makeError(const Twine &message) { return createStringError(inconvertibleErrorCode(), message); }

std::string moe::describe(const json::Value &value) {
  switch (value.kind()) {
  case json::Value::Null:
    return "null";
  case json::Value::Boolean:
    return *value.getAsBoolean() ? "true" : "false";
  case json::Value::String: {
    StringRef text = *value.getAsString();
    return ("the string \"" + text.take_front(60) + (text.size() > 60 ? "..." : "") + "\"").str();
  }
  case json::Value::Array:
    return "an array of " + std::to_string(value.getAsArray()->size()) + " values";
  case json::Value::Object:
    return "an object";
  case json::Value::Number:
    break;
  }
  std::string text;
  raw_string_ostream(text) << value;
  return text;
}

/// Members of all objects inside `value`; the depth was bounded before.
static size_t countMembers(const json::Value &value) {
  size_t count = 0;
  if (const json::Object *object = value.getAsObject()) {
    count = object->size();
    for (const auto &member : *object) {
      count += countMembers(member.second);
    }
  } else if (const json::Array *array = value.getAsArray()) {
    for (const json::Value &element : *array) {
      count += countMembers(element);
    }
  }
  return count;
}

Expected<json::Value> moe::parseJson(StringRef text, StringRef file) {
  // One pass over the bytes, knowing only strings and brackets: bounds the depth before the recursive parser runs, and
  // collects the keys of every object. A key is a string followed by a colon.
  SmallVector<StringSet<>> objects;
  size_t members = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '{' || c == '[') {
      if (objects.size() == kMaxJsonDepth) {
        return makeError(file + ": nested deeper than " + Twine(kMaxJsonDepth) + " levels at byte " + Twine(i) +
                         "; this is not the file that a model's publisher wrote");
      }
      objects.emplace_back();
    } else if (c == '}' || c == ']') {
      if (!objects.empty()) {
        objects.pop_back();
      }
    } else if (c == '"') {
      size_t begin = ++i;
      while (i < text.size() && text[i] != '"') {
        i += text[i] == '\\' ? 2 : 1;
      }
      StringRef string = text.slice(begin, std::min(i, text.size()));
      if (text.substr(i + 1).ltrim().starts_with(":") && !objects.empty()) {
        ++members;
        if (!objects.back().insert(string).second) {
          return makeError(file + ": key '" + string + "' occurs twice in one object, the second time at byte " +
                           Twine(begin) + "; remove one of them");
        }
      }
    }
  }
  Expected<json::Value> value = json::parse(text);
  if (!value) {
    return makeError(file + ": not valid JSON: " + toString(value.takeError()));
  }
  // Keys that differ as bytes but not as text ("a" and "\u0061") escape the check above, not this one.
  if (countMembers(*value) != members) {
    return makeError(file + ": a key occurs twice in one object, written with different escapes; remove one of them");
  }
  return value;
}

Expected<json::Value> moe::readJsonFile(StringRef path) {
  sys::fs::file_status status;
  if (std::error_code error = sys::fs::status(path, status)) {
    return makeError(path + ": cannot be read: " + error.message());
  }
  if (!sys::fs::is_regular_file(status)) {
    return makeError(path + ": is not a regular file");
  }
  if (status.getSize() > kMaxConfigBytes) {
    return makeError(path + ": has " + Twine(status.getSize()) + " bytes, but a config file has at most " +
                     Twine(kMaxConfigBytes));
  }
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer) {
    return makeError(path + ": cannot be read: " + buffer.getError().message());
  }
  return parseJson((*buffer)->getBuffer(), path);
}
