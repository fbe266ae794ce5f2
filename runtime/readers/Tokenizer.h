//===- Tokenizer.h - Text to token ids and back -----------------*- C++ -*-===//
//
// Reads a Hugging Face tokenizer.json with a BPE model: byte-level (GPT-2,
// Llama-3, Qwen, DeepSeek, ...) and SentencePiece-style with byte fallback
// (Llama-2, Mixtral). Gives the ids that the `tokenizers` package gives. What a
// file uses and this does not know is an error when it is read. Not here: other
// models (Unigram, WordPiece), training, chat templates, truncation, padding.
//
//   MOERT_ASSIGN(tokenizer, Tokenizer::open("Mixtral-8x7B/tokenizer.json"));
//   MOERT_ASSIGN(ids, tokenizer.encode("Hello"));
//   std::string text = tokenizer.decode(ids);
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_TOKENIZER_H
#define MOERT_READERS_TOKENIZER_H

#include "runtime/core/Status.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moert::readers {

/// An immutable tokenizer; copies share it, and several threads may use it.
class Tokenizer {
public:
  static Result<Tokenizer> open(const std::string &path);
  /// `file` is for messages.
  static Result<Tokenizer> parse(const std::string &file, std::string_view json);

  /// The ids of `text`; invalid UTF-8 is read as U+FFFD. `addSpecial`: with what the file's post-processor adds, such
  /// as the token that begins a sequence.
  Result<std::vector<int32_t>> encode(std::string_view text, bool addSpecial = true) const;

  /// The text of `ids`; ids without a token (padding of the vocabulary) are left out.
  std::string decode(const std::vector<int32_t> &ids, bool skipSpecial = true) const;

  /// The largest id plus one.
  int64_t size() const;
  /// The id of a token, or -1.
  int32_t idOf(std::string_view token) const;
  /// The token of an id as the file spells it, or null.
  const std::string *tokenOf(int32_t id) const;

  struct Impl;

private:
  friend class StreamDecoder;
  std::shared_ptr<const Impl> impl;
};

/// Decodes ids as they come. The pieces together are Tokenizer::decode of all ids; none ends inside a character.
class StreamDecoder {
public:
  explicit StreamDecoder(const Tokenizer &tokenizer, bool skipSpecial = true);
  StreamDecoder(StreamDecoder &&) noexcept;
  ~StreamDecoder();

  /// The text that this id makes certain; may be empty.
  std::string push(int32_t id);
  /// What was held back.
  std::string finish();

private:
  struct State;
  std::shared_ptr<const Tokenizer::Impl> impl;
  std::unique_ptr<State> state;
};

} // namespace moert::readers

#endif // MOERT_READERS_TOKENIZER_H
