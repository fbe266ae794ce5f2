//===- Status.h - Errors of the runtime and the readers ---------*- C++ -*-===//
//
// `Status` is ok or a code with one line of text; `Result<T>` is a T or a
// Status. Nothing throws, so the same types serve libmoert (built without
// exceptions), the readers and the compiler. The codes are those of the C ABI.
// Prints nothing and knows no locations of its own: the text names the file.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_STATUS_H
#define MOERT_CORE_STATUS_H

#include "runtime/include/moert/moert.h"

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace moert {

/// What kind of error it is; the values of `moert_code`, and zero for none.
enum class Code {
  Ok = 0,
  InvalidArgument = MOERT_INVALID_ARGUMENT,
  NotFound = MOERT_NOT_FOUND,
  Corrupt = MOERT_CORRUPT,
  Unsupported = MOERT_UNSUPPORTED,
  OutOfMemory = MOERT_OUT_OF_MEMORY,
  IO = MOERT_IO,
  Deadline = MOERT_DEADLINE,
  Internal = MOERT_INTERNAL
};

/// Ok, or a code and a message: lower case, where, what is wrong with both values, what to do.
class [[nodiscard]] Status {
public:
  Status() = default;
  Status(Code code, std::string message) : errorCode(code), text(std::move(message)) {}

  bool ok() const { return errorCode == Code::Ok; }
  Code code() const { return errorCode; }
  const std::string &message() const { return text; }

private:
  Code errorCode = Code::Ok;
  std::string text;
};

namespace detail {
inline void append(std::string &out, std::string_view part) { out += part; }
inline void append(std::string &out, const char *part) { out += part; }
inline void append(std::string &out, const std::string &part) { out += part; }
inline void append(std::string &out, char part) { out += part; }
template <typename T, typename = std::enable_if_t<std::is_arithmetic_v<T>>> void append(std::string &out, T part) {
  out += std::to_string(part);
}
} // namespace detail

/// The parts (text and numbers) as one string.
template <typename... Parts> std::string concat(const Parts &...parts) {
  std::string out;
  (detail::append(out, parts), ...);
  return out;
}

/// An error whose message is the concatenation of `parts`: error(Code::Corrupt, path, ": ", size, " bytes").
template <typename... Parts> Status error(Code code, const Parts &...parts) { return Status(code, concat(parts...)); }

/// A value, or why there is none.
template <typename T> class [[nodiscard]] Result {
public:
  Result(T value) : held(std::move(value)) {}
  Result(Status status) : failure(std::move(status)) {}

  bool ok() const { return held.has_value(); }
  explicit operator bool() const { return ok(); }
  const Status &status() const { return failure; }
  T &operator*() { return *held; }
  const T &operator*() const { return *held; }
  T *operator->() { return &*held; }
  const T *operator->() const { return &*held; }

private:
  std::optional<T> held;
  Status failure;
};

/// Returns the error of `expression` (a Status) from the enclosing function.
#define MOERT_TRY(expression)                                                                                          \
  do {                                                                                                                 \
    if (::moert::Status tryStatus = (expression); !tryStatus.ok()) {                                                   \
      return tryStatus;                                                                                                \
    }                                                                                                                  \
  } while (false)

/// Declares `name` with the value of `expression` (a Result), or returns its error from the enclosing function.
#define MOERT_ASSIGN(name, expression)                                                                                 \
  auto name##Result = (expression);                                                                                    \
  if (!name##Result.ok()) {                                                                                            \
    return name##Result.status();                                                                                      \
  }                                                                                                                    \
  auto &name = *name##Result

} // namespace moert

#endif // MOERT_CORE_STATUS_H
