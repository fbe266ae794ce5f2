//===- Decoder.cpp - Tokens to text, one at a time ------------------------===//
//
// Two ways to hold bytes back: of byte-level tokens at most the three bytes of
// an unfinished character; of "<0x..>" tokens a whole run of them, because the
// `tokenizers` package judges the run: all of it UTF-8, or a U+FFFD for each.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/tokenizer/Decoder.h"

#include "runtime/readers/tokenizer/Utf8.h"

using namespace moert;
using namespace moert::readers;

namespace {

/// The byte that "<0x41>" names, or -1.
int byteOfToken(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') {
    return -1;
  }
  int value = 0;
  for (char c : token.substr(3, 2)) {
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                       : -1;
    if (digit < 0) {
      return -1;
    }
    value = value * 16 + digit;
  }
  return value;
}

/// Characters `content` at the start (or end) of `text`, at most `most`; their length in bytes.
size_t stripLength(std::string_view text, const std::string &content, size_t most, bool atEnd) {
  size_t length = 0;
  for (size_t i = 0; i < most && text.size() - length >= content.size() && !content.empty(); ++i) {
    size_t at = atEnd ? text.size() - length - content.size() : length;
    if (text.substr(at, content.size()) != content) {
      break;
    }
    length += content.size();
  }
  return length;
}

/// Takes from the start of `bytes` what is certain, with U+FFFD for what can no longer become UTF-8.
std::string takeCertain(std::string &bytes) {
  std::string text;
  size_t done = 0;
  while (done < bytes.size()) {
    Utf8Scan scan = scanUtf8(std::string_view(bytes).substr(done));
    if (scan.kind == Utf8Scan::Cut) {
      break;
    }
    text += scan.kind == Utf8Scan::Valid ? std::string_view(bytes).substr(done, scan.length) : replacementCharacter;
    done += scan.length;
  }
  bytes.erase(0, done);
  return text;
}

/// A run of byte tokens that ended.
std::string takeRun(std::string &bytes) {
  std::string run = std::exchange(bytes, "");
  if (isValidUtf8(run)) {
    return run;
  }
  std::string text;
  for (size_t i = 0; i < run.size(); ++i) {
    text += replacementCharacter;
  }
  return text;
}

} // namespace

void Decoder::addStep(const JsonView &json) {
  std::string type = json.at("type").text();
  if (joined && type == "Strip") {
    if (json.at("stop").integer(0, INT32_MAX) != 0 || stripCount != 0) {
      json.fail(Code::Unsupported, "only one Strip, of the beginning, is supported after tokens are joined");
    }
    stripContent = json.at("content").text();
    stripCount = static_cast<size_t>(json.at("start").integer(0, INT32_MAX));
    return;
  }
  if (type == "Fuse") {
    joined = true;
    return;
  }
  if (joined || join == Join::ByteFallback) {
    json.fail(Code::Unsupported, "decoder \"", type, "\" is not supported after tokens are joined");
  }
  if (type == "ByteLevel") {
    join = Join::Bytes;
    joined = true;
  } else if (type == "ByteFallback") {
    join = Join::ByteFallback;
  } else if (type == "Replace") {
    Pattern pattern = parsePattern(json.at("pattern"));
    rewrites.push_back([pattern, content = json.at("content").text()](std::string token, bool) {
      Result<std::vector<Span>> spans = pattern.spans(token);
      if (!spans.ok()) {
        return token;
      }
      std::string out;
      for (const Span &span : *spans) {
        out += span.match ? content : token.substr(span.begin, span.end - span.begin);
      }
      return out;
    });
  } else if (type == "Strip") {
    auto start = static_cast<size_t>(json.at("start").integer(0, INT32_MAX));
    auto stop = static_cast<size_t>(json.at("stop").integer(0, INT32_MAX));
    rewrites.push_back([=, content = json.at("content").text()](std::string token, bool) {
      size_t front = stripLength(token, content, start, false);
      size_t back = stripLength(std::string_view(token).substr(front), content, stop, true);
      return token.substr(front, token.size() - front - back);
    });
  } else if (type == "Metaspace") {
    std::string mark = json.text("replacement", "\u2581");
    bool prepends = json.text("prepend_scheme", json.boolean("add_prefix_space", true) ? "always" : "never") != "never";
    rewrites.push_back([=](std::string token, bool first) {
      std::string out;
      for (size_t at = 0; at < token.size();) {
        if (!mark.empty() && token.compare(at, mark.size(), mark) == 0) {
          out += first && prepends ? "" : " ";
          at += mark.size();
        } else {
          out += token[at++];
        }
      }
      return out;
    });
  } else {
    json.fail(Code::Unsupported, "decoder \"", type, "\" is not supported");
  }
}

void Decoder::addSteps(const JsonView &json) {
  if (json.at("type").text() != "Sequence") {
    return addStep(json);
  }
  for (const JsonView &member : json.at("decoders").elements()) {
    addSteps(member);
  }
}

Decoder Decoder::parse(const JsonView &json) {
  Decoder decoder;
  decoder.join = Join::Plain;
  decoder.addSteps(json);
  return decoder;
}

std::string Decoder::emit(State &state, std::string text) const {
  if (state.atStart && stripCount != 0 && !text.empty()) {
    size_t length = stripLength(text, stripContent, stripCount - state.stripped, false);
    state.stripped += stripContent.empty() ? 0 : length / stripContent.size();
    text.erase(0, length);
  }
  state.atStart = state.atStart && text.empty() && state.stripped < stripCount;
  return text;
}

std::string Decoder::push(State &state, std::string_view token) const {
  bool first = std::exchange(state.first, false);
  std::string text(token);
  for (const Rewrite &rewrite : rewrites) {
    text = rewrite(std::move(text), first);
  }
  switch (join) {
  case Join::Spaces:
    return first ? text : " " + text;
  case Join::Plain:
    return emit(state, std::move(text));
  case Join::Bytes:
    if (!alphabetToBytes(text, state.bytes)) {
      state.bytes += text;
    }
    return emit(state, takeCertain(state.bytes));
  case Join::ByteFallback:
    if (int byte = byteOfToken(text); byte >= 0) {
      state.bytes += static_cast<char>(byte);
      return "";
    }
    return emit(state, takeRun(state.bytes) + text);
  }
  return "";
}

std::string Decoder::finish(State &state) const {
  std::string rest = join == Join::ByteFallback ? takeRun(state.bytes) : toValidUtf8(state.bytes);
  state.bytes.clear();
  return emit(state, std::move(rest));
}
