//===- Tokenizer.cpp - Text to token ids and back -------------------------===//
//
// Puts the parts of a tokenizer.json together: added tokens, normalizer,
// pre-tokenizer, model, post-processor, decoder.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Tokenizer.h"

#include "runtime/readers/File.h"
#include "runtime/readers/tokenizer/AddedTokens.h"
#include "runtime/readers/tokenizer/Decoder.h"
#include "runtime/readers/tokenizer/Utf8.h"

#include <algorithm>

using namespace moert;
using namespace moert::readers;

namespace {

/// The largest tokenizer.json known is 33 MB.
constexpr uint64_t maxFileBytes = 256u << 20;

/// What a post-processor puts around the ids of one text.
struct Template {
  std::vector<int32_t> before, after;
};

} // namespace

struct Tokenizer::Impl {
  BytePair model;
  AddedTokens added;
  std::optional<Normalizer> normalizer;
  std::optional<PreTokenizer> preTokenizer;
  Template around;
  Decoder decoder;

  const Normalizer *normalizerOrNull() const { return normalizer.has_value() ? &*normalizer : nullptr; }
  const std::string *tokenOf(int32_t id) const {
    const std::string *token = added.tokenOf(id);
    return token != nullptr ? token : model.tokenOf(id);
  }
};

namespace {

std::vector<int32_t> specialIds(const JsonView &processor, const std::string &name) {
  std::vector<int32_t> ids;
  for (const JsonView &id : processor.at("special_tokens").at(name).at("ids").elements()) {
    ids.push_back(static_cast<int32_t>(id.integer(0, maxTokenId)));
  }
  return ids;
}

void addPostProcessor(const JsonView &json, Template &around) {
  std::string type = json.at("type").text();
  if (type == "ByteLevel") { // Changes offsets only.
    return;
  }
  std::vector<int32_t> before, after;
  if (type == "Sequence") {
    for (const JsonView &member : json.at("processors").elements()) {
      addPostProcessor(member, around);
    }
    return;
  }
  if (type == "TemplateProcessing") {
    unsigned texts = 0;
    for (const JsonView &part : json.at("single").elements()) {
      if (part.has("Sequence")) {
        ++texts;
        continue;
      }
      std::vector<int32_t> ids = specialIds(json, part.at("SpecialToken").at("id").text());
      std::vector<int32_t> &side = texts == 0 ? before : after;
      side.insert(side.end(), ids.begin(), ids.end());
    }
    if (texts != 1) {
      json.fail(Code::Unsupported, "a template that holds the text ", texts, " times is not supported, only once");
    }
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    for (auto [key, side] : {std::pair("cls", &before), std::pair("sep", &after)}) {
      std::vector<JsonView> pair = json.at(key).elements();
      if (pair.size() != 2) {
        json.fail(Code::Corrupt, "\"", key, "\" must be [token, id]");
      }
      side->push_back(static_cast<int32_t>(pair[1].integer(0, maxTokenId)));
    }
  } else {
    json.fail(Code::Unsupported, "post-processor \"", type, "\" is not supported; give token ids instead of text");
  }
  around.before.insert(around.before.begin(), before.begin(), before.end());
  around.after.insert(around.after.end(), after.begin(), after.end());
}

} // namespace

Result<Tokenizer> Tokenizer::parse(const std::string &file, std::string_view text) {
  MOERT_ASSIGN(tree, parseJson(file, text));
  return guarded(file, [&]() -> Result<Tokenizer> {
    JsonView json(file, tree);
    if (json.has("version") && json.at("version").text() != "1.0") {
      json.fail(Code::Unsupported, "version \"", json.at("version").text(), "\" is not 1.0");
    }
    auto parts = std::make_shared<Impl>();
    parts->model = BytePair::parse(json.at("model"));
    if (json.has("normalizer")) {
      parts->normalizer = Normalizer::parse(json.at("normalizer"));
    }
    if (json.has("added_tokens")) {
      parts->added = AddedTokens::parse(json.at("added_tokens"), parts->model, parts->normalizerOrNull());
    }
    if (json.has("pre_tokenizer")) {
      parts->preTokenizer = PreTokenizer::parse(json.at("pre_tokenizer"));
    }
    if (json.has("post_processor")) {
      addPostProcessor(json.at("post_processor"), parts->around);
    }
    if (json.has("decoder")) {
      parts->decoder = Decoder::parse(json.at("decoder"));
    }
    Tokenizer tokenizer;
    tokenizer.impl = std::move(parts);
    return tokenizer;
  });
}

Result<Tokenizer> Tokenizer::open(const std::string &path) {
  MOERT_ASSIGN(text, readWholeFile(path, maxFileBytes));
  return parse(path, text);
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, bool addSpecial) const {
  MOERT_ASSIGN(sections, impl->added.cut(toValidUtf8(text), impl->normalizerOrNull()));
  std::vector<int32_t> ids;
  if (addSpecial) {
    ids = impl->around.before;
  }
  for (Section &section : sections) {
    if (section.id >= 0) {
      ids.push_back(section.id);
      continue;
    }
    std::vector<Piece> pieces;
    pieces.push_back(std::move(section.piece));
    if (impl->preTokenizer.has_value()) {
      MOERT_TRY(impl->preTokenizer->apply(pieces));
    }
    for (const Piece &piece : pieces) {
      impl->model.encode(piece.text, ids);
    }
  }
  if (addSpecial) {
    ids.insert(ids.end(), impl->around.after.begin(), impl->around.after.end());
  }
  return ids;
}

std::string Tokenizer::decode(const std::vector<int32_t> &ids, bool skipSpecial) const {
  StreamDecoder stream(*this, skipSpecial);
  std::string text;
  for (int32_t id : ids) {
    text += stream.push(id);
  }
  return text + stream.finish();
}

int64_t Tokenizer::size() const { return int64_t(std::max(impl->model.lastId(), impl->added.lastId())) + 1; }

int32_t Tokenizer::idOf(std::string_view token) const {
  int32_t id = impl->added.idOf(token);
  return id >= 0 ? id : impl->model.idOf(token);
}

const std::string *Tokenizer::tokenOf(int32_t id) const { return impl->tokenOf(id); }

struct StreamDecoder::State {
  Decoder::State decoder;
  bool skipSpecial;
};

StreamDecoder::StreamDecoder(const Tokenizer &tokenizer, bool skipSpecial)
    : impl(tokenizer.impl), state(std::make_unique<State>(State{{}, skipSpecial})) {}
StreamDecoder::StreamDecoder(StreamDecoder &&) noexcept = default;
StreamDecoder::~StreamDecoder() = default;

std::string StreamDecoder::push(int32_t id) {
  const std::string *token = impl->tokenOf(id);
  if (token == nullptr || (state->skipSpecial && impl->added.isSpecial(*token))) {
    return "";
  }
  return impl->decoder.push(state->decoder, *token);
}

std::string StreamDecoder::finish() { return impl->decoder.finish(state->decoder); }
