//===- Lexer.cpp - PTX text to tokens -------------------------------------===//
//
// One pass over the bytes. A token that starts with a digit is a number up to
// the next character that cannot belong to one; whether its digits are right
// is decided where its value is needed.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Lexer.h"

namespace moert::emulator::ptx {

namespace {
bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool isWord(char c) { return isDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$'; }
bool startsName(char c) { return (isWord(c) && !isDigit(c)) || c == '%'; }
} // namespace

std::string lineAt(std::string_view source, uint32_t line) {
  for (; line > 1; --line) {
    size_t end = source.find('\n');
    if (end == std::string_view::npos) {
      return "";
    }
    source.remove_prefix(end + 1);
  }
  std::string_view text = source.substr(0, source.find('\n'));
  while (!text.empty() && (text.back() == '\r' || text.back() == '\0')) {
    text.remove_suffix(1);
  }
  return std::string(text.substr(0, 200));
}

bool tokenize(std::string_view source, std::vector<Token> &tokens, ParseError &error) {
  size_t at = 0, lineStart = 0;
  uint32_t line = 1;
  auto peek = [&](size_t ahead = 0) { return at + ahead < source.size() ? source[at + ahead] : '\0'; };
  auto fail = [&](std::string message) {
    error = {line, static_cast<uint32_t>(at - lineStart + 1), lineAt(source, line), std::move(message)};
    return false;
  };
  while (true) {
    char c = peek();
    if (at >= source.size() || c == '\0') {
      for (size_t i = at; i < source.size(); ++i) {
        if (source[i] != '\0') {
          return fail("NUL byte inside the text");
        }
      }
      tokens.push_back({Token::Kind::End, "end of the text", {line, static_cast<uint32_t>(at - lineStart + 1)}});
      return true;
    }
    if (c == '\n') {
      ++at;
      ++line;
      lineStart = at;
      continue;
    }
    if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v') {
      ++at;
      continue;
    }
    if (c == '/' && peek(1) == '/') {
      size_t end = source.find('\n', at);
      at = end == std::string_view::npos ? source.size() : end;
      continue;
    }
    if (c == '/' && peek(1) == '*') {
      size_t end = source.find("*/", at + 2);
      if (end == std::string_view::npos) {
        return fail("comment without end: '*/' is missing");
      }
      for (; at < end + 2; ++at) {
        if (source[at] == '\n') {
          ++line;
          lineStart = at + 1;
        }
      }
      continue;
    }
    Token token;
    token.location = {line, static_cast<uint32_t>(at - lineStart + 1)};
    size_t start = at;
    if (startsName(c)) {
      token.kind = Token::Kind::Name;
      for (++at; isWord(peek()); ++at) {
      }
      if (c == '%' && at == start + 1) { // the operator of constant expressions
        token.kind = Token::Kind::Punctuation;
      }
    } else if (c == '.' && isWord(peek(1))) {
      token.kind = Token::Kind::Dotted;
      for (++at; isWord(peek()) || (peek() == ':' && peek(1) == ':' && isWord(peek(2))); ++at) {
        at += peek() == ':' ? 1 : 0;
      }
    } else if (isDigit(c)) {
      token.kind = Token::Kind::Integer;
      bool hex = c == '0' && (peek(1) == 'x' || peek(1) == 'X');
      bool bits = c == '0' && (peek(1) == 'f' || peek(1) == 'F' || peek(1) == 'd' || peek(1) == 'D');
      for (++at; isWord(peek()); ++at) {
        if (!hex && !bits && (peek() == 'e' || peek() == 'E')) {
          token.kind = Token::Kind::Float;
          at += peek(1) == '+' || peek(1) == '-' ? 1 : 0;
        }
      }
      if (!hex && !bits && peek() == '.' && !startsName(peek(1))) {
        token.kind = Token::Kind::Float;
        for (++at; isWord(peek()); ++at) {
          if ((peek() == 'e' || peek() == 'E') && (peek(1) == '+' || peek(1) == '-')) {
            ++at;
          }
        }
      }
      token.kind = bits ? Token::Kind::Float : token.kind;
    } else if (c == '"') {
      token.kind = Token::Kind::String;
      for (++at; peek() != '"'; ++at) {
        if (at >= source.size() || peek() == '\n') {
          return fail("string without end");
        }
        at += peek() == '\\' ? 1 : 0;
      }
      ++at;
    } else {
      token.kind = Token::Kind::Punctuation;
      static const char *const doubled[] = {"<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "@@"};
      ++at;
      for (const char *two : doubled) {
        if (c == two[0] && peek() == two[1]) {
          ++at;
          break;
        }
      }
      if (at == start + 1 && std::string_view(",;:{}()[]<>@!|&^~+-*/?=").find(c) == std::string_view::npos) {
        --at;
        return fail(c > ' ' && c < 127 ? std::string("unexpected character '") + c + "'"
                                       : "unexpected byte " + std::to_string(static_cast<unsigned char>(c)));
      }
    }
    token.text = source.substr(start, at - start);
    tokens.push_back(token);
  }
}

} // namespace moert::emulator::ptx
