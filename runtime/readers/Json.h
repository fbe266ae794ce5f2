//===- Json.h - Checked access to small JSON files --------------*- C++ -*-===//
//
// Parses JSON into a tree with what nlohmann-json leaves out: duplicate keys
// and deep nesting are errors. `JsonView` reads typed values and throws
// `JsonFailure` with file and place ("tokenizer.json: model.vocab: ..."); entry
// points of the readers catch it once, with `guarded`, and return a Status.
// Internal to the readers and moe-run: their public headers do not include it.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_JSON_H
#define MOERT_READERS_JSON_H

#include "runtime/core/Status.h"

#include <exception>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace moert::readers {

/// A Status on its way to `guarded`.
struct JsonFailure : std::exception {
  explicit JsonFailure(Status status) : status(std::move(status)) {}
  const char *what() const noexcept override { return status.message().c_str(); }
  Status status;
};

/// Parses `text`; `file` is for messages. Errors: no JSON, invalid UTF-8, a key twice in an object, more than 64
/// levels.
Result<nlohmann::json> parseJson(const std::string &file, std::string_view text);

/// A value in a file, and where it was found. Refers to the tree, which must outlive it.
class JsonView {
public:
  JsonView(const std::string &file, const nlohmann::json &value) : file(&file), value(&value) {}

  /// The member `key`, which must exist.
  JsonView at(const std::string &key) const;
  /// True when this is an object with a member `key` that is not null.
  bool has(const std::string &key) const;
  /// The elements of a list.
  std::vector<JsonView> elements() const;
  /// The members of an object, in order of key.
  std::vector<std::pair<std::string, JsonView>> members() const;

  const std::string &text() const;
  int64_t integer(int64_t least, int64_t most) const;
  double number() const;
  bool boolean() const;
  /// The member `key`, or `otherwise` where it is missing or null.
  bool boolean(const std::string &key, bool otherwise) const { return has(key) ? at(key).boolean() : otherwise; }
  std::string text(const std::string &key, const std::string &otherwise) const {
    return has(key) ? at(key).text() : otherwise;
  }

  bool isObject() const { return value->is_object(); }
  bool isArray() const { return value->is_array(); }
  bool isString() const { return value->is_string(); }
  bool isNull() const { return value->is_null(); }
  const nlohmann::json &json() const { return *value; }

  /// Throws an error of this place.
  template <typename... Parts> [[noreturn]] void fail(Code code, const Parts &...parts) const {
    throw JsonFailure(error(code, *file, ": ", place, place.empty() ? "" : ": ", parts...));
  }

private:
  JsonView(const JsonView &parent, const std::string &step, const nlohmann::json &value)
      : file(parent.file), value(&value), place(parent.place.empty() ? step : parent.place + "." + step) {}
  [[noreturn]] void wrongType(const char *wanted) const;

  const std::string *file;
  const nlohmann::json *value;
  std::string place;
};

/// Runs `body`, which returns a Status or a Result, and turns what it throws into a Status.
template <typename Body> auto guarded(const std::string &file, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const JsonFailure &failure) {
    return failure.status;
  } catch (const std::bad_alloc &) {
    return error(Code::OutOfMemory, file, ": no memory to read it");
  } catch (const std::exception &exception) {
    return error(Code::Internal, file, ": ", exception.what());
  }
}

} // namespace moert::readers

#endif // MOERT_READERS_JSON_H
