//===- Pattern.cpp - Where a tokenizer's pattern matches ------------------===//
//
// PCRE2 in UTF mode with Unicode properties, compiled to machine code where the
// system allows it. Texts are valid UTF-8 (checked once by the caller), so the
// library's own check is left out.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/tokenizer/Pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cctype>

using namespace moert;
using namespace moert::readers;

namespace {

/// What \s and \w stand for in Oniguruma, as members of a class (PCRE2's own are a little different).
constexpr std::string_view spaces =
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
constexpr std::string_view wordCharacters = "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}";

std::string libraryMessage(int code) {
  PCRE2_UCHAR buffer[256];
  int length = pcre2_get_error_message(code, buffer, sizeof(buffer));
  return length < 0 ? concat("error ", code) : std::string(reinterpret_cast<char *>(buffer), size_t(length));
}

struct FreeMatch {
  void operator()(pcre2_match_data *data) const { pcre2_match_data_free(data); }
};

} // namespace

struct Pattern::Compiled {
  pcre2_code *code = nullptr;
  ~Compiled() { pcre2_code_free(code); }
};

Result<std::string> moert::readers::translateRegex(const std::string &expression) {
  auto unsupported = [&](const char *what) {
    return error(Code::Unsupported, "regular expression \"", expression, "\": ", what, " is not supported");
  };
  std::string out;
  bool inClass = false;
  for (size_t i = 0; i < expression.size(); ++i) {
    char c = expression[i];
    if (c == '\\' && i + 1 < expression.size()) {
      char next = expression[++i];
      if (next == 's' || next == 'w') {
        std::string_view members = next == 's' ? spaces : wordCharacters;
        out += inClass ? std::string(members) : concat("[", members, "]");
      } else if ((next == 'S' || next == 'W') && !inClass) {
        out += concat("[^", next == 'S' ? spaces : wordCharacters, "]");
      } else if (next == 'S' || next == 'W') {
        return unsupported("\\S or \\W inside [...]");
      } else if (next == 'u') {
        bool braces = i + 1 < expression.size() && expression[i + 1] == '{';
        size_t digits = braces ? i + 2 : i + 1;
        size_t end = braces ? expression.find('}', digits) : digits + 4;
        if (end > expression.size()) {
          return unsupported("\\u without its digits");
        }
        out += concat("\\x{", expression.substr(digits, end - digits), "}");
        i = braces ? end : end - 1;
      } else if (next == 'h' || next == 'H') {
        return unsupported("\\h (hexadecimal digit)");
      } else if ((next == 'p' || next == 'P') && i + 1 < expression.size() && expression[i + 1] == '{') {
        size_t close = expression.find('}', i);
        if (close == std::string::npos) {
          return unsupported("\\p{ without }");
        }
        std::string name = expression.substr(i + 2, close - i - 2);
        bool negated = !name.empty() && name[0] == '^';
        std::string bare = name.substr(negated ? 1 : 0);
        // Longer than a general category: a script. PCRE2 alone would take its extensions too.
        bool script = bare.size() > 2 && bare != "Any" && bare.find_first_of(":=&") == std::string::npos;
        out += concat('\\', next, "{", negated ? "^" : "", script ? "sc:" : "", bare, "}");
        i = close;
      } else {
        out += c;
        out += next;
      }
      continue;
    }
    if (!inClass && c == '[') {
      inClass = true;
      out += c;
      // A ']' that comes first is a member.
      if (i + 1 < expression.size() && expression[i + 1] == '^') {
        out += expression[++i];
      }
      if (i + 1 < expression.size() && expression[i + 1] == ']') {
        out += "\\]";
        ++i;
      }
      continue;
    }
    if (inClass && c == '[') {
      size_t close = expression.compare(i, 2, "[:") == 0 ? expression.find(":]", i) : std::string::npos;
      if (close == std::string::npos) {
        return unsupported("a class inside a class");
      }
      out += expression.substr(i, close + 2 - i);
      i = close + 1;
      continue;
    }
    if (inClass && expression.compare(i, 2, "&&") == 0) {
      return unsupported("an intersection of classes (&&)");
    }
    inClass = inClass && c != ']';
    out += c;
  }
  return out;
}

Pattern Pattern::literal(std::string text) {
  Pattern pattern;
  pattern.literalText = std::move(text);
  return pattern;
}

Result<Pattern> Pattern::regex(const std::string &expression) {
  MOERT_ASSIGN(translated, translateRegex(expression));
  int problem;
  PCRE2_SIZE at;
  // '^' and '$' match at lines, as in Ruby.
  uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  auto compiled = std::make_shared<Compiled>();
  compiled->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), options, &problem,
                                 &at, nullptr);
  if (compiled->code == nullptr) {
    return error(Code::Unsupported, "regular expression \"", expression, "\": ", libraryMessage(problem), " at ", at,
                 " of \"", translated, "\"");
  }
  // Fails where memory cannot be made executable; matching then interprets, with the same results.
  pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE);
  Pattern pattern;
  pattern.compiled = std::move(compiled);
  return pattern;
}

Result<std::vector<Span>> Pattern::spans(std::string_view text) const {
  std::vector<Span> result;
  size_t previous = 0;
  auto add = [&](size_t begin, size_t end) {
    if (previous != begin) {
      result.push_back({previous, begin, false});
    }
    result.push_back({begin, end, true});
    previous = end;
  };
  if (compiled == nullptr) {
    for (size_t at = 0; !literalText.empty() && (at = text.find(literalText, at)) != text.npos;) {
      add(at, at + literalText.size());
      at += literalText.size();
    }
  } else {
    std::unique_ptr<pcre2_match_data, FreeMatch> match(pcre2_match_data_create_from_pattern(compiled->code, nullptr));
    if (match == nullptr) {
      return error(Code::OutOfMemory, "no memory to match a regular expression");
    }
    auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    for (size_t at = 0; at <= text.size();) {
      int found = pcre2_match(compiled->code, subject, text.size(), at, PCRE2_NO_UTF_CHECK, match.get(), nullptr);
      if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
        found = pcre2_match(compiled->code, subject, text.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match.get(),
                            nullptr);
      }
      if (found == PCRE2_ERROR_NOMATCH) {
        break;
      }
      if (found < 0) {
        return error(Code::InvalidArgument, "a pattern of the tokenizer fails on this text at byte ", at, ": ",
                     libraryMessage(found));
      }
      const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(match.get());
      size_t begin = ends[0], end = ends[1];
      if (begin < previous || end < begin) {
        return error(Code::Unsupported, "a pattern of the tokenizer matches before its start (\\K)");
      }
      add(begin, end);
      at = end;
      if (begin == end) { // An empty match: go on after the next character.
        for (++at; at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80; ++at) {
        }
      }
    }
  }
  if (previous != text.size()) {
    result.push_back({previous, text.size(), false});
  }
  return result;
}
