//===- Utf8.h - UTF-8 and the byte alphabet of GPT-2 ------------*- C++ -*-===//
//
// Whole characters out of bytes: lossy conversion as everywhere else (each
// maximal invalid part becomes one U+FFFD), also for text that arrives in
// pieces; and the 256 printable characters that byte-level BPE gives to bytes.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_TOKENIZER_UTF8_H
#define MOERT_READERS_TOKENIZER_UTF8_H

#include <cstdint>
#include <string>
#include <string_view>

namespace moert::readers {

/// What the bytes at the start of a text are.
struct Utf8Scan {
  enum Kind { Valid, Invalid, Cut } kind; ///< Cut: a valid beginning that ends with the text.
  size_t length;                          ///< Bytes of the character, or of the invalid part (at least 1).
};
Utf8Scan scanUtf8(std::string_view text);

/// The bytes of U+FFFD, which stands for what is no UTF-8.
inline constexpr std::string_view replacementCharacter = "\xEF\xBF\xBD";

bool isValidUtf8(std::string_view text);
/// `text` with every maximal invalid part replaced by U+FFFD.
std::string toValidUtf8(std::string_view text);
/// Length of the character at the start of valid, non-empty UTF-8.
size_t characterLength(std::string_view valid);
/// Where the last character of valid, non-empty UTF-8 begins.
size_t lastCharacter(std::string_view valid);
/// Length of the whitespace character (Unicode's White_Space) at the start of `text`, or zero.
size_t spaceLength(std::string_view text);
void appendUtf8(std::string &out, uint32_t codePoint);

/// The character that byte-level BPE writes for `byte`.
std::string_view byteToAlphabet(uint8_t byte);
/// The bytes that `text` stands for; false, with `out` unchanged, when a character is not of the alphabet.
bool alphabetToBytes(std::string_view text, std::string &out);

} // namespace moert::readers

#endif // MOERT_READERS_TOKENIZER_UTF8_H
