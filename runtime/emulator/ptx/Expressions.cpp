//===- Expressions.cpp - Constants and operands as written ----------------===//
//
// PTX has C's constant expressions on 64-bit integers (signed until a U or a
// value beyond INT64_MAX makes them unsigned) and floating-point literals that
// stand alone. Operands are taken apart here without looking up any name.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/ParserState.h"

#include <cstdlib>
#include <cstring>

namespace moert::emulator::ptx {

namespace {
/// Levels of parentheses, signs and conditions, counted so that no text overflows the stack.
constexpr unsigned maxDepth = 400;
struct Nesting {
  explicit Nesting(unsigned &depth) : depth(depth) { ++depth; }
  ~Nesting() { --depth; }
  unsigned &depth;
};

struct BinaryOperator {
  const char *text;
  int precedence;
};
// As in C; the conditional operator is handled apart.
const BinaryOperator binaryOperators[] = {
    {"||", 1}, {"&&", 2}, {"|", 3},  {"^", 4},  {"&", 5}, {"==", 6}, {"!=", 6}, {"<", 7},  {"<=", 7},
    {">", 7},  {">=", 7}, {"<<", 8}, {">>", 8}, {"+", 9}, {"-", 9},  {"*", 10}, {"/", 10}, {"%", 10},
};
} // namespace

bool TextParser::parseInteger(const Token &token, Constant &out) {
  std::string_view text = token.text;
  bool isUnsigned = text.back() == 'U';
  if (isUnsigned) {
    text.remove_suffix(1);
  }
  unsigned base = 10;
  if (text.size() > 1 && text[0] == '0') {
    char kind = text[1];
    base = kind == 'x' || kind == 'X' ? 16 : kind == 'b' || kind == 'B' ? 2 : 8;
    text.remove_prefix(base == 8 ? 1 : 2);
  }
  uint64_t value = 0;
  for (char c : text) {
    unsigned digit = c >= '0' && c <= '9'   ? static_cast<unsigned>(c - '0')
                     : c >= 'a' && c <= 'f' ? static_cast<unsigned>(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? static_cast<unsigned>(c - 'A' + 10)
                                            : 99;
    if (digit >= base) {
      return fail(token.location, "'" + std::string(token.text) + "' is no number");
    }
    if (value > (UINT64_MAX - digit) / base) {
      return fail(token.location, "integer '" + std::string(token.text) + "' does not fit in 64 bits");
    }
    value = value * base + digit;
  }
  if (text.empty()) {
    return fail(token.location, "'" + std::string(token.text) + "' is no number");
  }
  out = {isUnsigned || value > INT64_MAX ? Constant::Kind::Unsigned : Constant::Kind::Signed, value};
  return true;
}

bool TextParser::parseFloat(const Token &token, Constant &out) {
  std::string text(token.text);
  bool single = text[0] == '0' && text.size() > 1 && (text[1] == 'f' || text[1] == 'F');
  bool doubled = text[0] == '0' && text.size() > 1 && (text[1] == 'd' || text[1] == 'D');
  char *end = nullptr;
  if (single || doubled) {
    out.kind = single ? Constant::Kind::Single : Constant::Kind::Double;
    out.bits = std::strtoull(text.c_str() + 2, &end, 16);
    if (*end || text.size() != (single ? 10u : 18u)) {
      return fail(token.location, "'" + text + "' needs exactly " + (single ? "8" : "16") + " hexadecimal digits");
    }
    return true;
  }
  double value = std::strtod(text.c_str(), &end);
  if (*end) {
    return fail(token.location, "'" + text + "' is no number");
  }
  out.kind = Constant::Kind::Decimal;
  std::memcpy(&out.bits, &value, sizeof(value));
  return true;
}

bool TextParser::parsePrimary(Constant &out) {
  Nesting nesting(depth);
  if (depth > maxDepth) {
    return fail(token().location, "expression nested too deeply");
  }
  const Token first = token();
  if (first.kind == Token::Kind::Integer || first.kind == Token::Kind::Float) {
    ++at;
    return first.kind == Token::Kind::Integer ? parseInteger(first, out) : parseFloat(first, out);
  }
  if (first.is("WARP_SZ")) {
    ++at;
    out = {Constant::Kind::Signed, 32};
    return true;
  }
  if (first.is("(")) {
    ++at;
    if (token().is(".s64") || token().is(".u64")) {
      bool toUnsigned = token().is(".u64");
      ++at;
      if (!expect(")", "after the type of a cast") || !parsePrimary(out)) {
        return false;
      }
      if (!out.isInteger()) {
        return fail(first.location, "a cast needs an integer");
      }
      out.kind = toUnsigned ? Constant::Kind::Unsigned : Constant::Kind::Signed;
      return true;
    }
    return parseConstant(out) && expect(")", "to close the expression");
  }
  if (first.is("-") || first.is("+") || first.is("~") || first.is("!")) {
    ++at;
    if (!parsePrimary(out)) {
      return false;
    }
    if (!out.isInteger()) {
      if (first.is("-")) {
        out.bits ^= out.kind == Constant::Kind::Single ? uint64_t(1) << 31 : uint64_t(1) << 63;
      } else if (!first.is("+")) {
        return fail(first.location, "'" + std::string(first.text) + "' needs an integer");
      }
      return true;
    }
    out.bits = first.is("-") ? 0 - out.bits : first.is("~") ? ~out.bits : first.is("!") ? out.bits == 0 : out.bits;
    return true;
  }
  return failHere("a constant");
}

bool TextParser::parseConstant(Constant &out, int precedence) {
  Nesting nesting(depth);
  if (depth > maxDepth) {
    return fail(token().location, "expression nested too deeply");
  }
  if (!parsePrimary(out)) {
    return false;
  }
  while (true) {
    const Token op = token();
    const BinaryOperator *found = nullptr;
    for (const BinaryOperator &candidate : binaryOperators) {
      if (op.kind == Token::Kind::Punctuation && op.text == candidate.text && candidate.precedence > precedence) {
        found = &candidate;
      }
    }
    if (!found) {
      break;
    }
    ++at;
    Constant right;
    if (!parseConstant(right, found->precedence)) {
      return false;
    }
    if (!out.isInteger() || !right.isInteger()) {
      return fail(op.location, "'" + std::string(op.text) + "' needs integers; PTX has no floating-point expressions");
    }
    bool isUnsigned = out.kind == Constant::Kind::Unsigned || right.kind == Constant::Kind::Unsigned;
    uint64_t a = out.bits, b = right.bits, result = 0;
    int64_t sa = static_cast<int64_t>(a), sb = static_cast<int64_t>(b);
    std::string_view text = op.text;
    bool comparison = false;
    if (text == "/" || text == "%") {
      if (b == 0) {
        return fail(op.location, "division by zero in a constant expression");
      }
      bool overflow = !isUnsigned && sa == INT64_MIN && sb == -1;
      result = isUnsigned ? (text == "/" ? a / b : a % b)
               : overflow ? (text == "/" ? a : 0)
                          : static_cast<uint64_t>(text == "/" ? sa / sb : sa % sb);
    } else if (text == "<<" || text == ">>") {
      bool arithmetic = out.kind == Constant::Kind::Signed && sa < 0;
      isUnsigned = out.kind == Constant::Kind::Unsigned;
      result = b > 63         ? (text == ">>" && arithmetic ? UINT64_MAX : 0)
               : text == "<<" ? a << b
               : arithmetic   ? ~(~a >> b)
                              : a >> b;
    } else if (text == "+" || text == "-" || text == "*") {
      result = text == "+" ? a + b : text == "-" ? a - b : a * b;
    } else if (text == "&" || text == "|" || text == "^") {
      result = text == "&" ? a & b : text == "|" ? a | b : a ^ b;
    } else {
      comparison = true;
      result = text == "||"   ? a || b
               : text == "&&" ? a && b
               : text == "==" ? a == b
               : text == "!=" ? a != b
               : text == "<"  ? (isUnsigned ? a < b : sa < sb)
               : text == "<=" ? (isUnsigned ? a <= b : sa <= sb)
               : text == ">"  ? (isUnsigned ? a > b : sa > sb)
                              : (isUnsigned ? a >= b : sa >= sb);
    }
    out = {isUnsigned && !comparison ? Constant::Kind::Unsigned : Constant::Kind::Signed, result};
  }
  if (precedence == 0 && token().is("?")) {
    ++at;
    Constant yes, no;
    if (!parseConstant(yes) || !expect(":", "in a conditional expression") || !parseConstant(no)) {
      return false;
    }
    out = out.bits ? yes : no;
  }
  return true;
}

bool TextParser::parseUnsigned(uint64_t &out, uint64_t max, const char *what, int precedence) {
  Location location = token().location;
  Constant constant;
  if (!parseConstant(constant, precedence)) {
    return false;
  }
  bool negative = constant.kind == Constant::Kind::Signed && static_cast<int64_t>(constant.bits) < 0;
  if (!constant.isInteger() || negative || constant.bits > max) {
    return fail(location, std::string(what) + " must be an integer from 0 to " + std::to_string(max));
  }
  out = constant.bits;
  return true;
}

/// `+4`, `+-4`, `-4`, or nothing.
bool TextParser::parseOffset(int64_t &out) {
  out = 0;
  if (!token().is("+") && !token().is("-")) {
    return true;
  }
  Location location = token().location;
  if (token().is("+")) {
    ++at;
  }
  Constant constant;
  if (!parseConstant(constant)) {
    return false;
  }
  if (!constant.isInteger()) {
    return fail(location, "an offset must be an integer");
  }
  out = static_cast<int64_t>(constant.bits);
  return true;
}

bool TextParser::parseOperand(RawOperand &out, unsigned nesting) {
  const Token first = token();
  out = RawOperand();
  out.location = first.location;
  if (nesting > 2) {
    return fail(first.location, "operand nested too deeply");
  }
  if (first.is("_") && first.kind == Token::Kind::Name) {
    ++at;
    out.kind = RawOperand::Kind::Sink;
  } else if (first.is("{")) {
    ++at;
    out.kind = RawOperand::Kind::Vector;
    do {
      out.parts.emplace_back();
      if (!parseOperand(out.parts.back(), nesting + 1)) {
        return false;
      }
    } while (accept(","));
    if (!expect("}", "to close the vector")) {
      return false;
    }
  } else if (first.is("[")) {
    ++at;
    out.kind = RawOperand::Kind::Address;
    if (token().kind == Token::Kind::Name && !token().is("WARP_SZ")) {
      out.name = token().text;
      ++at;
      if (token().is("[")) { // sym[4]
        ++at;
        Constant constant;
        if (!parseConstant(constant) || !expect("]", "to close the subscript")) {
          return false;
        }
        out.offset = static_cast<int64_t>(constant.bits);
      } else if (!parseOffset(out.offset)) {
        return false;
      }
    } else {
      Constant constant;
      if (!parseConstant(constant)) {
        return false;
      }
      if (!constant.isInteger()) {
        return fail(first.location, "an address must be an integer");
      }
      out.offset = static_cast<int64_t>(constant.bits);
    }
    if (accept(",")) {
      RawOperand address = std::move(out);
      out = RawOperand();
      out.kind = RawOperand::Kind::Tensor;
      out.location = first.location;
      RawOperand coordinates;
      if (!parseOperand(coordinates, nesting + 1)) {
        return false;
      }
      if (coordinates.kind != RawOperand::Kind::Vector) {
        return fail(coordinates.location, "the coordinates of a tensor must be a vector in braces");
      }
      out.parts.push_back(std::move(address));
      out.parts.push_back(std::move(coordinates));
    }
    if (!expect("]", "to close the address")) {
      return false;
    }
  } else if (first.is("!") && token(1).kind == Token::Kind::Name) {
    ++at;
    out.kind = RawOperand::Kind::Name;
    out.negated = true;
    out.name = token().text;
    ++at;
  } else if (first.kind == Token::Kind::Name && !first.is("WARP_SZ")) {
    ++at;
    out.kind = RawOperand::Kind::Name;
    out.name = first.text;
    if (token().kind == Token::Kind::Dotted && first.text[0] == '%') { // %tid.x; adjacent tokens of one text
      out.name = std::string_view(first.text.data(),
                                  static_cast<size_t>(token().text.data() - first.text.data()) + token().text.size());
      ++at;
    } else if (!parseOffset(out.offset)) {
      return false;
    }
  } else {
    out.kind = RawOperand::Kind::Constant;
    if (!parseConstant(out.constant, 3)) { // not `|`: it separates two destinations
      return false;
    }
  }
  return true;
}

} // namespace moert::emulator::ptx
