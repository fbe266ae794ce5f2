//===- Lexer.h - PTX text to tokens -----------------------------*- C++ -*-===//
//
// Splits the whole text at once, so that the parser looks ahead freely. Token
// text points into the source. Knows comments and numbers, no keywords.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_PTX_LEXER_H
#define MOERT_EMULATOR_PTX_LEXER_H

#include "runtime/emulator/ptx/Parser.h"

namespace moert::emulator::ptx {

struct Token {
  enum class Kind : uint8_t {
    End,
    Name,    ///< %r1, foo, $L__BB0
    Dotted,  ///< .reg, .shared::cta, .1d: with the dot
    Integer, ///< 12, 0x1f, 0b1, 017, perhaps with U
    Float,   ///< 1.5, 0f3F800000, 0d...
    String,  ///< with its quotes
    Punctuation
  };
  Kind kind = Kind::End;
  std::string_view text;
  Location location;

  bool is(std::string_view expected) const { return kind != Kind::String && text == expected; }
};

/// The tokens with an End at the end; false (and `error`) at a character or number that PTX does not have.
bool tokenize(std::string_view source, std::vector<Token> &tokens, ParseError &error);

/// The line of `source` that `location` is in, without its end, cut at 200 characters.
std::string lineAt(std::string_view source, uint32_t line);

} // namespace moert::emulator::ptx

#endif // MOERT_EMULATOR_PTX_LEXER_H
