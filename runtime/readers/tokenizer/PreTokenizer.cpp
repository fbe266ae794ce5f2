//===- PreTokenizer.cpp - Text to the pieces that BPE sees ----------------===//
//
// Every kind becomes one or two functions in a list. Nearly all are "split at a
// pattern, and do one of five things with the matches".
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/tokenizer/PreTokenizer.h"

#include "runtime/readers/tokenizer/Utf8.h"

#include <cstdlib>
#include <utf8proc.h>

using namespace moert;
using namespace moert::readers;

namespace {

/// GPT-2's pattern, what ByteLevel cuts at.
constexpr const char *byteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// What becomes of the matches of a pattern.
enum class Behavior { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };

Behavior parseBehavior(const JsonView &json) {
  static const std::pair<const char *, Behavior> names[] = {{"Removed", Behavior::Removed},
                                                            {"Isolated", Behavior::Isolated},
                                                            {"MergedWithPrevious", Behavior::MergedWithPrevious},
                                                            {"MergedWithNext", Behavior::MergedWithNext},
                                                            {"Contiguous", Behavior::Contiguous}};
  for (auto [name, behavior] : names) {
    if (json.text() == name) {
      return behavior;
    }
  }
  json.fail(Code::Unsupported, "behavior \"", json.text(), "\" is not known");
}

/// The spans that pieces are made of: merges neighbours as `behavior` says. `match` then means "drop".
std::vector<Span> arrange(const std::vector<Span> &spans, Behavior behavior) {
  std::vector<Span> out;
  bool previousMatch = false;
  auto merge = [&](const Span &span, bool joins) {
    if (joins && !out.empty()) {
      out.back() = {std::min(out.back().begin, span.begin), std::max(out.back().end, span.end), false};
    } else {
      out.push_back({span.begin, span.end, false});
    }
    previousMatch = span.match;
  };
  switch (behavior) {
  case Behavior::Removed:
    return spans;
  case Behavior::Isolated:
    for (const Span &span : spans) {
      merge(span, false);
    }
    break;
  case Behavior::MergedWithPrevious:
    for (const Span &span : spans) {
      merge(span, span.match && !previousMatch);
    }
    break;
  case Behavior::MergedWithNext:
    for (size_t i = spans.size(); i-- > 0;) {
      merge(spans[i], spans[i].match && !previousMatch);
    }
    out = std::vector<Span>(out.rbegin(), out.rend());
    break;
  case Behavior::Contiguous:
    for (const Span &span : spans) {
      merge(span, span.match == previousMatch);
    }
    break;
  }
  return out;
}

/// Cuts `piece` at `pattern` into `out`.
Status split(const Pattern &pattern, Behavior behavior, bool invert, const Piece &piece, std::vector<Piece> &out) {
  MOERT_ASSIGN(spans, pattern.spans(piece.text));
  if (invert) {
    for (Span &span : spans) {
      span.match = !span.match;
    }
  }
  for (const Span &span : arrange(spans, behavior)) {
    if (!span.match && span.begin != span.end) {
      out.push_back({piece.text.substr(span.begin, span.end - span.begin), piece.atStart && span.begin == 0});
    }
  }
  return Status();
}

Pattern regexOrFail(const JsonView &json, const std::string &expression) {
  Result<Pattern> pattern = Pattern::regex(expression);
  if (!pattern.ok()) {
    json.fail(pattern.status().code(), pattern.status().message());
  }
  return *pattern;
}

bool startsWith(const std::string &text, const std::string &with) { return text.compare(0, with.size(), with) == 0; }

std::string replaceAll(const std::string &text, const std::string &from, const std::string &to) {
  std::string out;
  size_t done = 0;
  for (size_t at; (at = text.find(from, done)) != std::string::npos; done = at + from.size()) {
    out.append(text, done, at - done).append(to);
  }
  return out.append(text, done, std::string::npos);
}

Result<std::string> normalizeUnicode(const std::string &text, unsigned options) {
  utf8proc_uint8_t *mapped = nullptr;
  utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t *>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &mapped, static_cast<utf8proc_option_t>(options));
  if (length < 0) {
    return error(Code::Internal, "Unicode normalization: ", utf8proc_errmsg(length));
  }
  std::string out(reinterpret_cast<char *>(mapped), static_cast<size_t>(length));
  std::free(mapped);
  return out;
}

std::string strip(const std::string &text, bool left, bool right) {
  size_t begin = 0, end = text.size();
  while (left && begin < end && spaceLength(std::string_view(text).substr(begin)) != 0) {
    begin += spaceLength(std::string_view(text).substr(begin));
  }
  while (right && end > begin) {
    size_t last = lastCharacter(std::string_view(text).substr(0, end));
    if (spaceLength(std::string_view(text).substr(last)) != end - last) {
      break;
    }
    end = last;
  }
  return text.substr(begin, end - begin);
}

} // namespace

Pattern moert::readers::parsePattern(const JsonView &json) {
  if (json.has("String")) {
    return Pattern::literal(json.at("String").text());
  }
  return regexOrFail(json.at("Regex"), json.at("Regex").text());
}

//===----------------------------------------------------------------------===//
// Normalizer
//===----------------------------------------------------------------------===//

void Normalizer::addSteps(const JsonView &json, std::vector<Step> &steps) {
  std::string type = json.at("type").text();
  static const std::pair<const char *, unsigned> forms[] = {
      {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
      {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
      {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
      {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};
  for (auto [name, options] : forms) {
    if (type == name) {
      steps.push_back([options = options](std::string text) { return normalizeUnicode(text, options); });
      return;
    }
  }
  if (type == "Sequence") {
    for (const JsonView &member : json.at("normalizers").elements()) {
      addSteps(member, steps);
    }
  } else if (type == "Prepend") {
    steps.push_back([prefix = json.at("prepend").text()](std::string text) -> Result<std::string> {
      return text.empty() ? text : prefix + text;
    });
  } else if (type == "Replace") {
    Pattern pattern = parsePattern(json.at("pattern"));
    steps.push_back([pattern, content = json.at("content").text()](std::string text) -> Result<std::string> {
      MOERT_ASSIGN(spans, pattern.spans(text));
      std::string out;
      for (const Span &span : spans) {
        out += span.match ? content : text.substr(span.begin, span.end - span.begin);
      }
      return out;
    });
  } else if (type == "Strip") {
    bool left = json.boolean("strip_left", true), right = json.boolean("strip_right", true);
    steps.push_back([=](std::string text) -> Result<std::string> { return strip(text, left, right); });
  } else {
    json.fail(Code::Unsupported, "normalizer \"", type, "\" is not supported; give token ids instead of text");
  }
}

Normalizer Normalizer::parse(const JsonView &json) {
  Normalizer normalizer;
  addSteps(json, normalizer.steps);
  return normalizer;
}

Result<std::string> Normalizer::apply(std::string text) const {
  for (const Step &step : steps) {
    MOERT_ASSIGN(next, step(std::move(text)));
    text = std::move(next);
  }
  return text;
}

//===----------------------------------------------------------------------===//
// PreTokenizer
//===----------------------------------------------------------------------===//

void PreTokenizer::addSteps(const JsonView &json, std::vector<Step> &steps) {
  std::string type = json.at("type").text();
  auto addSplit = [&](Pattern pattern, Behavior behavior, bool invert) {
    steps.push_back([=](Piece piece, std::vector<Piece> &out) { return split(pattern, behavior, invert, piece, out); });
  };
  if (type == "Sequence") {
    for (const JsonView &member : json.at("pretokenizers").elements()) {
      addSteps(member, steps);
    }
  } else if (type == "ByteLevel") {
    if (json.boolean("add_prefix_space", true)) {
      steps.push_back([](Piece piece, std::vector<Piece> &out) {
        if (!startsWith(piece.text, " ")) {
          piece.text.insert(0, " ");
        }
        out.push_back(std::move(piece));
        return Status();
      });
    }
    if (json.boolean("use_regex", true)) {
      addSplit(regexOrFail(json, byteLevelPattern), Behavior::Isolated, false);
    }
    steps.push_back([](const Piece &piece, std::vector<Piece> &out) {
      Piece &bytes = out.emplace_back(Piece{"", piece.atStart});
      for (char byte : piece.text) {
        bytes.text += byteToAlphabet(static_cast<uint8_t>(byte));
      }
      return Status();
    });
  } else if (type == "Split") {
    addSplit(parsePattern(json.at("pattern")), parseBehavior(json.at("behavior")), json.boolean("invert", false));
  } else if (type == "Digits") {
    bool single = json.boolean("individual_digits", false);
    addSplit(regexOrFail(json, "\\p{N}"), single ? Behavior::Isolated : Behavior::Contiguous, false);
  } else if (type == "Punctuation") {
    addSplit(regexOrFail(json, "[!-/:-@\\[-`{-~\\p{P}]"),
             json.has("behavior") ? parseBehavior(json.at("behavior")) : Behavior::Isolated, false);
  } else if (type == "Whitespace") {
    addSplit(regexOrFail(json, "\\w+|[^\\w\\s]+"), Behavior::Removed, true);
  } else if (type == "WhitespaceSplit") {
    addSplit(regexOrFail(json, "\\s"), Behavior::Removed, false);
  } else if (type == "CharDelimiterSplit") {
    addSplit(Pattern::literal(json.at("delimiter").text()), Behavior::Removed, false);
  } else if (type == "Metaspace") {
    std::string mark = json.text("replacement", "\u2581");
    std::string scheme = json.text("prepend_scheme", json.boolean("add_prefix_space", true) ? "always" : "never");
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      json.fail(Code::Unsupported, "prepend_scheme \"", scheme, "\" is not always, first or never");
    }
    steps.push_back([=](Piece piece, std::vector<Piece> &out) {
      piece.text = replaceAll(piece.text, " ", mark);
      if ((scheme == "always" || (scheme == "first" && piece.atStart)) && !startsWith(piece.text, mark)) {
        piece.text.insert(0, mark);
      }
      out.push_back(std::move(piece));
      return Status();
    });
    if (json.boolean("split", true)) {
      addSplit(Pattern::literal(mark), Behavior::MergedWithNext, false);
    }
  } else {
    json.fail(Code::Unsupported, "pre-tokenizer \"", type, "\" is not supported; give token ids instead of text");
  }
}

PreTokenizer PreTokenizer::parse(const JsonView &json) {
  PreTokenizer result;
  addSteps(json, result.steps);
  return result;
}

Status PreTokenizer::apply(std::vector<Piece> &pieces) const {
  for (const Step &step : steps) {
    std::vector<Piece> next;
    next.reserve(pieces.size());
    for (Piece &piece : pieces) {
      MOERT_TRY(step(std::move(piece), next));
    }
    pieces = std::move(next);
  }
  return Status();
}
