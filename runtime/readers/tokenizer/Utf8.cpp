//===- Utf8.cpp - UTF-8 and the byte alphabet of GPT-2 --------------------===//
//
// The alphabet: the bytes that are printable in Latin-1 stand for themselves,
// the other 68 are U+0100, U+0101, ... in order. So every character of it is
// below U+0144 and takes at most two bytes.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/tokenizer/Utf8.h"

#include <array>

using namespace moert::readers;

namespace {

struct Alphabet {
  std::array<std::string, 256> ofByte;
  std::array<int, 0x144> toByte;

  Alphabet() {
    toByte.fill(-1);
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      uint32_t point = printable ? byte : next++;
      appendUtf8(ofByte[byte], point);
      toByte[point] = static_cast<int>(byte);
    }
  }
};

const Alphabet &alphabet() {
  static const Alphabet instance;
  return instance;
}

} // namespace

Utf8Scan moert::readers::scanUtf8(std::string_view text) {
  auto at = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  uint8_t first = at(0);
  if (first < 0x80) {
    return {Utf8Scan::Valid, 1};
  }
  if (first < 0xC2 || first > 0xF4) {
    return {Utf8Scan::Invalid, 1};
  }
  size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what is above U+10FFFF.
  uint8_t least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  uint8_t most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) {
      return {Utf8Scan::Cut, i};
    }
    if (at(i) < least || at(i) > most) {
      return {Utf8Scan::Invalid, i};
    }
    least = 0x80, most = 0xBF;
  }
  return {Utf8Scan::Valid, length};
}

bool moert::readers::isValidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    Utf8Scan scan = scanUtf8(text.substr(i));
    if (scan.kind != Utf8Scan::Valid) {
      return false;
    }
    i += scan.length;
  }
  return true;
}

std::string moert::readers::toValidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    Utf8Scan scan = scanUtf8(text.substr(i));
    out += scan.kind == Utf8Scan::Valid ? text.substr(i, scan.length) : replacementCharacter;
    i += scan.length;
  }
  return out;
}

size_t moert::readers::characterLength(std::string_view valid) {
  auto first = static_cast<uint8_t>(valid[0]);
  return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

void moert::readers::appendUtf8(std::string &out, uint32_t point) {
  if (point < 0x80) {
    out += char(point);
    return;
  }
  if (point < 0x800) {
    out += char(0xC0 | point >> 6);
  } else {
    if (point < 0x10000) {
      out += char(0xE0 | point >> 12);
    } else {
      out += char(0xF0 | point >> 18);
      out += char(0x80 | (point >> 12 & 0x3F));
    }
    out += char(0x80 | (point >> 6 & 0x3F));
  }
  out += char(0x80 | (point & 0x3F));
}

std::string_view moert::readers::byteToAlphabet(uint8_t byte) { return alphabet().ofByte[byte]; }

bool moert::readers::alphabetToBytes(std::string_view text, std::string &out) {
  size_t before = out.size();
  for (size_t i = 0; i < text.size();) {
    auto first = static_cast<uint8_t>(text[i]);
    uint32_t point = first;
    size_t length = 1;
    if (first >= 0xC2 && first <= 0xC5 && i + 1 < text.size()) {
      point = (first & 0x1Fu) << 6 | (static_cast<uint8_t>(text[i + 1]) & 0x3Fu);
      length = 2;
    } else if (first >= 0x80) {
      point = 0x144;
    }
    int byte = point < 0x144 ? alphabet().toByte[point] : -1;
    if (byte < 0) {
      out.resize(before);
      return false;
    }
    out += char(byte);
    i += length;
  }
  return true;
}

size_t moert::readers::spaceLength(std::string_view text) {
  static const std::string_view spaces[] = {" ",
                                            "\t",
                                            "\n",
                                            "\v",
                                            "\f",
                                            "\r",
                                            "\xC2\x85",
                                            "\xC2\xA0",
                                            "\xE1\x9A\x80",
                                            "\xE2\x80\x80",
                                            "\xE2\x80\x81",
                                            "\xE2\x80\x82",
                                            "\xE2\x80\x83",
                                            "\xE2\x80\x84",
                                            "\xE2\x80\x85",
                                            "\xE2\x80\x86",
                                            "\xE2\x80\x87",
                                            "\xE2\x80\x88",
                                            "\xE2\x80\x89",
                                            "\xE2\x80\x8A",
                                            "\xE2\x80\xA8",
                                            "\xE2\x80\xA9",
                                            "\xE2\x80\xAF",
                                            "\xE2\x81\x9F",
                                            "\xE3\x80\x80"};
  for (std::string_view space : spaces) {
    if (text.substr(0, space.size()) == space) {
      return space.size();
    }
  }
  return 0;
}

size_t moert::readers::lastCharacter(std::string_view valid) {
  size_t last = valid.size() - 1;
  while (last > 0 && (static_cast<uint8_t>(valid[last]) & 0xC0) == 0x80) {
    --last;
  }
  return last;
}
