//===- AddedTokens.h - Tokens found before the model runs -------*- C++ -*-===//
//
// `added_tokens` of a tokenizer.json: whole strings ("<s>", "<|im_start|>")
// that are looked for in the text first, the leftmost and of those the longest;
// what lies between goes on to normalizer, pre-tokenizer and model. Tokens with
// `normalized` are looked for after the normalizer, in their normalized form.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_TOKENIZER_ADDEDTOKENS_H
#define MOERT_READERS_TOKENIZER_ADDEDTOKENS_H

#include "runtime/readers/tokenizer/BytePair.h"
#include "runtime/readers/tokenizer/PreTokenizer.h"

#include <map>
#include <optional>

namespace moert::readers {

/// A part of a text: an added token, or text that still has to be encoded.
struct Section {
  int32_t id; ///< -1: text.
  Piece piece;
};

/// The table of added tokens.
class AddedTokens {
public:
  /// Throws JsonFailure. `json`: the list; `normalizer` may be null.
  static AddedTokens parse(const JsonView &json, const BytePair &model, const Normalizer *normalizer);

  /// Cuts `text` at added tokens and normalizes what lies between.
  Result<std::vector<Section>> cut(const std::string &text, const Normalizer *normalizer) const;

  const std::string *tokenOf(int32_t id) const;
  int32_t idOf(std::string_view token) const;
  /// Says so of the content, as the `tokenizers` package does.
  bool isSpecial(const std::string &token) const;
  int32_t lastId() const { return contentById.empty() ? -1 : contentById.rbegin()->first; }

private:
  struct Token {
    int32_t id;
    bool singleWord, stripLeft, stripRight;
  };
  /// All strings of one kind as a tree of bytes.
  struct Trie {
    std::vector<std::map<uint8_t, uint32_t>> nodes{1};
    std::vector<std::optional<Token>> ends{1};
    void add(std::string_view text, const Token &token);
    /// The longest token at the start of `text` and its length.
    std::pair<const Token *, size_t> longest(std::string_view text) const;
  };
  Status cut(const Trie &trie, const Piece &piece, std::vector<Section> &out) const;

  Trie plain, normalized;
  std::map<int32_t, std::string> contentById;
  std::unordered_map<std::string, int32_t> idByContent;
  std::unordered_map<std::string, bool> special;
};

} // namespace moert::readers

#endif // MOERT_READERS_TOKENIZER_ADDEDTOKENS_H
