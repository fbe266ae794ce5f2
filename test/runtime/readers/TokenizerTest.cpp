//===- TokenizerTest.cpp - The ids of the tokenizers package --------------===//
//
// Fixtures under tokenizers/ were recorded with the official package (see
// generate.py): each kind of file that models ship, over texts in many scripts.
// Streaming must add up to decoding at once and never cut a character.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Tokenizer.h"

#include "runtime/readers/File.h"
#include "runtime/readers/Json.h"
#include "runtime/readers/tokenizer/Pattern.h"
#include "runtime/readers/tokenizer/Utf8.h"

#include <chrono>
#include <cstdlib>
#include <gtest/gtest.h>

using namespace moert;
using namespace moert::readers;
using nlohmann::json;

namespace {

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

std::string fixture(const std::string &name) {
  const char *root = std::getenv("MOE_SOURCE_ROOT");
  return concat(root == nullptr ? "." : root, "/test/runtime/readers/tokenizers/", name);
}

json load(const std::string &path) {
  Result<std::string> text = readWholeFile(path, 1 << 24);
  EXPECT_TRUE(text.ok()) << text.status().message();
  Result<json> tree = parseJson(path, *text);
  EXPECT_TRUE(tree.ok()) << tree.status().message();
  return *tree;
}

std::string show(const std::vector<int32_t> &ids) { return json(ids).dump(); }

/// Decodes id by id; no piece may end inside a character.
std::string streamed(const Tokenizer &tokenizer, const std::vector<int32_t> &ids, bool skipSpecial) {
  StreamDecoder stream(tokenizer, skipSpecial);
  std::string text;
  for (int32_t id : ids) {
    std::string piece = stream.push(id);
    EXPECT_TRUE(isValidUtf8(piece)) << id;
    text += piece;
  }
  return text + stream.finish();
}

class Kinds : public testing::TestWithParam<const char *> {};

TEST_P(Kinds, AgreesWithThePackage) {
  std::string kind = GetParam();
  Result<Tokenizer> tokenizer = Tokenizer::open(fixture(kind + ".json"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  json cases = load(fixture(kind + ".cases.json"));
  ASSERT_GT(cases["encode"].size(), 70u);
  for (const json &test : cases["encode"]) {
    std::string text = test[0];
    Result<std::vector<int32_t>> ids = tokenizer->encode(text);
    ASSERT_TRUE(ids.ok()) << ids.status().message();
    EXPECT_EQ(show(*ids), test[1].dump()) << "text: " << test[0];
    std::vector<int32_t> recorded = test[1];
    EXPECT_EQ(tokenizer->decode(recorded), test[2].get<std::string>()) << "text: " << test[0];
    EXPECT_EQ(tokenizer->decode(recorded, false), test[3].get<std::string>()) << "text: " << test[0];
    EXPECT_EQ(streamed(*tokenizer, recorded, true), test[2].get<std::string>());
  }
  ASSERT_GT(cases["decode"].size(), 30u);
  for (const json &test : cases["decode"]) {
    std::vector<int32_t> ids = test[0];
    EXPECT_EQ(tokenizer->decode(ids), test[1].get<std::string>()) << show(ids);
    EXPECT_EQ(streamed(*tokenizer, ids, false), test[2].get<std::string>()) << show(ids);
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, Kinds,
                         testing::Values("gpt2", "llama3", "qwen2", "deepseek", "smollm", "llama2", "mistral",
                                         "oddities"),
                         [](const auto &kind) { return std::string(kind.param); });

TEST(Tokenizer, NamesAndSpecialTokens) {
  Result<Tokenizer> tokenizer = Tokenizer::open(fixture("llama3.json"));
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_EQ(tokenizer->idOf("<s>"), 0);
  EXPECT_EQ(*tokenizer->tokenOf(0), "<s>");
  EXPECT_EQ(tokenizer->tokenOf(int32_t(tokenizer->size())), nullptr);
  EXPECT_EQ(tokenizer->idOf("no such token"), -1);
  Result<std::vector<int32_t>> with = tokenizer->encode("a"), without = tokenizer->encode("a", false);
  ASSERT_TRUE(with.ok() && without.ok());
  EXPECT_EQ(with->front(), 0);
  EXPECT_EQ(with->size(), without->size() + 1);
}

TEST(Tokenizer, InvalidTextIsReadAsReplacement) {
  Result<Tokenizer> tokenizer = Tokenizer::open(fixture("llama3.json"));
  ASSERT_TRUE(tokenizer.ok());
  for (const char *bytes : {"\xff", "a\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe6\x97", "ok \xc0\xaf ok"}) {
    Result<std::vector<int32_t>> ids = tokenizer->encode(bytes, false),
                                 valid = tokenizer->encode(toValidUtf8(bytes), false);
    ASSERT_TRUE(ids.ok() && valid.ok());
    EXPECT_EQ(show(*ids), show(*valid));
    EXPECT_EQ(tokenizer->decode(*ids), toValidUtf8(bytes));
  }
  EXPECT_EQ(toValidUtf8("\xe6\x97\xff"), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(toValidUtf8("\xed\xa0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

// A character that spans tokens comes out with its last byte; what never becomes one comes out as U+FFFD at the end.
TEST(Tokenizer, StreamingHoldsBackParts) {
  Result<Tokenizer> tokenizer = Tokenizer::open(fixture("llama3.json"));
  ASSERT_TRUE(tokenizer.ok());
  Result<std::vector<int32_t>> ids = tokenizer->encode("\U0001F999", false);
  ASSERT_TRUE(ids.ok());
  ASSERT_GT(ids->size(), 1u);
  StreamDecoder stream(*tokenizer);
  for (size_t i = 0; i + 1 < ids->size(); ++i) {
    EXPECT_EQ(stream.push((*ids)[i]), "");
  }
  EXPECT_EQ(stream.push(ids->back()), "\U0001F999");
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(stream.push(ids->front()), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

// The time of a million characters in one piece (no pre-tokenizer splits it) shows quadratic merging at once; the bound
// leaves room for sanitizers.
TEST(Tokenizer, LongTextInLinearTime) {
  for (const char *kind : {"llama3", "llama2", "deepseek"}) {
    Result<Tokenizer> tokenizer = Tokenizer::open(fixture(concat(kind, ".json")));
    ASSERT_TRUE(tokenizer.ok());
    for (const std::string &unit :
         {std::string("a"), std::string(" "), std::string("the router "), std::string("\n")}) {
      std::string text;
      while (text.size() < 300000) {
        text += unit;
      }
      auto start = std::chrono::steady_clock::now();
      Result<std::vector<int32_t>> ids = tokenizer->encode(text, false);
      std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      ASSERT_TRUE(ids.ok()) << ids.status().message();
      EXPECT_EQ(tokenizer->decode(*ids), text);
      EXPECT_LT(seconds.count(), 8.0) << kind;
    }
  }
}

std::string parseError(const json &file) {
  Result<Tokenizer> tokenizer = Tokenizer::parse("tokenizer.json", file.dump());
  return tokenizer.ok() ? "ok" : tokenizer.status().message();
}

TEST(Tokenizer, WhatAFileMayNotHold) {
  json good = load(fixture("smollm.json"));
  EXPECT_EQ(parseError(good), "ok");
  auto with = [&](const char *pointer, const json &value) {
    json file = good;
    file[json::json_pointer(pointer)] = value;
    return parseError(file);
  };
  EXPECT_SAYS(with("/model/type", "Unigram"), "tokenizer.json: model: model type \"Unigram\" is not supported");
  EXPECT_SAYS(with("/version", "2.0"), "version \"2.0\" is not 1.0");
  EXPECT_SAYS(with("/normalizer", {{"type", "Precompiled"}}),
              "normalizer: normalizer \"Precompiled\" is not supported");
  EXPECT_SAYS(with("/pre_tokenizer/pretokenizers/0", {{"type", "BertPreTokenizer"}}),
              "pre-tokenizer \"BertPreTokenizer\"");
  EXPECT_SAYS(with("/post_processor", {{"type", "Other"}}), "post-processor \"Other\"");
  EXPECT_SAYS(with("/decoder", {{"type", "WordPiece"}}), "decoder \"WordPiece\"");
  EXPECT_SAYS(with("/model/dropout", 0.1), "dropout");
  EXPECT_SAYS(with("/model/continuing_subword_prefix", "##"), "continuing_subword_prefix \"##\"");
  EXPECT_SAYS(with("/model/unk_token", "<nothing>"), "\"<nothing>\" is not in the vocabulary");
  EXPECT_SAYS(with("/model/vocab/a", -1), "id -1 of token \"a\"");
  EXPECT_SAYS(with("/model/vocab/a", 1ull << 40), "is not between 0 and");
  EXPECT_SAYS(with("/model/vocab/a", 0), "have the same id 0");
  EXPECT_SAYS(with("/model/merges/0", {"a", "\u4e00"}), "merge 0 of \"a\" and");
  EXPECT_SAYS(with("/model/merges/0", "a"), "must be two tokens with one space");
  EXPECT_SAYS(with("/model/merges/0", 7), "must be \"a b\"");
  EXPECT_SAYS(with("/added_tokens/0/id", "x"), "added_tokens.0.id: must be an integer, not string");
  EXPECT_SAYS(with("/model", nullptr), "model: model type \"unknown\" is not supported");
  EXPECT_SAYS(with("/model/vocab", 3), "model.vocab: must be an object of token to id");
  EXPECT_SAYS(parseError(json::array()), "must be an object, not array");
  Result<Tokenizer> twice = Tokenizer::parse("t", R"({"model":{},"model":{}})");
  EXPECT_SAYS(twice.status().message(), "key \"model\" appears twice");
  Result<Tokenizer> deep = Tokenizer::parse("t", std::string(100000, '['));
  EXPECT_SAYS(deep.status().message(), "nested deeper than 64");
}

TEST(TokenizerPattern, TranslationOfRegularExpressions) {
  auto translate = [](const char *expression) {
    Result<std::string> out = translateRegex(expression);
    return out.ok() ? *out : out.status().message();
  };
  EXPECT_EQ(translate(R"(a[^]b]\p{L}\p{Han}\p{^Han}\P{Lu}[[:alpha:]])"),
            R"(a[^\]b]\p{L}\p{sc:Han}\p{^sc:Han}\P{Lu}[[:alpha:]])");
  EXPECT_EQ(translate(R"([\u3040-\u{ff}])"), R"([\x{3040}-\x{ff}])");
  EXPECT_SAYS(translate("\\u12"), "without its digits");
  EXPECT_SAYS(translate("[a[bc]]"), "a class inside a class is not supported");
  EXPECT_SAYS(translate("[a&&b]"), "intersection");
  EXPECT_SAYS(translate("\\h+"), "hexadecimal");
  EXPECT_SAYS(translate("[\\S]"), "inside [...]");
  Result<Pattern> broken = Pattern::regex("(");
  ASSERT_FALSE(broken.ok());
  EXPECT_SAYS(broken.status().message(), "regular expression \"(\"");
  // U+180E is no whitespace, U+0085 is; PCRE2's \s alone says otherwise of the first.
  Result<Pattern> space = Pattern::regex("\\s+");
  ASSERT_TRUE(space.ok());
  EXPECT_EQ(space->spans("a\u180e\u0085\u3000b")->size(), 3u);
  // Empty matches move on by whole characters.
  Result<Pattern> empty = Pattern::regex("x*");
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(empty->spans("日本")->size(), 5u);
  // A pattern that would run for ever is an error, not a hang.
  Result<Pattern> slow = Pattern::regex("(a|aa)+$");
  ASSERT_TRUE(slow.ok());
  EXPECT_FALSE(slow->spans(std::string(60, 'a') + "c").ok());
}

} // namespace
