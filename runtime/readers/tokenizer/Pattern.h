//===- Pattern.h - Where a tokenizer's pattern matches ----------*- C++ -*-===//
//
// The patterns of tokenizer.json: a literal string, or a regular expression in
// Oniguruma's (Ruby's) syntax, which is rewritten for PCRE2 where the two mean
// different things and refused where PCRE2 cannot say it. A text is cut into
// spans, each a match or what lies between matches.
//
// Known difference: characters newer than PCRE2's Unicode tables (10.42: Unicode
// 14) are unassigned to it.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_TOKENIZER_PATTERN_H
#define MOERT_READERS_TOKENIZER_PATTERN_H

#include "runtime/core/Status.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moert::readers {

/// Bytes [begin, end) of a text.
struct Span {
  size_t begin, end;
  bool match;
};

/// An immutable compiled pattern; usable by several threads.
class Pattern {
public:
  static Pattern literal(std::string text);
  static Result<Pattern> regex(const std::string &expression);

  /// Spans that tile `text` (valid UTF-8), none empty but for empty matches. Fails when a match needs more than PCRE2's
  /// limit of steps.
  Result<std::vector<Span>> spans(std::string_view text) const;

private:
  struct Compiled;
  std::string literalText;
  std::shared_ptr<const Compiled> compiled;
};

/// `expression` as PCRE2 understands it, or what of it is unsupported. Exposed for tests.
Result<std::string> translateRegex(const std::string &expression);

} // namespace moert::readers

#endif // MOERT_READERS_TOKENIZER_PATTERN_H
