//===- Json.h - Writes JSON --------------------------------------*- C++ -*-===//
//
// Appends objects and arrays to a string with the commas in the right places. Writes only; keys are ours and plain,
// values are escaped.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_JSON_H
#define MOERT_CORE_JSON_H

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace moert {

/// Bytes of the UTF-8 character that `text`, which is not empty, begins with; 0 if that is none.
inline size_t utf8Length(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  const size_t length = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                        : first < 0xf5 ? 4
                                       : 0;
  if (length == 0 || text.size() < length) {
    return 0;
  }
  for (size_t i = 1; i < length; ++i) {
    // Overlong forms, surrogates and what is above U+10FFFF show in the second byte.
    const unsigned char low = i > 1 ? 0x80 : first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const unsigned char high = i > 1 ? 0xbf : first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (byte(i) < low || byte(i) > high) {
      return 0;
    }
  }
  return length;
}

class JsonWriter {
public:
  JsonWriter &beginObject() { return open('{'); }
  JsonWriter &endObject() { return close('}'); }
  JsonWriter &beginArray() { return open('['); }
  JsonWriter &endArray() { return close(']'); }

  JsonWriter &key(std::string_view name) {
    separate();
    text += '"';
    text += name;
    text += "\":";
    fresh = true;
    return *this;
  }
  JsonWriter &value(std::string_view string) {
    separate();
    text += '"';
    while (!string.empty()) {
      const char c = string[0];
      const size_t length = utf8Length(string);
      if (length != 1) {
        // Names of files are bytes; what is no text gets the character that stands for it.
        text += length == 0 ? std::string_view("\\ufffd") : string.substr(0, length);
      } else if (c == '"' || c == '\\') {
        text += '\\';
        text += c;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        constexpr char digits[] = "0123456789abcdef";
        text += "\\u00";
        text += digits[c >> 4];
        text += digits[c & 15];
      } else {
        text += c;
      }
      string.remove_prefix(length == 0 ? 1 : length);
    }
    text += '"';
    return *this;
  }
  JsonWriter &value(const char *string) { return value(std::string_view(string)); }
  JsonWriter &value(int64_t number) { return raw(std::to_string(number)); }
  JsonWriter &value(uint64_t number) { return raw(std::to_string(number)); }
  JsonWriter &value(int number) { return raw(std::to_string(number)); }
  JsonWriter &value(uint32_t number) { return raw(std::to_string(number)); }
  JsonWriter &value(double number) {
    char buffer[32];
    snprintf(buffer, sizeof(buffer), "%.6g", number);
    return raw(buffer);
  }
  JsonWriter &value(bool truth) { return raw(truth ? "true" : "false"); }
  /// Nanoseconds as microseconds with three decimals, as traces want them.
  JsonWriter &microseconds(int64_t ns) {
    std::string decimals = std::to_string(ns % 1000);
    return raw(std::to_string(ns / 1000) + "." + std::string(3 - decimals.size(), '0') + decimals);
  }
  /// One member of an object.
  template <typename T> JsonWriter &member(std::string_view name, const T &content) { return key(name).value(content); }

  const std::string &str() const { return text; }
  std::string take() { return std::move(text); }

private:
  void separate() {
    if (!fresh) {
      text += ',';
    }
    fresh = false;
  }
  JsonWriter &raw(std::string_view token) {
    separate();
    text += token;
    return *this;
  }
  JsonWriter &open(char bracket) {
    separate();
    text += bracket;
    fresh = true;
    return *this;
  }
  JsonWriter &close(char bracket) {
    text += bracket;
    fresh = false;
    return *this;
  }

  std::string text;
  /// Whether the next token comes without a comma.
  bool fresh = true;
};

} // namespace moert

#endif // MOERT_CORE_JSON_H
